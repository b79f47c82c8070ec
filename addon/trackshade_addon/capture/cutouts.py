# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that cut out surfaces: which of their pixels are drawn."""

from __future__ import annotations

import bpy
import numpy as np
from numpy.typing import NDArray

from trackshade.core.colors import srgb_to_linear
from trackshade.shot import Cutout
from trackshade.shot.parts import EXTENSIONS

from .shader_math import LUMINANCE
from .shader_values import DATA_SPACES, LINEAR_SPACES, ImageChannel

MAX_SIDE = 2048  # texels along a side; larger images are averaged down to it
_CHANNELS = {"red": 0, "green": 1, "blue": 2, "alpha": 3}


class Cutouts:
    """The cutouts of a capture, each once.

    Attributes:
        found: the cutouts by index.
    """

    def __init__(self) -> None:
        self.found: list[Cutout] = []
        self._images: dict[tuple[int, str], NDArray[np.uint8] | None] = {}
        self._indices: dict[tuple[ImageChannel, tuple[bool, ...]], int] = {}

    def add(self, image: bpy.types.Image, source: ImageChannel, opaque: tuple[bool, ...]) -> int | bool:
        """Adds a cutout.

        Args:
            image: the image.
            source: the channel, and how it is mapped to the surface.
            opaque: for each of the channel's 256 levels, whether it is drawn.

        Returns:
            The cutout's index; True if the whole image is drawn, False if nothing is. An image without readable pixels
            renders opaque, so it is drawn.
        """
        key = source, opaque
        if key in self._indices:
            return self._indices[key]
        channel = source.image, source.channel
        if channel not in self._images:
            self._images[channel] = _read(image, source.channel)
        values, flags = self._images[channel], np.array(opaque, np.bool_)
        if values is None:
            return True
        drawn = flags[np.unique(values)]
        outside = source.extension == "CLIP"  # the value is 0 outside of the image
        if not source.smooth and (drawn.all() or not drawn.any()) and not (outside and flags[0] != drawn[0]):
            return bool(drawn.all())
        if source.smooth and _is_uniform(flags, values, outside):
            return bool(flags[values.flat[0]])
        extension = source.extension if source.extension in EXTENSIONS else "REPEAT"
        matrix = np.array(source.matrix, np.float64).reshape(2, 3)
        self._indices[key] = len(self.found)
        self.found.append(Cutout(values, flags, matrix, extension, source.smooth))
        return self._indices[key]


def _is_uniform(flags: NDArray[np.bool_], values: NDArray[np.uint8], outside: bool) -> bool:
    """Whether all interpolated values are drawn, or none are."""
    low, high = (0 if outside else int(values.min())), int(values.max())
    return bool((flags[low : high + 1] == flags[low]).all())


def _read(image: bpy.types.Image, channel: str) -> NDArray[np.uint8] | None:
    """Reads a channel [H, W] of an image, bottom row first, as levels 0 to 255; None if it has no pixels."""
    width, height = image.size
    channels = image.channels
    if not width or not height or not channels or (not image.has_data and not len(image.pixels)):
        return None
    pixels = np.empty(width * height * channels, np.float32)
    image.pixels.foreach_get(pixels)
    pixels = pixels.reshape(height, width, channels)
    alpha = pixels[..., 3] if channels == 4 else np.ones((height, width), np.float32)
    if channel == "alpha":
        return _levels(alpha)
    data = image.colorspace_settings.name in DATA_SPACES
    color = np.repeat(pixels[..., :1], 3, axis=-1) if channels < 3 else pixels[..., :3]
    if image.is_float or data or image.colorspace_settings.name in LINEAR_SPACES:
        values = color @ LUMINANCE if channel == "grey" else color[..., _CHANNELS[channel]]
    else:
        selected = color if channel == "grey" else color[..., _CHANNELS[channel]]
        values = _SRGB_TO_LINEAR[(np.clip(selected, 0, 1) * 255 + 0.5).astype(np.uint8)]
        values = values @ LUMINANCE.astype(np.float32) if channel == "grey" else values
    if not data and image.alpha_mode in ("STRAIGHT", "PREMUL"):  # renders are black where alpha is 0
        values = np.where(alpha > 0, values, 0)
    return _levels(values)


def _levels(values: np.ndarray) -> NDArray[np.uint8]:
    return (np.clip(_downscale(values), 0, 1) * 255 + 0.5).astype(np.uint8)


_SRGB_TO_LINEAR = srgb_to_linear(np.arange(256) / 255).astype(np.float32)  # [256]


def _downscale(values: np.ndarray) -> np.ndarray:
    """Reduces an image [H, W] to at most `MAX_SIDE` texels along a side by averaging blocks of texels."""
    height, width = values.shape
    factor = -(-max(height, width) // MAX_SIDE)
    if factor == 1:
        return values
    rows, columns = max(1, height // factor), max(1, width // factor)
    tall, wide = min(factor, height), min(factor, width)
    return values[: rows * tall, : columns * wide].reshape(rows, tall, columns, wide).mean(axis=(1, 3))
