# SPDX-License-Identifier: GPL-3.0-or-later
"""Track tokens: what a point's color says about where it was in the first frame, given to the transformer directly.

A tracking video stores in red and green where a point was in the first frame. A small model needs many samples to
learn that from encoded colors; here the coordinates enter as sines and cosines, and the first frame moved along them
(`track_warp`) is a first estimate of the video, which the transformer corrects. The published checkpoint has none of
this: the module exists only where the configuration asks for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.schedulers.scheduling_ddim_cogvideox import CogVideoXDDIMScheduler
from torch import nn

from .track_warp import move_first

_DEPTH_OCTAVES = 3


def track_coordinates(tracking: torch.Tensor) -> torch.Tensor:
    """Tracking video to coordinates.

    tracking: [B, T, 3, H, W] in 0..1, exact colors (red, green: position in the first frame; blue: inverse depth).
    Returns [B, T, 4, H, W]: u, v in 0..1 (x right, y down, of the first frame), inverse depth 0..1, covered 0 or 1.
    """
    covered = (tracking.amax(dim=2, keepdim=True) > 0).to(tracking.dtype)
    return torch.cat([tracking, covered], dim=2)


@dataclass(frozen=True)
class Lookup:
    tokens: torch.Tensor  # [B, T*h*w/p^2, dim], to be added to the video tokens
    moved: torch.Tensor  # [B, T, C, h, w] latents of the first frame moved along the tracks
    known: torch.Tensor  # [B, T, 1, h, w] 0..1: how much of a cell the first frame shows


class TrackLookup(nn.Module):
    """Track coordinates and the first frame to a vector per video token and an estimate of the video.

    The transformer corrects the moved first frame and says how uncertain it is then (`denoise`), for the CogVideoX
    schedule of `snr_shift`. `scale`: pixels per latent cell, `patch`: latent cells per token side.
    """

    def __init__(self, dim: int, latent_channels: int, frequencies: int, scale: int, patch: int, snr_shift: float):
        super().__init__()
        self.frequencies, self.scale, self.patch = frequencies, scale, patch
        fourier = 2 * (2 * frequencies) + 2 * min(_DEPTH_OCTAVES, frequencies) + 1  # u and v, inverse depth, covered
        self.coordinate_proj = nn.Linear(fourier * 4, dim)
        self.content_proj = nn.Linear(4 * (scale * patch) ** 2, dim)  # colors and whether they are known
        # Pixels of a cell to latents, as the autoencoder does it; never trained.
        self.encoder = nn.Conv2d(3, latent_channels, scale, stride=scale).requires_grad_(False)
        self.signal = _signal(snr_shift)  # [1000]; no buffer, as those follow the weights to bfloat16
        self.uncertainty = nn.Linear(dim, latent_channels * patch * patch)  # log of a deviation, by place
        # The same where the first frame shows the surface, and what is added where it does not.
        self.deviation = nn.Parameter(torch.tensor([math.log(0.1), math.log(6.0)]))
        nn.init.zeros_(self.uncertainty.weight)
        nn.init.zeros_(self.uncertainty.bias)

    @torch.no_grad()
    def initialise(self, analysis: torch.Tensor, mean: torch.Tensor) -> None:
        """Encode as a linear autoencoder of patches does: analysis [C, 3*scale^2] of the patch less `mean`
        [3*scale^2].
        """
        self.encoder.weight.copy_(analysis.unflatten(1, (3, self.scale, self.scale)))
        assert self.encoder.bias is not None
        self.encoder.bias.copy_(-analysis @ mean)

    def fourier(self, coordinates: torch.Tensor) -> torch.Tensor:
        """[N, 4, h, w] -> [N, F, h, w]: sines and cosines in octaves, zero where no point is."""
        octaves = 2.0 ** torch.arange(self.frequencies, device=coordinates.device, dtype=coordinates.dtype) * math.pi
        place = (coordinates[:, :2, None] * octaves[:, None, None]).flatten(1, 2)
        depth = (coordinates[:, 2:3, None] * octaves[:_DEPTH_OCTAVES, None, None]).flatten(1, 2)
        covered = coordinates[:, 3:4]
        return (
            torch.cat([place.sin(), place.cos(), depth.sin(), depth.cos(), torch.ones_like(covered)], dim=1) * covered
        )

    def forward(self, coordinates: torch.Tensor, first: torch.Tensor) -> Lookup:
        """Coordinates [B, T, 4, H, W] (`track_coordinates`), first frame [B, 3, H, W] in -1..1; all zero: none."""
        shape = coordinates.shape[:2]
        coordinates, first = coordinates.float(), first.float()
        step = self.scale * self.patch // 2  # two samples per token side
        samples = coordinates[..., step // 2 :: step, step // 2 :: step].flatten(0, 1)
        tokens = self.coordinate_proj(_tokens(self.fourier(samples), 2, self.coordinate_proj.weight.dtype))
        there = (first != 0).flatten(1).any(1).float()[:, None, None, None, None]
        colors, known = (first.new_zeros(len(samples), n, *first.shape[-2:]) for n in (3, 1))
        if there.any():
            moved = move_first(first, coordinates)
            colors, known = (moved.colors * there).flatten(0, 1), (moved.known * there).flatten(0, 1)
        content = torch.cat([colors, known], dim=1)
        tokens = tokens + self.content_proj(_tokens(content, self.scale * self.patch, self.content_proj.weight.dtype))
        with torch.autocast(content.device.type, enabled=False):  # an estimate of the video, not a feature
            latents = self.encoder(colors.to(self.encoder.weight.dtype)).unflatten(0, shape) * there
        cells = F.avg_pool2d(known, self.scale).unflatten(0, shape)
        return Lookup(tokens.unflatten(0, shape).flatten(1, 2), latents, cells)

    def denoise(
        self, timestep: torch.Tensor, local: torch.Tensor, noisy: torch.Tensor, mean: torch.Tensor, known: torch.Tensor
    ) -> torch.Tensor:
        """The velocity that leads to the best guess of the clean latents, [B, T, C, h, w] float32.

        Clean latents are taken to lie about `mean` [B, T, C, h, w] with a deviation s by place: exp(`local` +
        `deviation`), `local` [B, T, C, h, w] being `uncertainty` of the last tokens. With x = a x0 + b e the best guess
        is the Wiener filter's, and the velocity a e - b x0 of that guess is b (a (1 - s^2) x - mean) / (s^2 a^2 + b^2):
        near the mean it is trusted, far from it the noisy latents are, and nothing has to be learned for each noise
        level.
        """
        a = self.signal.to(timestep.device)[timestep].view(-1, 1, 1, 1, 1)
        b2 = 1 - a * a
        s2 = torch.exp(2 * (local.float() + self.deviation[0] + self.deviation[1] * (1 - known.float())))
        s2 = s2.clamp(0.0025, 4.0)
        return b2.sqrt() * (a * (1 - s2) * noisy.float() - mean.float()) / (s2 * a * a + b2)


def towards(still: Lookup, moved: Lookup, scale: float) -> Lookup:
    """From the lookup of a still scene (0) to that of the tracks (1), and beyond."""

    def mixed(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + scale * (b - a)

    return Lookup(
        mixed(still.tokens, moved.tokens), mixed(still.moved, moved.moved), mixed(still.known, moved.known).clamp(0, 1)
    )


def _signal(snr_shift: float) -> torch.Tensor:
    """Share of the clean latents in the noisy ones at each timestep [1000] of CogVideoX's schedule (root of alpha-bar,
    zero at the last).
    """
    schedule = CogVideoXDDIMScheduler(snr_shift_scale=snr_shift, rescale_betas_zero_snr=True)
    return schedule.alphas_cumprod.float().sqrt()


def _tokens(pictures: torch.Tensor, side: int, dtype: torch.dtype) -> torch.Tensor:
    """[N, C, H, W] -> [N, tokens, C*side*side]."""
    return F.pixel_unshuffle(pictures, side).flatten(2).transpose(1, 2).to(dtype)
