# SPDX-License-Identifier: GPL-3.0-or-later
# pyright: reportPrivateImportUsage=false, reportAttributeAccessIssue=false, reportArgumentType=false
"""Wan-Animate 2: the character of a picture moves as a driving video does: clay or renders of the scene, or footage.

The driving video is made in segments, each of which begins with the last frame of the one before. Its keys and values
are computed once per segment; every step of the denoising attends to them.

Source: `WanAnimate2ModularPipeline` of diffusers. Its steps are used as they are, but for the size, which is the job's,
and for the segments, which are kept for another attempt.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.loaders import WanLoraLoaderMixin
from diffusers.modular_pipelines import WanAnimate2Blocks
from diffusers.modular_pipelines.wan_animate_2.denoise import WanAnimate2DenoiseStep
from diffusers.modular_pipelines.wan_animate_2.video_processor import WanAnimate2VideoProcessor
from PIL import Image

from ...config.model_spec import ModelSpec
from .calls import explain_errors, report_steps, to_bytes
from .family import Keep, ModelFamily, ModelInputs, OnStep, SamplingOptions
from .layout import Layout
from .wan import TEXT_ENCODERS, preview_frame

KeepSegment = Callable[[int, Callable[[], np.ndarray]], np.ndarray]
"""Returns the frames of a segment by its number, made by the function unless an earlier attempt has kept them."""


class WanAnimate2Pipeline(DiffusionPipeline, WanLoraLoaderMixin):
    """Components of Wan-Animate 2, base or distilled, which `WanAnimate2Blocks` of diffusers runs."""

    model_cpu_offload_seq = "text_encoder->image_encoder->transformer->vae"

    def __init__(
        self, tokenizer: Any, text_encoder: Any, vae: Any, scheduler: Any, image_encoder: Any, transformer: Any
    ) -> None:
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=vae,
            scheduler=scheduler,
            image_encoder=image_encoder,
            transformer=transformer,
        )

    @torch.no_grad()
    def __call__(
        self,
        image: Image.Image,
        driving_video: Sequence[Image.Image],
        keep: KeepSegment,
        prompt: str,
        negative_prompt: str,
        size: tuple[int, int],
        segment_frames: int = 81,
        held_frames: int = 1,
        num_inference_steps: int = 40,
        guidance_scale: float = 3.0,
        max_sequence_length: int = 512,
        seed: int = 0,
    ) -> np.ndarray:
        """Generate a video.

        Args:
            image: The character, of any size; it is fitted into the frame, with black margins.
            driving_video: Frames of any size, fitted in the same way; as many as whole segments have.
            keep: Keeps the frames of each segment.
            prompt: What is seen.
            negative_prompt: What to avoid; used with guidance.
            size: (width, height) of the frames, multiples of 16.
            segment_frames: Frames of a segment, 4k + 1.
            held_frames: Last frames of a segment that the next one begins with.
            num_inference_steps: Denoising steps of each segment.
            guidance_scale: Scale of classifier-free guidance; none up to 1.
            max_sequence_length: Number of text tokens.
            seed: Seed of the first segment; each further one has the next.

        Returns:
            [T, H, W, 3] uint8.
        """
        width, height = size
        blocks = copy.deepcopy(WanAnimate2Blocks())  # all instances share their parts
        blocks.sub_blocks["image_encoder"].sub_blocks.pop("preprocess")  # it would choose another size
        blocks.sub_blocks["denoise"].sub_blocks["denoise"] = _Segments(keep, seed)
        runner = blocks.init_pipeline()
        runner.update_components(**self.components, guider=ClassifierFreeGuidance(guidance_scale=guidance_scale))
        fitting = WanAnimate2VideoProcessor(resample="bicubic")
        pixels = fitting.preprocess(image, height=height, width=width, resize_mode="fill")
        video = runner(
            image_pixels=pixels.to(self._execution_device, torch.float32),
            crop_region=(0, 0, height, width),
            driving_video=list(driving_video),
            prompt=prompt,
            negative_prompt=negative_prompt if guidance_scale > 1 else None,
            height=height,
            width=width,
            segment_frame_length=segment_frames,
            prev_segment_conditioning_frames=held_frames,
            num_inference_steps=num_inference_steps,
            max_sequence_length=max_sequence_length,
            output="videos",
        )
        self.maybe_free_model_hooks()
        return to_bytes(video[0])


class _Segments(WanAnimate2DenoiseStep):
    """The loop over segments, with a seed for each and frames of 8 bits, so that those of an earlier attempt fit."""

    def __init__(self, keep: KeepSegment, seed: int) -> None:
        super().__init__()
        self._keep, self._seed = keep, seed

    @torch.no_grad()
    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Make all segments that are not kept."""
        block_state = self.get_block_state(state)
        made, block_state.out_frames = [], None
        for number in range(block_state.num_segments):
            frames = self._keep(number, partial(self._make, components, block_state, number))
            video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1.0
            block_state.out_frames = video.to(components._execution_device)
            made.append(video)
        block_state.segment_frames = made
        self.set_block_state(state, block_state)
        return components, state

    def _make(self, components: Any, block_state: Any, number: int) -> np.ndarray:
        """Return the frames of a segment that the one before does not have, [T, H, W, 3] uint8."""
        block_state.generator = torch.Generator("cpu").manual_seed(self._seed + number)
        block_state.segment_frames = []
        self.loop_step(components, block_state, k=number)
        return to_bytes((block_state.segment_frames[0][0].permute(1, 2, 3, 0).float().numpy() + 1.0) / 2.0)


class WanAnimate(ModelFamily):
    """A model that `WanAnimate2Pipeline` runs."""

    layout = Layout(
        pipeline="trackshade.pipelines.families.wan_animate:WanAnimate2Pipeline",
        components={
            "transformer": ("WanAnimate2Transformer3DModel",),
            "vae": ("AutoencoderKLWan",),
            "text_encoder": TEXT_ENCODERS,
            "image_encoder": ("CLIPVisionModel", "CLIPVisionModelWithProjection"),
        },
        float32=("vae", "image_encoder"),
        published_as=("WanAnimate2ModularPipeline", "WanAnimate2DistilledModularPipeline"),
    )

    def __init__(self, spec: ModelSpec, pipeline: Any) -> None:
        super().__init__(spec, pipeline)
        if pipeline._execution_device.type == "cuda":  # its attention needs the memory of all pairs otherwise
            self.compile_blocks()

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks once; on a CPU they run as they are."""
        if not options and self.pipeline.transformer.blocks[0]._compiled_call_impl is not None:
            return
        super().compile_blocks(**options)

    def sample(self, inputs: ModelInputs, options: SamplingOptions, on_step: OnStep, keep: Keep) -> np.ndarray:
        """Make all segments; see `ModelFamily.sample`. The character is the reference, or else the first frame."""
        assert inputs.clip is not None
        character = inputs.references[0] if inputs.references else inputs.first_frame
        assert character is not None
        length, held, steps = min(self.spec.pass_frames, inputs.num_frames), self.spec.held_frames, options.steps
        count = 1 if options.is_still else plan_segments(inputs.num_frames, length, held)
        driving = inputs.clip[mirrored_frames(len(inputs.clip), held + count * (length - held))]
        number = 0

        def keep_segment(index: int, make: Callable[[], np.ndarray]) -> np.ndarray:
            nonlocal number
            number = index
            return make() if count == 1 else keep(f"pass-{index + 1}", make)

        def report(done: int, preview: Callable[[], np.ndarray] | None) -> None:
            message = f"Pass {number + 1} of {count}" if count > 1 else ""
            on_step(number * steps + (done - 1) % steps + 1, count * steps, message, preview)

        on_step(0, count * steps)
        decode = partial(preview_frame, self.pipeline, skipped=1)  # the first latent frame is the character's
        with explain_errors(), report_steps(self.pipeline.scheduler, report, decode), self._attention():
            frames = self.pipeline(
                Image.fromarray(character),
                [Image.fromarray(frame) for frame in driving],
                keep_segment,
                prompt=options.prompt,
                negative_prompt=options.negative_prompt,
                size=inputs.size,
                segment_frames=length,
                held_frames=held,
                num_inference_steps=steps,
                guidance_scale=options.guidance,
                max_sequence_length=self.spec.text_length,
                seed=options.seed,
            )
        return frames[: inputs.num_frames]

    def _attention(self) -> AbstractContextManager[Any]:
        """Run a block without compiling on a CPU, where that may need a compiler that is not there."""
        is_cpu = self.pipeline._execution_device.type == "cpu"
        return torch.compiler.set_stance("force_eager") if is_cpu else nullcontext()


def plan_segments(num_frames: int, length: int, held: int) -> int:
    """Return the number of segments of `length` frames, each of which begins with `held` frames of the one before."""
    return max(1, -(-(num_frames - held) // (length - held)))


def mirrored_frames(num_frames: int, wanted: int) -> np.ndarray:
    """Return numbers [wanted] of frames to and fro: 0 1 2 2 1 0 0 1 for three. The pipeline mirrors too few itself."""
    there_and_back = np.concatenate([np.arange(num_frames), np.arange(num_frames)[::-1]])
    return np.resize(there_and_back, wanted)
