# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportReturnType=false
"""An autoencoder of small patches of single frames: principal components, and a small network that refines them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, IdentityDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .checkpoint import StrictLoading


class Refiner(nn.Module):
    """Corrects the linear decoding by convolutions on the latent grid; the correction is zero at first."""

    def __init__(self, channels: int, width: int, layers: int, out_channels: int):
        super().__init__()
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(layers))
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(
        self,
        latents: torch.Tensor,  # [N, C, h, w]
    ) -> torch.Tensor:
        """Return the correction of each patch, [N, out_channels, h, w]."""
        hidden = self.conv_in(latents)
        for layer in self.layers:
            hidden = hidden + layer(F.silu(hidden))
        return self.conv_out(F.silu(hidden))


class PatchAutoencoder(StrictLoading, ModelMixin, ConfigMixin):
    """Encodes p x p RGB patches of each frame by itself; has the interface of diffusers' AutoencoderKLCogVideoX.

    Time is not mixed: frame t of the latents depends on frame t of the video alone.

    Args:
        patch_size: Side p of a patch, pixels.
        latent_channels: Channels of a latent cell.
        refiner_width: Channels of the refiner's hidden layers.
        refiner_layers: Number of the refiner's hidden layers.
        scaling_factor: Factor from encoded to diffused latents.
        invert_scale_latents: Whether first-frame latents are divided by the factor instead.
        temporal_compression_ratio: Frames per latent frame; 1, since time is not mixed.
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

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels per side of a latent cell."""
        return self.config.patch_size

    @torch.no_grad()
    def fit(
        self,
        images: torch.Tensor,  # [N, 3, H, W] in -1..1
    ) -> None:
        """Set the linear part in closed form: the principal components of the patches of example images.

        Each component is divided by the square root of its standard deviation (half-way to whitening, so that neither
        the mean color nor the finest detail dominates the diffusion loss). Then all are scaled alike, so that latents
        have unit RMS.
        """
        patches = F.pixel_unshuffle(images.double(), self.config.patch_size).permute(0, 2, 3, 1).flatten(0, 2)
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

    def encode(
        self,
        x: torch.Tensor,  # [B, 3, T, H, W] in -1..1
        return_dict: bool = True,
    ):
        """Return the latents [B, C, T, H/p, W/p] as a distribution without variance, `latent_dist`."""
        batch, _, num_frames, _, _ = x.shape
        patches = F.pixel_unshuffle(x.transpose(1, 2).flatten(0, 1), self.config.patch_size)  # [B*T, values, h, w]
        latents = F.conv2d(patches - self.mean[:, None, None], self.analysis[:, :, None, None])
        latents = latents.unflatten(0, (batch, num_frames)).transpose(1, 2)
        distribution = IdentityDistribution(latents)
        return AutoencoderKLOutput(latent_dist=distribution) if return_dict else (distribution,)

    def decode(
        self,
        z: torch.Tensor,  # [B, C, T, h, w]
        return_dict: bool = True,
    ):
        """Return the video [B, 3, T, H, W] as `sample`: -1..1, not clipped."""
        batch, _, num_frames, _, _ = z.shape
        latents = z.transpose(1, 2).flatten(0, 1)
        patches = F.conv2d(latents, self.synthesis[:, :, None, None]) + self.mean[:, None, None] + self.refiner(latents)
        sample = F.pixel_shuffle(patches, self.config.patch_size).unflatten(0, (batch, num_frames)).transpose(1, 2)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(
        self,
        sample: torch.Tensor,  # [B, 3, T, H, W] in -1..1
    ) -> DecoderOutput:
        """Encode and decode."""
        return self.decode(self.encode(sample).latent_dist.mode())
