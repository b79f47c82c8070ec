# SPDX-License-Identifier: GPL-3.0-or-later
"""Diffusion as Shader: follows a tracking video and begins with the first frame; also the embedded model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...core.errors import ModelError
from ...models.block_cache import BlockCache
from ...models.warp_guided import WarpGuidedTransformer3DModel
from ..diffusion_shader import DiffusionShaderPipeline
from .caches import StepCache, set_hooks
from .family import Keep, ModelFamily, ModelInputs, OnStep, SamplingOptions

FIRST_FRAME_STAGE = "First frame from the prompt"


class DiffusionShader(ModelFamily):
    """A model that `DiffusionShaderPipeline` runs."""

    pipeline: DiffusionShaderPipeline
    caches = ("first-block", "taylorseer")

    def set_cache(self, cache: StepCache) -> None:
        """Skip blocks of both streams; see `ModelFamily.set_cache`."""
        if cache.is_on and cache.method == "taylorseer" and isinstance(self.transformer, WarpGuidedTransformer3DModel):
            raise ModelError(
                "not-cached",
                f"The model {self.spec.name} reads what its blocks return in more than one place, which TaylorSeer "
                "does not continue.",
                "Leave out the cache, or use first-block.",
            )
        super().set_cache(cache)

    def apply_cache(self, cache: StepCache) -> None:
        """Set the cache; the first-block cache counts the tracking branch in."""
        is_own = cache.method == "first-block"
        self.transformer.block_cache = BlockCache(cache.threshold) if is_own and cache.is_on else None
        set_hooks([self.transformer], StepCache() if is_own else cache)

    @property
    def transformer(self) -> Any:
        """The transformer."""
        return self.pipeline.transformer

    def sample(self, inputs: ModelInputs, options: SamplingOptions, on_step: OnStep, keep: Keep) -> np.ndarray:
        """Run the pipeline; see `ModelFamily.sample`. A model that makes first frames makes a still alone."""
        pipeline, frames, first_frame = self.pipeline, inputs.clip, inputs.first_frame
        assert frames is not None
        if options.is_still and pipeline.still_guidance:
            frames = frames[:1]
        stages = pipeline.stages(len(frames), has_first_frame=first_frame is not None)
        is_one = len(frames) == 1
        guidance = max(options.guidance, pipeline.still_guidance) if is_one else options.guidance
        total = options.steps * len(stages)  # the first frame takes as many as the video

        def on_step_end(pipe: DiffusionShaderPipeline, step: int, _: int, tensors: dict[str, Any]) -> None:
            is_first_frame = is_one or pipe.stage == "first frame"
            message = f"{FIRST_FRAME_STAGE}, step {step + 1} of {options.steps}" if is_first_frame else ""
            on_step(step + 1, total, message, lambda: pipe.preview_frame(tensors["denoised"]))

        on_step(0, total, FIRST_FRAME_STAGE if is_one or "first frame" in stages else "")
        output: Any = pipeline(
            options.prompt,
            image=None if first_frame is None else np.array(first_frame),
            tracking_video=frames,
            negative_prompt=options.negative_prompt,
            num_inference_steps=options.steps,
            guidance_scale=guidance,
            use_dynamic_cfg=options.dynamic_guidance,
            generator=torch.Generator("cpu").manual_seed(options.seed),
            tracking_range=options.tracking_range,
            control_scale=options.control_scale,
            control_start=options.control_start,
            control_end=options.control_end,
            output_type="uint8",
            callback_on_step_end=on_step_end,
            callback_on_step_end_tensor_inputs=("denoised",),
        )
        return output[0][0]
