# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders generated scenes: for training, from descriptions in files, and for evaluation, from seeds; see README.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import bpy
import numpy as np

from trackshade.core.fitting import fit_frames, fit_size

from ..capture import capture
from ..capture.first_frame import render_sample
from .build import build_scene
from .held_out import build_held_out
from .reference import render_reference

__all__ = ["build_held_out", "build_scene", "render_descriptions", "render_reference"]


def render_descriptions(
    paths: Sequence[Path], folder: Path, write_frames: Callable[[Path, np.ndarray], None], report: Callable[[int], None]
) -> None:
    """Build, capture and render the scenes of description files, as NAME.shot and NAME.render in a folder.

    `write_frames` writes frames [T, H, W, 3] uint8 to a folder, and `report` is called with the index of each scene
    before it is built. The last one is left open.

    Raises:
        ShotError: if a file cannot be read, or if an engine cannot render here.
        OutputError: if the folder cannot be written.
    """
    for number, path in enumerate(paths):
        report(number)
        build_scene(path)
        scene = bpy.context.scene
        frames, fps = scene.frame_end, scene.render.fps
        size = (scene.render.resolution_x, scene.render.resolution_y)
        frame_map = fit_frames(1, frames, 1, fps, (frames,))
        shot = capture(scene, frame_map=frame_map, size_fit=fit_size(size, (1.0, 1.0), (size,)))
        target = folder / f"{path.stem}.shot"
        shot.save(target, force=True)
        write_frames(target.with_suffix(".render"), np.stack([render_sample(shot, t, scene) for t in range(frames)]))
