# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the hands of a rig are in renders of its scene, for footage that shows the rig."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping

import bpy
import numpy as np
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector

from trackshade.core.errors import ShotError, UsageError
from trackshade.motion.hand_places import HandPlaces


def project_hands(
    armature: bpy.types.Object, scene: bpy.types.Scene, table: Mapping[str, str]
) -> Generator[tuple[int, int], None, HandPlaces]:
    """Step through the scene's frames to see where its camera shows the hands of an armature.

    The middle of a hand is halfway from the wrist to the knuckles. The current frame is set again at the end, and when
    the generator is closed.

    Args:
        armature: the armature.
        scene: its scene. Times count from its first frame, as in a video of its render.
        table: bone for joints of the skeleton.

    Raises:
        UsageError: the scene has no camera.
        ShotError: the armature has no bone for a hand.
    """
    bones = [(table.get(f"hand_{side}"), table.get(f"fingers_{side}")) for side in "lr"]
    if not any(hand for hand, _ in bones):
        raise ShotError(
            "unknown-bones",
            f"{armature.name} has no bones with known names for hand_l, hand_r.",
            "Say which bones they are, in the table of bones or in a file of them.",
        )
    before, rate = scene.frame_current, scene.render.fps / scene.render.fps_base
    frames = range(scene.frame_start, scene.frame_end + 1, scene.frame_step)
    places = []
    try:
        for frame in frames:
            scene.frame_set(frame)
            if scene.camera is None:
                raise UsageError("no-camera", f"Scene '{scene.name}' has no camera.", "Add one.")
            rig = armature.evaluated_get(scene.view_layers[0].depsgraph)
            places.append([_place(scene, rig, hand, fingers) for hand, fingers in bones])
            yield len(places), len(frames)
    finally:
        scene.frame_set(before)
    return HandPlaces(np.arange(len(frames)) / rate, np.array(places))


def _place(scene: bpy.types.Scene, rig: bpy.types.Object, hand: str | None, fingers: str | None) -> tuple[float, float]:
    """Return the place of a hand as shares of the frame, from its top left corner; NaN if it is out of the frame."""
    bone = rig.pose.bones.get(hand or "")
    if bone is None:
        return math.nan, math.nan
    other = rig.pose.bones.get(fingers or "")
    middle: Vector = (bone.head + (bone.tail if other is None else other.head)) / 2
    seen = world_to_camera_view(scene, scene.camera, rig.matrix_world @ middle)
    is_shown = seen.z > 0 and 0 <= seen.x <= 1 and 0 <= seen.y <= 1
    return (seen.x, 1 - seen.y) if is_shown else (math.nan, math.nan)
