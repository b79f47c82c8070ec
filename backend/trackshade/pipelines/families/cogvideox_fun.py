# SPDX-License-Identifier: GPL-3.0-or-later
"""CogVideoX-Fun control: follows the tracking video or depth as a control video; the look comes from the prompt."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from PIL import Image

from .calls import call_pipeline, report_to, to_bytes
from .family import Keep, ModelFamily, ModelInputs, OnStep, SamplingOptions
from .layout import Layout


class CogVideoXFun(ModelFamily):
    """A model that `CogVideoXFunControlPipeline` runs."""

    caches = ("first-block", "taylorseer")
    layout = Layout(
        pipeline="diffusers:CogVideoXFunControlPipeline",
        components={
            "transformer": ("CogVideoXTransformer3DModel",),
            "vae": ("AutoencoderKLCogVideoX",),
            "text_encoder": ("T5EncoderModel",),
        },
    )

    def sample(self, inputs: ModelInputs, options: SamplingOptions, on_step: OnStep, keep: Keep) -> np.ndarray:
        """Run the pipeline; see `ModelFamily.sample`."""
        assert inputs.clip is not None
        on_step(0, options.steps)
        return call_pipeline(
            self.pipeline,
            partial(report_to, on_step, options.steps),
            self._decode_middle,
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

    def _decode_middle(
        self,
        latents: torch.Tensor,  # [1, L, C, h, w]
    ) -> np.ndarray:
        """Return the middle frame of latents, decoded alone (which is approximate), [H, W, 3] uint8."""
        middle = latents.shape[1] // 2
        video = self.pipeline.decode_latents(latents[:, middle : middle + 1].to(self.pipeline.vae.dtype))
        return to_bytes(self.pipeline.video_processor.postprocess_video(video, output_type="np")[0, 0])
