# SPDX-License-Identifier: GPL-3.0-or-later
# pyright: reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false, reportAttributeAccessIssue=false
"""Wan-Move: image to video by Wan, with latents of the first frame copied along tracks.

Source: Chu et al. 2025, "Wan-Move: Motion-controllable Video Generation via Latent Trajectory Guidance"
(arXiv 2512.08765). The model has no layers of its own: it is Wan's image-to-video model, trained with conditions whose
latents were copied. The prediction without the prompt sees the condition as it is without tracks.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import WanImageToVideoPipeline
from PIL import Image

from ...control.tracks import Tracks
from .calls import call_pipeline, report_to
from .family import Keep, ModelFamily, ModelInputs, OnStep, SamplingOptions
from .layout import Layout
from .wan import TEXT_ENCODERS, decode_latents, preview_frame, text_arguments


class WanMovePipeline(WanImageToVideoPipeline):
    """`WanImageToVideoPipeline` with tracks of points of the first frame."""

    @torch.no_grad()
    def __call__(
        self,
        image: Image.Image,
        cells: torch.Tensor,  # [N, L, 2]
        prompt_embeds: torch.Tensor,  # [1, length, E]
        negative_prompt_embeds: torch.Tensor | None = None,  # [1, length, E]
        num_frames: int = 81,
        num_inference_steps: int = 50,
        guidance_scale: float = 5.0,
        generator: torch.Generator | None = None,
        output_type: str = "np",
        return_dict: bool = False,
    ) -> tuple[Any]:
        """Generate a video.

        Args:
            image: First frame; it determines the size.
            cells: Row and column of the latent cell of each point in each latent frame, see `track_cells`.
            prompt_embeds: Embeddings of the prompt.
            negative_prompt_embeds: Embeddings of what to avoid; needed with guidance.
            num_frames: Number of frames, 4k + 1.
            num_inference_steps: Denoising steps.
            guidance_scale: Scale of classifier-free guidance; none up to 1.
            generator: CPU generator.
            output_type: See `WanImageToVideoPipeline`.
            return_dict: Always a tuple is returned.

        Returns:
            The frames, in a tuple.
        """
        device, dtype = self._execution_device, self.transformer.dtype
        width, height = image.size
        image_embeds = None
        if self.transformer.config.image_dim is not None:
            image_embeds = self.encode_image(image, device).to(dtype)
        pixels = self.video_processor.preprocess(image, height=height, width=width).to(device, torch.float32)
        channels = self.vae.config.z_dim
        latents, plain = self.prepare_latents(
            pixels, 1, channels, height, width, num_frames, torch.float32, device, generator
        )
        moved = plain.clone()
        moved[:, -channels:] = copy_along_tracks(plain[:, -channels:], cells)
        predictions = [(prompt_embeds, moved)]
        if guidance_scale > 1:
            assert negative_prompt_embeds is not None
            predictions.append((negative_prompt_embeds, plain))
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        for t in self.scheduler.timesteps:
            velocities = []
            for name, (embeds, condition) in zip(("cond", "uncond"), predictions, strict=False):
                with self.transformer.cache_context(name):
                    velocities.append(
                        self.transformer(
                            hidden_states=torch.cat([latents, condition], dim=1).to(dtype),
                            timestep=t.expand(1),
                            encoder_hidden_states=embeds.to(device, dtype),
                            encoder_hidden_states_image=image_embeds,
                            return_dict=False,
                        )[0]
                    )
            velocity = velocities[-1] + guidance_scale * (velocities[0] - velocities[-1])
            velocity = velocities[0] if guidance_scale <= 1 else velocity
            latents = self.scheduler.step(velocity, t, latents, return_dict=False)[0]
        frames = latents
        if output_type != "latent":
            frames = self.video_processor.postprocess_video(decode_latents(self, latents), output_type=output_type)
        self.maybe_free_model_hooks()
        return (frames,)


class WanMove(ModelFamily):
    """A model that `WanMovePipeline` runs."""

    caches = ("first-block", "taylorseer")
    layout = Layout(
        pipeline="trackshade.pipelines.families.wan_move:WanMovePipeline",
        components={
            "transformer": ("WanTransformer3DModel",),
            "vae": ("AutoencoderKLWan",),
            "text_encoder": TEXT_ENCODERS,
            "image_encoder": ("CLIPVisionModel", "CLIPVisionModelWithProjection"),
            "image_processor": ("CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil"),
        },
        optional=("image_encoder", "image_processor"),
        float32=("vae", "image_encoder"),
        published_as=("WanImageToVideoPipeline",),
    )

    def sample(self, inputs: ModelInputs, options: SamplingOptions, on_step: OnStep, keep: Keep) -> np.ndarray:
        """Run the pipeline; see `ModelFamily.sample`."""
        assert inputs.first_frame is not None
        assert inputs.tracks is not None
        cells = track_cells(
            inputs.tracks, inputs.size, self.pipeline.vae_scale_factor_spatial, self.pipeline.vae_scale_factor_temporal
        )
        on_step(0, options.steps)
        text = text_arguments(
            self.pipeline, options.prompt, options.negative_prompt, options.guidance, self.spec.text_length
        )
        return call_pipeline(
            self.pipeline,
            partial(report_to, on_step, options.steps),
            partial(preview_frame, self.pipeline),
            options.seed,
            image=Image.fromarray(inputs.first_frame),
            cells=torch.from_numpy(cells),
            num_frames=inputs.num_frames,
            num_inference_steps=options.steps,
            guidance_scale=options.guidance,
            **text,
        )


def track_cells(tracks: Tracks, size: tuple[int, int], cell: int = 8, stride: int = 4) -> np.ndarray:
    """Return the latent cells of tracked points.

    Args:
        tracks: The tracks.
        size: (width, height) of the image, pixels.
        cell: Pixels per side of a latent cell.
        stride: Frames per latent frame; the first one stands for itself.

    Returns:
        [N, L, 2] int64 row and column of each point in each latent frame, -1 where it is hidden or outside. The
        farthest points come first, so that of those in one cell the nearest is copied last. All points are visible in
        the first frame.
    """
    pixels, depth = tracks.pixels[::stride], tracks.depth[::stride]
    inside = (pixels >= 0).all(axis=-1) & (pixels < size).all(axis=-1)
    cells = np.where(inside[..., None], np.where(np.isfinite(pixels), pixels, 0.0) // cell, -1.0).astype(np.int64)
    cells[~tracks.visible[::stride]] = -1
    order = np.argsort(-depth.mean(axis=0), kind="stable")
    return np.ascontiguousarray(cells[:, order, ::-1].transpose(1, 0, 2))


def copy_along_tracks(
    latents: torch.Tensor,  # [B, C, L, h, w]
    cells: torch.Tensor,  # [N, L, 2] row and column
) -> torch.Tensor:
    """Return latents whose later frames have those of the first frame at the cells of the points seen there."""
    copied = latents.clone()
    for point in cells.tolist():
        row, column = point[0]
        if row < 0:
            continue
        for frame, (y, x) in enumerate(point[1:], 1):
            if y >= 0:
                copied[:, :, frame, y, x] = latents[:, :, 0, row, column]
    return copied
