# SPDX-License-Identifier: GPL-3.0-or-later
"""Cells, clips and denoisers: what the sampler works on.

A grid has a *cell* for each of V cameras (views) and F frames. A *clip* is a sequence of cells that a denoiser sees
together: a row (a video at a fixed camera), a column (a sweep of the cameras at a frozen time), or a single frame.
Noisy latents are x = x0 + sigma e, as in Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based
Generative Models" (EDM).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

Cell = tuple[int, int]  # view, frame
Kind = Literal["row", "column", "frame"]
References = Mapping[Cell, Any]  # pictures, in whatever form the denoisers read


@dataclass(frozen=True)
class Clip:
    """Cells that a denoiser sees together, in order."""

    kind: Kind
    cells: tuple[Cell, ...]


class Denoiser(Protocol):
    """A model that estimates the clean latents of clips."""

    def condition(self, clips: Sequence[Clip], references: Sequence[References]) -> Any:
        """Return what the model is told about clips of one length; without references it is unconditional.

        Args:
            clips: N clips.
            references: known pictures for each clip, by cell.
        """
        ...

    def denoise(
        self,
        cells: torch.Tensor,  # [N, L, C, h, w]
        sigma: float,
        condition: Any,
    ) -> torch.Tensor:
        """Return the estimates of N clips' clean latents, [N, L, C, h, w]."""
        ...


@dataclass(frozen=True)
class Guided:
    """A denoiser with classifier-free guidance, which is applied before estimates of several models are mixed.

    Attributes:
        denoiser: the model.
        scale: guidance scale of the first cell of a clip; 1 is none.
        last_scale: scale of the last cell, between which it is linear, as in Stable Video Diffusion; `scale` if None.
    """

    denoiser: Denoiser
    scale: float
    last_scale: float | None = None

    def condition(self, clips: Sequence[Clip], references: Sequence[References]) -> Any:
        """See `Denoiser`."""
        return self.denoiser.condition(clips, references), self.denoiser.condition(clips, [{}] * len(clips))

    def denoise(
        self,
        cells: torch.Tensor,  # [N, L, C, h, w]
        sigma: float,
        condition: Any,
    ) -> torch.Tensor:
        """See `Denoiser`."""
        conditional = self.denoiser.denoise(cells, sigma, condition[0])
        unconditional = self.denoiser.denoise(cells, sigma, condition[1])
        last = self.scale if self.last_scale is None else self.last_scale
        scale = torch.linspace(self.scale, last, cells.shape[1], dtype=cells.dtype, device=cells.device)
        return unconditional + scale.view(-1, 1, 1, 1) * (conditional - unconditional)


def rows(views: Iterable[int], frames: Sequence[int]) -> list[Clip]:
    """Return the clip of each view over all frames."""
    return [Clip("row", tuple((view, frame) for frame in frames)) for view in views]


def columns(views: Sequence[int], frames: Iterable[int]) -> list[Clip]:
    """Return the clip of each frame over all views."""
    return [Clip("column", tuple((view, frame) for view in views)) for frame in frames]


def single_frames(views: Iterable[int], frames: Sequence[int]) -> list[Clip]:
    """Return a clip for each cell."""
    return [Clip("frame", ((view, frame),)) for view in views for frame in frames]


def windows(clips: Sequence[Clip], length: int, stride: int) -> list[Clip]:
    """Return windows of clips: of `length` cells, every `stride` cells, and one that ends with the clip."""
    found = []
    for clip in clips:
        last = max(0, len(clip.cells) - length)
        starts = sorted({*range(0, last, stride), last})
        found += [Clip(clip.kind, clip.cells[start : start + length]) for start in starts]
    return found


def cross(view: int, frame: int, views: Sequence[int], frames: Sequence[int]) -> list[Cell]:
    """Return the cells of the row and the column that cross at a cell, that cell first."""
    row = [(view, f) for f in frames if f != frame]
    return [(view, frame), *row, *((v, frame) for v in views if v != view)]
