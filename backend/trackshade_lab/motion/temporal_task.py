# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportArgumentType=false
"""Training of the temporal mixer on the tokens of whole clips, with the encoder frozen."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from trackshade.models.motion_encoder import MotionEncoder, rotation_columns
from trackshade.models.temporal_mixer import TemporalMixer
from trackshade.models.view_adapter import ViewAdapter
from trackshade.motion.framing import LIMBS, VISIBLE_HEIGHT

from ..training.config import MotionConfig
from ..training.loop import TrainingRun, linear_schedule
from .batches import MotionBatch
from .clips import ClipOptions, sample_clips

METRES = VISIBLE_HEIGHT / 4  # of the unit of places, a quarter of the frame's height
_SINGLE = 0.3  # weight of what single frames say, which references need
_ROTATIONS = 0.5
_VALIDATION_CLIPS = 24


class TemporalModel(nn.Module):
    """The mixer, and what is read from its tokens, as the one module whose gradients processes exchange.

    Args:
        encoder: encodes single frames; only its rotation head is trained.
        mixer: the temporal mixer.
        adapter: reads landmarks.
        bf16: whether products are computed in bfloat16.
    """

    def __init__(self, encoder: MotionEncoder, mixer: TemporalMixer, adapter: ViewAdapter, *, bf16: bool) -> None:
        super().__init__()
        self.encoder, self.mixer, self.adapter, self.bf16 = encoder, mixer, adapter, bf16

    def forward(self, batch: MotionBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return landmarks [N, L, 3] and rotations [N, J-1, 6] of mixed tokens, and landmarks of single frames."""
        with torch.autocast(batch.azimuth.device.type, torch.bfloat16, enabled=self.bf16):
            with torch.no_grad():
                single = self.encoder(batch.driving, batch.hands, batch.hands_visible)[0]
            mixed = self.mixer(single.unflatten(0, (-1, batch.num_frames))).flatten(0, 1)
            points, alone = self.adapter.body_landmarks(mixed), self.adapter.body_landmarks(single)
            return points, self.encoder.rotations(mixed).float(), alone


class TemporalTask:
    """The stage between tokens and generator."""

    def __init__(self, config: MotionConfig) -> None:
        self.config = config

    def get_batch(self, step: int, part: int = 0, num_parts: int = 1) -> MotionBatch:
        """Make the clips of a step; see `TrainingTask`."""
        config = self.config
        rng = np.random.default_rng([config.seed, 35, step, part])
        options = ClipOptions(
            cross_view=config.cross_view_fraction if config.cross_view else 0.0, targets=False,
            hands=config.hands_fraction, driving_samples=2 if step % 3 == 0 else 1,
        )  # fmt: skip
        return MotionBatch.from_clips(sample_clips(rng, len(range(part, config.batch_size, num_parts)), options))

    def compute_loss(self, model: nn.Module, batch: MotionBatch) -> torch.Tensor:
        """Compute the error of landmarks, in the view of the target or in all views, and of rotations."""
        points, rotations, alone = model(batch)
        loss = self._error(model, points, batch) + _SINGLE * self._error(model, alone, batch)
        if self.config.geometry:
            loss = loss + _ROTATIONS * F.mse_loss(rotations, rotation_columns(batch.local[:, 1:]))
        return loss

    def _error(self, model: nn.Module, points: torch.Tensor, batch: MotionBatch) -> torch.Tensor:
        module = model.module if hasattr(model, "module") else model
        places, _ = module.adapter.project(points, batch.azimuth, batch.elevation)
        error = F.mse_loss(batch.to_units(places), batch.to_units(batch.landmarks))
        if self.config.cross_view:
            error = error + F.mse_loss(points, batch.body_landmarks) / METRES**2
        return 4 * error

    def learning_rate_factor(self, step: int, progress: float) -> float:
        """See `TrainingTask`."""
        return linear_schedule(step, progress, self.config.warmup_steps)

    def validate(self, run: TrainingRun) -> dict[str, Any]:
        """Measure joints said for unseen clips that another figure drives, from clips and single frames, in pixels."""
        model = run.model.module if hasattr(run.model, "module") else run.model
        assert isinstance(model, TemporalModel)
        figures = {}
        for difference in (0, 90, 180):
            rng = np.random.default_rng([9000, difference])
            options = ClipOptions(azimuth_difference=difference, other_figure=1.0, moving=0.0, targets=False)
            batch = MotionBatch.from_clips(sample_clips(rng, _VALIDATION_CLIPS, options))
            for name, points in zip(("clip", "", "frame"), model(batch), strict=True):
                if name:
                    places, _ = model.adapter.project(points, batch.azimuth, batch.elevation)
                    error = (places - batch.landmarks).norm(dim=-1)[:, list(LIMBS)].mean()
                    figures[f"{name}_{difference}"] = round(float(error), 3)
        return figures
