# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that decide which pixels of a surface are drawn, as a shot has them."""

from __future__ import annotations

import bpy
import numpy as np
from numpy.typing import NDArray

from trackshade.shot import Cutout
from trackshade.shot.parts import EXTENSIONS

from .shader_math import LUMINANCE
from .shader_nodes import DATA_SPACES, LINEAR_SPACES, Source

MOST = 2048  # texels along a side; larger images are averaged down to it
_CHANNELS = {"red": 0, "green": 1, "blue": 2, "alpha": 3}


class Cutouts:
    """The cut-outs of a capture; those that are alike are one.

    Attributes:
        found: in the order of their numbers.
    """

    def __init__(self) -> None:
        self.found: list[Cutout] = []
        self._images: dict[tuple[int, str], NDArray[np.uint8] | None] = {}
        self._numbers: dict[tuple[Source, tuple[bool, ...]], int] = {}

    def of(self, image: bpy.types.Image, source: Source, opaque: tuple[bool, ...]) -> int | bool:
        """The number of a cut-out; True where all of the image is opaque, False where nothing is.

        An image that has no pixels to read counts as opaque, as it renders.
        """
        key = source, opaque
        if key in self._numbers:
            return self._numbers[key]
        place = source.image, source.channel
        if place not in self._images:
            self._images[place] = _read(image, source.channel)
        values, flags = self._images[place], np.array(opaque, np.bool_)
        if values is None:
            return True
        drawn = flags[np.unique(values)]
        outside = source.extension == "CLIP"  # then the image's surroundings have the value 0
        if not source.smooth and (drawn.all() or not drawn.any()) and not (outside and flags[0] != drawn[0]):
            return bool(drawn.all())
        if source.smooth and _alike(flags, values, outside):
            return bool(flags[values.flat[0]])
        extension = source.extension if source.extension in EXTENSIONS else "REPEAT"
        matrix = np.array(source.matrix, np.float64).reshape(2, 3)
        self._numbers[key] = len(self.found)
        self.found.append(Cutout(values, flags, matrix, extension, source.smooth))
        return self._numbers[key]


def _alike(flags: NDArray[np.bool_], values: NDArray[np.uint8], outside: bool) -> bool:
    """Whether all interpolated values are drawn, or none of them."""
    low, high = (0 if outside else int(values.min())), int(values.max())
    return bool((flags[low : high + 1] == flags[low]).all())


def _read(image: bpy.types.Image, channel: str) -> NDArray[np.uint8] | None:
    """[H, W] a channel of an image, its bottom row first; None where there is nothing to read."""
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
        chosen = color if channel == "grey" else color[..., _CHANNELS[channel]]
        values = _LINEAR[(np.clip(chosen, 0, 1) * 255 + 0.5).astype(np.uint8)]
        values = values @ LUMINANCE.astype(np.float32) if channel == "grey" else values
    if not data and image.alpha_mode in ("STRAIGHT", "PREMUL"):  # renders have no color where there is no alpha
        values = np.where(alpha > 0, values, 0)
    return _levels(values)


def _levels(values: np.ndarray) -> NDArray[np.uint8]:
    return (np.clip(_smaller(values), 0, 1) * 255 + 0.5).astype(np.uint8)


def _linear() -> NDArray[np.float32]:
    """[256] the light of sRGB's levels."""
    level = np.arange(256) / 255
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4).astype(np.float32)


_LINEAR = _linear()


def _smaller(values: np.ndarray) -> np.ndarray:
    """An image [H, W] of at most `MOST` texels along a side, each the mean of whole texels."""
    height, width = values.shape
    factor = -(-max(height, width) // MOST)
    if factor == 1:
        return values
    rows, columns = max(1, height // factor), max(1, width // factor)
    tall, wide = min(factor, height), min(factor, width)
    return values[: rows * tall, : columns * wide].reshape(rows, tall, columns, wide).mean(axis=(1, 3))
