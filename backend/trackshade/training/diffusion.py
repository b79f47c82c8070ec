# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
"""The training task: batches of clips, dropouts, noise, and the v-prediction loss at zero terminal SNR."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import CogVideoXDDIMScheduler
from torch import nn

from ..models import PatchAutoencoder, TrackingTransformer3DModel, track_coordinates
from .autoencoder import to_unit
from .config import TrainConfig
from .data import Shards


@dataclass(frozen=True)
class Batch:
    latents: torch.Tensor  # [B, T, C, h, w] clean video
    image: torch.Tensor  # [B, T, C, h, w] first frame, then zeros
    tracks: torch.Tensor  # [B, T, 2C, h, w] tracking latents | first tracking frame, then zeros
    coordinates: torch.Tensor  # [B, T, 4, H, W]
    tokens: torch.Tensor  # [B, L] i64
    noise: torch.Tensor  # [B, T, C, h, w]
    timesteps: torch.Tensor  # [B] i64


def make_scheduler() -> CogVideoXDDIMScheduler:
    """The noise schedule of training and sampling: CogVideoX's (SNR shift 3, v-prediction, zero terminal SNR,
    trailing).
    """
    return CogVideoXDDIMScheduler(
        snr_shift_scale=3.0,
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


class Task:
    """Makes the batch of a step from the seed and the step's number alone, so that a resumed run sees what it would
    have seen.
    """

    def __init__(
        self, shards: Shards, vae: PatchAutoencoder, tokens: torch.Tensor, empty: torch.Tensor, config: TrainConfig
    ):
        self.shards, self.vae, self.tokens, self.empty, self.config = shards, vae, tokens, empty, config
        self.scheduler = make_scheduler()
        # The root of what an error in a channel costs in the picture: neither mean colour nor finest detail rules
        # the loss.
        costs = vae.synthesis.square().sum(0).sqrt()
        self.costs = (costs / costs.mean())[None, None, :, None, None]

    def batch(self, step: int) -> Batch:
        config = self.config
        rng = np.random.default_rng([config.seed, 1, step])
        picks = [int(i) for i in rng.integers(len(self.shards), size=config.batch)]
        clips = [self.shards[i] for i in picks]
        video, tracking = np.stack([c[0] for c in clips]), np.stack([c[1] for c in clips])
        if config.stage == "base":
            tracking = np.zeros_like(tracking)
        latents, tracks = encode(self.vae, video), encode(self.vae, tracking)
        coordinates = track_coordinates(
            torch.from_numpy(tracking).permute(0, 1, 4, 2, 3).to(latents.device).float() / 255
        )
        no_image, no_text, no_track = (
            torch.from_numpy(rng.random(config.batch) < share).to(latents.device)
            for share in (config.image_dropout, config.text_dropout, config.track_dropout)
        )
        tokens = torch.where(no_text.cpu()[:, None], self.empty, self.tokens[picks]).to(latents.device)
        image = first_only(latents) * ~no_image[:, None, None, None, None]
        maps = torch.cat([tracks, first_only(tracks)], dim=2) * ~no_track[:, None, None, None, None]
        coordinates = coordinates * ~no_track[:, None, None, None, None]
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        # Evenly spread over the noise levels within a batch: less variance than independent draws.
        level = (rng.random() + np.arange(config.batch) / config.batch) % 1.0
        timesteps = torch.from_numpy((level * self.scheduler.config.num_train_timesteps).astype(np.int64)).to(
            latents.device
        )
        return Batch(latents, image, maps, coordinates, tokens, noise, timesteps)

    def loss(self, transformer: TrackingTransformer3DModel, text_encoder: nn.Module, batch: Batch) -> torch.Tensor:
        """Mean squared error of the predicted velocity, channels weighted by what they are worth in the picture."""
        noisy = self.scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
        target = self.scheduler.get_velocity(batch.latents, batch.noise, batch.timesteps)
        with torch.autocast(batch.latents.device.type, torch.bfloat16, enabled=self.config.bf16):
            text = text_encoder(batch.tokens)[0]
            without = self.config.stage == "base"
            predicted = transformer(
                torch.cat([noisy, batch.image], dim=2),
                text,
                batch.timesteps,
                tracking_maps=None if without else batch.tracks,
                track_coordinates=None if without else batch.coordinates,
            ).sample
        return ((predicted.float() - target).square() * self.costs).mean()
