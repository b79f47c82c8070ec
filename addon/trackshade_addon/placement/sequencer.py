# SPDX-License-Identifier: GPL-3.0-or-later
"""Results in the video sequencer: a strip of images, one for each scene frame, above the other strips."""

from __future__ import annotations

from typing import Any

import bpy

from .collection import PLATE_KEY
from .result_folder import ResultFolder
from .sequence import Sequence

_MOST_CHANNELS = 128


def add_strip(scene: bpy.types.Scene, result: ResultFolder, sequence: Sequence, space: str) -> list[str]:
    """Add a strip that begins in the first frame of the result; return warnings about what changes or hides it.

    It lies as the model's image lies over the scene's frame: padded, it fills the frame; cropped, it fits into it.
    """
    if scene.sequence_editor is None:
        scene.sequence_editor_create()
    strips = strips_of(scene)
    start, end = sequence.start, sequence.end
    overlapping = [item.channel for item in strips if item.frame_final_start <= end and item.frame_final_end > start]
    strip: Any = strips.new_image(
        name=result.name,
        filepath=str(sequence.first),
        channel=min(1 + max(overlapping, default=0), _MOST_CHANNELS),
        frame_start=sequence.start,
        fit_method="FILL" if result.fit.mode == "pad" else "FIT",
    )
    for path in sorted(sequence.first.parent.iterdir())[1:]:
        strip.elements.append(path.name)
    strip.frame_final_duration = sequence.duration
    strip.colorspace_settings.name = space
    strip[PLATE_KEY] = str(result.folder)
    workspace: Any = bpy.context.workspace
    if getattr(workspace, "sequencer_scene", scene) is None:  # what the editors show, from Blender 5.0 on
        workspace.sequencer_scene = scene
    warnings = []
    if scene.view_settings.exposure != 0:
        warnings.append(
            f"The scene's exposure of {scene.view_settings.exposure:g} will change the strip's colors, too. "
            "Set it to 0 where the sequencer is rendered."
        )
    if not scene.render.use_sequencer:
        warnings.append("The sequencer is switched off in the scene's output properties (Post Processing).")
    return warnings


def remove_strips(scene: bpy.types.Scene, tag: str | None = None) -> int:
    """Remove the strips of results, all or those of one folder, and return how many there were."""
    strips = strips_of(scene)
    found = [strip for strip in strips if PLATE_KEY in strip and tag in (None, strip[PLATE_KEY])]
    for strip in found:
        strips.remove(strip)
    return len(found)


def strips_of(scene: bpy.types.Scene) -> Any:
    """Return the strips of a scene's sequencer, [] where it has none."""
    editor: Any = scene.sequence_editor
    if editor is None:
        return []
    return editor.strips if hasattr(editor, "strips") else editor.sequences
