# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIncompatibleMethodOverride=false
"""The motion transformer guided by a puppet: the variant for the embedded model `mini-motion`.

Cross-attention alone learned nothing in minutes on a CPU. Here the view adapter's landmarks also enter as soft blobs on
the tokens of reference and frames. A puppet in the reference's colors, before the reference's background, is a first
estimate of each frame, which the transformer corrects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..motion.framing import NUM_LANDMARKS
from .das import unpatchify
from .motion_transformer import MotionTransformer3DModel
from .puppet import erase_figures, paint_puppets, sample_colors

_BLOB_WIDTHS = (0.8, 5.0)  # squared, in tokens
_CAMERA_FEATURES = 8
_CONTENT_CHANNELS = 8  # of a pixel: estimate, puppet's color and coverage, coverage of the reference's figure


@dataclass(frozen=True)
class PuppetGuidance:
    """What reference, landmarks and cameras tell about T frames; frame 0 of each array is the reference itself."""

    background: torch.Tensor  # [B, 3, H, W] in 0..1, the reference without its figure
    reference: torch.Tensor  # [B, 3, H, W] in 0..1
    puppets: torch.Tensor  # [B, 1+T, 4, H, W]: colors times coverage, and coverage
    landmarks: torch.Tensor  # [B, 1+T, L, 2] pixels
    cameras: torch.Tensor  # [B, 1+T, 8]: see `camera_features`

    def estimates(self) -> torch.Tensor:
        """Return the puppets before the reference's background, [B, T, 3, H, W] in 0..1."""
        colors, coverage = self.puppets[:, 1:].split([3, 1], dim=2)
        return colors + (1 - coverage) * self.background[:, None]


class PuppetGuidedTransformer3DModel(MotionTransformer3DModel):
    """Estimates clean latents of frames from noisy ones, motion tokens, a reference and a puppet.

    The sequence is the reference and T frames. Latents along C are the noisy ones (of the reference the clean ones) and
    those of the reference.

    Args:
        latent_scale: Pixels per side of a latent cell.
        motion_channels: Number of motion tokens of a frame that are joined along the channels of all its video tokens,
            in place of cross-attention; 0 for cross-attention.
        base_config: Arguments of `MotionTransformer3DModel`.
    """

    def __init__(self, latent_scale: int = 4, motion_channels: int = 0, **base_config: Any) -> None:
        super().__init__(**base_config)
        self.register_to_config(latent_scale=latent_scale, motion_channels=motion_channels)
        config = self.config
        dim = config.num_attention_heads * config.attention_head_dim
        side = latent_scale * config.patch_size
        self.content_proj = nn.Linear(_CONTENT_CHANNELS * side * side, dim)
        self.blob_proj = nn.Linear(NUM_LANDMARKS * 3 * len(_BLOB_WIDTHS), dim)
        self.camera_proj = nn.Linear(_CAMERA_FEATURES, dim)
        if motion_channels:
            del self.motion_blocks
            self.motion_proj = nn.Linear(motion_channels * config.motion_dim, dim)
        self.reference_embedding = nn.Parameter(torch.zeros(dim))
        self.text = nn.Parameter(torch.zeros(1, 1, config.text_embed_dim))  # in place of text
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(
        self,
        noisy: torch.Tensor,  # [B, T, C, h, w]
        level: torch.Tensor,  # [B]
        reference: torch.Tensor,  # [B, C, h, w]
        estimates: torch.Tensor,  # [B, T, C, h, w]
        guidance: PuppetGuidance,
        motion_tokens: torch.Tensor,  # [B, 1+T, K, motion_dim]
    ) -> torch.Tensor:
        """Return the estimate of the clean latents of the frames, [B, T, C, h, w] float32.

        Args:
            noisy: (1 - level) times the clean latents plus level times noise.
            level: noise levels, 0 to 1.
            reference: latents of the reference.
            estimates: latents of `guidance.estimates()`.
            guidance: reference, puppets, landmarks and cameras.
            motion_tokens: motion tokens of the reference and of the frames, as their cameras see them.
        """
        sequence = torch.cat([reference[:, None], noisy], dim=1)
        sequence = torch.cat([sequence, reference[:, None].expand_as(sequence)], dim=2)
        temb = self.time_embedding(self.time_proj(level.float() * 1000).to(self.text.dtype), None)
        embedded = self.patch_embed(self.text.expand(len(noisy), -1, -1), sequence)
        text, video = embedded[:, :1], embedded[:, 1:] + self._guidance_tokens(guidance)
        motion: torch.Tensor | None = motion_tokens
        if self.config.motion_channels:
            joined = self.motion_proj(motion_tokens.flatten(2))  # [B, 1+T, dim]
            video, motion = video + joined.repeat_interleave(video.shape[1] // joined.shape[1], dim=1), None
        video = self.run_blocks(video, text, temb, motion)
        correction = unpatchify(self.proj_out(video), sequence.shape, self.config.patch_size, self.config.patch_size_t)[
            :, 1:
        ]
        return estimates.float() + correction.float()

    def _guidance_tokens(self, guidance: PuppetGuidance) -> torch.Tensor:
        """Return what is added to the video tokens, [B, (1+T)*N, dim]."""
        batch, count, _, height, width = guidance.puppets.shape
        side = self.config.latent_scale * self.config.patch_size
        before = torch.cat([guidance.reference[:, None], guidance.estimates()], dim=1)
        coverage = guidance.puppets[:, :1, 3:].expand(-1, count, -1, -1, -1)
        content = torch.cat([before * 2 - 1, guidance.puppets, coverage], dim=2).flatten(0, 1)
        tokens = self.content_proj(F.pixel_unshuffle(content, side).flatten(2).transpose(1, 2))
        tokens = tokens + self.blob_proj(_blobs(guidance.landmarks.flatten(0, 1), (width, height), side))
        tokens = tokens.unflatten(0, (batch, count)) + self.camera_proj(guidance.cameras)[:, :, None]
        first = torch.cat([self.reference_embedding[None], torch.zeros_like(self.reference_embedding)[None]])
        index = torch.tensor([0] + [1] * (count - 1), device=tokens.device)
        return (tokens + first[index][None, :, None]).flatten(1, 2)


def _blobs(
    places: torch.Tensor,  # [N, L, 2] pixels
    size: tuple[int, int],
    side: int,
) -> torch.Tensor:
    """Return for each token how near each landmark is, and in which direction, [N, h*w, L*6]."""
    rows, columns = (torch.arange(n // side, device=places.device) * side + side / 2 for n in (size[1], size[0]))
    centers = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).flatten(0, 1)  # [h*w, 2]
    offsets = (places[:, None] - centers[:, None]) / side  # [N, h*w, L, 2]
    squared = offsets.square().sum(-1, keepdim=True)
    parts = []
    for width in _BLOB_WIDTHS:
        near = torch.exp(-squared / width)
        parts += [near, near * offsets]
    return torch.cat(parts, dim=-1).flatten(2)


def camera_features(
    azimuth: torch.Tensor,  # [B, 1+T] radians about the body
    elevation: torch.Tensor,  # [B, 1+T] radians
) -> torch.Tensor:
    """Return features of the cameras of reference (first) and frames, [B, 1+T, 8]."""
    relative = azimuth - azimuth[:, :1]
    angles = [f(a) for a in (azimuth, 2 * azimuth, relative, elevation) for f in (torch.sin, torch.cos)]
    return torch.stack(angles, dim=-1)


def make_guidance(
    reference: torch.Tensor,  # [B, 3, H, W] in 0..1
    places: torch.Tensor,  # [B, 1+T, L, 2] pixels
    depths: torch.Tensor,  # [B, 1+T, L] metres
    azimuth: torch.Tensor,  # [B, 1+T] radians
    elevation: torch.Tensor,  # [B, 1+T] radians
    scales: torch.Tensor | None = None,  # [B]
) -> PuppetGuidance:
    """Paint puppets in the colors of the references, and erase the figures of these; see `PuppetGuidance`."""
    batch, count = places.shape[:2]
    height, width = reference.shape[-2:]
    pictures = reference.detach().float().cpu().permute(0, 2, 3, 1).numpy()
    points, distances = places.detach().float().cpu().numpy(), depths.detach().float().cpu().numpy()
    colors = sample_colors(pictures, points[:, 0], distances[:, 0])
    factors = None if scales is None else np.repeat(scales.detach().float().cpu().numpy(), count)
    painted = paint_puppets(
        points.reshape(batch * count, *points.shape[2:]), distances.reshape(batch * count, -1),
        np.repeat(colors, count, axis=0), (width, height), factors,
    )  # fmt: skip
    puppets = torch.from_numpy(painted).to(reference.device).permute(0, 3, 1, 2).unflatten(0, (batch, count))
    first = painted.reshape(batch, count, height, width, 4)[:, 0]
    background = torch.from_numpy(erase_figures(pictures, first[..., 3])).to(reference.device).permute(0, 3, 1, 2)
    return PuppetGuidance(
        background.contiguous(), reference, puppets.contiguous(), places.detach(), camera_features(azimuth, elevation)
    )


def fit_framing(
    places: torch.Tensor,  # [B, L, 2] pixels
    seen: torch.Tensor,  # [B, L, 2] pixels
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Fit the framing of references: where landmarks of an average figure are, and where they are seen.

    Returns:
        Scales [B], centers of `places` [B, 2], and of `seen` [B, 2], so that scale * (places - center) + seen center
        has the extent and place of `seen`. Scales are limited to 0.75 .. 1.33.
    """
    from_center, to_center = places.mean(1), seen.mean(1)
    extents = [(p - c[:, None]).square().sum(dim=(1, 2)).sqrt() for p, c in ((places, from_center), (seen, to_center))]
    scales = (extents[1] / extents[0].clamp_min(1e-3)).clamp(0.75, 1.33)
    return scales, from_center, to_center
