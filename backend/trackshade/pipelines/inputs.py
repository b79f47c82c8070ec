# SPDX-License-Identifier: GPL-3.0-or-later
"""Images and videos that callers pass to the pipeline: brought to one form, and checked against the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from ..core.errors import ModelError


def to_tensor(value: Any, name: str) -> torch.Tensor:
    """Convert images to a tensor [..., 3, H, W], float32 in 0..1.

    They are an 8-bit array [..., H, W, 3], a tensor [..., 3, H, W] in 0..1, a PIL image, or a list of these. Raise
    ModelError, which names them by `name`, if they are something else.
    """
    if isinstance(value, Image.Image):
        value = np.asarray(value.convert("RGB"))
    if isinstance(value, (list, tuple)):
        return torch.stack([to_tensor(item, name) for item in value])
    if isinstance(value, np.ndarray):
        if value.dtype != np.uint8 or value.ndim < 3 or value.shape[-1] != 3:
            raise ModelError(
                "bad-input",
                f"The {name} must be 8-bit RGB [..., height, width, 3], not {value.dtype} {list(value.shape)}.",
            )
        return torch.tensor(value).movedim(-1, -3).float() / 255
    if isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim >= 3 and value.shape[-3] == 3:
        return value.float()
    raise ModelError(
        "bad-input", f"The {name} must be an 8-bit array, a tensor in 0..1 or PIL images, not {type(value).__name__}."
    )


def to_videos(value: Any, batch_size: int) -> torch.Tensor:
    """Convert a tracking video to [B, T, 3, H, W] in 0..1; one video serves the whole batch. Raises ModelError."""
    if value is None:
        raise ModelError("bad-input", "A tracking video is needed.")
    video = to_tensor(value, "tracking video")
    video = video[None] if video.ndim == 4 else video
    if video.ndim != 5 or len(video) not in (1, batch_size):
        raise ModelError(
            "bad-input",
            "The tracking video must be [frames, height, width, 3] or a batch of "
            f"{batch_size}, not {list(video.shape)}.",
        )
    return video.expand(batch_size, *video.shape[1:])


def to_images(value: Any, batch_size: int, size: tuple[int, int]) -> torch.Tensor:
    """Convert first frames (see `to_tensor`) to [B, 3, H, W] in 0..1; one image serves the whole batch.

    Raise ModelError if it is something else, or of another size (width, height) or number.
    """
    image = to_tensor(value, "first frame")
    image = image[None] if image.ndim == 3 else image
    width, height = size
    if image.shape[-2:] != (height, width):
        raise ModelError(
            "bad-size",
            f"The first frame is {image.shape[-1]}x{image.shape[-2]} pixels but the tracking video {width}x{height}.",
            "Render or scale the first frame to the tracking video's size.",
        )
    if image.ndim != 4 or len(image) not in (1, batch_size):
        raise ModelError("bad-input", f"One first frame or a batch of {batch_size} is needed, not {list(image.shape)}.")
    return image.expand(batch_size, *image.shape[1:])


def check_shape(
    num_frames: int, size: tuple[int, int], transformer_config: Any, spatial_factor: int, temporal_factor: int
) -> None:
    """Raise ModelError if the transformer cannot take a video of `size` (width, height).

    The autoencoder has `spatial_factor` pixels per side of a latent cell and `temporal_factor` frames per latent frame.
    """
    width, height = size
    cell = spatial_factor * transformer_config.patch_size
    if width % cell or height % cell:
        fix = f"Choose multiples of {cell}."
        raise ModelError("bad-size", f"{width}x{height} pixels do not divide into cells of {cell}.", fix)
    if (num_frames - 1) % temporal_factor:
        fix = "Choose another frame count."
        raise ModelError("bad-frames", f"{num_frames} frames are not 1 plus a multiple of {temporal_factor}.", fix)
    patch_t = transformer_config.patch_size_t
    if patch_t and ((num_frames - 1) // temporal_factor + 1) % patch_t:
        raise ModelError(
            "bad-frames",
            f"{num_frames} frames do not fill the model's patches of {patch_t} latent frames.",
            "Choose another frame count.",
        )
    if transformer_config.use_learned_positional_embeddings:
        only = (transformer_config.sample_width * spatial_factor, transformer_config.sample_height * spatial_factor)
        if (width, height) != only:
            fix = "Use that size."
            raise ModelError("bad-size", f"This model takes {only[0]}x{only[1]} pixels, not {width}x{height}.", fix)
        if num_frames != transformer_config.sample_frames:
            raise ModelError(
                "bad-frames",
                f"This model takes {transformer_config.sample_frames} frames, not {num_frames}.",
                "Use that many.",
            )
