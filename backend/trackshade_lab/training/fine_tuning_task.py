# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
"""The task of fine-tuning: batches from encoded clips, which are cached on disk, and the published recipe's loss."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import CogVideoXDDIMScheduler
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedTokenizerBase

from trackshade.core.atomic_files import atomic_file
from trackshade.core.errors import UsageError
from trackshade.core.images import psnr
from trackshade.models.track_warp import track_coordinates
from trackshade.pipelines.diffusion_shader import DiffusionShaderPipeline

from ..video_dataset import DatasetEntry, read_video
from .config import FineTuningConfig
from .diffusion import Batch, Rotary, sample_dropout, sample_timesteps, to_unit, velocity_error
from .loop import TrainingRun, cosine_schedule

_DIGEST_BYTES = 1 << 20  # at either end of a weight file
_SHOWN_FRAMES = 9  # of a validation sample


class EncodingCache:
    """Encoded clips and captions in a folder, named by digests of what they were computed from.

    latents-DIGEST.safetensors (of both video files and the autoencoder):
        video, tracking [2C, L, h, w]   mean and standard deviation of the unscaled latents, sampled anew in each epoch
        tracking_first  [2C, 1, h, w]   the same for the first tracking frame alone
        first           [H, W, 3] u8    the first frame, which is encoded with new noise each time
        pixels          [T, H, W, 3] u8 the tracking video, for models that read coordinates
    text-DIGEST.safetensors (of the caption, its length and the text encoder):
        text [N, E]
    """

    def __init__(
        self, folder: Path, *, vae: Path, text_encoder: Path, tokenizer: Path, max_text_length: int, store_pixels: bool
    ) -> None:
        """Open or create the cache in `folder` for the components in the other folders.

        Raise UsageError if the folder cannot be written.
        """
        self.folder, self.max_text_length, self.store_pixels = folder, max_text_length, store_pixels
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            fix = "Choose another --cache."
            raise UsageError("output-unwritable", f"The encoded clips cannot be stored in {folder}.", fix) from error
        self._vae_digest = component_digest(vae)
        self._text_digest = component_digest(text_encoder) + component_digest(tokenizer)
        self._file_digests: dict[Path, str] = {}

    def clip_file(self, entry: DatasetEntry) -> Path:
        """Return the file of an encoded clip."""
        parts = [*map(self._file_digest, (entry.video, entry.tracking)), self._vae_digest, str(self.store_pixels)]
        return self.folder / f"latents-{_digest(parts)}.safetensors"

    def text_file(self, prompt: str) -> Path:
        """Return the file of an encoded caption."""
        return self.folder / f"text-{_digest([prompt, str(self.max_text_length), self._text_digest])}.safetensors"

    def _file_digest(self, path: Path) -> str:
        if path not in self._file_digests:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16))
            self._file_digests[path] = digest.hexdigest()
        return self._file_digests[path]

    @torch.no_grad()
    def encode_clip(self, entry: DatasetEntry, vae: Any) -> None:
        """Encode both videos of a clip and store them.

        Raise UsageError if they cannot be read, or their shapes differ.
        """
        video, tracking = read_video(entry.video), read_video(entry.tracking)
        if video.shape != tracking.shape:
            sizes = [f"{len(frames)} frames of {frames.shape[2]}x{frames.shape[1]}" for frames in (video, tracking)]
            raise UsageError(
                "bad-dataset",
                f"{entry.video} has {sizes[0]} pixels, and {entry.tracking} {sizes[1]}.",
                "Both must have the same frames and size.",
            )
        tensors = {
            "video": _encode_moments(vae, video),
            "tracking": _encode_moments(vae, tracking),
            "tracking_first": _encode_moments(vae, tracking[:1]),
            "first": torch.from_numpy(video[0]),
        }
        if self.store_pixels:
            tensors["pixels"] = torch.from_numpy(tracking)
        self._store(self.clip_file(entry), tensors)

    @torch.no_grad()
    def encode_text(self, prompt: str, tokenizer: PreTrainedTokenizerBase, text_encoder: nn.Module) -> None:
        """Encode a caption and store it."""
        tokens = tokenizer(
            [prompt], padding="max_length", max_length=self.max_text_length, truncation=True, return_tensors="pt"
        ).input_ids
        text = text_encoder(tokens.to(next(text_encoder.parameters()).device))[0][0]
        self._store(self.text_file(prompt), {"text": text})

    def _store(self, path: Path, tensors: dict[str, torch.Tensor]) -> None:
        """Write a file atomically; several processes may write the same one."""
        with atomic_file(path) as part:
            save_file({key: value.contiguous().cpu() for key, value in tensors.items()}, part)


def _encode_moments(vae: Any, video: np.ndarray) -> torch.Tensor:
    """Return mean and standard deviation [2C, L, h, w] of the unscaled latents of [T, H, W, 3] 8-bit."""
    pixels = to_unit(video).permute(3, 0, 1, 2)[None]
    distribution = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
    std = getattr(distribution, "std", None)
    return torch.cat([distribution.mean, torch.zeros_like(distribution.mean) if std is None else std], dim=1)[0]


def _sample_latents(moments: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw latents [L, C, h, w], float32, with the given moments [2C, L, h, w]."""
    mean, std = moments.float().chunk(2)
    return (mean + std * torch.randn(mean.shape, generator=generator)).transpose(0, 1)


def component_digest(folder: Path) -> str:
    """Return a digest of a component's configuration and of the sizes and ends of its weight files, which is quick."""
    state = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.iterdir()):
        if path.suffix == ".json":
            content = path.read_bytes()
            if path.name == "config.json":  # without the library's version and the original folder
                values = {key: value for key, value in json.loads(content).items() if not key.startswith("_")}
                content = json.dumps(values, sort_keys=True).encode()
            state.update(path.name.encode() + content)
        elif path.suffix in (".safetensors", ".model"):
            size = path.stat().st_size
            state.update(f"{path.name}{size}".encode())
            with path.open("rb") as stream:
                state.update(stream.read(_DIGEST_BYTES))
                stream.seek(max(0, size - _DIGEST_BYTES))
                state.update(stream.read(_DIGEST_BYTES))
    return state.hexdigest()


def _digest(parts: list[str]) -> str:
    return hashlib.blake2b(b"".join(part.encode() + b"\0" for part in parts), digest_size=16).hexdigest()


class FineTuningTask:
    """Training of a tracking branch on encoded clips, each of them once per epoch in random order."""

    def __init__(
        self,
        entries: tuple[DatasetEntry, ...],
        cache: EncodingCache,
        pipeline: DiffusionShaderPipeline,
        config: FineTuningConfig,
    ) -> None:
        """Create the task; the cache must hold all clips and captions."""
        self.entries, self.pipeline, self.config = entries, pipeline, config
        self.clip_files = [cache.clip_file(entry) for entry in entries]
        self.text_files = [cache.text_file(entry.prompt) for entry in entries]
        self.empty_text = load_file(cache.text_file(""))["text"]
        self.device = pipeline.vae.device
        self.scheduler = pipeline.scheduler
        self._rotary: dict[torch.Size, Rotary | None] = {}

    def pick_clips(self, step: int) -> np.ndarray:
        """Return the indices [batch_size] of the clips of a step."""
        count, batch_size = len(self.entries), self.config.batch_size
        epochs, positions = np.divmod(step * batch_size + np.arange(batch_size), count)
        orders = {
            epoch: np.random.default_rng([self.config.seed, 4, epoch]).permutation(count)
            for epoch in np.unique(epochs).tolist()
        }
        return np.array([orders[int(epoch)][position] for epoch, position in zip(epochs, positions, strict=True)])

    @torch.no_grad()
    def get_batch(self, step: int, part: int = 0, num_parts: int = 1) -> Batch:
        """Make the samples of a step from the seed and the step number; see `TrainingTask`."""
        config, batch_size = self.config, self.config.batch_size
        rng = np.random.default_rng([config.seed, 3, step])
        drop_image, drop_text, drop_tracks = sample_dropout(rng, batch_size, config)
        seeds = rng.integers(1 << 62, size=batch_size)
        timesteps = sample_timesteps(rng, batch_size, self.scheduler.config.num_train_timesteps)
        picks = self.pick_clips(step)
        samples = [
            self.load_sample(
                int(picks[i]),
                int(seeds[i]),
                int(timesteps[i]),
                drop_image=drop_image[i],
                drop_text=drop_text[i],
                drop_tracks=drop_tracks[i],
            )
            for i in range(part, batch_size, num_parts)
        ]
        return self._collate(samples)

    def load_sample(
        self,
        clip: int,
        seed: int,
        timestep: int,
        *,
        drop_image: bool = False,
        drop_text: bool = False,
        drop_tracks: bool = False,
    ) -> Batch:
        """Load a batch of one clip on the CPU, with latents, noise on the first frame and noise drawn from a seed."""
        generator = torch.Generator().manual_seed(seed)
        tensors = load_file(self.clip_files[clip])
        vae_config = self.pipeline.vae.config
        factor = vae_config.scaling_factor
        first_factor = 1 / factor if vae_config.invert_scale_latents else factor
        latents = _sample_latents(tensors["video"], generator)[None] * factor
        first_tracking = torch.zeros_like(latents)
        first_tracking[:, :1] = _sample_latents(tensors["tracking_first"], generator) * first_factor
        tracking = torch.cat([_sample_latents(tensors["tracking"], generator)[None] * factor, first_tracking], dim=2)
        image_latents = self._encode_image(tensors["first"], latents.shape[1], generator)
        noise = torch.randn(latents.shape, generator=generator)
        text = self.empty_text if drop_text else load_file(self.text_files[clip])["text"]
        coordinates = first_frame = None
        if "pixels" in tensors:
            coordinates = track_coordinates(tensors["pixels"].permute(0, 3, 1, 2)[None].float() / 255)
            coordinates = coordinates * float(not drop_tracks)
            first_frame = (tensors["first"].permute(2, 0, 1)[None].float() / 127.5 - 1) * float(not drop_image)
        return Batch(
            latents=latents,
            image_latents=image_latents * float(not drop_image),
            tracking_maps=tracking * float(not drop_tracks),
            track_coordinates=coordinates,
            first_frame=first_frame,
            text=text[None].float(),
            noise=noise,
            timesteps=torch.tensor([timestep]),
        )

    def _encode_image(self, image: torch.Tensor, latent_frames: int, generator: torch.Generator) -> torch.Tensor:
        """Return scaled latents of the first frame [H, W, 3] u8 with noise, zero-padded [1, L, C, h, w]."""
        pixels = image.permute(2, 0, 1)[None].float() / 255
        if self.config.image_noise_log_std >= 0:
            log_sigma = torch.randn((), generator=generator)
            sigma = math.exp(self.config.image_noise_log_mean + self.config.image_noise_log_std * float(log_sigma))
            # The recipe's noise is for images in -1..1, twice this range.
            pixels = pixels + 0.5 * sigma * torch.randn(pixels.shape, generator=generator)
        return self.pipeline.encode_first_frame(pixels, latent_frames, generator).float().cpu()

    def _collate(self, samples: list[Batch]) -> Batch:
        columns = zip(*(vars(sample).values() for sample in samples), strict=True)
        return Batch(*(None if parts[0] is None else torch.cat(parts).to(self.device) for parts in columns))

    def compute_loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Compute the recipe's loss: the squared error of the clean latents, weighted with 1 / (1 - alpha_bar).

        The clean latents follow from the velocity by -sqrt(1 - alpha_bar), so this is the velocity's squared error.
        """
        return velocity_error(model, self.scheduler, batch, self._get_rotary(batch.latents)).mean()

    def _get_rotary(self, latents: torch.Tensor) -> Rotary | None:
        shape = latents.shape[1:]
        if shape not in self._rotary:
            self._rotary[shape] = self.pipeline.rotary_embeddings(shape[0], shape[2], shape[3])
        return self._rotary[shape]

    def learning_rate_factor(self, step: int, progress: float) -> float:
        """See `TrainingTask`."""
        return cosine_schedule(step, progress, self.config.warmup_steps, self.config.num_cycles)

    def validate(self, run: TrainingRun) -> dict[str, Any]:
        """Generate the dataset's first clips without guidance, and measure their mean PSNR."""
        samples, scores = [], []
        model = run.accelerator.unwrap_model(run.model)
        for index in range(min(self.config.validation_clips, len(self.entries))):
            batch = self._collate([self.load_sample(index, seed=0, timestep=0)])
            decoded = self.pipeline.decode_latents(self._denoise(model, batch))[0].movedim(1, -1).cpu().numpy()
            truth, generated = read_video(self.entries[index].video), np.rint(255 * decoded).astype(np.uint8)
            given = 1 if len(decoded) > 1 else 0
            scores.append(psnr(truth[given:], generated[given:]))
            shown = np.unique(np.linspace(0, len(decoded) - 1, _SHOWN_FRAMES).astype(int))
            samples.append([video[shown] for video in (truth, generated, read_video(self.entries[index].tracking))])
        if not samples:
            return {}
        run.log.write_samples(samples, run.progress.step)
        return {"psnr": float(np.mean(scores))}

    def _denoise(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Sample latents [B, L, C, h, w] by DDIM with the conditions of a batch.

        The pipeline cannot be called: its text encoder is not loaded.
        """
        scheduler = CogVideoXDDIMScheduler.from_config(self.scheduler.config, timestep_spacing="trailing")
        scheduler.set_timesteps(self.config.validation_inference_steps)
        sample = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        for t in scheduler.timesteps:
            velocity = model(sample, batch, t.expand(len(sample)).to(self.device), self._get_rotary(sample))
            sample = scheduler.step(velocity, int(t), sample, return_dict=False)[0]
        return sample
