# SPDX-License-Identifier: GPL-3.0-or-later
"""A detector of joints and of the camera's azimuth in pictures of generated figures, which measures the generator."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from trackshade.models.landmark_network import LandmarkNetwork, layout_loss
from trackshade.motion.framing import LIMBS
from trackshade.pipelines.motion import MotionPipeline

from ...motion.batches import MotionBatch
from ...motion.clips import FRAME_SIZE, ClipOptions, sample_clips
from ...motion.training import make_optimizers
from ...training.checkpoint import Progress, find_checkpoint, load_checkpoint, save_checkpoint
from ...training.config import MotionConfig
from ...training.loop import linear_schedule
from ...training.precision import mixed_precision

STEPS = 300
_BATCH = 64
_SEED = 51
_MUON_RATE, _ADAMW_RATE = 0.001, 0.0005  # a quarter of the encoder's


class JointDetector(nn.Module):
    """Says where landmarks are, and the azimuth of the camera about the body.

    It starts as the network that the encoder of the embedded mini-motion begins with, whatever model is evaluated, and
    is then trained by itself on frames like those that it will see.
    """

    def __init__(self) -> None:
        super().__init__()
        encoder = MotionPipeline.from_pretrained().networks.encoder
        self.finder: LandmarkNetwork = copy.deepcopy(encoder.body.finder).requires_grad_(True)

    def forward(
        self,
        pictures: torch.Tensor,  # [N, 3, H, W] in 0..1
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return places of the landmarks [N, L, 2] in pixels, and azimuths [N] in radians."""
        layout = self.finder(pictures).layout
        sine, cosine = layout.azimuth.unbind(-1)
        width, height = FRAME_SIZE
        places = layout.places * (height / 4) + layout.places.new_tensor([width / 2, height / 2])
        return places, torch.atan2(sine, cosine)

    def loss(self, pictures: torch.Tensor, batch: MotionBatch) -> torch.Tensor:
        """Return how far what is found in pictures [N, 3, H, W] of a batch's targets is from the truth."""
        layout = self.finder(pictures).layout
        return layout_loss(layout, batch.to_units(batch.landmarks), batch.azimuth, FRAME_SIZE)


def prepare_detector(
    path: Path, report: Callable[[str], None], steps: int = STEPS, batch: int = _BATCH, save_steps: int = 100
) -> JointDetector:
    """Load the detector of a file; train one first, for some minutes, if there is none. It resumes where it stopped.

    Args:
        path: the file.
        report: called with a sentence after each checkpoint.
        steps: training steps.
        batch: frames of a step.
        save_steps: steps between checkpoints.
    """
    torch.manual_seed(_SEED)
    detector = JointDetector()
    if path.exists():
        detector.load_state_dict(load_file(path))
        return detector.eval()
    folder = path.with_suffix(".checkpoint")
    config = MotionConfig(out="", steps=steps, muon_learning_rate=_MUON_RATE, adamw_learning_rate=_ADAMW_RATE)
    optimizers = make_optimizers({"detector": detector}, config)
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in optimizers.items()}
    weights, progress = detector.state_dict(), Progress()
    if (checkpoint := find_checkpoint(folder)) is not None:
        progress = load_checkpoint(checkpoint, weights, {}, optimizers)
    for step in range(progress.step, steps):
        for name, optimizer in optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = rates[name] * linear_schedule(step, step / steps, 50)
        frames = _frames(step, batch)
        with mixed_precision("cpu", bf16=True):
            loss = detector.loss(_disturbed(frames.target, step), frames)
        detector.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(detector.parameters(), 1.0)
        for optimizer in optimizers.values():
            optimizer.step()
        if (step + 1) % save_steps == 0:
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


def detector_errors(detector: JointDetector, count: int = 400) -> dict[str, float]:
    """Return the mean error on limbs in unseen true frames, in pixels: "all", and "visible" ones alone."""
    options = ClipOptions(frames=1, drivers=False)
    batch = MotionBatch.from_clips(sample_clips(np.random.default_rng([_SEED, 2]), count, options))
    limbs = list(LIMBS)
    distances = (detect(detector, batch.target)[0] - batch.landmarks)[:, limbs].norm(dim=-1)
    return {"all": float(distances.mean()), "visible": float(distances[batch.visible[:, limbs]].mean())}


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
