# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
"""Pictures to latents and the noise schedule, as the small model's training and sampling share them."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import CogVideoXDDIMScheduler

from trackshade.models import PatchAutoencoder

SNR_SHIFT = 3.0  # of the noise schedule
STILL_GUIDANCE = 1.5  # of a first frame made from text and tracks; from 2 on its colors are glaring


def to_unit(video: np.ndarray) -> torch.Tensor:
    """8-bit to -1..1 float32, same shape."""
    return torch.from_numpy(np.ascontiguousarray(video)).float() / 127.5 - 1


def make_scheduler() -> CogVideoXDDIMScheduler:
    """The noise schedule of training and sampling: CogVideoX's (v-prediction, zero terminal SNR,
    trailing).
    """
    return CogVideoXDDIMScheduler(
        snr_shift_scale=SNR_SHIFT,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )


def encode(vae: PatchAutoencoder, video: np.ndarray) -> torch.Tensor:
    """[B, T, H, W, 3] 8-bit -> scaled latents [B, T, C, h, w] on the autoencoder's device."""
    with torch.no_grad():
        unit = to_unit(video).permute(0, 4, 1, 2, 3).to(vae.device)
        return vae.encode(unit).latent_dist.mode().transpose(1, 2) * vae.config.scaling_factor


def first_only(latents: torch.Tensor) -> torch.Tensor:
    """[B, T, C, h, w] -> the same with every frame but the first zero."""
    padded = torch.zeros_like(latents)
    padded[:, 0] = latents[:, 0]
    return padded
