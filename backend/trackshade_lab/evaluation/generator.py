# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportAttributeAccessIssue=false
"""A pipeline with fixed sampling settings. The noise of a clip follows from its own seed, so that all ways of making
it start from the same noise, in whatever batch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trackshade.config.registry import ModelSpec, spec
from trackshade.core.errors import ModelError
from trackshade.pipelines import DiffusionShaderPipeline
from trackshade.pipelines.loading import default_device, load_pipeline


@dataclass(frozen=True)
class Sampling:
    """How clips are sampled.

    Attributes:
        model: registered name; its sizes and defaults hold for `folder`, too.
        folder: a pipeline folder, or a training run with one, instead of the registered model.
        size: (width, height), pixels.
        prompts: False leaves every prompt empty.
    """

    model: str
    folder: str | None
    size: tuple[int, int]
    frames: int
    steps: int
    guidance: float
    dynamic_guidance: bool
    tracking_guidance: float
    seed: int = 0
    prompts: bool = True

    @staticmethod
    def of(
        model: str,
        folder: str | None = None,
        size: tuple[int, int] | None = None,
        frames: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        tracking_guidance: float | None = None,
        seed: int = 0,
        prompts: bool = True,
    ) -> Sampling:
        """With the model's own settings where None is given. Raises ModelError for an unknown model."""
        known = spec(model)
        return Sampling(
            model,
            folder,
            size or known.sizes[0],
            frames or known.frames[0],
            steps or known.steps,
            known.guidance if guidance is None else guidance,
            known.dynamic_guidance and guidance is None,
            1.0 if tracking_guidance is None else tracking_guidance,
            seed,
            prompts,
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"size": list(self.size)}

    def with_folder(self, folder: str) -> Sampling:
        return replace(self, folder=folder)


class Generator:
    """A loaded pipeline. Raises ModelError where it cannot be loaded."""

    def __init__(self, sampling: Sampling, device: str | None = None) -> None:
        self.sampling = sampling
        self.spec: ModelSpec = spec(sampling.model)
        if sampling.folder is None:
            self.pipeline = load_pipeline(self.spec, device)
        else:
            self.pipeline = DiffusionShaderPipeline.from_pretrained(pipeline_folder(Path(sampling.folder)))
            self.pipeline.to(device or default_device())
        self.pipeline.set_progress_bar_config(disable=True)

    def generate(
        self,
        prompts: Sequence[str],
        images: Sequence[np.ndarray] | None,
        trackings: Sequence[np.ndarray],
        seeds: Sequence[int],
    ) -> tuple[list[np.ndarray], float]:
        """Videos [T, H, W, 3] uint8 from first frames [H, W, 3] (or none) and tracking videos, all uint8, and the
        seconds that one took.
        """
        sampling, began = self.sampling, time.monotonic()
        extra: dict[str, Any] = (
            {} if sampling.tracking_guidance <= 1 else {"tracking_guidance_scale": sampling.tracking_guidance}
        )
        result = self.pipeline(
            prompt=list(prompts) if sampling.prompts else [""] * len(prompts),
            image=None if images is None else np.stack(images),
            tracking_video=np.stack(trackings),
            negative_prompt=self.spec.negative_prompt,
            num_inference_steps=sampling.steps,
            guidance_scale=sampling.guidance,
            use_dynamic_cfg=sampling.dynamic_guidance,
            generator=torch.Generator().manual_seed(sampling.seed + seeds[0]),
            latents=self._noise(seeds),
            output_type="uint8",
            **extra,
        )
        return list(result.frames), (time.monotonic() - began) / len(prompts)

    def _noise(self, seeds: Sequence[int]) -> torch.Tensor:
        """[B, L, C, h, w] float32."""
        pipeline, (width, height) = self.pipeline, self.sampling.size
        shape = (
            (self.sampling.frames - 1) // pipeline.vae_scale_factor_temporal + 1,
            pipeline.transformer.config.in_channels // 2,
            height // pipeline.vae_scale_factor_spatial,
            width // pipeline.vae_scale_factor_spatial,
        )
        draws = [torch.Generator().manual_seed(self.sampling.seed + seed) for seed in seeds]
        return torch.stack([torch.randn(shape, generator=draw) for draw in draws])

    @torch.no_grad()
    def autoencode(self, video: np.ndarray) -> np.ndarray:
        """[T, H, W, 3] uint8 after the autoencoder alone."""
        pipeline = self.pipeline
        unit = torch.from_numpy(np.ascontiguousarray(video)).permute(0, 3, 1, 2)[None].float() / 127.5 - 1
        latents = pipeline.encode_video(unit, torch.Generator().manual_seed(self.sampling.seed))
        decoded = pipeline.decode_latents(latents * pipeline.vae.config.scaling_factor)
        return (decoded[0] * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def pipeline_folder(folder: Path) -> Path:
    """The folder itself where it holds a pipeline, or the one that a training run exported. Raises ModelError."""
    for candidate in (folder, folder / "export"):
        if (candidate / "model_index.json").is_file():
            return candidate
    raise ModelError(
        "missing-weights",
        f"There is no pipeline in {folder}.",
        "Give a folder with model_index.json, or a training run that has exported one.",
    )
