# SPDX-License-Identifier: GPL-3.0-or-later
# pyright: reportPrivateImportUsage=false
"""LTX with the in-context LoRA Layout-To-Render: follows gray clay, begins with a painted first frame.

The distilled noise schedule is used, without guidance. Videos of more frames than a pass has are made in several, each
of which holds the last frames of the one before. With a latent upsampler in the checkpoint's folder, a pass is made at
half the size first, enlarged, and refined with the last part of the schedule.

Source: `LTX2InContextPipeline` and `LTX2LatentUpsamplePipeline` of diffusers; the model card of the LoRA.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers.pipelines.ltx2.utils import DISTILLED_SIGMA_VALUES, STAGE_2_DISTILLED_SIGMA_VALUES
from PIL import Image

from ...config.model_spec import ModelSpec
from ...config.registry import model_folder
from ...models.checkpoint import check_strictly
from .calls import Report, call_pipeline, to_bytes
from .family import Keep, ModelFamily, ModelInputs, OnStep, SamplingOptions
from .layout import ADAPTER, Layout

UPSAMPLER_FOLDER = "latent_upsampler"
_PLAIN = {  # of the distilled model: no guidance of any kind
    "guidance_scale": 1.0,
    "stg_scale": 0.0,
    "modality_scale": 1.0,
    "guidance_rescale": 0.0,
    "audio_guidance_scale": None,
    "audio_stg_scale": None,
    "audio_modality_scale": None,
    "audio_guidance_rescale": None,
    "spatio_temporal_guidance_blocks": None,
}


class LtxLayoutToRender(ModelFamily):
    """A model that `LTX2InContextPipeline` runs.

    Attributes:
        upsampler: The latent upsampler; None if the checkpoint has none.
    """

    layout = Layout(
        pipeline="diffusers:LTX2InContextPipeline",
        components={
            "transformer": ("LTX2VideoTransformer3DModel",),
            "vae": ("AutoencoderKLLTX2Video",),
            "audio_vae": ("AutoencoderKLLTX2Audio",),
            "text_encoder": ("Gemma3ForConditionalGeneration", "Gemma4UnifiedForConditionalGeneration"),
            "connectors": ("LTX2TextConnectors",),
            "vocoder": ("LTX2Vocoder", "LTX2VocoderWithBWE"),
        },
        published_as=("LTX2Pipeline", "LTX2ImageToVideoPipeline", "LTX2ConditionPipeline"),
        has_adapter=True,
    )

    def __init__(self, spec: ModelSpec, pipeline: Any) -> None:
        super().__init__(spec, pipeline)
        # The distilled schedule is meant as it is, and the published scheduler shifts what it is given.
        pipeline.scheduler = pipeline.scheduler.from_config(
            pipeline.scheduler.config, use_dynamic_shifting=False, shift=1.0, shift_terminal=None
        )
        # One of its own for the sound, whose steps are not reported.
        pipeline.register_modules(audio_scheduler=pipeline.scheduler.from_config(pipeline.scheduler.config))
        folder = model_folder(spec) / UPSAMPLER_FOLDER
        self.upsampler = _read_upsampler(folder, pipeline) if folder.is_dir() else None

    def sample(self, inputs: ModelInputs, options: SamplingOptions, on_step: OnStep, keep: Keep) -> np.ndarray:
        """Make all passes; see `ModelFamily.sample`. `options.control_scale` is how clean the layout is, at most 1."""
        passes = plan_passes(inputs.num_frames, self.spec.pass_frames, self.spec.held_frames)
        if options.is_still:
            passes = passes[:1]
        steps = len(DISTILLED_SIGMA_VALUES) + (len(STAGE_2_DISTILLED_SIGMA_VALUES) if self.upsampler else 0)
        total = steps * len(passes)
        on_step(0, total)
        made = np.empty((0, inputs.size[1], inputs.size[0], 3), np.uint8)
        for number, (start, end) in enumerate(passes):
            part = replace(options, seed=options.seed + number)
            message = f"Pass {number + 1} of {len(passes)}" if len(passes) > 1 else ""
            report = partial(_report, on_step, number * steps, total, message)
            make = partial(self._make_pass, inputs, start, end, made[start:], part, report)
            frames = make() if len(passes) == 1 else keep(f"pass-{number + 1}", make)
            made = np.concatenate([made, frames[len(made) - start :]])
        return made

    def _make_pass(
        self,
        inputs: ModelInputs,
        start: int,
        end: int,
        held: np.ndarray,  # [h, H, W, 3] uint8, frames from `start` on that are made
        options: SamplingOptions,
        report: Report,
    ) -> np.ndarray:
        """Return the frames of a pass, [end - start, H, W, 3] uint8; `report` is called after each step."""
        assert inputs.clip is not None
        seed, conditions = options.seed, pass_conditions(inputs, start, end, held)
        (width, height), layout = inputs.size, inputs.clip[start:end]
        common: dict[str, Any] = {
            "prompt": options.prompt,
            "num_frames": end - start,
            "frame_rate": inputs.fps,
            "max_sequence_length": self.spec.text_length,
            **_PLAIN,
        }
        strength = min(1.0, options.control_scale)
        first = {**common, "num_inference_steps": len(DISTILLED_SIGMA_VALUES), "sigmas": DISTILLED_SIGMA_VALUES}
        if self.upsampler is None:
            return call_pipeline(
                self.pipeline, report, partial(self._decode_middle, inputs.size, end - start), seed,
                width=width, height=height, conditions=_conditions(conditions),
                reference_conditions=_reference(layout, strength), **first,
            )  # fmt: skip
        half = width // 2, height // 2
        latents = call_pipeline(
            self.pipeline, report, partial(self._decode_middle, half, end - start), seed,
            is_latent=True, width=half[0], height=half[1],
            conditions=_conditions([(index, _resized(frames, half)) for index, frames in conditions]),
            reference_conditions=_reference(_resized(layout, half), strength), **first,
        )  # fmt: skip
        enlarged = self._upsample(latents, half, end - start)
        done = len(DISTILLED_SIGMA_VALUES)
        sigmas = STAGE_2_DISTILLED_SIGMA_VALUES
        with _without_adapter(self.pipeline):
            return call_pipeline(
                self.pipeline, lambda step, preview: report(done + step, preview),
                partial(self._decode_middle, inputs.size, end - start), seed,
                width=width, height=height, latents=enlarged, conditions=_conditions(conditions),
                num_inference_steps=len(sigmas), sigmas=sigmas, noise_scale=sigmas[0], **common,
            )  # fmt: skip

    def _decode_middle(
        self,
        size: tuple[int, int],
        num_frames: int,
        tokens: torch.Tensor,  # [1, N, C], those of conditions last
    ) -> np.ndarray:
        """Return the middle frame of denoised tokens, decoded alone (which is approximate), [H, W, 3] uint8.

        Args:
            size: (width, height) of the frames, pixels.
            num_frames: Number of frames.
            tokens: Tokens of the video.
        """
        pipeline, (width, height) = self.pipeline, size
        cell, stride = pipeline.vae_spatial_compression_ratio, pipeline.vae_temporal_compression_ratio
        shape = (num_frames - 1) // stride + 1, height // cell, width // cell
        patch = pipeline.transformer_spatial_patch_size, pipeline.transformer_temporal_patch_size
        count = math.prod(shape) // (patch[0] ** 2 * patch[1])
        latents = pipeline._unpack_latents(tokens[:, :count], *shape, *patch)
        vae, middle = pipeline.vae, shape[0] // 2
        latents = pipeline._denormalize_latents(
            latents[:, :, middle : middle + 1], vae.latents_mean, vae.latents_std, vae.config.scaling_factor
        )
        with torch.no_grad():
            at = torch.zeros(1, device=latents.device) if vae.config.timestep_conditioning else None
            video = vae.decode(latents.to(vae.dtype), at, return_dict=False)[0]
        return to_bytes(pipeline.video_processor.postprocess_video(video, output_type="np")[0, 0])

    def _upsample(self, latents: Any, size: tuple[int, int], num_frames: int) -> Any:
        """Return latents [1, C, L, h, w] of twice the size."""
        from diffusers import LTX2LatentUpsamplePipeline

        assert self.upsampler is not None
        pipeline = LTX2LatentUpsamplePipeline(vae=self.pipeline.vae, latent_upsampler=self.upsampler)
        width, height = size
        return pipeline(
            latents=latents, width=width, height=height, num_frames=num_frames, output_type="latent", return_dict=False
        )[0]


def _report(
    on_step: OnStep, before: int, total: int, message: str, done: int, preview: Callable[[], np.ndarray]
) -> None:
    on_step(before + done, total, message, preview)


def pass_conditions(
    inputs: ModelInputs,
    start: int,
    end: int,
    held: np.ndarray,  # [h, H, W, 3] uint8, frames from `start` on that are made
) -> list[tuple[int, np.ndarray]]:
    """Return what a pass holds: latent frame and frames [n, H, W, 3] uint8 of each condition.

    The first pass begins with the given first frame, later ones with the frames that were made before. Given pictures
    of later frames are held where a latent frame begins, which is at every eighth frame plus one.
    """
    conditions = [(0, held)] if len(held) else []
    for frame, picture in sorted((inputs.pictures or {}).items()):
        place = frame - start
        if place == 0 and not len(held):
            conditions.append((0, picture[None]))
        elif len(held) <= place < end - start and place % 8 == 1:
            conditions.append(((place - 1) // 8 + 1, picture[None]))
    return conditions


def _conditions(conditions: list[tuple[int, np.ndarray]]) -> list[Any] | None:
    from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition

    found = []
    for index, frames in conditions:
        images = [Image.fromarray(frame) for frame in frames]
        found.append(LTX2VideoCondition(frames=images if len(images) > 1 else images[0], index=index))
    return found or None


def _reference(layout: np.ndarray, strength: float) -> list[Any]:
    from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition

    return [LTX2ReferenceCondition(frames=[Image.fromarray(frame) for frame in layout], strength=strength)]


def _resized(
    frames: np.ndarray,  # [T, H, W, 3] uint8
    size: tuple[int, int],
) -> np.ndarray:
    """Return frames at a smaller (width, height)."""
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


@contextmanager
def _without_adapter(pipeline: Any) -> Iterator[None]:
    """Run a block without the LoRA of the layout, which the refinement does not need."""
    strengths = pipeline.adapter_strengths
    names = list(strengths)
    pipeline.set_adapters(names, [0.0 if name == ADAPTER else strengths[name] for name in names])
    try:
        yield
    finally:
        pipeline.set_adapters(names, list(strengths.values()))


def _read_upsampler(folder: Path, pipeline: Any) -> Any:
    """Read the latent upsampler onto the device of a pipeline. Raise ModelError if its weights are wrong."""
    from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel

    check_strictly(LTX2LatentUpsamplerModel, folder)
    upsampler = LTX2LatentUpsamplerModel.from_pretrained(
        folder, dtype=pipeline.vae.dtype, use_safetensors=True, local_files_only=True
    )
    return upsampler.to(pipeline._execution_device)


def plan_passes(num_frames: int, longest: int, held: int) -> list[tuple[int, int]]:
    """Split a long video into passes; return the frames (start, end) of each, end excluded.

    Args:
        num_frames: Number of frames of the video.
        longest: Most frames of a pass; 0 for no limit.
        held: Frames of a pass that the next one begins with, fewer than `longest`.
    """
    if not longest or num_frames <= longest:
        return [(0, num_frames)]
    passes, end = [(0, longest)], longest
    while end < num_frames:
        start = end - held
        end = min(num_frames, start + longest)
        passes.append((start, end))
    return passes
