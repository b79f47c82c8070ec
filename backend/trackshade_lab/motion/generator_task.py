# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""Training of the generator on motion tokens of a frozen encoder: figures of references, in motion, from any camera.

Puppets have the true landmarks in training. With those that tokens say, which are some pixels off, the generator learns
to draw a figure everywhere that it may be: a smear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from trackshade.core.images import psnr
from trackshade.models.motion_encoder import MotionEncoder
from trackshade.models.patch_autoencoder import PatchAutoencoder
from trackshade.models.puppet_guided import PuppetGuidedTransformer3DModel
from trackshade.models.view_adapter import ViewAdapter
from trackshade.pipelines.motion_sampling import MotionCondition, MotionNetworks

from ..training.config import MotionConfig
from ..training.loop import TrainingRun, linear_schedule
from ..training.precision import mixed_precision
from .batches import MotionBatch
from .clips import FRAME_SIZE, ClipOptions, sample_clips
from .motions import NUM_FRAMES
from .token_task import TokenModel, config_characters, config_motions

_BACKGROUND = 0.12  # weight of pixels without a figure; those of the figures have 1 more
_SOFTNESS = 0.03  # below it the loss of a pixel is quadratic, above it linear
_AZIMUTH_DEVIATION = 0.09  # of the reference's azimuth as it is read from the picture, radians
_VALIDATION_CLIPS = 6


@dataclass(frozen=True)
class GeneratorBatch:
    """Clips of a step, and what the generator is trained on."""

    frames: MotionBatch
    source: str  # what says the motion
    level: torch.Tensor  # [B] noise levels
    noise: torch.Tensor  # [B, T, C, h, w]
    azimuth: torch.Tensor  # [B] azimuth of the reference as the model takes it, radians
    exact: bool = True  # whether puppets have the true landmarks of the frames, or those that the source says


class GeneratorModel(nn.Module):
    """The trained networks of the second stage as one module; encoders, sources and landmarks are frozen.

    Args:
        transformer: the generator.
        tokens: the sources and view adapters of the first stage.
        vae: autoencoder of frames.
        bf16: whether products are computed in bfloat16.
    """

    def __init__(
        self,
        transformer: PuppetGuidedTransformer3DModel,
        tokens: TokenModel,
        vae: PatchAutoencoder,
        *,
        bf16: bool,
    ) -> None:
        super().__init__()
        self.transformer, self.tokens, self.vae, self.bf16 = transformer, tokens, vae, bf16
        encoder = tokens.sources["tokens"]
        assert isinstance(encoder, MotionEncoder)
        self.encoder = encoder

    def networks(self, source: str) -> MotionNetworks:
        """Return the networks with the view adapter of a source."""
        adapter = self.tokens.adapters[source]
        assert isinstance(adapter, ViewAdapter)
        return MotionNetworks(self.encoder, adapter, self.transformer, self.vae)

    def source_tokens(self, batch: MotionBatch, source: str) -> torch.Tensor:
        """Return what a source says about the frames, [N, K, dim]."""
        if source == "tokens":
            return self.encoder(batch.driving, batch.hands, batch.hands_visible)[0]
        return self.tokens.sources[source](batch)

    def condition(self, batch: GeneratorBatch) -> MotionCondition:
        """Return what the generator is conditioned on."""
        frames = batch.frames
        count = frames.num_frames
        with torch.no_grad():
            tokens = self.source_tokens(frames, batch.source).unflatten(0, (-1, count))
        relative = frames.azimuth.unflatten(0, (-1, count)) - frames.reference_azimuth[:, None]
        azimuth = batch.azimuth[:, None] + relative
        elevation = frames.elevation.unflatten(0, (-1, count))
        networks = self.networks(batch.source)
        reference_adapter = self.networks("tokens").adapter
        exact = None
        if batch.exact:
            _, depths = networks.adapter.project(frames.body_landmarks, frames.azimuth, frames.elevation)
            exact = frames.landmarks.unflatten(0, (-1, count)), depths.unflatten(0, (-1, count))
        return networks.condition(frames.reference, tokens, batch.azimuth, azimuth, elevation, reference_adapter, exact)

    def forward(self, batch: GeneratorBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return estimated and true latents, [B, T, C, h, w] float32."""
        frames = batch.frames
        with mixed_precision(frames.azimuth.device, self.bf16):
            condition = self.condition(batch)
            networks = self.networks(batch.source)
            clean = networks.encode(frames.target).unflatten(0, (-1, frames.num_frames))
            level = batch.level.view(-1, 1, 1, 1, 1)
            noisy = (1 - level) * clean + level * batch.noise
            return networks.estimate(noisy, batch.level, condition), clean


class GeneratorTask:
    """The second stage: the generator, and the part of the view adapters that only it uses.

    Args:
        vae: autoencoder of frames.
        sources: shares of the steps in which each source says the motion.
        config: settings of the run.
    """

    def __init__(self, vae: PatchAutoencoder, sources: dict[str, float], config: MotionConfig) -> None:
        self.vae, self.config = vae, config
        self._library, self._characters = config_motions(config), config_characters(config)
        self._names = list(sources)
        self._shares = np.array(list(sources.values())) / sum(sources.values())

    def get_batch(self, step: int, part: int = 0, num_parts: int = 1) -> GeneratorBatch:
        """Make the clips of a step; see `TrainingTask`."""
        config = self.config
        source = self._names[np.random.default_rng([config.seed, 41, step]).choice(len(self._names), p=self._shares)]
        rng = np.random.default_rng([config.seed, 42, step, part])
        count = len(range(part, config.generator_batch_size, num_parts))
        options = ClipOptions(
            cross_view=config.cross_view_fraction if config.cross_view else 0.0, other_figure=0.6,
            drivers=source == "tokens", hands=config.hands_fraction, stylized=config.stylized_fraction,
            skeletons=config.skeletons, library=self._library, characters=self._characters,
        )  # fmt: skip
        batch = MotionBatch.from_clips(sample_clips(rng, count, options), self.vae.device)
        level = rng.random(count)
        level[rng.random(count) < config.terminal_fraction] = 1.0
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        cells = [n // self.vae.config.patch_size for n in (FRAME_SIZE[1], FRAME_SIZE[0])]
        noise = torch.randn(count, NUM_FRAMES, self.vae.config.latent_channels, *cells, generator=generator)
        azimuth = batch.reference_azimuth.cpu() + _AZIMUTH_DEVIATION * torch.randn(count, generator=generator)
        device = self.vae.device
        level_tensor = torch.from_numpy(level.astype(np.float32)).to(device)
        return GeneratorBatch(batch, source, level_tensor, noise.to(device), azimuth.to(device))

    def compute_loss(self, model: nn.Module, batch: GeneratorBatch) -> torch.Tensor:
        """Compute a robust error of the pixels, those of the figures weighted more."""
        estimate, clean = model(batch)
        error = torch.einsum("vc,btchw->btvhw", self.vae.synthesis, estimate - clean)  # of the decoded pixels
        distance = (error.square().mean(2) + _SOFTNESS**2).sqrt() - _SOFTNESS  # [B, T, h, w], a cell each
        side = self.vae.config.patch_size
        coverage = torch.nn.functional.max_pool2d(batch.frames.coverage[:, None], side)
        coverage = coverage.view(distance.shape)
        still = batch.frames.reference
        weights = _BACKGROUND + (coverage > 0).float()
        # Where the reference's figure was, the background has to be painted.
        moved = (still[:, None] - batch.frames.target.unflatten(0, (len(still), -1))).abs().amax(2)  # [B, T, H, W]
        changed = torch.nn.functional.max_pool2d(moved, side) > 0.08
        weights = torch.maximum(weights, _BACKGROUND + changed.float())
        return (distance * weights).sum() / weights.sum()

    def learning_rate_factor(self, step: int, progress: float) -> float:
        """See `TrainingTask`."""
        return linear_schedule(step, progress, self.config.warmup_steps)

    def validate(self, run: TrainingRun) -> dict[str, Any]:
        """Generate unseen clips in one step from noise, and measure them on the figures."""
        model = run.model.module if hasattr(run.model, "module") else run.model
        assert isinstance(model, GeneratorModel)
        figures, sheets = {}, []
        for difference in (0, 90):
            rng = np.random.default_rng([9100, difference])
            options = ClipOptions(azimuth_difference=difference, other_figure=1.0, apart=0.4)
            batch = MotionBatch.from_clips(sample_clips(rng, _VALIDATION_CLIPS, options), self.vae.device)
            pictures, estimates = self._generate(model, batch)
            truth = _to_bytes(batch.target, len(pictures))
            figure = batch.coverage.unflatten(0, (len(pictures), -1)).cpu().numpy() > 0.5
            figures[f"psnr_{difference}"] = psnr(truth[figure], pictures[figure])
            figures[f"psnr_puppet_{difference}"] = psnr(truth[figure], estimates[figure])
            figures[f"psnr_all_{difference}"] = psnr(truth, pictures)
            driving = _to_bytes(batch.driving, len(pictures))
            still = (batch.reference * 255).byte().permute(0, 2, 3, 1).cpu().numpy()
            for clip in range(3):
                first = [np.concatenate([still[clip][None], video[clip]]) for video in (driving, truth)]
                rest = [np.concatenate([0 * still[clip][None], video[clip]]) for video in (estimates, pictures)]
                sheets.append([*first, *rest])
        run.log.write_samples(sheets, run.progress.step)
        return figures

    def _generate(self, model: GeneratorModel, batch: MotionBatch) -> tuple[np.ndarray, np.ndarray]:
        """Return generated frames and puppets before the reference, [N, T, H, W, 3] uint8."""
        count = len(batch.reference_azimuth)
        networks = model.networks("tokens")
        shape = (count, NUM_FRAMES, self.vae.config.latent_channels)
        cells = [n // self.vae.config.patch_size for n in (FRAME_SIZE[1], FRAME_SIZE[0])]
        noise = torch.randn(*shape, *cells, generator=torch.Generator().manual_seed(0)).to(self.vae.device)
        level = torch.ones(count, device=self.vae.device)
        # As in use: the azimuth of the reference is read from the picture.
        step = GeneratorBatch(batch, "tokens", level, noise, networks.read_azimuth(batch.reference), exact=False)
        with mixed_precision(self.vae.device, self.config.bf16):
            condition = model.condition(step)
            latents = networks.estimate(noise, level, condition)
        pictures = networks.decode(latents.flatten(0, 1)).unflatten(0, (count, -1))
        return _to_bytes(pictures.flatten(0, 1), count), _to_bytes(condition.guidance.estimates().flatten(0, 1), count)


def _to_bytes(pictures: torch.Tensor, clips: int) -> np.ndarray:
    """Return pictures [N, 3, H, W] in 0..1 as [clips, T, H, W, 3] uint8."""
    data = (pictures.float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return data.reshape(clips, -1, *data.shape[1:])
