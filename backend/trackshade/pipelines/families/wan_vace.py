# SPDX-License-Identifier: GPL-3.0-or-later
"""Wan VACE: follows depth or gray clay, keeps given frames, and takes the look from reference pictures and the prompt.

Source: Jiang et al. 2025, "VACE: All-in-One Video Creation and Editing" (arXiv 2503.07598); `WanVACEPipeline` of
diffusers. Wan 2.2 has a second transformer for the steps with little noise.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from PIL import Image

from .calls import call_pipeline, report_to
from .family import Keep, ModelFamily, ModelInputs, OnStep, SamplingOptions
from .layout import Layout
from .wan import TEXT_ENCODERS, preview_frame, text_arguments

_TRANSFORMERS = ("WanVACETransformer3DModel",)


class WanVace(ModelFamily):
    """A model that `WanVACEPipeline` runs."""

    caches = ("taylorseer",)  # what the control adds between the blocks would be added twice by the first-block cache
    layout = Layout(
        pipeline="diffusers:WanVACEPipeline",
        components={
            "transformer": _TRANSFORMERS,
            "transformer_2": _TRANSFORMERS,
            "vae": ("AutoencoderKLWan",),
            "text_encoder": TEXT_ENCODERS,
        },
        networks=("transformer", "transformer_2", "vae"),
        optional=("transformer_2",),
        float32=("vae",),
    )

    def sample(self, inputs: ModelInputs, options: SamplingOptions, on_step: OnStep, keep: Keep) -> np.ndarray:
        """Run the pipeline; see `ModelFamily.sample`. `options.control_scale` is how strongly the clip is followed."""
        video, mask = control_arrays(inputs)
        on_step(0, options.steps)
        return call_pipeline(
            self.pipeline,
            partial(report_to, on_step, options.steps),
            partial(preview_frame, self.pipeline, skipped=len(inputs.references)),
            options.seed,
            video=[Image.fromarray(frame) for frame in video],
            mask=[Image.fromarray(frame) for frame in mask],
            reference_images=[Image.fromarray(image) for image in inputs.references] or None,
            conditioning_scale=options.control_scale,
            width=inputs.size[0],
            height=inputs.size[1],
            num_frames=inputs.num_frames,
            num_inference_steps=options.steps,
            guidance_scale=options.guidance,
            **text_arguments(
                self.pipeline, options.prompt, options.negative_prompt, options.guidance, self.spec.text_length
            ),
        )


def control_arrays(inputs: ModelInputs) -> tuple[np.ndarray, np.ndarray]:
    """Return the control video and the mask of a call.

    Args:
        inputs: What the model is given.

    Returns:
        [T, H, W, 3] uint8: the clip, with the given pictures at their frames; and [T, H, W] uint8: 0 where a frame is
        kept as it is, 255 where one is made.
    """
    assert inputs.clip is not None
    video, mask = inputs.clip.copy(), np.full(inputs.clip.shape[:3], 255, np.uint8)
    for t, picture in (inputs.pictures or {}).items():
        video[t], mask[t] = picture, 0
    return video, mask
