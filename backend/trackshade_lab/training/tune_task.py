# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
"""What fine-tuning learns: batches from encoded clips, and the loss of the published recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import CogVideoXDDIMScheduler
from torch import nn

from trackshade.core.images import psnr
from trackshade.models import TrackingTransformer3DModel, track_coordinates
from trackshade.pipelines import DiffusionShaderPipeline

from .cache import Cache, draw, load
from .config import TuneConfig
from .dataset import Entry, read_video
from .diffusion import spread_levels
from .loop import Run
from .samples import denoise, sheet_picture, write_picture

Rotary = tuple[torch.Tensor, torch.Tensor]


def cosine(step: int, share: float, warmup: int, restarts: int) -> float:
    """Linear warm-up, then `restarts` falling half-cosines over the budget."""
    falling = 0.0 if share >= 1 else 0.5 * (1 + math.cos(math.pi * (restarts * share % 1.0)))
    return min(1.0, (step + 1) / max(1, warmup)) * falling


@dataclass(frozen=True)
class Batch:
    latents: torch.Tensor  # [B, L, C, h, w] clean video
    image: torch.Tensor  # [B, L, C, h, w] first frame with noise, then zeros
    tracks: torch.Tensor  # [B, L, 2C, h, w] tracking latents | first tracking frame, then zeros
    coordinates: torch.Tensor | None  # [B, T, 4, H, W], for models that read them
    first: torch.Tensor | None  # [B, 3, H, W] first frame in -1..1, for those
    text: torch.Tensor  # [B, N, E]
    noise: torch.Tensor  # [B, L, C, h, w]
    timesteps: torch.Tensor  # [B] i64


def collate(samples: list[Batch], device: torch.device) -> Batch:
    """One batch of several, on a device."""
    fields = zip(*(vars(sample).values() for sample in samples), strict=True)
    return Batch(*(None if parts[0] is None else torch.cat(parts).to(device) for parts in fields))


class Predictor(nn.Module):
    """The transformer as the module that processes exchange gradients of."""

    def __init__(self, transformer: TrackingTransformer3DModel, bf16: bool) -> None:
        super().__init__()
        self.transformer, self.bf16 = transformer, bf16

    def forward(self, noisy: torch.Tensor, batch: Batch, timesteps: torch.Tensor, rotary: Rotary | None):
        """The predicted velocity [B, L, C, h, w], float32."""
        ofs = None if self.transformer.config.ofs_embed_dim is None else noisy.new_full((1,), 2.0)
        guidance = {}
        if batch.coordinates is not None:
            guidance = {"track_coordinates": batch.coordinates, "first_frame": batch.first}
        with torch.autocast(noisy.device.type, torch.bfloat16, enabled=self.bf16):
            predicted = self.transformer(
                torch.cat([noisy, batch.image], dim=2),
                batch.text,
                timesteps,
                ofs=ofs,
                image_rotary_emb=rotary,
                tracking_maps=batch.tracks,
                **guidance,
            ).sample
        return predicted.float()


class TuneTask:
    """Every epoch shows every clip once, in an order of its own; latents and the first frame's noise are drawn anew."""

    def __init__(
        self, entries: tuple[Entry, ...], cache: Cache, pipeline: DiffusionShaderPipeline, config: TuneConfig
    ) -> None:
        self.entries, self.pipeline, self.config = entries, pipeline, config
        self.keys = [cache.keys(entry) for entry in entries]
        self.empty = load(cache.text_key(""))["text"]
        self.device = pipeline.vae.device
        self.scheduler = pipeline.scheduler
        self._rotary: dict[torch.Size, Rotary | None] = {}

    def picks(self, step: int) -> np.ndarray:
        """[batch] clips of a step."""
        places = step * self.config.batch + np.arange(self.config.batch)
        epochs = {int(e): self._order(int(e)) for e in np.unique(places // len(self.entries))}
        return np.array([epochs[int(place // len(self.entries))][place % len(self.entries)] for place in places])

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.config.seed, 4, epoch]).permutation(len(self.entries))

    @torch.no_grad()
    def batch(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        config = self.config
        rng = np.random.default_rng([config.seed, 3, step])
        count = config.batch
        no_image, no_text, no_track = (
            rng.random(count) < share for share in (config.image_dropout, config.text_dropout, config.track_dropout)
        )
        seeds = rng.integers(1 << 62, size=count)
        levels = spread_levels(rng, count, self.scheduler.config.num_train_timesteps)
        picks = self.picks(step)
        return collate(
            [
                self._sample(int(picks[i]), int(seeds[i]), int(levels[i]), no_image[i], no_text[i], no_track[i])
                for i in range(part, count, parts)
            ],
            self.device,
        )

    def _sample(self, pick: int, seed: int, level: int, no_image=False, no_text=False, no_track=False) -> Batch:
        """A batch of one clip, on the CPU."""
        generator = torch.Generator().manual_seed(seed)
        tensors = load(self.keys[pick].latents)
        factor = self.pipeline.vae.config.scaling_factor
        first_factor = 1 / factor if self.pipeline.vae.config.invert_scale_latents else factor
        latents = draw(tensors["video"], generator)[None] * factor
        first = torch.zeros_like(latents)
        first[:, :1] = draw(tensors["tracking_first"], generator) * first_factor
        tracks = torch.cat([draw(tensors["tracking"], generator)[None] * factor, first], dim=2)
        image = self._image(tensors["first"], latents.shape[1], generator)
        noise = torch.randn(latents.shape, generator=generator)
        text = self.empty if no_text else load(self.keys[pick].text)["text"]
        coordinates = first_frame = None
        if "pixels" in tensors:
            coordinates = track_coordinates(tensors["pixels"].permute(0, 3, 1, 2)[None].float() / 255)
            coordinates = coordinates * float(not no_track)
            first_frame = (tensors["first"].permute(2, 0, 1)[None].float() / 127.5 - 1) * float(not no_image)
        return Batch(
            latents,
            image * float(not no_image),
            tracks * float(not no_track),
            coordinates,
            first_frame,
            text[None].float(),
            noise,
            torch.tensor([level]),
        )

    def _image(self, first: torch.Tensor, frames: int, generator: torch.Generator) -> torch.Tensor:
        """[H, W, 3] u8 -> scaled latents of the first frame with noise, zero-padded: [1, L, C, h, w]."""
        picture = first.permute(2, 0, 1)[None].float() / 255
        if self.config.image_noise_spread >= 0:
            drawn = torch.randn((), generator=generator)
            sigma = math.exp(self.config.image_noise + self.config.image_noise_spread * float(drawn))
            # Half of it: the recipe's noise is for pictures in -1..1.
            picture = picture + 0.5 * sigma * torch.randn(picture.shape, generator=generator)
        return self.pipeline.encode_first_frame(picture, frames, generator).float().cpu()

    def loss(self, predictor: nn.Module, batch: Batch) -> torch.Tensor:
        """The recipe's: squared error of the clean latents that the velocity means, weighted with 1 / (1 - alpha_bar).

        The clean latents follow from the velocity by -sqrt(1 - alpha_bar), so this is the velocity's plain squared
        error.
        """
        noisy = self.scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
        target = self.scheduler.get_velocity(batch.latents, batch.noise, batch.timesteps)
        predicted = predictor(noisy, batch, batch.timesteps, self.rotary(batch.latents))
        return (predicted - target).square().mean()

    def rotary(self, latents: torch.Tensor) -> Rotary | None:
        """For [B, L, C, h, w]."""
        shape = latents.shape[1:]
        if shape not in self._rotary:
            self._rotary[shape] = self.pipeline.rotary_embeddings(shape[0], shape[2], shape[3])
        return self._rotary[shape]

    def rate(self, step: int, share: float) -> float:
        return cosine(step, share, self.config.warmup, self.config.restarts)

    def sheet(self, run: Run) -> dict[str, Any]:
        """Draw the dataset's first clips: truth, generated, tracking; at most nine frames of each."""
        rows, quality = [], []
        predictor = run.accelerator.unwrap_model(run.predictor)
        scheduler = CogVideoXDDIMScheduler.from_config(self.scheduler.config, timestep_spacing="trailing")
        for index in range(min(self.config.sheet_clips, len(self.entries))):
            batch = collate([self._sample(index, seed=0, level=0)], self.device)
            latents, rotary = batch.latents, self.rotary(batch.latents)
            made = denoise(
                lambda x, t, batch=batch, rotary=rotary: predictor(x, batch, t, rotary),
                scheduler,
                latents.shape,
                self.config.sheet_steps,
                0,
                self.device,
            )
            decoded = self.pipeline.decode_latents(made)[0].movedim(1, -1).cpu().numpy()
            videos = [read_video(self.entries[index].video), np.rint(255 * decoded).astype(np.uint8)]
            after = slice(1 if len(decoded) > 1 else 0, None)
            quality.append(psnr(videos[0][after], videos[1][after]))
            shown = np.unique(np.linspace(0, len(decoded) - 1, 9).astype(int))
            rows.append([video[shown] for video in (*videos, read_video(self.entries[index].tracking))])
        if not rows:
            return {}
        picture = sheet_picture(rows)
        write_picture(run.out / "sheets" / f"step-{run.progress.step:06d}.png", picture)
        run.log.picture("sheet", picture, run.progress.step)
        return {"psnr": float(np.mean(quality))}
