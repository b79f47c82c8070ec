# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
"""The diffusion objective (velocity prediction), and the task of training a small model on procedural clips."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import CogVideoXDDIMScheduler
from torch import nn
from transformers import PreTrainedTokenizerFast

from trackshade.core.images import psnr
from trackshade.models.das import TrackingTransformer3DModel
from trackshade.models.patch_autoencoder import PatchAutoencoder
from trackshade.models.track_warp import track_coordinates
from trackshade.pipelines.diffusion_shader import DiffusionShaderPipeline

from ..scenes import Clip, Shards
from .config import FromScratchConfig
from .loop import TrainingRun, linear_schedule
from .precision import mixed_precision

SNR_SHIFT = 3.0  # `snr_shift_scale` of the noise schedule
# Words that would be wrong in the caption of a mirrored clip.
_SIDES = re.compile(r"\b(left|right|leftwards?|rightwards?|(anti|counter-?)?-?clockwise)\b", re.IGNORECASE)
_DEPTH_TOLERANCE = 8  # 8-bit levels of inverse depth between two samples of one surface point

Rotary = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Batch:
    """The samples of a forward pass. Dropped conditions are zero."""

    latents: torch.Tensor  # [B, L, C, h, w] clean video
    image_latents: torch.Tensor  # [B, L, C, h, w] of the first frame, zero-padded
    tracking_maps: torch.Tensor | None  # [B, L, 2C, h, w] tracking latents | first tracking frame's, zero-padded
    track_coordinates: torch.Tensor | None  # [B, T, 4, H, W], for models that read them
    first_frame: torch.Tensor | None  # [B, 3, H, W] in -1..1, for models that read it
    text: torch.Tensor  # [B, N] i64 tokens, or [B, N, E] embeddings
    noise: torch.Tensor  # [B, L, C, h, w]
    timesteps: torch.Tensor  # [B] i64


class VelocityModel(nn.Module):
    """Transformer, and text encoder if it is trained, as the one module whose gradients processes exchange."""

    def __init__(
        self, transformer: TrackingTransformer3DModel, text_encoder: nn.Module | None = None, *, bf16: bool
    ) -> None:
        super().__init__()
        self.transformer, self.text_encoder, self.bf16 = transformer, text_encoder, bf16

    def forward(
        self,
        noisy: torch.Tensor,  # [B, L, C, h, w]
        batch: Batch,
        timesteps: torch.Tensor,  # [B]
        rotary: Rotary | None = None,
    ) -> torch.Tensor:
        """Predict the velocity [B, L, C, h, w], float32, for noisy latents and the conditions of a batch."""
        ofs = None if self.transformer.config.ofs_embed_dim is None else noisy.new_full((1,), 2.0)
        guidance = {}
        if batch.track_coordinates is not None:
            guidance = {"track_coordinates": batch.track_coordinates, "first_frame": batch.first_frame}
        with mixed_precision(noisy.device, self.bf16):
            text = batch.text if self.text_encoder is None else self.text_encoder(batch.text)[0]
            velocity = self.transformer(
                torch.cat([noisy, batch.image_latents], dim=2),
                text,
                timesteps,
                ofs=ofs,
                image_rotary_emb=rotary,
                tracking_maps=batch.tracking_maps,
                **guidance,
            ).sample
        return velocity.float()


def velocity_error(
    model: nn.Module, scheduler: CogVideoXDDIMScheduler, batch: Batch, rotary: Rotary | None = None
) -> torch.Tensor:
    """Compute the squared error [B, L, C, h, w] of the predicted velocity."""
    noisy = scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
    target = scheduler.get_velocity(batch.latents, batch.noise, batch.timesteps)
    return (model(noisy, batch, batch.timesteps, rotary) - target).square()


def make_scheduler() -> CogVideoXDDIMScheduler:
    """Return the noise schedule of the small model: CogVideoX's, with v-prediction and zero terminal SNR."""
    return CogVideoXDDIMScheduler(
        snr_shift_scale=SNR_SHIFT,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )


def sample_timesteps(
    rng: np.random.Generator, batch_size: int, num_timesteps: int, terminal_fraction: float = 0.0
) -> np.ndarray:
    """Draw timesteps [batch_size], each uniformly, but stratified over the batch, which lowers the variance.

    The first `terminal_fraction` of them are the last timestep, pure noise.
    """
    num_terminal = round(terminal_fraction * batch_size)
    rest = batch_size - num_terminal
    strata = ((rng.random() + np.arange(rest) / max(1, rest)) % 1.0) * num_timesteps
    return np.concatenate([np.full(num_terminal, num_timesteps - 1), strata.astype(np.int64)])


def sample_dropout(rng: np.random.Generator, batch_size: int, config: Any) -> tuple[np.ndarray, ...]:
    """Draw which samples drop the first frame, the text and the tracks: three bool arrays [batch_size]."""
    fractions = (config.image_dropout, config.text_dropout, config.track_dropout)
    return tuple(rng.random(batch_size) < fraction for fraction in fractions)


def to_unit(video: np.ndarray) -> torch.Tensor:
    """Convert 8-bit images to float32 in -1..1, of the same shape."""
    return torch.from_numpy(np.ascontiguousarray(video)).float() / 127.5 - 1


@torch.no_grad()
def encode(
    vae: PatchAutoencoder,
    video: np.ndarray,  # [B, T, H, W, 3] 8-bit
) -> torch.Tensor:
    """Encode videos to scaled latents [B, T, C, h, w] on the autoencoder's device."""
    pixels = to_unit(video).permute(0, 4, 1, 2, 3).to(vae.device)
    return vae.encode(pixels).latent_dist.mode().transpose(1, 2) * vae.config.scaling_factor


def keep_first_frame(latents: torch.Tensor) -> torch.Tensor:
    """Return [B, T, C, h, w] with all frames but the first zero."""
    padded = torch.zeros_like(latents)
    padded[:, 0] = latents[:, 0]
    return padded


class DiffusionTask:
    """Training of transformer and text encoder on procedural clips."""

    def __init__(
        self,
        shards: Shards,
        vae: PatchAutoencoder,
        tokens: torch.Tensor,  # [N + 1, L] i64
        config: FromScratchConfig,
        tokenizer: PreTrainedTokenizerFast | None = None,
        validation_clips: Sequence[Clip] = (),
    ) -> None:
        """Create the task.

        `tokens` are the captions of the N clips and the empty caption. `validation_clips` are held-out clips to
        generate as validation samples, with `tokenizer`.
        """
        self.shards, self.vae, self.tokens, self.config = shards, vae, tokens, config
        self.tokenizer, self.validation_clips = tokenizer, validation_clips
        self.scheduler = make_scheduler()
        # The root of an error's effect on the image: neither mean color nor finest detail dominates the loss.
        effects = vae.synthesis.square().sum(0).sqrt()
        self.channel_weights = (effects / effects.mean())[None, None, :, None, None]

    def get_batch(self, step: int, part: int = 0, num_parts: int = 1) -> Batch:
        """Make the samples of a step from the seed and the step number; see `TrainingTask`."""
        config = self.config
        augmentation_rng = np.random.default_rng([config.seed, 2, step])
        single_frame = bool(augmentation_rng.random() < config.one_frame_fraction)
        batch_size = config.batch_size * (self.shards.frames if single_frame else 1)
        rng = np.random.default_rng([config.seed, 1, step])
        candidates = np.arange(len(self.shards)) if single_frame else self.shards.whole
        picks = candidates[rng.integers(len(candidates), size=batch_size)]
        drop_image, drop_text, drop_tracks = sample_dropout(rng, batch_size, config)
        if single_frame:
            drop_image[:] = True  # the only frame would be known
        noise_seed = int(rng.integers(1 << 62))
        timesteps = sample_timesteps(
            rng, batch_size, self.scheduler.config.num_train_timesteps, config.terminal_fraction
        )
        mirrored = augmentation_rng.random(batch_size) < 0.5
        thinned = augmentation_rng.random(batch_size) < config.sparse_tracks_fraction
        thin_seeds = augmentation_rng.integers(1 << 62, size=batch_size)
        if single_frame and config.named_color_fraction:
            named = augmentation_rng.choice(self.shards.named, batch_size)
            picks = np.where(augmentation_rng.random(batch_size) < config.named_color_fraction, named, picks)

        part_indices = np.arange(batch_size)[part::num_parts]
        clips = [
            self._load_clip(int(picks[i]), single_frame, bool(mirrored[i]), int(thin_seeds[i]) if thinned[i] else None)
            for i in part_indices
        ]
        video, tracking = np.stack([clip[0] for clip in clips]), np.stack([clip[1] for clip in clips])
        if config.stage == "base":
            tracking = np.zeros_like(tracking)
        latents, tracking_latents = encode(self.vae, video), encode(self.vae, tracking)
        device = latents.device
        keep_image, keep_tracks = (
            torch.from_numpy(~dropped[part_indices]).to(device)[:, None, None, None, None]
            for dropped in (drop_image, drop_tracks)
        )
        pixels = torch.from_numpy(np.ascontiguousarray(tracking)).permute(0, 1, 4, 2, 3).to(device).float() / 255
        captions = np.where(drop_text, len(self.tokens) - 1, picks)[part_indices]
        noise = torch.randn((batch_size, *latents.shape[1:]), generator=torch.Generator().manual_seed(noise_seed))
        maps = torch.cat([tracking_latents, keep_first_frame(tracking_latents)], dim=2) * keep_tracks
        return Batch(
            latents=latents,
            image_latents=keep_first_frame(latents) * keep_image,
            # A base has no tracking branch, but its track coordinates are those of a still scene, as in the pipeline.
            tracking_maps=None if config.stage == "base" else maps,
            track_coordinates=track_coordinates(pixels) * keep_tracks,
            first_frame=to_unit(video[:, 0]).permute(0, 3, 1, 2).to(device) * keep_image[:, 0],
            text=self.tokens[torch.from_numpy(captions)].to(device),
            noise=noise[part::num_parts].to(device),
            timesteps=torch.from_numpy(timesteps[part_indices]).to(device),
        )

    def _load_clip(
        self, index: int, single_frame: bool, mirrored: bool, thin_seed: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Load video and tracking video [T, H, W, 3] of a clip, augmented."""
        video, tracking, caption, _ = self.shards[index]
        if thin_seed is not None:
            tracking = thin_tracks(tracking, np.random.default_rng(thin_seed))
        if single_frame:
            video, tracking = video[:1], tracking[:1]
        if self.config.mirror and mirrored and not names_side(caption):
            return mirror(video, tracking)
        return video, tracking

    def compute_loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Compute the mean squared error of the velocity, channels weighted by their effect on the image."""
        return (velocity_error(model, self.scheduler, batch) * self.channel_weights).mean()

    def learning_rate_factor(self, step: int, progress: float) -> float:
        """See `TrainingTask`."""
        return linear_schedule(step, progress, self.config.warmup_steps)

    def validate(self, run: TrainingRun) -> dict[str, Any]:
        """Generate the held-out clips, and measure PSNR with their own tracks and with another clip's."""
        clips = self.validation_clips
        tracking = [clip.tracking for clip in clips]
        pipeline = DiffusionShaderPipeline(
            tokenizer=self.tokenizer,
            text_encoder=run.modules["text_encoder"],
            vae=self.vae,
            transformer=run.modules["transformer"],
            scheduler=self.scheduler,
        )
        pipeline.set_progress_bar_config(disable=True)
        generated = self._generate(pipeline, tracking)
        with_other_tracks = self._generate(pipeline, tracking[1:] + tracking[:1])
        samples = [(c.video, g, c.tracking) for c, g in zip(clips, generated, strict=True)]
        run.log.write_samples(samples, run.progress.step)
        return {"psnr": _mean_psnr(clips, generated), "psnr_other_tracks": _mean_psnr(clips, with_other_tracks)}

    def _generate(self, pipeline: DiffusionShaderPipeline, tracking: list[np.ndarray]) -> np.ndarray:
        """Return the validation clips [N, T, H, W, 3] 8-bit, generated in one step with the given tracking videos."""
        with mixed_precision(pipeline.vae.device, self.config.bf16):
            return pipeline(
                [clip.caption for clip in self.validation_clips],
                image=np.stack([clip.video[0] for clip in self.validation_clips]),
                tracking_video=np.stack(tracking),
                num_inference_steps=1,
                guidance_scale=1.0,
                generator=torch.Generator().manual_seed(0),
                output_type="uint8",
            ).frames


def _mean_psnr(clips: Sequence[Clip], generated: np.ndarray) -> float:
    """Return the mean over clips, without the given first frame."""
    return float(np.mean([psnr(c.video[1:], g[1:]) for c, g in zip(clips, generated, strict=True)]))


def names_side(caption: str) -> bool:
    """Return whether a caption would be wrong for the mirrored clip."""
    return _SIDES.search(caption) is not None


def mirror(
    video: np.ndarray,  # [T, H, W, 3] 8-bit
    tracking: np.ndarray,  # [T, H, W, 3] 8-bit
) -> tuple[np.ndarray, np.ndarray]:
    """Mirror video and tracking video left to right.

    Red in the tracking video is the horizontal place in the first frame, so it becomes 255 - red where a track is.
    """
    flipped = tracking[:, :, ::-1].copy()
    flipped[..., 0] = np.where(flipped.any(axis=-1), 255 - flipped[..., 0], 0)
    return video[:, :, ::-1].copy(), flipped


def thin_tracks(
    tracking: np.ndarray,  # [T, H, W, 3] 8-bit
    rng: np.random.Generator,
    min_points: int = 60,
    max_points: int = 1500,
) -> np.ndarray:
    """Thin a dense tracking video to random points, as a point tracker would give it.

    `min_points` to `max_points` points of the first frame (log-uniformly) are drawn as small squares, half as wide as
    their distance, where their color appears in each frame. A point whose color does not appear is hidden.
    """
    num_frames, height, width, _ = tracking.shape
    thinned = np.zeros_like(tracking)
    covered = np.flatnonzero(tracking[0].any(axis=-1))
    if not len(covered):
        return thinned
    count = min(len(covered), round(float(np.exp(rng.uniform(np.log(min_points), np.log(max_points))))))
    points = rng.choice(covered, count, replace=False)
    colors = tracking[0].reshape(-1, 3)[points]  # [N, 3]
    order = np.argsort(colors[:, 2], kind="stable")  # blue is inverse depth: the nearest is drawn last
    colors, points = colors[order], points[order]
    side = int(np.clip(round(0.5 * np.sqrt(len(covered) / count)), 1, 5))
    offsets = np.stack(np.meshgrid(*[np.arange(side) - side // 2] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    for t in range(num_frames):
        pixels = points if t == 0 else _find_colors(tracking[t], colors)
        visible = np.flatnonzero(pixels >= 0)
        rows, columns = np.divmod(pixels[visible], width)
        rows = np.clip(rows[:, None] + offsets[:, 0], 0, height - 1)  # [N, side * side]
        columns = np.clip(columns[:, None] + offsets[:, 1], 0, width - 1)
        thinned[t, rows, columns] = colors[visible][:, None]
    return thinned


def _find_colors(frame: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Return the pixel of [H, W, 3] that shows each color of [N, 3] best, a flat index [N]; -1 where none is near."""
    reach = int(np.clip(np.ceil(127.5 / min(frame.shape[:2])), 1, 3))  # half a pixel of the first frame, in levels
    flat, wanted = frame.reshape(-1, 3), colors.astype(np.int64)
    side = 256 + 2 * reach
    table = np.full((side, side), -1)  # pixel by red and green, with a border
    shown = np.flatnonzero(flat.any(axis=-1))
    table[flat[shown, 0].astype(np.int64) + reach, flat[shown, 1].astype(np.int64) + reach] = shown
    best, best_distance = np.full(len(colors), -1), np.full(len(colors), np.inf)
    for red in range(-reach, reach + 1):
        for green in range(-reach, reach + 1):
            pixel = table[wanted[:, 0] + reach + red, wanted[:, 1] + reach + green]
            depth = np.abs(flat[pixel, 2].astype(np.int64) - wanted[:, 2])
            distance = abs(red) + abs(green) + 0.2 * depth
            better = (pixel >= 0) & (depth <= _DEPTH_TOLERANCE) & (distance < best_distance)
            best, best_distance = np.where(better, pixel, best), np.where(better, distance, best_distance)
    return best
