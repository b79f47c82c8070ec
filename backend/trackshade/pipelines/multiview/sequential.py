# SPDX-License-Identifier: GPL-3.0-or-later
"""Grids with models whose autoencoder mixes frames (CogVideoX and Diffusion as Shader): references first, then rows.

Such a model's latents belong to several frames at once, so rows and columns share no cells, and cannot be sampled
together. Instead, each row is made from the reference of its view; then all references are carried to all cells along
the exact tracks, and the rows are used where no reference shows a surface, and for their light.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...propagation import KeyPicture, Propagation
from ...shot import Shot
from ...shot.cameras import through_camera, unroll_cameras
from .grid import Cell, References

MakeRow = Callable[[Shot, np.ndarray], np.ndarray]


def complete_column(shot: Shot, references: References, threads: int = 0) -> dict[Cell, np.ndarray]:
    """Return a picture of the first frame through every camera; what is not given is propagated.

    Args:
        shot: a shot with V cameras, as it was captured.
        references: pictures [H, W, 3] uint8 by cell (view, frame), of the shot's size.
        threads: number of threads; 0 for one on each core.
    """
    cells: list[Cell] = [(view, 0) for view in range(len(shot.cameras))]
    made = _propagate(shot, references, (), [cell for cell in cells if cell not in references], threads)
    return {cell: references.get(cell, made.get(cell)) for cell in cells}


def sample_rows(
    shot: Shot,
    references: References,
    make_row: MakeRow,
    *,
    threads: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Make all cells of a shot with a video model, row by row.

    Args:
        shot: a shot of F frames with V cameras, as it was captured.
        references: pictures [H, W, 3] uint8 by cell (view, frame), of the shot's size.
        make_row: called as make_row(shot, picture) with the shot through one camera and a picture of its first frame;
            returns the frames, [F, H, W, 3] uint8.
        threads: number of threads; 0 for one on each core.
        progress: called as progress(done, total) after every row; what it raises ends the sampling.

    Returns:
        The cells, [V, F, H, W, 3] uint8.

    Raises:
        UsageError: there is no reference, or one has another aspect than the camera.
    """
    views, frames = len(shot.cameras), len(shot.frame_numbers)
    column = complete_column(shot, references, threads)
    rows: list[KeyPicture] = []
    for view in range(views):
        row = make_row(through_camera(shot, view), column[view, 0])
        rows += [KeyPicture(frame * views + view, image, detail=False) for frame, image in enumerate(row)]
        progress(view + 1, views)
    known = {**column, **references}
    cells: list[Cell] = [(view, frame) for view in range(views) for frame in range(frames)]
    made = _propagate(shot, known, rows, cells, threads)
    return np.stack([np.stack([made[view, frame] for frame in range(frames)]) for view in range(views)])


def _propagate(
    shot: Shot, references: References, rows: Sequence[KeyPicture], cells: Sequence[Cell], threads: int
) -> dict[Cell, np.ndarray]:
    """Return pictures of cells, to which references and rows are carried."""
    views = len(shot.cameras)
    keys = [KeyPicture(frame * views + view, image) for (view, frame), image in references.items()]
    propagation = Propagation(unroll_cameras(shot), [*keys, *rows], threads=threads)
    propagation.prepare()
    images = {(view, frame): propagation.frame(frame * views + view).image for view, frame in cells}
    return {cell: (np.clip(image, 0, 1) * 255).round().astype(np.uint8) for cell, image in images.items()}
