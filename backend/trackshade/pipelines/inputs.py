# SPDX-License-Identifier: GPL-3.0-or-later
"""What callers may give the pipeline, brought to one form and checked against the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from ..core.errors import ModelError


def as_pictures(value: Any, what: str) -> torch.Tensor:
    """[..., 3, H, W] float32 in 0..1 from 8-bit arrays [..., H, W, 3], tensors [..., 3, H, W] in 0..1, PIL images
    or lists of these.
    """
    if isinstance(value, Image.Image):
        value = np.asarray(value.convert("RGB"))
    if isinstance(value, (list, tuple)):
        return torch.stack([as_pictures(item, what) for item in value])
    if isinstance(value, np.ndarray):
        if value.dtype != np.uint8 or value.ndim < 3 or value.shape[-1] != 3:
            raise ModelError(
                "bad-input",
                f"The {what} must be 8-bit RGB [..., height, width, 3], not {value.dtype} {list(value.shape)}.",
            )
        return torch.tensor(value).movedim(-1, -3).float() / 255
    if isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim >= 3 and value.shape[-3] == 3:
        return value.float()
    raise ModelError(
        "bad-input", f"The {what} must be an 8-bit array, a tensor in 0..1 or PIL images, not {type(value).__name__}."
    )


def as_videos(value: Any, batch: int) -> torch.Tensor:
    """[B, T, 3, H, W] in 0..1; one video serves the whole batch."""
    video = as_pictures(value, "tracking video")
    video = video[None] if video.ndim == 4 else video
    if video.ndim != 5 or len(video) not in (1, batch):
        raise ModelError(
            "bad-input",
            f"The tracking video must be [frames, height, width, 3] or a batch of {batch}, not {list(video.shape)}.",
        )
    return video.expand(batch, *video.shape[1:])


def as_images(value: Any, batch: int, size: tuple[int, int]) -> torch.Tensor:
    """[B, 3, H, W] in 0..1 of the given size (w, h); one image serves the whole batch."""
    image = as_pictures(value, "first frame")
    image = image[None] if image.ndim == 3 else image
    width, height = size
    if image.shape[-2:] != (height, width):
        raise ModelError(
            "bad-size",
            f"The first frame is {image.shape[-1]}x{image.shape[-2]} pixels but the tracking video {width}x{height}.",
            "Render or scale the first frame to the tracking video's size.",
        )
    if image.ndim != 4 or len(image) not in (1, batch):
        raise ModelError("bad-input", f"One first frame or a batch of {batch} is needed, not {list(image.shape)}.")
    return image.expand(batch, *image.shape[1:])


def check_shape(frames: int, size: tuple[int, int], transformer_config: Any, spatial: int, temporal: int) -> None:
    """ModelError where the transformer cannot take that many frames of that size (w, h); spatial, temporal: the
    autoencoder's ratios.
    """
    width, height = size
    cell = spatial * transformer_config.patch_size
    if width % cell or height % cell:
        raise ModelError(
            "bad-size", f"{width}x{height} pixels do not divide into cells of {cell}.", f"Choose multiples of {cell}."
        )
    if (frames - 1) % temporal:
        raise ModelError(
            "bad-frames", f"{frames} frames are not 1 plus a multiple of {temporal}.", "Choose another frame count."
        )
    patch_t = transformer_config.patch_size_t
    if patch_t and ((frames - 1) // temporal + 1) % patch_t:
        raise ModelError(
            "bad-frames",
            f"{frames} frames do not fill the model's patches of {patch_t} latent frames.",
            "Choose another frame count.",
        )
    if transformer_config.use_learned_positional_embeddings:
        only = (transformer_config.sample_width * spatial, transformer_config.sample_height * spatial)
        if (width, height) != only:
            raise ModelError(
                "bad-size", f"This model takes {only[0]}x{only[1]} pixels, not {width}x{height}.", "Use that size."
            )
        if frames != transformer_config.sample_frames:
            raise ModelError(
                "bad-frames",
                f"This model takes {transformer_config.sample_frames} frames, not {frames}.",
                "Use that many.",
            )


def check_schedule(transformer: Any, scheduler: Any) -> None:
    """ModelError where the transformer's own estimate (`TrackLookup.denoise`) is for another noise schedule."""
    if not getattr(transformer.config, "track_frequencies", 0):
        return
    wanted, given = transformer.track_lookup.signal, scheduler.alphas_cumprod.float().sqrt()
    if wanted.shape != given.shape or (wanted - given).abs().max() > 1e-3:
        raise ModelError(
            "bad-config",
            f"The transformer was made for the noise schedule of SNR shift {transformer.config.track_snr_shift:g} at "
            "zero terminal SNR, and the scheduler has another.",
            "Put snr_shift_scale and rescale_betas_zero_snr in scheduler_config.json right.",
        )
