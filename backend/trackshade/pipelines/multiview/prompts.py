# SPDX-License-Identifier: GPL-3.0-or-later
"""Reference rows and columns for the three prompts: one picture, a video of one camera, and a static scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .grid import Cell, References
from .sampling import Experts, ToPicture, all_references, picture_cells, sample_grid


def complete_references(
    experts: Experts,
    noise: torch.Tensor,  # [V, F, C, h, w] standard normal
    sigmas: Sequence[float],
    given: References,
    to_picture: ToPicture,
) -> dict[Cell, Any]:
    """Make what a prompt does not give of the row and the column of its first cell.

    A picture gives one cell: row and column are made independently. A video gives the row: the column of its first
    frame is made. A static scene gives the column: the row of its first view is made.

    Args:
        experts: the denoisers of rows and columns.
        noise: where the cells begin.
        sigmas: falling noise levels, the last one 0.
        given: the pictures of the prompt by cell, that of the crossing first.
        to_picture: makes pictures of the cells.

    Returns:
        Pictures of all cells of the row and the column, the crossing first; given ones as they are.
    """
    view, frame = next(iter(given))
    views, frames = range(noise.shape[0]), range(noise.shape[1])
    made: dict[Cell, Any] = {}
    if any((view, f) not in given for f in frames):
        cells = sample_grid(
            experts, noise[view : view + 1], lambda step: step.rows(), sigmas, given, choose=all_references,
            views=[view], frames=frames,
        )  # fmt: skip
        made |= picture_cells(cells, [view], frames, to_picture)
    if any((v, frame) not in given for v in views):
        cells = sample_grid(
            experts, noise[:, frame : frame + 1], lambda step: step.columns(), sigmas, given, choose=all_references,
            views=views, frames=[frame],
        )  # fmt: skip
        made |= picture_cells(cells, views, [frame], to_picture)
    return {(view, frame): given[view, frame]} | made | dict(given)
