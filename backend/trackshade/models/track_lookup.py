# SPDX-License-Identifier: GPL-3.0-or-later
"""Track tokens: what a point's colour says about where it was in the first frame, given to the transformer directly.

A tracking video stores in red and green where a point was in the first frame. A small model needs many samples to learn that from
encoded colours; here the coordinates enter as sines and cosines, and the first frame's latents are looked up at them. The published
checkpoint has none of this: the module exists only where the configuration asks for it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


def track_coordinates(tracking: torch.Tensor) -> torch.Tensor:
    """Tracking video to coordinates.

    tracking: [B, T, 3, H, W] in 0..1, exact tracking colours (red, green: position in the first frame; blue: inverse depth).
    Returns [B, T, 4, H, W] float: u, v in 0..1 (x right, y down, of the first frame), inverse depth 0..1, covered 0 or 1.
    """
    covered = (tracking.amax(dim=2, keepdim=True) > 0).to(tracking.dtype)
    return torch.cat([tracking, covered], dim=2)


class TrackLookup(nn.Module):
    """Track coordinates and the first frame's latents -> one vector per video token, [B, T*h*w, dim].

    The first frame's latents are unfolded to `channels` features per pixel by a small convolution, sampled at every pixel's track
    coordinates, and kept only where the track's inverse depth agrees with that of the surface seen there in the first frame
    (else the point was hidden then). `scale`: pixels per latent cell, `patch`: latent cells per token side.
    """

    def __init__(self, dim: int, latent_channels: int, frequencies: int, channels: int, scale: int, patch: int):
        super().__init__()
        self.frequencies, self.channels, self.scale, self.patch = frequencies, channels, scale, patch
        cell = scale * patch  # pixels per token side
        fourier = 2 * (2 * frequencies) + 2 * 3 + 1  # u and v, three octaves of inverse depth, covered
        self.coordinate_proj = nn.Linear(fourier * 4, dim)
        if channels:
            self.unfold = nn.Conv2d(latent_channels, channels * scale * scale, 3, padding=1)
            self.gate = nn.Parameter(torch.tensor([-30.0, 3.0]))  # of the difference in inverse depth: steepness, offset
            self.content_proj = nn.Linear((channels + 1) * cell * cell, dim)

    def fourier(self, coordinates: torch.Tensor) -> torch.Tensor:
        """[N, 4, h, w] -> [N, F, h, w]: sines and cosines in octaves, zero where no point is."""
        octaves = 2.0 ** torch.arange(self.frequencies, device=coordinates.device, dtype=coordinates.dtype) * math.pi
        place = (coordinates[:, :2, None] * octaves[:, None, None]).flatten(1, 2)
        depth = (coordinates[:, 2:3, None] * octaves[:3, None, None]).flatten(1, 2)
        covered = coordinates[:, 3:4]
        return torch.cat([place.sin(), place.cos(), depth.sin(), depth.cos(), torch.ones_like(covered)], dim=1) * covered

    def content(self, coordinates: torch.Tensor, image_latents: torch.Tensor) -> torch.Tensor:
        """[B, T, 4, H, W], [B, C, H/scale, W/scale] -> [B*T, channels + 1, H, W]: features of the first frame where each point was."""
        batch, frames, _, height, width = coordinates.shape
        features = F.pixel_shuffle(self.unfold(image_latents), self.scale).float()  # [B, channels, H, W]
        grid = (coordinates[:, :, :2] * 2 - 1).permute(0, 1, 3, 4, 2).reshape(batch, frames * height, width, 2)
        sampled = F.grid_sample(features, grid, mode="bilinear", padding_mode="border", align_corners=False)
        first = coordinates[:, 0, 2:]  # [B, 2, H, W] inverse depth and cover in the first frame
        seen = F.grid_sample(first, grid, mode="nearest", padding_mode="border", align_corners=False)
        both = [x.unflatten(2, (frames, height)).transpose(1, 2).flatten(0, 1) for x in (sampled, seen)]
        here = coordinates.flatten(0, 1)
        difference = (both[1][:, :1] - here[:, 2:3]).abs()
        gate = torch.sigmoid(self.gate[0] * difference + self.gate[1]) * both[1][:, 1:] * here[:, 3:]
        return torch.cat([both[0] * gate, gate], dim=1)

    def forward(self, coordinates: torch.Tensor, image_latents: torch.Tensor) -> torch.Tensor:
        """coordinates [B, T, 4, H, W] (`track_coordinates`), image_latents [B, C, h, w] of the first frame -> [B, tokens, dim]."""
        batch, frames = coordinates.shape[:2]
        coordinates = coordinates.float()
        step = self.scale * self.patch // 2  # two samples per token side
        samples = coordinates[..., step // 2 :: step, step // 2 :: step].flatten(0, 1)
        patches = F.pixel_unshuffle(self.fourier(samples), 2)
        tokens = self.coordinate_proj(patches.flatten(2).transpose(1, 2).to(self.coordinate_proj.weight.dtype))
        if self.channels:
            content = F.pixel_unshuffle(self.content(coordinates, image_latents), self.scale * self.patch)
            tokens = tokens + self.content_proj(content.flatten(2).transpose(1, 2).to(self.content_proj.weight.dtype))
        return tokens.unflatten(0, (batch, frames)).flatten(1, 2)
