# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportArgumentType=false
"""Training of motion tokens without the generator: tokens and a camera say where the joints are in that view."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from trackshade.models.landmark_network import Layout, layout_loss, mean_distance
from trackshade.models.motion_encoder import MotionEncoder, rotation_columns
from trackshade.models.view_adapter import ViewAdapter
from trackshade.motion.framing import LIMBS, VISIBLE_HEIGHT

from ..training.config import MotionConfig
from ..training.loop import TrainingRun, linear_schedule
from ..training.precision import mixed_precision
from .batches import MotionBatch
from .characters import CharacterLibrary, load_characters
from .clips import FRAME_SIZE, ClipOptions, sample_clips
from .motions import MotionLibrary, load_motions
from .stated import StatedMotion

_VALIDATION_CLIPS = 24
# Weights of the losses: places of the joints, rotations and layout at the beginning and at the end.
_PLACES = 2.0
_ROTATIONS = (4.0, 0.4)
_LAYOUT = (1.0, 0.5)


class TokenModel(nn.Module):
    """What the first stage trains, as the one module whose gradients processes exchange.

    Args:
        sources: the encoder as "tokens", and `StatedMotion` by its source's name.
        adapters: the view adapter of each source.
        bf16: whether products are computed in bfloat16.
    """

    def __init__(self, sources: dict[str, nn.Module], adapters: dict[str, ViewAdapter], *, bf16: bool) -> None:
        super().__init__()
        self.sources, self.adapters, self.bf16 = nn.ModuleDict(sources), nn.ModuleDict(adapters), bf16

    def forward(self, batch: MotionBatch, source: str) -> tuple[torch.Tensor, torch.Tensor | None, Layout | None]:
        """Return what a source says about a batch.

        Returns:
            Landmarks in the space of the body [N, L, 3]; of an encoder also the rotations [N, J-1, 6] and the layout.
            All float32.
        """
        with mixed_precision(batch.azimuth.device, self.bf16):
            module = self.sources.get_submodule(source)
            if isinstance(module, MotionEncoder):
                tokens, layout = module(batch.driving, batch.hands, batch.hands_visible)
                rotations = module.rotations(tokens).float()
            else:
                tokens, rotations, layout = module(batch), None, None
            return _adapter(self, source).body_landmarks(tokens), rotations, layout


class TokenTask:
    """The first stage, of the encoder ("tokens") or of the sources that it is compared with."""

    def __init__(self, config: MotionConfig, sources: tuple[str, ...] = ("tokens",)) -> None:
        self.config, self.sources = config, sources
        self._progress = 0.0
        self._library, self._characters = config_motions(config), config_characters(config)

    def get_batch(self, step: int, part: int = 0, num_parts: int = 1) -> dict[str, MotionBatch]:
        """Make the frames of a step, each of another clip; see `TrainingTask`."""
        config = self.config
        rng = np.random.default_rng([config.seed, 31, step, part])
        count = len(range(part, config.batch_size, num_parts))
        single = step < config.single_view_steps or not config.cross_view
        options = ClipOptions(
            cross_view=0.0 if single else config.cross_view_fraction, frames=1, targets=False,
            drivers="tokens" in self.sources, hands=config.hands_fraction, stylized=config.stylized_fraction,
            skeletons=config.skeletons, library=self._library, characters=self._characters,
            driving_samples=2 if step % 3 == 0 else 1,
        )  # fmt: skip
        batches = {"across": MotionBatch.from_clips(sample_clips(rng, count, options))}
        if "joints_single" in self.sources:
            clips = sample_clips(rng, count, replace(options, cross_view=0.0))
            batches["single"] = MotionBatch.from_clips(clips)
        return batches

    def compute_loss(self, model: nn.Module, batch: dict[str, MotionBatch]) -> torch.Tensor:
        """Compute the loss of all sources."""
        total = torch.zeros(())
        for source in self.sources:
            single = source == "joints_single"
            total = total + self._source_loss(model, batch["single" if single else "across"], source, single)
        return total

    def _source_loss(self, model: nn.Module, batch: MotionBatch, source: str, single: bool) -> torch.Tensor:
        points, rotations, layout = model(batch, source)
        adapter = _adapter(model, source)
        places, _ = adapter.project(points, batch.azimuth, batch.elevation)
        loss = _PLACES * mean_distance(batch.to_units(places), batch.to_units(batch.landmarks))
        metres = VISIBLE_HEIGHT / 4  # of the unit of places
        if self.config.cross_view and not single:  # what all cameras together say
            loss = loss + _PLACES * mean_distance(points / metres, batch.body_landmarks / metres)
        if rotations is None or layout is None:
            return loss
        if self.config.geometry:
            weight = _between(_ROTATIONS, self._progress)
            loss = loss + weight * F.mse_loss(rotations, rotation_columns(batch.local[:, 1:]))
        if not self.config.layout:
            return loss
        _, depths = adapter.project(batch.body_landmarks, batch.driving_azimuth, torch.zeros_like(batch.elevation))
        seen = batch.to_units(batch.driving_landmarks)
        return loss + _between(_LAYOUT, self._progress) * layout_loss(
            layout, seen, batch.driving_azimuth, FRAME_SIZE, depths / metres
        )

    def learning_rate_factor(self, step: int, progress: float) -> float:
        """See `TrainingTask`."""
        self._progress = progress
        return linear_schedule(step, progress, self.config.warmup_steps)

    def validate(self, run: TrainingRun) -> dict[str, Any]:
        """Measure joints said for unseen clips that another figure drives, by azimuth difference, in pixels."""
        model = getattr(run.model, "module", run.model)
        figures: dict[str, Any] = {}
        for source in self.sources:
            for difference in (0, 90, 180):
                error = limb_error(model, source, difference, _VALIDATION_CLIPS)
                figures[f"{source}_{difference}"] = round(float(error.mean()), 3)
        return figures


def config_motions(config: MotionConfig) -> MotionLibrary | None:
    """Return the motions of a run's folder of BVH files, if it has one. Raises UsageError and ShotError."""
    return load_motions(Path(config.motions), config.motions_fraction) if config.motions else None


def config_characters(config: MotionConfig) -> CharacterLibrary | None:
    """Return the characters of a run, if it has any. Raises UsageError and ShotError."""
    if not config.characters:
        return None
    return load_characters([Path(path) for path in config.characters], config.characters_fraction)


def limb_error(
    model: TokenModel,
    source: str,
    difference: float,
    count: int,
    landmarks: tuple[int, ...] = LIMBS,
    **options: Any,
) -> np.ndarray:
    """Return the mean error of elbows, wrists, knees and ankles in each clip, [N] pixels.

    Args:
        model: the sources and their adapters.
        source: which of them.
        difference: angle between driving and target camera, degrees.
        count: number N of unseen clips.
        landmarks: other landmarks to measure.
        options: further `ClipOptions`.
    """
    rng = np.random.default_rng([9000, int(difference)])
    values = {"azimuth_difference": difference, "other_figure": 1.0, "moving": 0.0, "targets": False} | options
    batch = MotionBatch.from_clips(sample_clips(rng, count, ClipOptions(**values)), batch_device(model))
    with torch.no_grad():
        points, *_ = model(batch, source)
        places, _ = _adapter(model, source).project(points, batch.azimuth, batch.elevation)
    errors = (places - batch.landmarks).norm(dim=-1)[:, list(landmarks)]
    return errors.view(count, -1).mean(1).cpu().numpy()


def batch_device(model: nn.Module) -> torch.device:
    """Return the device of a module's parameters."""
    return next(model.parameters()).device


def build_token_model(config: MotionConfig, sources: tuple[str, ...] = ("tokens",)) -> TokenModel:
    """Build the sources and their adapters with initial weights."""
    torch.manual_seed(config.seed)
    width, height = FRAME_SIZE
    encoder = MotionEncoder(
        frame_width=width, frame_height=height, hand_size=24 if config.hands_fraction else 0,
        dim=config.token_dim, body_tokens=config.body_tokens, layers=config.encoder_layers,
        channels=config.encoder_channels,
    )  # fmt: skip
    modules, adapters = {}, {}
    for source in sources:
        stated = StatedMotion(source, encoder.num_tokens, config.token_dim) if source != "tokens" else encoder
        adapter = ViewAdapter(width, height, encoder.num_tokens, config.token_dim)
        adapter.rest.data.copy_(torch.from_numpy(mean_landmarks()))
        adapter.view.requires_grad_(False)  # trained with the generator
        modules[source], adapters[source] = stated, adapter
    return TokenModel(modules, adapters, bf16=config.bf16)


def mean_landmarks() -> np.ndarray:
    """Return the mean landmarks of generated motions in the space of the body, [L, 3] float32 metres."""
    clips = sample_clips(np.random.default_rng(7), 200, ClipOptions(targets=False, drivers=False))
    return clips.body_landmarks.mean(axis=(0, 1)).astype(np.float32)


def _adapter(model: nn.Module, source: str) -> ViewAdapter:
    adapter = getattr(model, "module", model).get_submodule(f"adapters.{source}")
    assert isinstance(adapter, ViewAdapter)
    return adapter


def _between(limits: tuple[float, float], progress: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * progress
