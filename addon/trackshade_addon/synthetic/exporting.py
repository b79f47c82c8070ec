# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes from seeds as shots, with the render of every frame and what a caption may tell beside each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import bpy
import numpy as np

from trackshade.core.fitting import fit_frames, fit_size

from ..capture import capture
from ..capture.first_frame import render_sample
from .scene import build_scene

FPS = 8


def export_scenes(
    folder: Path,
    seeds: range,
    split: str,
    frames: int,
    size: tuple[int, int],
    engine: str | None,
    write: Callable[[Path, np.ndarray], None],
    report: Callable[[int], None],
) -> None:
    """SEED.shot, SEED.render/ (by `write`, from [T, H, W, 3] uint8) and SEED.json for each seed, the last of them last.

    Args: see `build_scene`; `report` is told the seed that is begun.

    Raises:
        ShotError: an engine cannot render here. OutputError: the folder cannot be written.
    """
    for seed in seeds:
        report(seed)
        told = build_scene(seed, split, frames, size, FPS, engine)
        scene = bpy.context.scene
        frame_map = fit_frames(1, frames, 1, FPS, (frames,))
        shot = capture(scene, frame_map=frame_map, size_fit=fit_size(size, (1.0, 1.0), (size,)))
        path = folder / f"{seed:06d}.shot"
        shot.save(path, force=True)
        write(path.with_suffix(".render"), np.stack([render_sample(shot, t, scene) for t in range(frames)]))
        path.with_suffix(".json").write_text(json.dumps(asdict(told)), encoding="utf-8")
