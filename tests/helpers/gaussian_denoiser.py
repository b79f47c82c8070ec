# SPDX-License-Identifier: GPL-3.0-or-later
"""Denoisers in closed form: the exact estimates for cells with a joint normal distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trackshade.pipelines.multiview.grid import Clip, References


@dataclass(frozen=True)
class GaussianDenoiser:
    """Estimates clips exactly, given references, if each latent channel of the cells is normal and independent."""

    covariance: torch.Tensor  # [C, V * F, V * F] float64
    frames: int

    def condition(self, clips: Sequence[Clip], references: Sequence[References]) -> list[list[Any]]:
        """Return mean and covariance of each clip and channel, given the references' values [C, 1, 1]."""
        return [
            [self._given(channel, clip, known) for channel in range(len(self.covariance))]
            for clip, known in zip(clips, references, strict=True)
        ]

    def _given(self, channel: int, clip: Clip, known: References) -> tuple[torch.Tensor, torch.Tensor]:
        covariance = self.covariance[channel]
        cells = torch.tensor([v * self.frames + f for v, f in clip.cells])
        own = covariance[cells[:, None], cells]
        if not known:
            return torch.zeros(len(cells), dtype=own.dtype), own
        at = torch.tensor([v * self.frames + f for v, f in known])
        values = torch.stack([picture[channel, 0, 0] for picture in known.values()])
        gain = torch.linalg.solve(covariance[at[:, None], at], covariance[at[:, None], cells]).T
        return gain @ values, own - gain @ covariance[at[:, None], cells]

    def denoise(self, cells: torch.Tensor, sigma: float, condition: list[list[Any]]) -> torch.Tensor:
        """Return the conditional means of clips [N, L, C, 1, 1]."""
        out = torch.empty_like(cells)
        for n, channels in enumerate(condition):
            for channel, (mean, covariance) in enumerate(channels):
                noisy = cells[n, :, channel, 0, 0]
                noise = sigma**2 * torch.eye(len(noisy), dtype=noisy.dtype)
                out[n, :, channel, 0, 0] = mean + covariance @ torch.linalg.solve(covariance + noise, noisy - mean)
        return out


def along(size: int, other: int, decay: float, axis: str) -> torch.Tensor:
    """Return a covariance [V * F, V * F] that couples cells along one axis ("row" or "column") alone."""
    n = torch.arange(size, dtype=torch.float64)
    line = decay ** (n[:, None] - n).abs()
    rest = torch.eye(other, dtype=torch.float64)
    return torch.kron(rest, line) if axis == "row" else torch.kron(line, rest)
