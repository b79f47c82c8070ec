# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false
"""The first stage: the patch autoencoder. Its linear part is fitted in closed form, its refiner is trained."""

from __future__ import annotations

import dataclasses
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from trackshade.core.images import psnr
from trackshade.models.patch_autoencoder import PatchAutoencoder

from ..scenes import Shards
from .config import FromScratchConfig
from .diffusion import to_unit
from .logging import RunLog
from .loop import TrainingRun, linear_schedule, train_loop

_BATCH_SIZE = 32
_LEARNING_RATE, _WARMUP_STEPS = 2e-3, 50
_CHECKPOINT = "autoencoder-checkpoint"


def sample_frames(shards: Shards, count: int, seed: int) -> torch.Tensor:
    """Draw frames [count, 3, H, W] in -1..1, evenly from all clips."""
    rng = np.random.default_rng([seed, 77])
    frames = []
    for index in rng.integers(len(shards), size=count):
        video = shards[int(index)][0]
        frames.append(video[rng.integers(len(video))])
    return to_unit(np.stack(frames)).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _ReconstructionTask:
    config: FromScratchConfig
    frames: torch.Tensor  # [N, 3, H, W] in -1..1
    validation_frames: torch.Tensor  # [M, 3, H, W]

    def get_batch(self, step: int, part: int, num_parts: int) -> torch.Tensor:
        rng = np.random.default_rng([self.config.seed, 78, step])
        picks = rng.integers(len(self.frames), size=self.config.batch_size)
        return self.frames[torch.from_numpy(picks[part::num_parts])][:, :, None]

    def compute_loss(self, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        batch = batch.to(next(model.parameters()).device)
        return nn.functional.mse_loss(model(batch).sample, batch)

    def learning_rate_factor(self, step: int, progress: float) -> float:
        return linear_schedule(step, progress, _WARMUP_STEPS)

    def validate(self, run: TrainingRun) -> dict[str, Any]:
        return {"psnr": reconstruction_psnr(run.modules["vae"], self.validation_frames)}


@torch.no_grad()
def reconstruction_psnr(
    vae: nn.Module,
    frames: torch.Tensor,  # [N, 3, H, W] in -1..1
) -> float:
    """Return the PSNR in dB of frames after encoding and decoding."""
    device = next(vae.parameters()).device
    decoded = torch.cat([vae(part[:, :, None].to(device)).sample[:, :, 0].cpu() for part in frames.split(64)])
    # 0..255, clipped but not rounded.
    return psnr(*((127.5 * (images.clamp(-1, 1) + 1)).numpy() for images in (frames, decoded)))


def train_autoencoder(
    out: Path, shards: Shards, config: FromScratchConfig, accelerator: Accelerator, log: RunLog
) -> None:
    """Train the autoencoder on frames of the shards, resuming an interrupted training, and save it to `out`."""
    torch.manual_seed(config.seed)
    vae = PatchAutoencoder(patch_size=config.autoencoder_patch_size, latent_channels=config.latent_channels)
    frames = sample_frames(shards, min(6000, 9 * len(shards)), config.seed)
    num_validation = max(1, len(frames) // 20)
    validation_frames, frames = frames[:num_validation], frames[num_validation:]
    vae.fit(frames[:3000])
    vae.to(accelerator.device)
    log({"stage": "autoencoder", "psnr_linear": reconstruction_psnr(vae, validation_frames)})
    if config.autoencoder_steps or (config.autoencoder_steps is None and config.autoencoder_minutes > 0):
        config = dataclasses.replace(
            config,
            minutes=None if config.autoencoder_steps is not None else config.autoencoder_minutes,
            steps=config.autoencoder_steps,
            batch_size=-(-_BATCH_SIZE // accelerator.num_processes) * accelerator.num_processes,
            gradient_accumulation_steps=1,
            max_grad_norm=math.inf,
            validation_minutes=0.5,
        )
        trainable = [parameter for parameter in vae.parameters() if parameter.requires_grad]
        adamw = torch.optim.AdamW(trainable, lr=_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)
        run = TrainingRun(
            stage="autoencoder",
            out=out,
            checkpoint=out / _CHECKPOINT,
            accelerator=accelerator,
            modules={"vae": vae},
            model=vae,
            optimizers={"adamw": adamw},
            log=log,
            trainable_only=True,
        )
        run.resume(ema_decay=0.0)
        train_loop(run, _ReconstructionTask(config, frames, validation_frames))
    if accelerator.is_main_process:
        vae.save_pretrained(out / "autoencoder")
        shutil.rmtree(out / _CHECKPOINT, ignore_errors=True)
