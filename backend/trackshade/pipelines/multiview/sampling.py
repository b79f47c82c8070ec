# SPDX-License-Identifier: GPL-3.0-or-later
"""The sampler: Euler steps of the probability flow on all cells of a grid at once.

Only the shared noisy cells connect the clips: each step estimates the clean cells from clips (rows, columns, ...), and
an arm mixes these estimates (Yang et al. 2024, "Diffusion²", arXiv 2404.02148).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from .grid import Cell, Clip, Denoiser, Kind, References, columns, rows, single_frames, windows

Mix = Callable[["GridStep"], torch.Tensor]
Choose = Callable[[Clip, References], References]
ToPicture = Callable[[Cell, torch.Tensor], Any]
"""Makes a picture of a cell from its clean latents [C, h, w]."""


def karras_sigmas(steps: int, least: float = 0.002, greatest: float = 700.0, rho: float = 7.0) -> list[float]:
    """Return the noise levels of some steps, falling, and 0 (EDM, equation 5)."""
    if steps == 1:
        return [greatest, 0.0]
    low, high = least ** (1 / rho), greatest ** (1 / rho)
    return [(high + n / (steps - 1) * (low - high)) ** rho for n in range(steps)] + [0.0]


def own_references(clip: Clip, references: References) -> References:
    """Return the first reference of a clip's row or column, as each model of the published method gets it.

    Of the reference row and the reference column themselves that is their crossing, the first reference.
    """
    view, frame = clip.cells[0]
    for cell, picture in references.items():
        in_row, in_column = cell[0] == view, cell[1] == frame
        if {"row": in_row, "column": in_column, "frame": in_row and in_column}[clip.kind]:
            return {cell: picture}
    return {}


def all_references(clip: Clip, references: References) -> References:
    """Return all references, for any clip."""
    return references


@dataclass(frozen=True)
class Experts:
    """The denoisers of a grid.

    Attributes:
        denoisers: for "row", "column" and, for arms that need one, "frame".
        clips_per_batch: greatest number of clips that are denoised in one call, which limits the memory.
        longest_clip: number of cells above which a clip is seen in windows that overlap by a third; None for no limit.
    """

    denoisers: Mapping[Kind, Denoiser]
    clips_per_batch: int = 16
    longest_clip: int | None = None


@dataclass
class GridStep:
    """One step of the sampler, as an arm sees it.

    Attributes:
        cells: [V, F, C, h, w] noisy latents.
        sigma: their noise level.
        step: number of the step, from 0.
        steps: number of steps.
        views: scene's numbers of the grid's views, [V].
        frames: scene's numbers of the grid's frames, [F].
        view_weights: [V] factors of the weight of columns.
    """

    cells: torch.Tensor
    sigma: float
    step: int
    steps: int
    views: Sequence[int]
    frames: Sequence[int]
    view_weights: torch.Tensor
    experts: Experts
    references: References
    choose: Choose
    conditions: dict[Any, Any] = field(default_factory=dict)

    def rows(self) -> torch.Tensor:
        """Return the estimates of all cells by their rows, [V, F, C, h, w]."""
        return self.estimate(rows(self.views, self.frames))

    def columns(self) -> torch.Tensor:
        """Return the estimates of all cells by their columns, [V, F, C, h, w]."""
        return self.estimate(columns(self.views, self.frames))

    def single(self) -> torch.Tensor:
        """Return the estimates of all cells, each by itself, [V, F, C, h, w]."""
        return self.estimate(single_frames(self.views, self.frames))

    def estimate(self, clips: Sequence[Clip]) -> torch.Tensor:
        """Return the estimates of all cells, the mean over the clips that have them, [V, F, C, h, w]."""
        total, count = torch.zeros_like(self.cells), self.cells.new_zeros(self.cells.shape[:2])
        row, column = ({number: n for n, number in enumerate(numbers)} for numbers in (self.views, self.frames))
        if longest := self.experts.longest_clip:
            clips = windows(clips, longest, max(1, 2 * longest // 3))
        batches: dict[tuple[Kind, int], list[Clip]] = {}
        for clip in clips:
            batches.setdefault((clip.kind, len(clip.cells)), []).append(clip)
        for (kind, _), alike in batches.items():
            for first in range(0, len(alike), self.experts.clips_per_batch):
                batch = tuple(alike[first : first + self.experts.clips_per_batch])
                denoiser = self.experts.denoisers[kind]
                if batch not in self.conditions:
                    chosen = [self.choose(clip, self.references) for clip in batch]
                    self.conditions[batch] = denoiser.condition(batch, chosen)
                v = torch.tensor([[row[cell[0]] for cell in clip.cells] for clip in batch], device=total.device)
                f = torch.tensor([[column[cell[1]] for cell in clip.cells] for clip in batch], device=total.device)
                clean = denoiser.denoise(self.cells[v, f], self.sigma, self.conditions[batch])
                total.index_put_((v, f), clean.to(total.dtype), accumulate=True)
                count.index_put_((v, f), torch.ones_like(v, dtype=count.dtype), accumulate=True)
        return total / count.view(*count.shape, 1, 1, 1)


@torch.no_grad()
def sample_grid(
    experts: Experts,
    noise: torch.Tensor,  # [V, F, C, h, w] standard normal
    mix: Mix,
    sigmas: Sequence[float],
    references: References,
    *,
    choose: Choose = own_references,
    views: Sequence[int] | None = None,
    frames: Sequence[int] | None = None,
    view_weights: Sequence[float] | None = None,
    repeated_steps: int = 0,
    generator: torch.Generator | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> torch.Tensor:
    """Sample the cells of a grid.

    Args:
        experts: the denoisers.
        noise: where the cells begin; its precision is that of the sampler.
        mix: the arm's estimate of the clean cells in a step.
        sigmas: falling noise levels, the last one 0.
        references: known pictures by cell. They condition the denoisers, and are generated again.
        choose: which references a clip gets.
        views: scene's numbers of the grid's views, in the numbering of the references; 0 .. V - 1 if None.
        frames: the same of its frames.
        view_weights: factors of the weight of columns for each view, see `arms.view_weights`; 1 if None.
        repeated_steps: number of first steps that are done twice at the same noise level, which reduces the variance
            of the result: after the first time, noise of the deviation sigma - next sigma is added.
        generator: of that noise.
        progress: called as progress(done, total) after every step; what it raises ends the sampling.

    Returns:
        Clean latents [V, F, C, h, w].
    """
    x, steps = noise * sigmas[0], len(sigmas) - 1
    weights = torch.ones(len(noise)) if view_weights is None else torch.tensor(list(view_weights))
    conditions: dict[Any, Any] = {}
    for n, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        for again in reversed(range(2 if n < repeated_steps else 1)):
            step = GridStep(
                x, sigma, n, steps, range(x.shape[0]) if views is None else views,
                range(x.shape[1]) if frames is None else frames, weights.to(x), experts, references, choose, conditions,
            )  # fmt: skip
            x = x + (following - sigma) * (x - mix(step)) / sigma
            if again:
                added = torch.randn(x.shape, generator=generator, dtype=x.dtype)
                x = x + (sigma - following) * added.to(x.device)
        progress(n + 1, steps)
    return x


def picture_cells(
    cells: torch.Tensor,  # [V, F, C, h, w]
    views: Sequence[int],
    frames: Sequence[int],
    to_picture: ToPicture,
) -> dict[Cell, Any]:
    """Return the pictures of a grid's cells, by cell."""
    return {
        (view, frame): to_picture((view, frame), cells[v, f])
        for v, view in enumerate(views)
        for f, frame in enumerate(frames)
    }
