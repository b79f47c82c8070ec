# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
"""The training task: batches of clips, dropouts, noise, and the v-prediction loss at zero terminal SNR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from trackshade.models import PatchAutoencoder, WarpGuidedTransformer3DModel, track_coordinates
from trackshade.pipelines import DiffusionShaderPipeline

from ..scenes import Clip, Shards
from .augment import mirror, names_a_side, thin_tracks
from .config import TrainConfig
from .latents import encode, first_only, make_scheduler, to_unit
from .loop import Run
from .optimizers import rate_factor
from .samples import generate, mean_psnr, sheet_picture, write_picture


@dataclass(frozen=True)
class Batch:
    latents: torch.Tensor  # [B, T, C, h, w] clean video
    first: torch.Tensor  # [B, 3, H, W] first frame in -1..1, zeros where it is left out
    image: torch.Tensor  # [B, T, C, h, w] its latents, then zeros
    tracks: torch.Tensor  # [B, T, 2C, h, w] tracking latents | first tracking frame, then zeros
    coordinates: torch.Tensor  # [B, T, 4, H, W]
    tokens: torch.Tensor  # [B, L] i64
    noise: torch.Tensor  # [B, T, C, h, w]
    timesteps: torch.Tensor  # [B] i64


def spread_levels(rng: np.random.Generator, batch: int, levels: int, terminal: float = 0.0) -> np.ndarray:
    """[batch] noise levels 0..levels - 1, each uniformly drawn, evenly spread within the batch: less variance than
    independent draws. The first `terminal` share of them is at the last level.
    """
    last = round(terminal * batch)
    free = batch - last
    spread = ((rng.random() + np.arange(free) / max(1, free)) % 1.0) * levels
    return np.concatenate([np.full(last, levels - 1), spread.astype(np.int64)])


class Predictor(nn.Module):
    """Transformer and text encoder as the one module that processes exchange gradients of."""

    def __init__(self, transformer: WarpGuidedTransformer3DModel, text_encoder: nn.Module, bf16: bool) -> None:
        super().__init__()
        self.transformer, self.text_encoder, self.bf16 = transformer, text_encoder, bf16

    def forward(
        self,
        noisy: torch.Tensor,
        image: torch.Tensor,
        tokens: torch.Tensor,
        timesteps: torch.Tensor,
        tracks: torch.Tensor | None,
        coordinates: torch.Tensor | None,
        first: torch.Tensor,
    ) -> torch.Tensor:
        """The predicted velocity [B, T, C, h, w], float32; shapes as in `Batch`."""
        with torch.autocast(noisy.device.type, torch.bfloat16, enabled=self.bf16):
            text = self.text_encoder(tokens)[0]
            predicted = self.transformer(
                torch.cat([noisy, image], dim=2),
                text,
                timesteps,
                tracking_maps=tracks,
                track_coordinates=coordinates,
                first_frame=first,
            ).sample
        return predicted.float()


class Task:
    """Makes the batch of a step from the seed and the step's number alone, so that a resumed run sees what it would
    have seen.
    """

    def __init__(
        self, shards: Shards, vae: PatchAutoencoder, tokens: torch.Tensor, empty: torch.Tensor, config: TrainConfig
    ):
        self.shards, self.vae, self.tokens, self.empty, self.config = shards, vae, tokens, empty, config
        self.scheduler = make_scheduler()
        self.tokenizer: Any = None
        self.held_out: list[Clip] = []  # what sheets show
        # The root of what an error in a channel costs in the picture: neither mean color nor finest detail rules
        # the loss.
        costs = vae.synthesis.square().sum(0).sqrt()
        self.costs = (costs / costs.mean())[None, None, :, None, None]

    def batch(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        config = self.config
        further = np.random.default_rng([config.seed, 2, step])  # what is drawn for options that are off by default
        single = bool(further.random() < config.one_frame)
        count = config.batch * (self.shards.frames if single else 1)
        rng = np.random.default_rng([config.seed, 1, step])
        of = np.arange(len(self.shards)) if single else self.shards.whole
        picks = of[rng.integers(len(of), size=count)]
        no_image, no_text, no_track = (
            rng.random(count) < share for share in (config.image_dropout, config.text_dropout, config.track_dropout)
        )
        if single:
            no_image[:] = True  # with its only frame given there would be nothing to learn
        noise_seed = int(rng.integers(1 << 62))
        levels = spread_levels(rng, count, self.scheduler.config.num_train_timesteps, config.terminal)
        mirrored, thinned = further.random(count) < 0.5, further.random(count) < config.sparse_tracks
        thin_seeds = further.integers(1 << 62, size=count)
        if single and config.named:
            drawn = further.choice(self.shards.named, count)
            picks = np.where(further.random(count) < config.named, drawn, picks)

        mine = np.arange(count)[part::parts]
        clips = [
            self._clip(int(picks[i]), single, bool(mirrored[i]), int(thin_seeds[i]) if thinned[i] else None)
            for i in mine
        ]
        video, tracking = np.stack([c[0] for c in clips]), np.stack([c[1] for c in clips])
        if config.stage == "base":
            tracking = np.zeros_like(tracking)
        latents, tracks = encode(self.vae, video), encode(self.vae, tracking)
        device = latents.device
        pixels = torch.from_numpy(np.ascontiguousarray(tracking)).permute(0, 1, 4, 2, 3).to(device).float() / 255
        keep_image, keep_track = (
            torch.from_numpy(~dropped[mine]).to(device)[:, None, None, None, None] for dropped in (no_image, no_track)
        )
        coordinates = track_coordinates(pixels) * keep_track
        drop_text = torch.from_numpy(no_text[mine])[:, None]
        tokens = torch.where(drop_text, self.empty, self.tokens[torch.from_numpy(picks[mine])]).to(device)
        image = first_only(latents) * keep_image
        first = to_unit(video[:, 0]).permute(0, 3, 1, 2).to(device) * keep_image[:, 0]
        maps = torch.cat([tracks, first_only(tracks)], dim=2) * keep_track
        generator = torch.Generator().manual_seed(noise_seed)
        noise = torch.randn((count, *latents.shape[1:]), generator=generator)[part::parts].to(device)
        timesteps = torch.from_numpy(levels[mine]).to(device)
        return Batch(latents, first, image, maps, coordinates, tokens, noise, timesteps)

    def _clip(self, index: int, single: bool, mirrored: bool, thin_seed: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Video and tracking video [T, H, W, 3] of a clip, changed as was drawn."""
        video, tracking, caption, _ = self.shards[index]
        if thin_seed is not None:
            tracking = thin_tracks(tracking, np.random.default_rng(thin_seed))
        if single:
            video, tracking = video[:1], tracking[:1]
        if self.config.mirror and mirrored and not names_a_side(caption):
            return mirror(video, tracking)
        return video, tracking

    def loss(self, predictor: nn.Module, batch: Batch) -> torch.Tensor:
        """Mean squared error of the predicted velocity, channels weighted by what they are worth in the picture."""
        noisy = self.scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
        target = self.scheduler.get_velocity(batch.latents, batch.noise, batch.timesteps)
        # A base has no branch, but its lookup is that of a still scene, as where it is asked without tracks.
        tracks = None if self.config.stage == "base" else batch.tracks
        predicted = predictor(noisy, batch.image, batch.tokens, batch.timesteps, tracks, batch.coordinates, batch.first)
        return ((predicted - target).square() * self.costs).mean()

    def rate(self, step: int, share: float) -> float:
        return rate_factor(step, share, self.config.warmup)

    def sheet(self, run: Run) -> dict[str, Any]:
        """Draw the held-out clips, and say how close they come with their own tracks and with each other's."""
        clips = self.held_out
        right = [clip.tracking for clip in clips]
        modules = run.modules
        pipeline = DiffusionShaderPipeline(
            self.tokenizer, modules["text_encoder"], self.vae, modules["transformer"], self.scheduler
        )
        pipeline.set_progress_bar_config(disable=True)
        made = generate(pipeline, clips, right, bf16=self.config.bf16)
        other = generate(pipeline, clips, right[1:] + right[:1], bf16=self.config.bf16)
        picture = sheet_picture([(c.video, g, c.tracking) for c, g in zip(clips, made, strict=True)])
        write_picture(run.out / "sheets" / f"step-{run.progress.step:06d}.png", picture)
        run.log.picture("sheet", picture, run.progress.step)
        return {"psnr": mean_psnr(clips, made), "psnr_other_tracks": mean_psnr(clips, other)}
