# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false
"""Stage one: the patch autoencoder, its linear part in closed form and its refiner by a few minutes of descent."""

from __future__ import annotations

import dataclasses
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn

from trackshade.core.images import psnr
from trackshade.models import PatchAutoencoder

from ..scenes import Shards
from .config import TrainConfig
from .latents import to_unit
from .logging import Log
from .loop import Run, descend
from .optimizers import rate_factor
from .state import Progress

BATCH = 32
CHECKPOINT = "autoencoder-checkpoint"


def sample_frames(shards: Shards, count: int, seed: int) -> torch.Tensor:
    """[count, 3, H, W] in -1..1: frames drawn evenly from all clips."""
    rng = np.random.default_rng([seed, 77])
    frames = []
    for index in rng.integers(len(shards), size=count):
        video = shards[int(index)][0]
        frames.append(video[rng.integers(len(video))])
    return to_unit(np.stack(frames)).permute(0, 3, 1, 2)


def levels(pictures: torch.Tensor) -> np.ndarray:
    """Of pictures in -1..1: 0..255, clipped to that range but not rounded."""
    return (127.5 * (pictures.clamp(-1, 1) + 1)).numpy()


class _Rebuild(nn.Module):
    def __init__(self, vae: PatchAutoencoder) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """[B, 3, 1, H, W] encoded and decoded."""
        return self.vae(frames).sample


@dataclass(frozen=True)
class _Task:
    config: TrainConfig
    frames: torch.Tensor  # [N, 3, H, W]
    held: torch.Tensor  # [M, 3, H, W], never trained on

    def batch(self, step: int, part: int, parts: int) -> torch.Tensor:
        picks = np.random.default_rng([self.config.seed, 78, step]).integers(len(self.frames), size=self.config.batch)
        return self.frames[torch.from_numpy(picks[part::parts])][:, :, None]

    def loss(self, predictor: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        batch = batch.to(next(predictor.parameters()).device)
        return F.mse_loss(predictor(batch), batch)

    def rate(self, step: int, share: float) -> float:
        return rate_factor(step, share, 50)

    def sheet(self, run: Run) -> dict[str, Any]:
        return {"psnr": quality(run.modules["vae"], self.held)}


def quality(vae: nn.Module, frames: torch.Tensor) -> float:
    """PSNR in dB of [N, 3, H, W] in -1..1 after encoding and decoding."""
    device = next(vae.parameters()).device
    with torch.no_grad():
        made = torch.cat([vae(part[:, :, None].to(device)).sample[:, :, 0].cpu() for part in frames.split(64)])
    return psnr(levels(frames), levels(made))


def train_autoencoder(
    out: Path, shards: Shards, config: TrainConfig, accelerator: Accelerator, log: Log
) -> PatchAutoencoder:
    """Fit on frames of the shards; minutes or steps as configured. An interrupted descent goes on."""
    torch.manual_seed(config.seed)
    vae = PatchAutoencoder(patch_size=config.patch, latent_channels=config.latent_channels)
    frames = sample_frames(shards, min(6000, 9 * len(shards)), config.seed)
    held = frames[: max(1, len(frames) // 20)]
    rest = frames[len(held) :]
    vae.fit(rest[:3000])
    vae.to(accelerator.device)
    log({"stage": "autoencoder", "psnr_linear": quality(vae, held)})
    if config.autoencoder_steps or (config.autoencoder_steps is None and config.autoencoder_minutes > 0):
        _refine(out, vae, (rest, held), config, accelerator, log)
    if accelerator.is_main_process:
        vae.save_pretrained(out / "autoencoder")
        shutil.rmtree(out / CHECKPOINT, ignore_errors=True)
    return vae.requires_grad_(False).eval()


def _refine(
    out: Path,
    vae: PatchAutoencoder,
    frames: tuple[torch.Tensor, torch.Tensor],
    config: TrainConfig,
    accelerator: Accelerator,
    log: Log,
) -> None:
    """Descend on `frames`: those to learn from, and those to measure with."""
    limited = dataclasses.replace(
        config,
        minutes=None if config.autoencoder_steps is not None else config.autoencoder_minutes,
        steps=config.autoencoder_steps,
        batch=-(-BATCH // accelerator.num_processes) * accelerator.num_processes,
        accumulate=1,
        clip_norm=math.inf,
        average=0.0,
        sheet_minutes=0.5,
    )
    trained = [parameter for parameter in vae.parameters() if parameter.requires_grad]
    adamw = torch.optim.AdamW(trained, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0)
    adamw.param_groups[0]["peak"] = 2e-3
    run = Run(
        "autoencoder",
        out,
        out / CHECKPOINT,
        accelerator,
        {"vae": vae},
        _Rebuild(vae),
        {"adamw": adamw},
        log,
        Progress(),
        trained_only=True,
    )
    run.resume(average=False)
    descend(run, _Task(limited, *frames))
