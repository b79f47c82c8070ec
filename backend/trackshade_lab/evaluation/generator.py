# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportAttributeAccessIssue=false
"""A pipeline with fixed sampling settings.

A clip's noise follows from its own seed, so that all variants of it start from the same noise, in whatever batch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trackshade.config.model_spec import ModelSpec
from trackshade.config.registry import spec
from trackshade.core.errors import ModelError
from trackshade.pipelines.diffusion_shader import DiffusionShaderPipeline
from trackshade.pipelines.loading import default_device, load_pipeline


@dataclass(frozen=True)
class SamplingConfig:
    """How clips are sampled. The field names are keys of settings.json and report.json."""

    model: str  # name of a registered model; its sizes and defaults also hold for `folder`
    folder: str | None  # pipeline folder, or training run with one, to use instead of the registered model's weights
    size: tuple[int, int]  # (width, height) of the clips, px
    frames: int  # frames of a clip
    steps: int  # denoising steps
    guidance: float  # guidance scale
    dynamic_guidance: bool  # whether to use the model's dynamic guidance
    tracking_guidance: float  # guidance scale of the tracks
    seed: int = 0  # offset of the clips' seeds
    prompts: bool = True  # False: empty prompts

    @classmethod
    def from_defaults(cls, model: str, **settings: Any) -> SamplingConfig:
        """Use a model's default settings for those that are not given or None.

        Raise ModelError for an unknown model.
        """
        known = spec(model)
        defaults = {
            "folder": None,
            "size": known.sizes[0],
            "frames": known.allowed_frame_counts[0],
            "steps": known.steps,
            "guidance": known.guidance,
            "dynamic_guidance": known.dynamic_guidance and settings.get("guidance") is None,
            "tracking_guidance": 1.0,
        }
        return cls(model=model, **defaults | {name: value for name, value in settings.items() if value is not None})


class VideoGenerator:
    """A loaded pipeline that generates clips."""

    def __init__(self, sampling: SamplingConfig, device: str | None = None) -> None:
        """Load the pipeline. Raise ModelError if it cannot be loaded."""
        self.sampling = sampling
        self.spec: ModelSpec = spec(sampling.model)
        if sampling.folder is None:
            self.pipeline = load_pipeline(self.spec, device)
        else:
            self.pipeline = DiffusionShaderPipeline.from_pretrained(find_pipeline_folder(Path(sampling.folder)))
            self.pipeline.to(device or default_device())
        self.pipeline.set_progress_bar_config(disable=True)

    def generate(
        self,
        prompts: Sequence[str],
        images: Sequence[np.ndarray] | None,  # [H, W, 3] uint8 each
        tracking: Sequence[np.ndarray],  # [T, H, W, 3] uint8 each
        seeds: Sequence[int],
    ) -> tuple[list[np.ndarray], float]:
        """Generate videos from captions, first frames (None generates them, too) and tracking videos.

        Returns:
            Videos [T, H, W, 3] uint8, and the seconds that each took.
        """
        sampling, start = self.sampling, time.monotonic()
        result = self.pipeline(
            prompt=list(prompts) if sampling.prompts else [""] * len(prompts),
            image=None if images is None else np.stack(images),
            tracking_video=np.stack(tracking),
            negative_prompt=self.spec.negative_prompt,
            num_inference_steps=sampling.steps,
            guidance_scale=sampling.guidance,
            use_dynamic_cfg=sampling.dynamic_guidance,
            tracking_guidance_scale=sampling.tracking_guidance,
            generator=torch.Generator().manual_seed(sampling.seed + seeds[0]),
            latents=self._draw_noise(seeds),
            output_type="uint8",
        )
        return list(result.frames), (time.monotonic() - start) / len(prompts)

    def _draw_noise(self, seeds: Sequence[int]) -> torch.Tensor:
        """Draw initial noise [B, L, C, h, w] float32."""
        pipeline, (width, height) = self.pipeline, self.sampling.size
        shape = (
            (self.sampling.frames - 1) // pipeline.vae_scale_factor_temporal + 1,
            pipeline.transformer.config.in_channels // 2,
            height // pipeline.vae_scale_factor_spatial,
            width // pipeline.vae_scale_factor_spatial,
        )
        generators = [torch.Generator().manual_seed(self.sampling.seed + seed) for seed in seeds]
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators])

    @torch.no_grad()
    def autoencode(
        self,
        video: np.ndarray,  # [T, H, W, 3] uint8
    ) -> np.ndarray:
        """Encode and decode a video with the autoencoder alone."""
        pipeline = self.pipeline
        pixels = torch.from_numpy(np.ascontiguousarray(video)).permute(0, 3, 1, 2)[None].float() / 127.5 - 1
        latents = pipeline.encode_video(pixels, torch.Generator().manual_seed(self.sampling.seed))
        decoded = pipeline.decode_latents(latents * pipeline.vae.config.scaling_factor)
        return (decoded[0] * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def find_pipeline_folder(folder: Path) -> Path:
    """Return the folder itself if it holds a pipeline, or the one that a training run exported.

    Raise ModelError if there is none.
    """
    for candidate in (folder, folder / "export"):
        if (candidate / "model_index.json").is_file():
            return candidate
    fix = "Give a folder with model_index.json, or a training run that has exported one."
    raise ModelError("missing-weights", f"There is no pipeline in {folder}.", fix)
