# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIncompatibleMethodOverride=false
# pyright: reportPrivateImportUsage=false, reportReturnType=false
"""Image-to-video diffusion conditioned on a tracking video (Diffusion as Shader, arXiv 2501.03847), in diffusers'
conventions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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

from ..core.errors import CancelledError, ModelError
from ..models.track_lookup import track_coordinates
from .inputs import as_images, as_videos, check_schedule, check_shape

StepCallback = Callable[["DiffusionShaderPipeline", int, int, dict[str, torch.Tensor]], dict[str, torch.Tensor] | None]


@dataclass
class DiffusionShaderOutput(BaseOutput):
    """frames: per `output_type`, [B, T, H, W, 3] uint8 or float in 0..1, [B, T, 3, H, W] tensor, lists of PIL
    images, or latents.
    """

    frames: Any


def dynamic_guidance(guidance: float, timestep: int, steps: int) -> float:
    """The released demonstration's guidance at a timestep in 0..999: erratic by construction, kept for parity
    (float64).
    """
    return 1 + guidance * (1 - math.cos(math.pi * ((steps - timestep) / steps) ** 5.0)) / 2


@contextmanager
def out_of_memory_explained() -> Iterator[None]:
    """Turn the allocator's complaints into a ModelError."""
    fix = "Use the offload option, fewer frames or a smaller model, or free memory on the device."
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ModelError("out-of-memory", "The device ran out of memory.", fix) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error):  # the CPU allocator raises a plain RuntimeError
            raise ModelError("out-of-memory", "The machine ran out of memory.", fix) from error
        raise


class DiffusionShaderPipeline(DiffusionPipeline):
    """Shades a shot: the first frame gives appearance, the tracking video all motion, the prompt the rest.

    Components: `vae`, `text_encoder`, `tokenizer`, `transformer` (TrackingTransformer3DModel), `scheduler`; the
    same class serves the
    published 5B checkpoint and the embedded model.
    """

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _callback_tensor_inputs: ClassVar = ["latents", "denoised", "prompt_embeds", "negative_prompt_embeds"]

    def __init__(self, tokenizer, text_encoder, vae, transformer, scheduler) -> None:
        super().__init__()
        check_schedule(transformer, scheduler)
        self.register_modules(
            tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, transformer=transformer, scheduler=scheduler
        )
        self._interrupt = False

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, torch_dtype: torch.dtype = torch.float32, **components: Any
    ):
        """Load a local folder in diffusers' layout: safetensors only, strictly, and only known classes.

        `components` replaces single components. Raises ModelError naming what is missing or wrong.
        """
        from ..models.components import load_components

        return cls(**load_components(Path(pretrained_model_name_or_path), torch_dtype, components))

    # Ratios of the autoencoder

    @property
    def spatial_ratio(self) -> int:
        """Pixels per latent cell."""
        if hasattr(self.vae, "spatial_compression_ratio"):
            return int(self.vae.spatial_compression_ratio)
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def temporal_ratio(self) -> int:
        """Frames per latent frame."""
        return int(self.vae.config.temporal_compression_ratio)

    @property
    def interrupt(self) -> bool:
        return self._interrupt

    def stop(self) -> None:
        """End the running call at the next step with `CancelledError`; may be called from the step callback or another
        thread.
        """
        self._interrupt = True

    def enable_vae_saving(self) -> None:
        """Slice and tile the autoencoder where it can: less memory, numbers slightly different."""
        for name in ("enable_slicing", "enable_tiling"):
            if hasattr(self.vae, name):
                getattr(self.vae, name)()

    # Phases

    def encode_text(self, texts: list[str], length: int) -> torch.Tensor:
        """[B, length, E]; the text encoder sees padding as text, as in training."""
        tokens = self.tokenizer(
            texts,
            padding="max_length",
            max_length=length,
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        ).input_ids
        return self.text_encoder(tokens.to(self._execution_device))[0].to(self.transformer.dtype)

    def encode_video(self, video: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """[B, T, 3, H, W] in the autoencoder's range -> unscaled latents [B, L, C, h, w]."""
        videos = video.transpose(1, 2).to(self._execution_device, self.vae.dtype)
        latents = [self.vae.encode(one[None]).latent_dist.sample(generator) for one in videos]
        return torch.cat(latents).transpose(1, 2)

    def first_frame_latents(
        self, image: torch.Tensor, latent_frames: int, generator: torch.Generator | None
    ) -> torch.Tensor:
        """[B, 3, H, W] in 0..1 -> its scaled latents, then zeros: [B, L, C, h, w]."""
        latents = self.encode_video(image[:, None] * 2 - 1, generator)
        factor = self.vae.config.scaling_factor
        # The base model was trained on latents divided by the factor; its configuration says so.
        latents = latents / factor if self.vae.config.invert_scale_latents else latents * factor
        return torch.cat([latents, latents.new_zeros(len(latents), latent_frames - 1, *latents.shape[2:])], dim=1)

    def tracking_latents(
        self, video: torch.Tensor, tracking_range: str, generator: torch.Generator | None
    ) -> torch.Tensor:
        """[B, T, 3, H, W] in 0..1 -> [B, L, 2C, h, w]: tracking latents, and the first tracking frame's, zero-
        padded.
        """
        ranged = video if tracking_range == "demo" else video * 2 - 1
        latents = self.encode_video(ranged, generator) * self.vae.config.scaling_factor
        return torch.cat([latents, self.first_frame_latents(video[:, 0], latents.shape[1], generator)], dim=2)

    def rotary(self, latent_frames: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Rotary tables for a latent grid, or None for models without."""
        config = self.transformer.config
        if not config.use_rotary_positional_embeddings:
            return None
        p, p_t = config.patch_size, config.patch_size_t
        grid, base = (height // p, width // p), (config.sample_height // p, config.sample_width // p)
        if p_t is None:
            crops = get_resize_crop_region_for_grid(grid, base[1], base[0])
            return get_3d_rotary_pos_embed(
                config.attention_head_dim, crops, grid, latent_frames, device=self._execution_device
            )
        return get_3d_rotary_pos_embed(
            config.attention_head_dim,
            None,
            grid,
            (latent_frames + p_t - 1) // p_t,
            grid_type="slice",
            max_size=base,
            device=self._execution_device,
        )

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """[B, L, C, h, w] -> [B, T, 3, H, W] float32 in 0..1."""
        scaled = latents.transpose(1, 2).to(self.vae.dtype) / self.vae.config.scaling_factor
        return (self.vae.decode(scaled).sample.float() / 2 + 0.5).clamp(0, 1).transpose(1, 2)

    @torch.no_grad()
    def preview_frame(self, denoised: torch.Tensor) -> np.ndarray:
        """[H, W, 3] 8-bit: the middle frame of the estimate `denoised` [B, L, C, h, w], decoded alone (approximate)."""
        middle = denoised.shape[1] // 2
        return _to_bytes(self.decode_latents(denoised[:1, middle : middle + 1]))[0, 0]

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        image: Any = None,
        tracking_video: Any = None,
        negative_prompt: str = "",
        num_inference_steps: int = 50,
        guidance_scale: float = 6.0,
        use_dynamic_cfg: bool = False,
        tracking_guidance_scale: float = 1.0,
        generator: torch.Generator | None = None,
        tracking_range: str = "training",
        tracking_scale: float = 1.0,
        tracking_span: tuple[float, float] = (0.0, 1.0),
        latents: torch.Tensor | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] = ("latents",),
    ) -> DiffusionShaderOutput | tuple[Any]:
        """Generate one video per prompt.

        Args:
            prompt: one text or a list.
            image: first frame(s): 8-bit [H, W, 3], tensor [3, H, W] in 0..1 or PIL; None for models trained with
                image dropout. Models trained on stills make the first frame from text and tracks before the video
                (guided at least as `still_guidance` of the transformer's configuration says).
            tracking_video: 8-bit [T, H, W, 3] (or a batch, or tensors [T, 3, H, W] in 0..1), exact tracking colors.
                It sets frames and size.
            guidance_scale: classifier-free guidance; up to 1 means none. use_dynamic_cfg: see `dynamic_guidance`.
            tracking_guidance_scale: the same for the tracks: above 1 away from what the model makes without them.
            generator: a CPU generator, so that a seed means the same on every device.
            tracking_range: "training" feeds the autoencoder [-1, 1], "demo" [0, 1] as the released demonstration does.
            tracking_scale: how strongly the tracks lead (`TrackingTransformer3DModel.forward`); 1 as trained.
            tracking_span: shares of the steps from which and up to which they lead; they do not in the others.
            latents: [B, L, C, h, w] start noise instead of drawing it.
            output_type: "np" (float 0..1), "uint8", "pt", "pil" or "latent".
            callback_on_step_end: called after each step with (pipeline, step, timestep, tensors by the names in
                `callback_on_step_end_tensor_inputs`: latents, denoised, prompt_embeds, negative_prompt_embeds); what
                it returns as latents replaces them; it may raise, or call `stop`.

        Raises:
            ModelError: input that the model cannot take, or out of memory. Cancelled: after `stop`.
        """
        self._interrupt = False
        with out_of_memory_explained():
            # 1. Check inputs
            prompts = [prompt] if isinstance(prompt, str) else list(prompt)
            unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
            if unknown:
                raise ModelError("bad-input", f"The step callback cannot have {', '.join(sorted(unknown))}.")
            if tracking_range not in ("training", "demo"):
                raise ModelError(
                    "bad-input", f"There is no tracking range '{tracking_range}'.", "Use training or demo."
                )
            if output_type not in ("np", "uint8", "pt", "pil", "latent"):
                raise ModelError(
                    "bad-input", f"There is no output type '{output_type}'.", "Use np, uint8, pt, pil or latent."
                )
            if tracking_video is None:
                raise ModelError("bad-input", "A tracking video is needed.")
            tracking = as_videos(tracking_video, len(prompts))  # [B, T, 3, H, W] 0..1
            frames, height, width = tracking.shape[1], tracking.shape[3], tracking.shape[4]
            check_shape(frames, (width, height), self.transformer.config, self.spatial_ratio, self.temporal_ratio)
            device, dtype = self._execution_device, self.transformer.dtype

            # 2. Text
            length = self.transformer.config.max_text_seq_length
            guided, led = guidance_scale > 1.0, tracking_guidance_scale > 1.0
            positive = self.encode_text(prompts, length)
            negative = self.encode_text([negative_prompt or ""] * len(prompts), length) if guided else None
            # One after the other: without the prompt, without the tracks, with both.
            text = torch.cat(([] if negative is None else [negative]) + [positive] * (2 if led else 1))

            # 3. First frame and tracks
            grid = (height // self.spatial_ratio, width // self.spatial_ratio)
            channels = self.transformer.config.in_channels // 2
            shape = (len(prompts), (frames - 1) // self.temporal_ratio + 1, channels, *grid)
            if image is None and frames > 1 and self.transformer.config.still_guidance:
                if self._interrupt:
                    raise CancelledError("cancelled", "Stopped before the first frame.")
                still = self(
                    prompts,
                    None,
                    tracking[:, :1],
                    negative_prompt,
                    num_inference_steps,
                    max(guidance_scale, self.transformer.config.still_guidance),
                    use_dynamic_cfg,
                    tracking_guidance_scale,
                    tracking_scale=tracking_scale,
                    tracking_span=tracking_span,
                    tracking_range=tracking_range,
                    generator=generator,
                    output_type="pt",
                )
                assert isinstance(still, DiffusionShaderOutput)
                image = still.frames[:, 0]
            pictures = None
            if image is None:
                image_latents = torch.zeros(shape, device=device, dtype=dtype)
            else:
                pictures = as_images(image, len(prompts), (width, height))
                image_latents = self.first_frame_latents(pictures, shape[1], generator).to(dtype)
            maps = self.tracking_latents(tracking, tracking_range, generator).to(dtype)

            # 4. Noise, drawn in float32 so that a seed means the same in every precision
            if latents is None:
                latents = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
            elif tuple(latents.shape) != shape:
                raise ModelError("bad-input", f"The start noise must be {list(shape)}, not {list(latents.shape)}.")
            sample = latents.to(device, dtype) * self.scheduler.init_noise_sigma

            # 5. Denoise
            tracked = [True] * guided + [False] * led + [True]
            images = torch.cat([image_latents] * len(tracked))
            condition = {
                "encoder_hidden_states": text,
                "tracking_maps": torch.cat([maps * with_tracks for with_tracks in tracked]),
                "image_rotary_emb": self.rotary(shape[1], *grid),
            }
            if self.transformer.config.track_frequencies:
                coordinates = track_coordinates(tracking).to(device)
                condition["track_coordinates"] = torch.cat([coordinates * with_tracks for with_tracks in tracked])
                if pictures is not None:
                    condition["first_frame"] = torch.cat([pictures.to(device) * 2 - 1] * len(tracked))
            if self.transformer.config.ofs_embed_dim is not None:
                condition["ofs"] = sample.new_full((1,), 2.0)
            self.scheduler.set_timesteps(num_inference_steps, device=device)
            timesteps, estimate = self.scheduler.timesteps, None
            with self.progress_bar(total=len(timesteps)) as progress:
                for step, t in enumerate(timesteps):
                    if self._interrupt:
                        raise CancelledError("cancelled", f"Stopped before step {step + 1} of {len(timesteps)}.")
                    condition["tracking_scale"] = _scale_at(step, len(timesteps), tracking_scale, tracking_span)
                    *without, toward = self._predict(sample, t, images, condition).chunk(len(tracked))
                    velocity = toward
                    if guided:
                        scale = (
                            dynamic_guidance(guidance_scale, int(t), num_inference_steps)
                            if use_dynamic_cfg
                            else guidance_scale
                        )
                        velocity = without[0] + scale * (toward - without[0])
                    if led:
                        velocity = velocity + (tracking_guidance_scale - 1) * (toward - without[-1])
                    previous = timesteps[step - 1] if step else None
                    sample, estimate = self._step(velocity, estimate, t, previous, sample, generator)
                    sample = sample.to(dtype)
                    if callback_on_step_end is not None:
                        tensors = {
                            "latents": sample,
                            "denoised": estimate,
                            "prompt_embeds": positive,
                            "negative_prompt_embeds": negative,
                        }
                        asked = {name: tensors[name] for name in callback_on_step_end_tensor_inputs}
                        changed = callback_on_step_end(self, step, int(t), asked) or {}
                        sample = changed.get("latents", sample)
                    progress.update()

            # 6. Decode
            if self._interrupt:
                raise CancelledError("cancelled", "Stopped before decoding.")
            result = sample if output_type == "latent" else _convert(self.decode_latents(sample), output_type)
            self.maybe_free_model_hooks()
        return DiffusionShaderOutput(frames=result) if return_dict else (result,)

    def _predict(
        self, sample: torch.Tensor, t: torch.Tensor, image_latents: torch.Tensor, condition: dict[str, Any]
    ) -> torch.Tensor:
        """The transformer's velocity in float32, for as many variants of the condition as there are images."""
        repeated = torch.cat([sample] * (len(image_latents) // len(sample)))
        hidden = torch.cat([self.scheduler.scale_model_input(repeated, t), image_latents], dim=2)
        return self.transformer(hidden, timestep=t.expand(len(hidden)), return_dict=False, **condition)[0].float()

    def _step(self, velocity, estimate, t, previous, sample, generator) -> tuple[torch.Tensor, torch.Tensor]:
        """One scheduler step: the next sample and the estimate of the clean latents."""
        if isinstance(self.scheduler, CogVideoXDPMScheduler):
            return self.scheduler.step(velocity, estimate, t, previous, sample, generator=generator, return_dict=False)
        return self.scheduler.step(velocity, t, sample, generator=generator, return_dict=False)


def _scale_at(step: int, steps: int, scale: float, span: tuple[float, float]) -> float:
    """The tracks' scale in a step, which stands for the share of the steps that its middle is at."""
    return scale if span[0] <= (step + 0.5) / steps <= span[1] else 0.0


def _to_bytes(video: torch.Tensor) -> np.ndarray:
    """[B, T, 3, H, W] in 0..1 -> [B, T, H, W, 3] 8-bit."""
    return (video * 255).round().byte().movedim(2, -1).cpu().numpy()


def _convert(video: torch.Tensor, output_type: str) -> Any:
    if output_type == "pt":
        return video
    if output_type == "np":
        return video.movedim(2, -1).cpu().numpy()
    pictures = _to_bytes(video)
    return pictures if output_type == "uint8" else [[Image.fromarray(frame) for frame in one] for one in pictures]
