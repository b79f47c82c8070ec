# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIncompatibleMethodOverride=false
# pyright: reportPrivateImportUsage=false, reportReturnType=false
"""Image-to-video diffusion conditioned on a tracking video (Diffusion as Shader, arXiv 2501.03847).

The pipeline follows the conventions of diffusers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import CogVideoXDPMScheduler
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox_image2video import get_resize_crop_region_for_grid
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from ..config.memory_presets import PRESETS
from ..core.errors import CancelledError, ModelError, is_out_of_memory
from ..models.loading import load_components
from ..models.track_warp import track_coordinates
from ..models.warp_guided import WarpGuidedTransformer3DModel
from .inputs import check_shape, to_images, to_videos
from .memory import enable_tiling

StepCallback = Callable[["DiffusionShaderPipeline", int, int, dict[str, torch.Tensor]], dict[str, torch.Tensor] | None]
TRACKING_RANGES = ("training", "demo")
OUTPUT_TYPES = ("np", "uint8", "pt", "pil", "latent")


@dataclass
class DiffusionShaderOutput(BaseOutput):
    """Output of the pipeline."""

    # by `output_type`: "np" [B, T, H, W, 3] float in 0..1, "uint8" the same in 8 bits, "pt" tensor [B, T, 3, H, W] in
    # 0..1, "pil" a list of images per video, "latent" [B, L, C, h, w]
    frames: Any


@dataclass(frozen=True)
class Conditioning:
    """What a stage is conditioned on besides the text."""

    tracking_video: torch.Tensor  # [B, T, 3, H, W] in 0..1
    first_frame: torch.Tensor | None  # [B, 3, H, W] in 0..1, or None
    tracking_maps: torch.Tensor  # [B, L, 2C, h, w] latents of the tracking video and of its first frame
    image_latents: torch.Tensor  # [B, L, C, h, w] latents of the first frame, then zeros


@dataclass(frozen=True)
class Sampling:
    """How a stage is denoised; see `DiffusionShaderPipeline.__call__`."""

    prompt_embeds: torch.Tensor  # [B, length, E]
    negative_prompt_embeds: torch.Tensor | None  # [B, length, E]
    num_inference_steps: int
    guidance_scale: float
    use_dynamic_cfg: bool
    tracking_guidance_scale: float
    control_scale: float
    control_start: float
    control_end: float
    generator: torch.Generator | None
    callback_on_step_end: StepCallback | None
    callback_on_step_end_tensor_inputs: tuple[str, ...]

    def control_scale_at(self, step: int) -> float:
        """Return the strength of the tracks in a step; the step's middle decides whether it is within the range."""
        fraction = (step + 0.5) / self.num_inference_steps
        return self.control_scale if self.control_start <= fraction <= self.control_end else 0.0

    def guidance_scale_at(self, timestep: int) -> float:
        """Return the scale of classifier-free guidance at a timestep."""
        if self.use_dynamic_cfg:
            return dynamic_guidance(self.guidance_scale, timestep, self.num_inference_steps)
        return self.guidance_scale


def dynamic_guidance(guidance_scale: float, timestep: int, num_inference_steps: int) -> float:
    """Return the released demonstration's guidance scale at a timestep in 0..999.

    It is erratic, since it compares the timestep with the number of steps; kept for parity (in float64).
    """
    fraction = (num_inference_steps - timestep) / num_inference_steps
    return 1 + guidance_scale * (1 - math.cos(math.pi * fraction**5.0)) / 2


@contextmanager
def explain_out_of_memory() -> Iterator[None]:
    """Turn the allocators' errors into a ModelError."""
    fix = "Use --memory with a smaller number, fewer frames or a smaller model, or free memory on the device."
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise ModelError("out-of-memory", "The device ran out of memory.", fix) from error
        raise


class DiffusionShaderPipeline(DiffusionPipeline):
    """Shades a shot: the first frame gives the appearance, the tracking video all motion, the prompt the rest.

    The same class serves the published 5B checkpoint and the embedded model.

    Args:
        tokenizer: T5 tokenizer.
        text_encoder: T5 encoder.
        vae: AutoencoderKLCogVideoX or PatchAutoencoder.
        transformer: TrackingTransformer3DModel or WarpGuidedTransformer3DModel.
        scheduler: CogVideoXDPMScheduler or CogVideoXDDIMScheduler.

    Raises:
        ModelError: if transformer and scheduler are for different noise schedules.
    """

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _callback_tensor_inputs: ClassVar = ["latents", "denoised", "prompt_embeds", "negative_prompt_embeds"]

    def __init__(self, tokenizer, text_encoder, vae, transformer, scheduler) -> None:
        super().__init__()
        if isinstance(transformer, WarpGuidedTransformer3DModel):
            transformer.check_scheduler(scheduler)
        self.register_modules(
            tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, transformer=transformer, scheduler=scheduler
        )
        self.memory_preset = PRESETS["full"]  # how it uses the device's memory; see `pipelines.memory`
        self._interrupt = False
        self._stage = "video"
        self._num_timesteps = 0
        self._guidance_scale = 1.0

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, torch_dtype: torch.dtype = torch.float32, **components: Any
    ):
        """Load a local folder in diffusers' layout: safetensors only, strictly, and only known classes.

        `components` are used instead of those in the folder. Raise ModelError naming what is missing or wrong.
        """
        return cls(**load_components(Path(pretrained_model_name_or_path), torch_dtype, components))

    # Properties of the model and of the running call

    @property
    def vae_scale_factor_spatial(self) -> int:
        """Pixels per side of a latent cell."""
        if hasattr(self.vae, "spatial_compression_ratio"):
            return int(self.vae.spatial_compression_ratio)
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def vae_scale_factor_temporal(self) -> int:
        """Frames per latent frame."""
        return int(self.vae.config.temporal_compression_ratio)

    @property
    def still_guidance(self) -> float:
        """Least guidance scale at which the model makes a first frame; 0 for models that make none."""
        return getattr(self.transformer.config, "still_guidance", 0.0)

    @property
    def stage(self) -> str:
        """What is being denoised: "first frame" or "video"."""
        return self._stage

    @property
    def num_timesteps(self) -> int:
        """Number of steps of the running call, of all its stages."""
        return self._num_timesteps

    @property
    def guidance_scale(self) -> float:
        """Scale of classifier-free guidance in the running stage."""
        return self._guidance_scale

    @property
    def interrupt(self) -> bool:
        """Whether the running call ends before its next step."""
        return self._interrupt

    def stages(self, num_frames: int, has_first_frame: bool) -> tuple[str, ...]:
        """Return the stages of a call: "video", preceded by "first frame" if the model makes the first frame itself."""
        makes_first_frame = not has_first_frame and num_frames > 1 and self.still_guidance > 0
        return ("first frame", "video") if makes_first_frame else ("video",)

    def stop(self) -> None:
        """End the running call before its next step with `CancelledError`.

        May be called from the step callback or from another thread.
        """
        self._interrupt = True

    def enable_vae_tiling(self) -> None:
        """Let the autoencoder work in slices and tiles if it can: less memory, slightly different numbers."""
        enable_tiling(self.vae)

    # Steps of a call

    def check_inputs(
        self,
        tracking_video: torch.Tensor,  # [B, T, 3, H, W]
        latents: torch.Tensor | None,
        tracking_range: str,
        output_type: str,
        callback_on_step_end_tensor_inputs: tuple[str, ...],
    ) -> None:
        """Check the inputs of a call. Raises ModelError."""
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ModelError("bad-input", f"The step callback cannot have {', '.join(sorted(unknown))}.")
        if tracking_range not in TRACKING_RANGES:
            raise ModelError("bad-input", f"There is no tracking range '{tracking_range}'.", "Use training or demo.")
        if output_type not in OUTPUT_TYPES:
            fix = "Use np, uint8, pt, pil or latent."
            raise ModelError("bad-input", f"There is no output type '{output_type}'.", fix)
        _, num_frames, _, height, width = tracking_video.shape
        check_shape(
            num_frames,
            (width, height),
            self.transformer.config,
            self.vae_scale_factor_spatial,
            self.vae_scale_factor_temporal,
        )
        shape = self._latent_shape(tracking_video)
        if latents is not None and tuple(latents.shape) != shape:
            raise ModelError("bad-input", f"The start noise must be {list(shape)}, not {list(latents.shape)}.")

    def encode_prompt(
        self, prompts: list[str], negative_prompt: str | None, do_classifier_free_guidance: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return embeddings [B, length, E] of the prompts and, with guidance, of the negative prompt."""
        negative = [negative_prompt or ""] * len(prompts)
        return self._encode_text(prompts), self._encode_text(negative) if do_classifier_free_guidance else None

    def encode_video(
        self,
        video: torch.Tensor,  # [B, T, 3, H, W] in the autoencoder's range
        generator: torch.Generator | None,
    ) -> torch.Tensor:
        """Return unscaled latents of videos, [B, L, C, h, w]."""
        videos = video.transpose(1, 2).to(self._execution_device, self.vae.dtype)
        latents = [self.vae.encode(one[None]).latent_dist.sample(generator) for one in videos]
        return torch.cat(latents).transpose(1, 2)

    def encode_first_frame(
        self,
        image: torch.Tensor,  # [B, 3, H, W] in 0..1
        num_latent_frames: int,
        generator: torch.Generator | None,
    ) -> torch.Tensor:
        """Return scaled latents of images, followed by zeros for the other latent frames, [B, L, C, h, w]."""
        latents = self.encode_video(image[:, None] * 2 - 1, generator)
        factor = self.vae.config.scaling_factor
        # The base model was trained on latents divided by the factor; its configuration says so.
        latents = latents / factor if self.vae.config.invert_scale_latents else latents * factor
        return torch.cat([latents, latents.new_zeros(len(latents), num_latent_frames - 1, *latents.shape[2:])], dim=1)

    def encode_tracking_video(
        self,
        video: torch.Tensor,  # [B, T, 3, H, W] in 0..1
        tracking_range: str,
        generator: torch.Generator | None,
    ) -> torch.Tensor:
        """Return latents [B, L, 2C, h, w] of the tracking video and of its first frame (`encode_first_frame`)."""
        ranged = video if tracking_range == "demo" else video * 2 - 1
        latents = self.encode_video(ranged, generator) * self.vae.config.scaling_factor
        return torch.cat([latents, self.encode_first_frame(video[:, 0], latents.shape[1], generator)], dim=2)

    def prepare_conditioning(
        self,
        tracking_video: torch.Tensor,  # [B, T, 3, H, W] in 0..1
        first_frame: torch.Tensor | None,  # [B, 3, H, W] in 0..1
        tracking_range: str,
        generator: torch.Generator | None,
    ) -> Conditioning:
        """Encode the first frame (zeros if there is none) and the tracking video."""
        shape, dtype = self._latent_shape(tracking_video), self.transformer.dtype
        if first_frame is None:
            image_latents = torch.zeros(shape, device=self._execution_device, dtype=dtype)
        else:
            image_latents = self.encode_first_frame(first_frame, shape[1], generator).to(dtype)
        tracking_maps = self.encode_tracking_video(tracking_video, tracking_range, generator).to(dtype)
        return Conditioning(tracking_video, first_frame, tracking_maps, image_latents)

    def prepare_latents(
        self,
        shape: tuple[int, ...],
        generator: torch.Generator | None,
        latents: torch.Tensor | None = None,  # [B, L, C, h, w]
    ) -> torch.Tensor:
        """Return start noise [B, L, C, h, w]: `latents`, or drawn in float32, so that a seed means the same always."""
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=torch.float32)
        return latents.to(self._execution_device, self.transformer.dtype) * self.scheduler.init_noise_sigma

    def rotary_embeddings(
        self, num_latent_frames: int, height: int, width: int
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return cosines and sines for a grid of latent cells, [L*h*w/p^2, head dim] each; None for models without."""
        config = self.transformer.config
        if not config.use_rotary_positional_embeddings:
            return None
        p, p_t = config.patch_size, config.patch_size_t
        grid, base = (height // p, width // p), (config.sample_height // p, config.sample_width // p)
        crops, length, options = None, num_latent_frames, {}
        if p_t is None:  # CogVideoX 1.0
            crops = get_resize_crop_region_for_grid(grid, base[1], base[0])
        else:
            length, options = (num_latent_frames + p_t - 1) // p_t, {"grid_type": "slice", "max_size": base}
        return get_3d_rotary_pos_embed(
            config.attention_head_dim, crops, grid, length, device=self._execution_device, **options
        )

    def denoise(
        self,
        latents: torch.Tensor,  # [B, L, C, h, w] noise
        conditioning: Conditioning,
        sampling: Sampling,
        first_step: int = 0,
    ) -> torch.Tensor:
        """Denoise latents and return clean ones, [B, L, C, h, w]. Raise CancelledError after `stop`.

        `first_step` is the number of steps of the call that came before, which the callback's step counts in.
        """
        self._guidance_scale = sampling.guidance_scale
        self.transformer.forget_steps()
        is_guided, is_tracking_guided = sampling.guidance_scale > 1, sampling.tracking_guidance_scale > 1
        # Predictions in a batch, in this order: without the prompt, without the tracks, with both.
        has_tracks = [True] * is_guided + [False] * is_tracking_guided + [True]
        image_latents = torch.cat([conditioning.image_latents] * len(has_tracks))
        inputs = self._transformer_inputs(latents, conditioning, sampling, has_tracks)
        self.scheduler.set_timesteps(sampling.num_inference_steps, device=self._execution_device)
        timesteps, denoised = self.scheduler.timesteps, None
        with self.progress_bar(total=len(timesteps)) as progress_bar:
            for step, t in enumerate(timesteps):
                self._raise_if_interrupted(f"step {first_step + step + 1} of {self._num_timesteps}")
                model_input = self.scheduler.scale_model_input(torch.cat([latents] * len(has_tracks)), t)
                model_input = torch.cat([model_input, image_latents], dim=2)
                control_scale = sampling.control_scale_at(step)
                if step and control_scale != sampling.control_scale_at(step - 1):
                    self.transformer.forget_steps()
                with self.transformer.cache_context("step"):
                    velocities = self.transformer(
                        model_input,
                        timestep=t.expand(len(model_input)),
                        control_scale=control_scale,
                        return_dict=False,
                        **inputs,
                    )[0].float()
                *others, conditioned = velocities.chunk(len(has_tracks))
                velocity = conditioned
                if is_guided:
                    velocity = others[0] + sampling.guidance_scale_at(int(t)) * (conditioned - others[0])
                if is_tracking_guided:
                    velocity = velocity + (sampling.tracking_guidance_scale - 1) * (conditioned - others[-1])
                previous = timesteps[step - 1] if step else None
                stepped, denoised = self._scheduler_step(velocity, denoised, t, previous, latents, sampling.generator)
                latents = stepped.to(self.transformer.dtype)
                if sampling.callback_on_step_end is not None:
                    tensors = {
                        "latents": latents,
                        "denoised": denoised,
                        "prompt_embeds": sampling.prompt_embeds,
                        "negative_prompt_embeds": sampling.negative_prompt_embeds if is_guided else None,
                    }
                    callback_kwargs = {name: tensors[name] for name in sampling.callback_on_step_end_tensor_inputs}
                    outputs = sampling.callback_on_step_end(self, first_step + step, int(t), callback_kwargs) or {}
                    latents = outputs.get("latents", latents)
                progress_bar.update()
        self._raise_if_interrupted("decoding")
        return latents

    def decode_latents(
        self,
        latents: torch.Tensor,  # [B, L, C, h, w]
    ) -> torch.Tensor:
        """Return videos, [B, T, 3, H, W] float32 in 0..1."""
        scaled = latents.transpose(1, 2).to(self.vae.dtype) / self.vae.config.scaling_factor
        return (self.vae.decode(scaled).sample.float() / 2 + 0.5).clamp(0, 1).transpose(1, 2)

    @torch.no_grad()
    def preview_frame(
        self,
        denoised: torch.Tensor,  # [B, L, C, h, w]
    ) -> np.ndarray:
        """Return the middle frame of an estimate, decoded alone (which is approximate), [H, W, 3] uint8."""
        middle = denoised.shape[1] // 2
        return _to_uint8(self.decode_latents(denoised[:1, middle : middle + 1]))[0, 0]

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        image: Any = None,
        tracking_video: Any = None,
        negative_prompt: str | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 6.0,
        use_dynamic_cfg: bool = False,
        tracking_guidance_scale: float = 1.0,
        generator: torch.Generator | None = None,
        tracking_range: str = "training",
        control_scale: float = 1.0,
        control_start: float = 0.0,
        control_end: float = 1.0,
        latents: torch.Tensor | None = None,  # [B, L, C, h, w]
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] = ("latents",),
    ) -> DiffusionShaderOutput | tuple[Any]:
        """Generate one video per prompt.

        Args:
            prompt: A text or a list of texts.
            image: First frame or frames: 8-bit [H, W, 3], tensor [3, H, W] in 0..1 or PIL image. If it is None, models
                trained on single frames first make one from prompt and tracks, in as many steps as the video, guided at
                least by `still_guidance`. Other models go without.
            tracking_video: 8-bit [T, H, W, 3] (or a batch, or tensors [T, 3, H, W] in 0..1) with exact tracking colors.
                It determines the number of frames and their size.
            negative_prompt: What to avoid.
            num_inference_steps: Denoising steps of each stage.
            guidance_scale: Scale of classifier-free guidance; none up to 1.
            use_dynamic_cfg: Whether to vary the guidance scale as in `dynamic_guidance`.
            tracking_guidance_scale: Scale of guidance away from what the model makes without tracks; none up to 1.
            generator: CPU generator, so that a seed means the same on every device.
            tracking_range: "training" feeds the autoencoder [-1, 1], "demo" [0, 1] as the released demonstration does.
            control_scale: Strength of the tracks, see the transformer's `forward`; 1 as trained.
            control_start: Fraction of the steps after which the tracks are used.
            control_end: Fraction of the steps after which they are no longer used.
            latents: Start noise of the video, drawn if None.
            output_type: "np", "uint8", "pt", "pil" or "latent", see `DiffusionShaderOutput`.
            return_dict: Whether to return `DiffusionShaderOutput` instead of a tuple.
            callback_on_step_end: Called after each step, of the first frame as well (see `stage`), with (pipeline,
                step, timestep, tensors). `step` counts through all stages (see `num_timesteps`). If it returns a
                dictionary with `latents`, these replace the pipeline's. It may raise, or call `stop`.
            callback_on_step_end_tensor_inputs: Names of the tensors that it gets: latents, denoised, prompt_embeds,
                negative_prompt_embeds.

        Raises:
            ModelError: if the model cannot take the input, or memory does not suffice.
            CancelledError: after `stop`.
        """
        self._interrupt = False
        with explain_out_of_memory():
            # 1. Check inputs
            prompts = [prompt] if isinstance(prompt, str) else list(prompt)
            tracking_video = to_videos(tracking_video, len(prompts))  # [B, T, 3, H, W]
            _, num_frames, _, height, width = tracking_video.shape
            first_frame = None if image is None else to_images(image, len(prompts), (width, height))
            self.check_inputs(tracking_video, latents, tracking_range, output_type, callback_on_step_end_tensor_inputs)
            stages = self.stages(num_frames, has_first_frame=first_frame is not None)
            self._num_timesteps = num_inference_steps * len(stages)
            still_guidance = self.still_guidance if "first frame" in stages else 0.0
            still_guidance_scale = max(guidance_scale, still_guidance)

            # 2. Encode the prompt
            prompt_embeds, negative_prompt_embeds = self.encode_prompt(
                prompts, negative_prompt, do_classifier_free_guidance=still_guidance_scale > 1
            )
            sampling = Sampling(
                prompt_embeds=prompt_embeds,
                negative_prompt_embeds=negative_prompt_embeds,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                use_dynamic_cfg=use_dynamic_cfg,
                tracking_guidance_scale=tracking_guidance_scale,
                control_scale=control_scale,
                control_start=control_start,
                control_end=control_end,
                generator=generator,
                callback_on_step_end=callback_on_step_end,
                callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
            )

            # 3. Make the first frame
            if "first frame" in stages:
                first_frame = self._make_first_frame(
                    tracking_video[:, :1], tracking_range, replace(sampling, guidance_scale=still_guidance_scale)
                )

            # 4. Prepare first frame, tracks and noise
            self._stage = "video"
            conditioning = self.prepare_conditioning(tracking_video, first_frame, tracking_range, generator)
            latents = self.prepare_latents(self._latent_shape(tracking_video), generator, latents)

            # 5. Denoise
            latents = self.denoise(
                latents, conditioning, sampling, first_step=self._num_timesteps - num_inference_steps
            )

            # 6. Decode
            frames = latents if output_type == "latent" else _convert(self.decode_latents(latents), output_type)
            self.maybe_free_model_hooks()
        return DiffusionShaderOutput(frames=frames) if return_dict else (frames,)

    def _make_first_frame(
        self,
        tracking_frame: torch.Tensor,  # [B, 1, 3, H, W] in 0..1
        tracking_range: str,
        sampling: Sampling,
    ) -> torch.Tensor:
        """Return first frames made from text and tracks, [B, 3, H, W] in 0..1."""
        self._stage = "first frame"
        conditioning = self.prepare_conditioning(tracking_frame, None, tracking_range, sampling.generator)
        latents = self.prepare_latents(self._latent_shape(tracking_frame), sampling.generator)
        first_frame = self.decode_latents(self.denoise(latents, conditioning, sampling))[:, 0]
        self.maybe_free_model_hooks()
        return first_frame

    def _encode_text(self, texts: list[str]) -> torch.Tensor:
        """Return [B, length, E]; the text encoder sees padding as text, as in training."""
        tokens = self.tokenizer(
            texts,
            padding="max_length",
            max_length=self.transformer.config.max_text_seq_length,
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        ).input_ids
        return self.text_encoder(tokens.to(self._execution_device))[0].to(self.transformer.dtype)

    def _latent_shape(self, tracking_video: torch.Tensor) -> tuple[int, ...]:
        """Return (B, L, C, h, w) for a tracking video [B, T, 3, H, W]."""
        batch_size, num_frames, _, height, width = tracking_video.shape
        return (
            batch_size,
            (num_frames - 1) // self.vae_scale_factor_temporal + 1,
            self.transformer.config.in_channels // 2,
            height // self.vae_scale_factor_spatial,
            width // self.vae_scale_factor_spatial,
        )

    def _transformer_inputs(
        self, latents: torch.Tensor, conditioning: Conditioning, sampling: Sampling, has_tracks: list[bool]
    ) -> dict[str, Any]:
        """Return the transformer's inputs that are the same in all steps, for a batch as described by `has_tracks`."""
        text = [sampling.prompt_embeds] * len(has_tracks)
        if sampling.guidance_scale > 1:
            text[0] = sampling.negative_prompt_embeds
        _, num_latent_frames, _, height, width = latents.shape
        inputs = {
            "encoder_hidden_states": torch.cat(text),
            "tracking_maps": torch.cat([conditioning.tracking_maps * tracks for tracks in has_tracks]),
            "image_rotary_emb": self.rotary_embeddings(num_latent_frames, height, width),
        }
        if self.transformer.config.ofs_embed_dim is not None:
            inputs["ofs"] = latents.new_full((1,), 2.0)
        if isinstance(self.transformer, WarpGuidedTransformer3DModel):
            coordinates = track_coordinates(conditioning.tracking_video).to(self._execution_device)
            inputs["track_coordinates"] = torch.cat([coordinates * tracks for tracks in has_tracks])
            if conditioning.first_frame is not None:
                first_frame = conditioning.first_frame.to(self._execution_device) * 2 - 1
                inputs["first_frame"] = torch.cat([first_frame] * len(has_tracks))
        return inputs

    def _scheduler_step(
        self, velocity, denoised, timestep, previous_timestep, latents, generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the latents of the next step and the estimate of the clean latents."""
        if isinstance(self.scheduler, CogVideoXDPMScheduler):
            return self.scheduler.step(
                velocity, denoised, timestep, previous_timestep, latents, generator=generator, return_dict=False
            )
        return self.scheduler.step(velocity, timestep, latents, generator=generator, return_dict=False)

    def _raise_if_interrupted(self, next_action: str) -> None:
        if self._interrupt:
            raise CancelledError("cancelled", f"Stopped before {next_action}.")


def _to_uint8(video: torch.Tensor) -> np.ndarray:
    """Convert [B, T, 3, H, W] in 0..1 to [B, T, H, W, 3] 8-bit."""
    return (video * 255).round().byte().movedim(2, -1).cpu().numpy()


def _convert(video: torch.Tensor, output_type: str) -> Any:
    """Convert videos [B, T, 3, H, W] in 0..1 to the output type."""
    if output_type == "pt":
        return video
    if output_type == "np":
        return video.movedim(2, -1).cpu().numpy()
    images = _to_uint8(video)
    return images if output_type == "uint8" else [[Image.fromarray(image) for image in one] for one in images]
