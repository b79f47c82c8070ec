# SPDX-License-Identifier: GPL-3.0-or-later
"""Track tokens: what a point's colour says about where it was in the first frame, given to the transformer directly.

A tracking video stores in red and green where a point was in the first frame. A small model needs many samples to
learn that from encoded colours; here the coordinates enter as sines and cosines, the first frame's latents are
looked up at them, and the first frame moved that way is a first estimate of the video, which the transformer
corrects. The published checkpoint has none of this: the module exists only where the configuration asks for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.schedulers.scheduling_ddim_cogvideox import CogVideoXDDIMScheduler
from torch import nn


def track_coordinates(tracking: torch.Tensor) -> torch.Tensor:
    """Tracking video to coordinates.

    tracking: [B, T, 3, H, W] in 0..1, exact colours (red, green: position in the first frame; blue: inverse depth).
    Returns [B, T, 4, H, W]: u, v in 0..1 (x right, y down, of the first frame), inverse depth 0..1, covered 0 or 1.
    """
    covered = (tracking.amax(dim=2, keepdim=True) > 0).to(tracking.dtype)
    return torch.cat([tracking, covered], dim=2)


@dataclass(frozen=True)
class Lookup:
    tokens: torch.Tensor  # [B, T*h*w/p^2, dim], to be added to the video tokens
    moved: torch.Tensor | None  # [B, T, C, h, w] latents of the first frame moved along the tracks
    seen: torch.Tensor | None  # [B, T, 1, h, w] 0..1: how much of a cell the first frame shows


class TrackLookup(nn.Module):
    """Track coordinates and the first frame's latents to a vector per video token and an estimate of the video.

    The first frame's latents are unfolded to `channels` features and a colour per pixel by small convolutions, sampled
    at every pixel's track coordinates (where no track is, at the pixel itself), and kept only where the track's inverse
    depth agrees with that of the surface seen there in the first frame (else the point was hidden then). `scale`:
    pixels per latent cell, `patch`: latent cells per token side. `fill`: what was hidden takes the colours around it,
    near ones first, so that the transformer starts from there and not from grey. `snr_shift` > 0: the transformer
    corrects the moved frame itself and says how uncertain it is then (`denoise`), for the CogVideoX schedule of that
    shift; at 0 it mixes shares into the velocity (`estimate`).
    """

    def __init__(
        self,
        dim: int,
        latent_channels: int,
        frequencies: int,
        channels: int,
        scale: int,
        patch: int,
        time_dim: int,
        fill: bool = False,
        snr_shift: float = 0.0,
    ):
        super().__init__()
        self.fill = fill
        self.frequencies, self.channels, self.scale, self.patch = frequencies, channels, scale, patch
        cell = scale * patch  # pixels per token side
        depth_octaves = min(3, frequencies)
        fourier = 2 * (2 * frequencies) + 2 * depth_octaves + 1  # u and v, inverse depth, covered
        self.coordinate_proj = nn.Linear(fourier * 4, dim)
        if channels:
            self.unfold = nn.Conv2d(latent_channels, channels * scale * scale, 3, padding=1)
            # Of the difference in inverse depth: steepness and offset.
            self.gate = nn.Parameter(torch.tensor([-30.0, 3.0]))
            self.content_proj = nn.Linear((channels + 1) * cell * cell, dim)
            self.colours = nn.Conv2d(latent_channels, 3 * scale * scale, 1, bias=False)
            self.fold = nn.Conv2d(3, latent_channels, scale, stride=scale, bias=False)
            if snr_shift:
                self.signal = _signal(snr_shift)  # [1000]; no buffer, as those follow the weights to bfloat16
                self.uncertainty = nn.Linear(dim, latent_channels * patch * patch)  # log of a deviation, by place
                # The same where the first frame shows the surface, and what is added where it does not.
                self.deviation = nn.Parameter(torch.tensor([math.log(0.1), math.log(6.0)]))
                zero = [self.uncertainty]
            else:
                # Shares per channel of the noisy latents and of the moved first frame; then more or less by place.
                self.shares = nn.Linear(time_dim, 2 * latent_channels)
                self.local_shares = nn.Linear(dim, 2 * latent_channels * patch * patch)
                zero = [self.shares, self.local_shares]
            for linear in zero:
                nn.init.zeros_(linear.weight)
                nn.init.zeros_(linear.bias)

    @torch.no_grad()
    def initialise(self, analysis: torch.Tensor, synthesis: torch.Tensor) -> None:
        """Start from a linear autoencoder's patches [C, 3*scale^2] and [3*scale^2, C]: moved latents are those of
        the moved picture.
        """
        self.colours.weight.copy_(synthesis[:, :, None, None])
        self.fold.weight.copy_(analysis.unflatten(1, (3, self.scale, self.scale)))
        if hasattr(self, "shares"):
            self.shares.bias[len(self.shares.bias) // 2 :] = -1.0  # the velocity of a known video at zero signal

    def fourier(self, coordinates: torch.Tensor) -> torch.Tensor:
        """[N, 4, h, w] -> [N, F, h, w]: sines and cosines in octaves, zero where no point is."""
        octaves = 2.0 ** torch.arange(self.frequencies, device=coordinates.device, dtype=coordinates.dtype) * math.pi
        place = (coordinates[:, :2, None] * octaves[:, None, None]).flatten(1, 2)
        depth = (coordinates[:, 2:3, None] * octaves[:3, None, None]).flatten(1, 2)
        covered = coordinates[:, 3:4]
        return (
            torch.cat([place.sin(), place.cos(), depth.sin(), depth.cos(), torch.ones_like(covered)], dim=1) * covered
        )

    def content(self, coordinates: torch.Tensor, image_latents: torch.Tensor) -> torch.Tensor:
        """[B, T, 4, H, W], [B, C, H/scale, W/scale] -> [B*T, channels + 3 + 1, H, W].

        Features and colour of the first frame where each point was, and the gate that they were multiplied by
        (the colours filled in after that where the module does so).
        """
        batch, frames, _, height, width = coordinates.shape
        unfolded = torch.cat([self.unfold(image_latents), self.colours(image_latents)], dim=1)
        features = F.pixel_shuffle(unfolded, self.scale).float()  # [B, channels + 3, H, W]
        here = coordinates.flatten(0, 1)
        rows = (torch.arange(height, device=here.device, dtype=here.dtype) + 0.5) / height
        columns = (torch.arange(width, device=here.device, dtype=here.dtype) + 0.5) / width
        itself = torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)])
        place = torch.where(here[:, 3:] > 0, here[:, :2], itself)  # [B*T, 2, H, W]
        grid = (place * 2 - 1).permute(0, 2, 3, 1).reshape(batch, frames * height, width, 2)
        sampled = F.grid_sample(features, grid, mode="bilinear", padding_mode="border", align_corners=False)
        first = coordinates[:, 0, 2:]  # [B, 2, H, W] inverse depth and cover in the first frame
        seen = F.grid_sample(first, grid, mode="nearest", padding_mode="border", align_corners=False)
        sampled, seen = (x.unflatten(2, (frames, height)).transpose(1, 2).flatten(0, 1) for x in (sampled, seen))
        same_kind = (seen[:, 1:] == here[:, 3:]).to(here.dtype)
        there = (image_latents != 0).flatten(1).any(1).to(here.dtype).repeat_interleave(frames)  # a first frame at all
        gate = torch.sigmoid(self.gate[0] * (seen[:, :1] - here[:, 2:3]).abs() + self.gate[1]) * same_kind
        gate = gate * there[:, None, None, None]
        kept = sampled * gate
        if self.fill:
            colours = fill(kept[:, self.channels :], gate)
            kept = torch.cat([kept[:, : self.channels], colours], dim=1)
        return torch.cat([kept, gate], dim=1)

    def forward(self, coordinates: torch.Tensor, image_latents: torch.Tensor) -> Lookup:
        """coordinates [B, T, 4, H, W] (`track_coordinates`), image_latents [B, C, h, w] of the first frame."""
        shape = coordinates.shape[:2]
        coordinates = coordinates.float()
        step = self.scale * self.patch // 2  # two samples per token side
        samples = coordinates[..., step // 2 :: step, step // 2 :: step].flatten(0, 1)
        tokens = self.coordinate_proj(_tokens(self.fourier(samples), 2, self.coordinate_proj.weight.dtype))
        moved = seen = None
        if self.channels:
            content = self.content(coordinates, image_latents)
            features = torch.cat([content[:, : self.channels], content[:, -1:]], dim=1)
            tokens = tokens + self.content_proj(
                _tokens(features, self.scale * self.patch, self.content_proj.weight.dtype)
            )
            with torch.autocast(content.device.type, enabled=False):  # an estimate of the video, not a feature
                colours = content[:, self.channels : -1].to(self.fold.weight.dtype)
                moved = self.fold(colours).unflatten(0, shape)
            seen = F.avg_pool2d(content[:, -1:], self.scale).unflatten(0, shape)
        return Lookup(tokens.unflatten(0, shape).flatten(1, 2), moved, seen)

    def denoise(
        self, timestep: torch.Tensor, local: torch.Tensor, noisy: torch.Tensor, mean: torch.Tensor, seen: torch.Tensor
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
        s2 = torch.exp(2 * (local.float() + self.deviation[0] + self.deviation[1] * (1 - seen.float())))
        s2 = s2.clamp(0.0025, 4.0)
        return b2.sqrt() * (a * (1 - s2) * noisy.float() - mean.float()) / (s2 * a * a + b2)

    def estimate(
        self, temb: torch.Tensor, local: torch.Tensor, noisy: torch.Tensor, moved: torch.Tensor
    ) -> torch.Tensor:
        """The part of the prediction that copies: shares of the noisy latents and of the moved first frame, [B, T,
        C, h, w].

        The shares follow the noise level (`temb`) and the place: `local` [B, T, 2C, h, w] is `local_shares` of the last
        tokens, by which the transformer says how far the moved frame is to be trusted.
        """
        of_noisy, of_moved = (self.shares(F.silu(temb))[:, None, :, None, None] + local).chunk(2, dim=2)
        return of_noisy * noisy + of_moved * moved


def towards(still: Lookup, moved: Lookup, scale: float) -> Lookup:
    """From the lookup of a still scene (0) to that of the tracks (1), and beyond."""

    def mixed(a: torch.Tensor | None, b: torch.Tensor | None) -> torch.Tensor | None:
        return None if a is None or b is None else a + scale * (b - a)

    seen = mixed(still.seen, moved.seen)
    tokens = still.tokens + scale * (moved.tokens - still.tokens)
    return Lookup(tokens, mixed(still.moved, moved.moved), None if seen is None else seen.clamp(0, 1))


def _signal(snr_shift: float) -> torch.Tensor:
    """Share of the clean latents in the noisy ones at each timestep [1000] of CogVideoX's schedule (root of alpha-bar,
    zero at the last).
    """
    schedule = CogVideoXDDIMScheduler(snr_shift_scale=snr_shift, rescale_betas_zero_snr=True)
    return schedule.alphas_cumprod.float().sqrt()


def fill(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Pull and push: weighted means over ever larger squares fill in what has no weight.

    values [N, C, H, W], already multiplied by weights [N, 1, H, W] in 0..1; returns [N, C, H, W], unchanged where the
    weight is 1.
    """
    height, width = values.shape[-2:]
    if height == 1 and width == 1:
        return values / weights.clamp_min(1e-4)
    odd = (0, width % 2, 0, height % 2)
    coarse = F.avg_pool2d(F.pad(torch.cat([values, weights], dim=1), odd), 2) * 4
    # Four pixels count as much as one, or a single stray one would outvote the squares around it.
    coarse = coarse / coarse[:, -1:].clamp_min(1.0)
    around = fill(coarse[:, :-1], coarse[:, -1:])
    around = F.interpolate(around, scale_factor=2.0, mode="bilinear", align_corners=False)[..., :height, :width]
    return values + (1 - weights) * around


def _tokens(pictures: torch.Tensor, side: int, dtype: torch.dtype) -> torch.Tensor:
    """[N, C, H, W] -> [N, tokens, C*side*side]."""
    return F.pixel_unshuffle(pictures, side).flatten(2).transpose(1, 2).to(dtype)
