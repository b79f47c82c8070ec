# SPDX-License-Identifier: GPL-3.0-or-later
"""A result in the video sequencer: a strip of pictures, one for each scene frame, above what is there."""

from __future__ import annotations

from typing import Any

import bpy

from .collection import PLATE_KEY
from .record import Result
from .sequence import Sequence

_MOST_CHANNELS = 128


def add_strip(scene: bpy.types.Scene, result: Result, sequence: Sequence, space: str) -> list[str]:
    """Adds the strip from the frame that the result begins in; sentences about what changes its colors, or hides it.

    It lies as the model's picture lies over the scene's frame: padded, it fills the frame; cropped, it fits into it.
    """
    if scene.sequence_editor is None:
        scene.sequence_editor_create()
    strips = strips_of(scene)
    channel = 1 + max(
        (
            strip.channel
            for strip in strips
            if strip.frame_final_start <= sequence.end and strip.frame_final_end > sequence.start
        ),
        default=0,
    )
    strip: Any = strips.new_image(
        name=result.name,
        filepath=str(sequence.first),
        channel=min(channel, _MOST_CHANNELS),
        frame_start=sequence.start,
        fit_method="FILL" if result.fit.mode == "pad" else "FIT",
    )
    for path in sorted(sequence.first.parent.iterdir())[1:]:
        strip.elements.append(path.name)
    strip.frame_final_duration = sequence.duration
    strip.colorspace_settings.name = space
    strip[PLATE_KEY] = str(result.folder)
    workspace: Any = bpy.context.workspace
    if getattr(workspace, "sequencer_scene", scene) is None:  # from Blender 5.0 on, what the editors show
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
    """Takes the strips of a result, any or the one of this folder, out of the sequencer; how many there were."""
    strips = strips_of(scene)
    own = [strip for strip in strips if PLATE_KEY in strip and tag in (None, strip[PLATE_KEY])]
    for strip in own:
        strips.remove(strip)
    return len(own)


def strips_of(scene: bpy.types.Scene) -> Any:
    """The strips of a scene's sequencer, [] where it has none."""
    editor: Any = scene.sequence_editor
    if editor is None:
        return []
    return editor.strips if hasattr(editor, "strips") else editor.sequences
