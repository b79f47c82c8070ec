# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false
"""Stage one: the patch autoencoder, its linear part in closed form and its refiner by a few minutes of descent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from ..models import PatchAutoencoder
from .config import TrainConfig
from .data import Shards


def sample_frames(shards: Shards, count: int, seed: int) -> torch.Tensor:
    """[count, 3, H, W] in -1..1: frames drawn evenly from all clips."""
    rng = np.random.default_rng([seed, 77])
    frames = []
    for index in rng.integers(len(shards), size=count):
        video = shards[int(index)][0]
        frames.append(video[rng.integers(len(video))])
    return to_unit(np.stack(frames)).permute(0, 3, 1, 2)


def to_unit(video: np.ndarray) -> torch.Tensor:
    """8-bit to -1..1 float32, same shape."""
    return torch.from_numpy(np.ascontiguousarray(video)).float() / 127.5 - 1


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in -1..1 (compared after clipping to that range)."""
    return -10 * math.log10(max(F.mse_loss(a.clamp(-1, 1), b.clamp(-1, 1)).item() / 4, 1e-12))


def train_autoencoder(shards: Shards, config: TrainConfig, log: Callable[[dict], None]) -> PatchAutoencoder:
    """Fit on frames of the shards; minutes or steps as configured."""
    torch.manual_seed(config.seed)
    model = PatchAutoencoder(patch_size=config.patch, latent_channels=config.latent_channels)
    frames = sample_frames(shards, min(6000, 9 * len(shards)), config.seed)
    held = frames[: max(1, len(frames) // 20)]
    rest = frames[len(held) :]
    model.fit(rest[:3000])
    model.to(config.device)

    def quality() -> float:
        with torch.no_grad():
            return psnr(model(held[:, :, None].to(config.device)).sample[:, :, 0].cpu(), held)

    log({"stage": "autoencoder", "psnr_linear": quality()})
    optimiser = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0
    )
    start, step = time.monotonic(), 0
    while True:
        passed = (time.monotonic() - start) / (60 * config.autoencoder_minutes)
        progress = step / config.autoencoder_steps if config.autoencoder_steps else passed
        if progress >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 50) * (1 - progress)
        picks = np.random.default_rng([config.seed, 78, step]).integers(len(rest), size=32)
        batch = rest[torch.from_numpy(picks)][:, :, None].to(config.device)
        loss = F.mse_loss(model(batch).sample, batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        step += 1
        if step % 200 == 0:
            log({"stage": "autoencoder", "step": step, "psnr": quality()})
    log({"stage": "autoencoder", "step": step, "psnr": quality()})
    return model.requires_grad_(False).eval()
