# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIncompatibleMethodOverride=false
"""A denoiser of clips whose references are warped along exact tracks: the transformer of `mini-matrix`.

It is the warp-guided transformer without tracking branch and text. What it sees of the references is not the first
frame warped along 8-bit tracks but all references, warped along the exact ones (`pipelines.multiview.warping`). It
estimates clean latents at any noise level, for videos at a fixed camera, sweeps of cameras at a frozen time, and single
pictures.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel
from torch import nn

from .checkpoint import StrictLoading
from .warp_guided import TrackLookup

CLIP_KINDS = ("row", "column", "frame")


class ReferenceGuidedTransformer3DModel(StrictLoading, CogVideoXTransformer3DModel):
    """CogVideoX's blocks with guidance by warped references.

    Noisy latents are x = x0 + sigma e, of clean latents with unit RMS.

    Args:
        track_frequencies: Octaves of the track coordinates' sines and cosines.
        track_scale: Pixels per side of a latent cell.
        track_correction: Factor of the transformer's correction where a reference shows the surface.
        base_config: Arguments of `CogVideoXTransformer3DModel`.
    """

    def __init__(
        self, track_frequencies: int = 6, track_scale: int = 4, track_correction: float = 0.1, **base_config: Any
    ) -> None:
        super().__init__(**base_config)
        self.register_to_config(
            track_frequencies=track_frequencies, track_scale=track_scale, track_correction=track_correction
        )
        config = self.config
        self.track_lookup = TrackLookup(
            dim=config.num_attention_heads * config.attention_head_dim,
            latent_channels=config.in_channels,
            frequencies=track_frequencies,
            scale=track_scale,
            patch_size=config.patch_size,
            snr_shift=1.0,
        )
        # In place of text: one token that says which kind of clip it is.
        self.kind_tokens = nn.Parameter(torch.zeros(len(CLIP_KINDS), config.text_embed_dim))

    @staticmethod
    def _get_init_keys(input_class: type) -> set[str]:
        """Return the arguments of a constructor and of those it calls; diffusers filters configurations by them."""
        classes = (cls for cls in input_class.__mro__ if issubclass(cls, CogVideoXTransformer3DModel))
        return {key for cls in classes for key in inspect.signature(cls.__init__).parameters}

    def forward(
        self,
        noisy: torch.Tensor,  # [B, L, C, h, w]
        sigma: torch.Tensor,  # [B]
        kind: torch.Tensor,  # [B] i64, index into CLIP_KINDS
        coordinates: torch.Tensor,  # [B, L, 4, H, W], see `track_warp.track_coordinates`
        colors: torch.Tensor,  # [B, L, 3, H, W] in -1..1, warped references; 0 without references
        visibility: torch.Tensor,  # [B, L, 1, H, W] in 0..1
        temperature: float = 1.0,
    ) -> torch.Tensor:
        """Return the estimate of the clean latents, [B, L, C, h, w] float32.

        Clean latents are taken to lie about a mean (the warped references with the transformer's correction) with a
        deviation s that the transformer predicts as well. The best estimate is then mean + s^2 / (s^2 + sigma^2)
        (noisy - mean). `temperature` is a factor of s: samples deviate from the mean as much as the clean latents with
        1, and less below it, without the grain that a small model cannot tell from texture.
        """
        sigma = sigma.float()
        angle = torch.atan(sigma)  # 0 for clean latents, pi / 2 for noise
        temb = self.time_embedding(self.time_proj(angle * (2000 / math.pi)).to(self.kind_tokens.dtype), None)
        scaled = noisy * angle.cos().view(-1, 1, 1, 1, 1).to(noisy.dtype)
        embedded = self.patch_embed(self.kind_tokens[kind][:, None], scaled)
        text, video = embedded[:, :1], embedded[:, 1:]
        guidance = self.track_lookup.guide(coordinates.float(), colors.float(), visibility.float())
        video = video + guidance.tokens
        for block in self.transformer_blocks:
            video, text = block(video, text, temb)
        video = self.norm_out(self.norm_final(video), temb=temb)

        correction = self._unpatchify(self.proj_out(video), noisy.shape)
        correction = correction * (1 - (1 - self.config.track_correction) * guidance.visibility)
        mean = guidance.warped.float() + correction.float()
        log_deviation = self._unpatchify(self.track_lookup.uncertainty(video), noisy.shape)
        variance = temperature**2 * self.track_lookup.variance(log_deviation, guidance.visibility)
        noise = sigma.square().view(-1, 1, 1, 1, 1)
        return mean + variance / (variance + noise) * (noisy.float() - mean)

    def _unpatchify(self, tokens: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Return latents [B, L, C, h, w], the shape, from projected tokens [B, L*h*w/p^2, C*p^2]."""
        batch, length, _, height, width = shape
        p = self.config.patch_size
        cells = tokens.reshape(batch, length, height // p, width // p, -1, p, p)
        return cells.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
