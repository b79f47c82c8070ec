# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportReturnType=false
"""An autoencoder of small patches, each frame by itself: principal components in, principal components and a small
refiner out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .checkpoint import check_strictly


@dataclass(frozen=True)
class PointDistribution:
    """The latent "distribution" of a deterministic encoder: `sample` and `mode` are the same."""

    mean: torch.Tensor  # [B, C, T, h, w]

    def sample(self, generator: torch.Generator | None = None) -> torch.Tensor:
        return self.mean

    def mode(self) -> torch.Tensor:
        return self.mean


class Refiner(nn.Module):
    """Latents to a correction of the linear decoding, zero at first: convolutions on the latent grid."""

    def __init__(self, channels: int, width: int, layers: int, out_channels: int):
        super().__init__()
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(layers))
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        hidden = self.conv_in(latents)
        for layer in self.layers:
            hidden = hidden + layer(F.silu(hidden))
        return self.conv_out(F.silu(hidden))


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """Encodes p x p RGB patches of each frame by itself; called like diffusers' AutoencoderKLCogVideoX.

    Time is not mixed: frame t of the latents depends on frame t of the video alone.
    """

    @register_to_config
    def __init__(
        self,
        patch_size: int = 4,
        latent_channels: int = 16,
        refiner_width: int = 96,
        refiner_layers: int = 3,
        scaling_factor: float = 1.0,
        invert_scale_latents: bool = False,
        temporal_compression_ratio: int = 1,
    ):
        super().__init__()
        values = 3 * patch_size * patch_size
        self.mean = nn.Parameter(torch.zeros(values), requires_grad=False)
        self.analysis = nn.Parameter(torch.zeros(latent_channels, values), requires_grad=False)
        self.synthesis = nn.Parameter(torch.zeros(values, latent_channels), requires_grad=False)
        self.refiner = Refiner(latent_channels, refiner_width, refiner_layers, values)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """Load from a local folder, strictly: a missing, unexpected or misshapen tensor is a ModelError that names
        it.
        """
        kwargs.setdefault("use_safetensors", True)
        check_strictly(cls, pretrained_model_name_or_path, kwargs.get("subfolder"))
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    @property
    def spatial_compression_ratio(self) -> int:
        return self.config.patch_size

    @torch.no_grad()
    def fit(self, frames: torch.Tensor) -> None:
        """Set the linear part in closed form from example frames [N, 3, H, W] in -1..1.

        Each component is divided by the square root of its standard deviation (half-way to whitening, so that
        neither the mean color
        nor the finest detail rules the diffusion loss), then all by one number: latents have unit RMS.
        """
        patches = F.pixel_unshuffle(frames.double(), self.config.patch_size).permute(0, 2, 3, 1).flatten(0, 2)
        mean = patches.mean(0)
        covariance = (patches - mean).T @ (patches - mean) / len(patches)
        variances, vectors = torch.linalg.eigh(covariance)
        order = torch.argsort(variances, descending=True)[: self.config.latent_channels]
        deviations = variances[order].clamp_min(1e-12).sqrt()
        gains = deviations.rsqrt()
        gains = gains / (gains * deviations).square().mean().sqrt()
        basis = vectors[:, order]  # [values, channels]
        self.mean.copy_(mean)
        self.analysis.copy_((basis * gains).T)
        self.synthesis.copy_(basis / gains)

    def encode(self, x: torch.Tensor, return_dict: bool = True):
        """[B, 3, T, H, W] in -1..1 -> latent_dist of [B, C, T, H/p, W/p]."""
        batch, _, frames, _, _ = x.shape
        patches = F.pixel_unshuffle(x.transpose(1, 2).flatten(0, 1), self.config.patch_size)  # [B*T, values, h, w]
        latents = F.conv2d(patches - self.mean[:, None, None], self.analysis[:, :, None, None])
        latents = latents.unflatten(0, (batch, frames)).transpose(1, 2)
        distribution = PointDistribution(latents)
        return AutoencoderKLOutput(latent_dist=distribution) if return_dict else (distribution,)

    def decode(self, z: torch.Tensor, return_dict: bool = True):
        """[B, C, T, h, w] -> sample [B, 3, T, H, W] in -1..1 (not clipped)."""
        batch, _, frames, _, _ = z.shape
        latents = z.transpose(1, 2).flatten(0, 1)
        patches = F.conv2d(latents, self.synthesis[:, :, None, None]) + self.mean[:, None, None] + self.refiner(latents)
        sample = F.pixel_shuffle(patches, self.config.patch_size).unflatten(0, (batch, frames)).transpose(1, 2)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(self, sample: torch.Tensor) -> DecoderOutput:
        """Encode and decode."""
        return self.decode(self.encode(sample).latent_dist.mode())
