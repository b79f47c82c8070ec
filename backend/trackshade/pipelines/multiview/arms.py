# SPDX-License-Identifier: GPL-3.0-or-later
"""Arms: ways to sample a grid of cells with denoisers of rows and columns.

An arm is a mix (how the estimates of one step are combined), which references a clip gets, and an order in which parts
of the grid are sampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from .grid import Cell, References, columns, rows, windows
from .sampling import (
    Choose,
    Experts,
    GridStep,
    Mix,
    ToPicture,
    all_references,
    own_references,
    picture_cells,
    sample_grid,
)

Order = Literal["whole", "frame by frame", "anchors first"]
ANCHOR_STRIDE = 2  # every second view and frame is an anchor


def falling_weight(step: int, steps: int, middle: float = 0.5, steepness: float = 20.0) -> float:
    """Return the weight of columns, which falls from 1 to 0 along a logistic curve (s0 = middle, k = steepness)."""
    place = step / (steps - 1) if steps > 1 else middle
    return 1 - 1 / (1 + math.exp(-steepness * (place - middle)))


def view_weights(azimuths: Sequence[float], side: float = 0.25) -> list[float]:
    """Return factors of the weight of columns: 1 seen from the front and the back, `side` from the sides.

    `azimuths` are angles to the reference view, radians. Side views lean on their row.
    """
    return [side + (1 - side) * math.cos(angle) ** 2 for angle in azimuths]


def rows_only(step: GridStep) -> torch.Tensor:
    """Videos that know nothing of each other."""
    return step.rows()


def columns_only(step: GridStep) -> torch.Tensor:
    """Sweeps of the cameras that know nothing of each other."""
    return step.columns()


def convex(weight: Callable[[int, int], float]) -> Mix:
    """Return a mix of columns, of a weight that depends on the step, and rows."""

    def mix(step: GridStep) -> torch.Tensor:
        share = weight(step.step, step.steps) * step.view_weights.view(-1, 1, 1, 1, 1)
        if not share.any():
            return step.rows()
        if (share == 1).all():
            return step.columns()
        return share * step.columns() + (1 - share) * step.rows()

    return mix


def alternating(step: GridStep) -> torch.Tensor:
    """Rows in even steps, columns in odd ones."""
    return step.columns() if step.step % 2 else step.rows()


def alternating_windows(length: int, stride: int) -> Mix:
    """Return a mix of windows that slide over the rows in even steps and over the columns in odd ones.

    It follows Diffuman4D (arXiv 2507.13344). Where windows overlap, their mean counts.
    """

    def mix(step: GridStep) -> torch.Tensor:
        lines = columns(step.views, step.frames) if step.step % 2 else rows(step.views, step.frames)
        return step.estimate(windows(lines, length, stride))

    return mix


def rows_and_columns_less_single(step: GridStep) -> torch.Tensor:
    """Row + column - single frame: the score of the grid if row and column are independent given their cell."""
    return step.rows() + step.columns() - step.single()


@dataclass(frozen=True)
class Arm:
    """A way to sample a grid.

    Attributes:
        mix: the estimate of a step.
        choose: which references a clip gets.
        order: "whole": all cells at once. "frame by frame": a frame's column after the other, each with the one before
            as further references. "anchors first": every second view and frame, then all cells with those as further
            references (SV4D, arXiv 2407.17470).
        repeated_steps: share of the steps that are done twice, see `sample_grid`.
        side_weight: factor of the weight of columns for views from the side; see `view_weights`.
    """

    mix: Mix
    choose: Choose = own_references
    order: Order = "whole"
    repeated_steps: float = 0.0
    side_weight: float = 1.0


ARMS: dict[str, Arm] = {
    "rows": Arm(rows_only),
    "columns": Arm(columns_only),
    "frame-by-frame": Arm(columns_only, all_references, "frame by frame"),
    "half": Arm(convex(lambda step, steps: 0.5)),
    "logistic": Arm(convex(falling_weight)),
    "logistic-views": Arm(convex(falling_weight), side_weight=0.25),
    "logistic-rising": Arm(convex(lambda step, steps: 1 - falling_weight(step, steps))),
    "logistic-repeated": Arm(convex(falling_weight), repeated_steps=0.2),
    "alternating": Arm(alternating),
    "windows": Arm(alternating_windows(4, 2)),
    "row-column-single": Arm(rows_and_columns_less_single),
    "all-rows": Arm(rows_only, all_references),
    "all-half": Arm(convex(lambda step, steps: 0.5), all_references),
    "all-logistic": Arm(convex(falling_weight), all_references),
    "all-alternating": Arm(alternating, all_references),
    "anchors": Arm(alternating, all_references, "anchors first"),
}
PUBLISHED, DEFAULT = "logistic", "all-alternating"


def sample_with_arm(
    arm: Arm,
    experts: Experts,
    noise: torch.Tensor,  # [V, F, C, h, w] standard normal
    sigmas: Sequence[float],
    references: References,
    to_picture: ToPicture,
    *,
    azimuths: Sequence[float] | None = None,
    generator: torch.Generator | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> torch.Tensor:
    """Sample a grid in an arm's order.

    Args:
        arm: the arm.
        experts: the denoisers.
        noise: where the cells begin.
        sigmas: falling noise levels, the last one 0.
        references: known pictures by cell, the crossing of reference row and column first.
        to_picture: makes pictures of cells, as references for later parts of the grid.
        azimuths: angle of each view to the reference view, radians, for arms whose side views lean on their row; all
            views count the same if None.
        generator: see `sample_grid`.
        progress: called as progress(done, total) after every step of every part.

    Returns:
        Clean latents [V, F, C, h, w].
    """
    views, frames = range(noise.shape[0]), range(noise.shape[1])
    parts: list[tuple[Sequence[int], Sequence[int]]] = [(views, frames)]
    if arm.order == "frame by frame":
        parts = [(views, [frame]) for frame in frames]
    elif arm.order == "anchors first":
        parts = [(_anchors(len(views)), _anchors(len(frames))), (views, frames)]
    weights = view_weights(azimuths or [0.0] * len(views), arm.side_weight)
    result, known = torch.zeros_like(noise), dict(references)
    steps = len(sigmas) - 1
    for number, (some_views, some_frames) in enumerate(parts):
        v, f = torch.tensor(list(some_views))[:, None], torch.tensor(list(some_frames))
        cells = sample_grid(
            experts,
            noise[v, f],
            arm.mix,
            sigmas,
            known,
            choose=arm.choose,
            views=some_views,
            frames=some_frames,
            view_weights=[weights[view] for view in some_views],
            repeated_steps=round(arm.repeated_steps * steps),
            generator=generator,
            progress=lambda done, total, number=number: progress(number * steps + done, len(parts) * steps),
        )
        result[v, f] = cells
        if number + 1 < len(parts):
            made = picture_cells(cells, some_views, some_frames, to_picture)
            if arm.order == "frame by frame":
                known = dict(references)
            known |= {cell: picture for cell, picture in made.items() if cell not in references}
    return result


def _anchors(count: int) -> list[int]:
    """Return every second number, and the last."""
    return sorted({*range(0, count, ANCHOR_STRIDE), count - 1})


def known_cells(prompt: Literal["image", "video", "static", "cross"], num_views: int, num_frames: int) -> list[Cell]:
    """Return the cells that a prompt gives, the crossing of reference row and column first.

    "image" gives one picture, "video" the row of the first camera, "static" the column of the first frame, "cross"
    both.
    """
    row = [(0, frame) for frame in range(1, num_frames)]
    column = [(view, 0) for view in range(1, num_views)]
    return [(0, 0), *(row if prompt in ("video", "cross") else []), *(column if prompt in ("static", "cross") else [])]
