# SPDX-License-Identifier: GPL-3.0-or-later
"""CogVideoX-Fun control: follows the tracking video or depth as a control video; the look comes from the prompt."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .calls import call_pipeline, set_block_cache
from .family import Keep, ModelFamily, ModelInputs, OnStep, SamplingOptions
from .layout import Layout


class CogVideoXFun(ModelFamily):
    """A model that `CogVideoXFunControlPipeline` runs."""

    layout = Layout(
        pipeline="diffusers:CogVideoXFunControlPipeline",
        components={
            "transformer": ("CogVideoXTransformer3DModel",),
            "vae": ("AutoencoderKLCogVideoX",),
            "text_encoder": ("T5EncoderModel",),
        },
    )

    def set_cache(self, threshold: float) -> None:
        """Skip blocks by the hooks of diffusers; see `ModelFamily.set_cache`."""
        set_block_cache(self.pipeline.transformer, threshold)

    def sample(self, inputs: ModelInputs, options: SamplingOptions, on_step: OnStep, keep: Keep) -> np.ndarray:
        """Run the pipeline; see `ModelFamily.sample`."""
        assert inputs.clip is not None
        on_step(0, options.steps)
        return call_pipeline(
            self.pipeline,
            lambda done: on_step(done, options.steps),
            options.seed,
            prompt=options.prompt,
            negative_prompt=options.negative_prompt,
            control_video=[Image.fromarray(frame) for frame in inputs.clip],
            width=inputs.size[0],
            height=inputs.size[1],
            num_inference_steps=options.steps,
            guidance_scale=options.guidance,
            use_dynamic_cfg=options.dynamic_guidance,
            max_sequence_length=self.spec.text_length,
        )
