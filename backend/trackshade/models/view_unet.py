# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIncompatibleMethodOverride=false
# pyright: reportCallIssue=false
"""The network of SV3D_p (Voleti et al. 2024, arXiv 2403.12008): Stable Video Diffusion's, told each view's angles."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.embeddings import Timesteps
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel

from ..core.errors import ModelError
from .checkpoint import StrictLoading


class ViewUNetModel(StrictLoading, UNetSpatioTemporalConditionModel):
    """UNetSpatioTemporalConditionModel with an embedding of noise, polar angle and azimuth for every cell of a sweep.

    Its parameters have the names and shapes of the published network in diffusers' layout: `add_embedding` reads
    256 + 512 + 512 = 1,280 numbers (`projection_class_embeddings_input_dim`): of the noise, as many as
    `addition_time_embed_dim`, and twice as many of each angle.

    Raises:
        ModelError: if the numbers are not as many; those of Stable Video Diffusion are 768.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        noise_dim = self.config.addition_time_embed_dim
        angle_dim, numbers = 2 * noise_dim, self.config.projection_class_embeddings_input_dim
        if numbers != noise_dim + 2 * angle_dim:
            raise ModelError(
                "bad-config",
                f"This is no multi-view network: its embedding reads {numbers} numbers, not {5 * noise_dim}.",
                "Choose the folder of SV3D_p.",
            )
        self.noise_proj = Timesteps(noise_dim, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.angle_proj = Timesteps(angle_dim, flip_sin_to_cos=True, downscale_freq_shift=0)

    @staticmethod
    def _get_init_keys(input_class: type) -> set[str]:
        """Return the arguments of the base class's constructor, by which diffusers filters configurations."""
        return UNetSpatioTemporalConditionModel._get_init_keys(UNetSpatioTemporalConditionModel)

    def forward(
        self,
        sample: torch.Tensor,  # [B, L, 2C, h, w]
        timestep: torch.Tensor,  # [] or [B]
        encoder_hidden_states: torch.Tensor,  # [B, 1, E]
        noise_level: torch.Tensor,  # [B, L]
        polar: torch.Tensor,  # [B, L]
        azimuth: torch.Tensor,  # [B, L]
    ) -> torch.Tensor:
        """Return the network's output, [B, L, C, h, w].

        Args:
            sample: scaled noisy latents and the reference's latents, joined along C.
            timestep: a quarter of the noise level's logarithm.
            encoder_hidden_states: embedding of the reference.
            noise_level: deviation of the noise on the reference.
            polar: angles from the vertical, radians.
            azimuth: angles around the vertical from the reference, 0 to 2 pi, radians.
        """
        batch, length = sample.shape[:2]
        time = self.time_embedding(self.time_proj(timestep.expand(batch)).to(sample.dtype))
        angles = ((self.noise_proj, noise_level), (self.angle_proj, polar), (self.angle_proj, azimuth))
        parts = [project(values.flatten()) for project, values in angles]
        emb = time.repeat_interleave(length, dim=0) + self.add_embedding(torch.cat(parts, dim=1).to(sample.dtype))
        context = encoder_hidden_states.repeat_interleave(length, dim=0)
        only_images = sample.new_zeros(batch, length)
        hidden = self.conv_in(sample.flatten(0, 1))
        skips = (hidden,)
        for block in self.down_blocks:
            more = {"encoder_hidden_states": context} if getattr(block, "has_cross_attention", False) else {}
            hidden, outputs = block(hidden_states=hidden, temb=emb, image_only_indicator=only_images, **more)
            skips += outputs
        hidden = self.mid_block(
            hidden_states=hidden, temb=emb, encoder_hidden_states=context, image_only_indicator=only_images
        )
        for block in self.up_blocks:
            count = len(block.resnets)
            more = {"encoder_hidden_states": context} if getattr(block, "has_cross_attention", False) else {}
            hidden = block(
                hidden_states=hidden, temb=emb, res_hidden_states_tuple=skips[-count:],
                image_only_indicator=only_images, **more,
            )  # fmt: skip
            skips = skips[:-count]
        output = self.conv_out(self.conv_act(self.conv_norm_out(hidden)))
        return output.unflatten(0, (batch, length))
