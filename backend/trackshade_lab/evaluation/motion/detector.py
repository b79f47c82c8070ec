# SPDX-License-Identifier: GPL-3.0-or-later
"""A detector of joints and of the camera's azimuth in pictures of generated figures, which measures the generator."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from trackshade.motion.framing import LIMBS, NUM_LANDMARKS

from ...motion.batches import MotionBatch
from ...motion.clips import FRAME_SIZE, ClipOptions, sample_clips
from ...training.checkpoint import Progress, find_checkpoint, load_checkpoint, save_checkpoint
from ...training.loop import linear_schedule

STEPS = 4000
_BATCH = 48
_RATE = 2e-3
_SEED = 51


class JointDetector(nn.Module):
    """Says where landmarks are by the mean of a heat map, and the azimuth of the camera about the body."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.GELU())
        self.coarse = nn.Sequential(nn.Conv2d(32, width, 3, stride=2, padding=1), nn.GELU())
        self.residuals = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(8, width), nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation), nn.GELU(),
                nn.Conv2d(width, width, 1),
            )
            for dilation in (1, 2, 4, 2, 1)
        )  # fmt: skip
        self.merge = nn.Sequential(nn.Conv2d(width + 32, width, 3, padding=1), nn.GELU())
        self.heat = nn.Conv2d(width, NUM_LANDMARKS, 1)
        cells = FRAME_SIZE[0] * FRAME_SIZE[1] // 64
        self.angle = nn.Sequential(
            nn.Conv2d(width, 16, 1), nn.GELU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16 * cells, 2)
        )
        rows, columns = (torch.arange(side // 2) * 2.0 + 1 for side in (FRAME_SIZE[1], FRAME_SIZE[0]))
        places = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).flatten(0, 1)
        self.register_buffer("places", places, persistent=False)  # [H*W/4, 2] pixels

    def forward(
        self,
        pictures: torch.Tensor,  # [N, 3, H, W] in 0..1
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return places of the landmarks [N, L, 2] in pixels, and azimuths [N] in radians."""
        fine = self.fine((pictures - 0.5) * 3)
        hidden = self.coarse(fine)
        for residual in self.residuals:
            hidden = hidden + residual(hidden)
        sine, cosine = self.angle(hidden).float().unbind(-1)
        upsampled = F.interpolate(hidden, scale_factor=2, mode="nearest")
        heat = self.heat(self.merge(torch.cat([upsampled, fine], dim=1))).float().flatten(2).softmax(-1)
        return heat @ self.places, torch.atan2(sine, cosine)

    def loss(
        self,
        pictures: torch.Tensor,  # [N, 3, H, W]
        places: torch.Tensor,  # [N, L, 2]
        azimuth: torch.Tensor,  # [N]
    ) -> torch.Tensor:
        """Return the mean distance in pixels, and a tenth of the azimuth's squared error."""
        found, angle = self(pictures)
        difference = 1 - torch.cos(angle - azimuth)
        return (found - places).norm(dim=-1).mean() + difference.mean()


def prepare_detector(
    path: Path, report: Callable[[str], None], steps: int = STEPS, batch: int = _BATCH
) -> JointDetector:
    """Load the detector of a file; train it first, for some minutes, if there is none. It resumes where it stopped.

    Args:
        path: the file.
        report: called with a sentence every 100 steps, after a checkpoint.
        steps: training steps.
        batch: frames of a step.
    """
    torch.manual_seed(_SEED)
    detector = JointDetector()
    if path.exists():
        detector.load_state_dict(load_file(path))
        return detector.eval()
    folder = path.with_suffix(".checkpoint")
    optimizer = torch.optim.AdamW(detector.parameters(), lr=_RATE, weight_decay=0.01, fused=True)
    optimizers, weights, progress = {"detector": optimizer}, detector.state_dict(), Progress()
    if (checkpoint := find_checkpoint(folder)) is not None:
        progress = load_checkpoint(checkpoint, weights, {}, optimizers)
    for step in range(progress.step, steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * linear_schedule(step, step / steps, 100)
        frames = _frames(step, batch)
        with torch.autocast("cpu", torch.bfloat16):
            loss = detector.loss(_disturbed(frames.target, step), frames.landmarks, frames.azimuth)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(detector.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0:
            save_checkpoint(folder, weights, {}, optimizers, Progress(step + 1, (step + 1) * batch))
            report(f"detector: step {step + 1} of {steps}, loss {loss.item():.3f}")
    save_file(detector.state_dict(), path)
    shutil.rmtree(folder, ignore_errors=True)
    return detector.eval()


@torch.no_grad()
def detect(
    detector: JointDetector,
    pictures: torch.Tensor,  # [N, 3, H, W] in 0..1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return places [N, L, 2] and azimuths [N] in pictures, in parts that fit into memory."""
    parts = [detector(part) for part in pictures.split(256)]
    places, angles = (torch.cat(column) for column in zip(*parts, strict=True))
    return places, angles


def detector_error(detector: JointDetector, count: int = 400) -> float:
    """Return the mean error on limbs in unseen true frames, in pixels."""
    options = ClipOptions(frames=1, drivers=False)
    batch = MotionBatch.from_clips(sample_clips(np.random.default_rng([_SEED, 2]), count, options))
    places, _ = detect(detector, batch.target)
    return float((places - batch.landmarks)[:, list(LIMBS)].norm(dim=-1).mean())


def _frames(step: int, count: int) -> MotionBatch:
    options = ClipOptions(frames=1, drivers=False)
    return MotionBatch.from_clips(sample_clips(np.random.default_rng([_SEED, 1, step]), count, options))


def _disturbed(pictures: torch.Tensor, step: int) -> torch.Tensor:
    """Return pictures with noise, and some blurred, so that a generator's faults do not upset the detector."""
    generator = torch.Generator().manual_seed(step)
    count = len(pictures)
    blurred = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = (torch.rand(count, 1, 1, 1, generator=generator) * 2 - 1).clamp_min(0)
    noise = torch.randn(pictures.shape, generator=generator) * 0.03 * torch.rand(count, 1, 1, 1, generator=generator)
    return (pictures + share * (blurred - pictures) + noise).clamp(0, 1)
