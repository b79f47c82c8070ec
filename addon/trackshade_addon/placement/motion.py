# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of motion jobs on armatures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import bpy

from trackshade.core.errors import OutputError
from trackshade.motion.bvh import JointMotion, read_bvh

from ..motion.armature import animate_armature, find_armature
from .collection import PlacedResult

MOTION = "motion.bvh"  # in the folder of a result


@dataclass(frozen=True)
class PreparedMotion:
    """The motion of a result, which was read."""

    folder: Path  # folder of the result
    motion: JointMotion

    def place(self, scene: bpy.types.Scene) -> PlacedResult:
        """Animate the armature that the scene's settings name, or the only one of the scene, by a new action.

        Raises:
            UsageError: there is no armature, or there are several.
            ShotError: its bones are not known.
        """
        settings = getattr(scene, "trackshade_motion", None)  # which a Blender without the interface does not have
        armature = None if settings is None else settings.armature
        if armature is None or armature.name not in scene.objects:
            armature = find_armature(scene)
        table = None if settings is None else settings.bone_table()
        name = f"{self.folder.name} motion"
        warnings = animate_armature(armature, self.motion, scene, table=table, name=name)
        rate = scene.render.fps / scene.render.fps_base
        last = scene.frame_start + math.ceil((len(self.motion.rotations) - 1) * rate / self.motion.fps)
        return PlacedResult(self.folder, scene.name, (scene.frame_start, last), "sRGB", tuple(warnings))


def read_motion(folder: Path) -> PreparedMotion:
    """Read the motion of a result. Raise OutputError if it has none, and ShotError if it is damaged."""
    if not (folder / MOTION).is_file():
        raise OutputError(
            "no-motion", f"The result in {folder} has no motion.", "Choose a result of Motion from Footage."
        )
    return PreparedMotion(folder, read_bvh(folder / MOTION))
