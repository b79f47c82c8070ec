# SPDX-License-Identifier: GPL-3.0-or-later
"""Still pictures without an imaging library: laid over the model's size, written as PNG, and compared."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackshade.errors import OutputError
from trackshade.fit import SizeFit

Picture = NDArray[np.uint8]
_LEAST_ERROR = 1e-6  # squared levels: equal pictures have a PSNR of 108 dB instead of an infinite one


def cover(picture: Picture, size: tuple[int, int]) -> Picture:
    """A picture scaled evenly until it covers `size`, and cut to it around its middle.

    Args:
        picture: [H, W, 3] uint8.
        size: (width, height) pixels.

    Returns:
        [height, width, 3] uint8; the picture itself where it has that size.
    """
    height, width = picture.shape[:2]
    if (width, height) == size:
        return picture
    scale = max(size[0] / width, size[1] / height)  # of the result's pixels per pixel of the picture
    offset = (size[0] - width * scale) / 2, (size[1] - height * scale) / 2
    return to_levels(resample(picture, size, (scale, scale), offset))


def lay(picture: Picture, fit: SizeFit) -> Picture:
    """A picture of the scene's frame, laid over the model's image as the shot was; edges are held around it.

    Args:
        picture: [H, W, 3] uint8, of any size: its whole is the whole of the scene's frame.

    Returns:
        [height, width, 3] uint8 of the model's size.
    """
    height, width = picture.shape[:2]
    scale = fit.scale[0] * fit.source[0] / width, fit.scale[1] * fit.source[1] / height
    return to_levels(resample(picture, fit.size, scale, fit.offset))


def cut_back(picture: NDArray[Any], fit: SizeFit, size: tuple[int, int]) -> NDArray[np.float64]:
    """A picture of the model's size [h, w, C] as the scene's frame, rendered at `size`: [height, width, C]. What the
    model did not see holds the picture's edges.
    """
    scale, offset = _back(fit, size)
    return resample(picture, size, scale, offset)


def look_back(picture: NDArray[Any], fit: SizeFit, size: tuple[int, int]) -> NDArray[Any]:
    """As `cut_back`, each pixel the nearest one of `picture`: for depths and indices, which must not be mixed."""
    (sx, sy), (ox, oy) = _back(fit, size)
    columns = (np.arange(size[0]) + 0.5 - ox) / sx
    rows = (np.arange(size[1]) + 0.5 - oy) / sy
    height, width = picture.shape[:2]
    return picture[np.clip(rows, 0, height - 1).astype(int)][:, np.clip(columns, 0, width - 1).astype(int)]


def seen_back(fit: SizeFit, size: tuple[int, int]) -> NDArray[np.bool_]:
    """[height, width]: which pixels of the scene's frame, rendered at `size`, lie in the model's image."""
    (sx, sy), (ox, oy) = _back(fit, size)
    columns = (np.arange(size[0]) + 0.5 - ox) / sx
    rows = (np.arange(size[1]) + 0.5 - oy) / sy
    inside = (columns > 0) & (columns < fit.size[0]), (rows > 0) & (rows < fit.size[1])
    return inside[1][:, None] & inside[0][None, :]


def _back(fit: SizeFit, size: tuple[int, int]) -> tuple[tuple[float, float], tuple[float, float]]:
    """(scale, offset) from the model's pixels to those of the frame at `size`."""
    sx, sy = fit.scale[0] * fit.source[0] / size[0], fit.scale[1] * fit.source[1] / size[1]
    return (1 / sx, 1 / sy), (-fit.offset[0] / sx, -fit.offset[1] / sy)


def resample(
    picture: NDArray[Any], size: tuple[int, int], scale: tuple[float, float], offset: tuple[float, float]
) -> NDArray[np.float64]:
    """[H, W, C] to [height, width, C]: new pixels are old ones times `scale` plus `offset`, each (x, y).

    A triangle filter, as wide as the larger of an old and a new pixel. Beyond the picture its edges are held.
    """
    rows = _weights(picture.shape[0], size[1], scale[1], offset[1])
    columns = _weights(picture.shape[1], size[0], scale[0], offset[0])
    height, width, channels = picture.shape
    mixed = (rows @ picture.reshape(height, -1).astype(np.float64)).reshape(-1, width, channels)
    mixed = columns @ mixed.transpose(1, 0, 2).reshape(width, -1)
    return np.ascontiguousarray(mixed.reshape(size[0], size[1], channels).transpose(1, 0, 2))


def to_levels(values: NDArray[np.float64]) -> Picture:
    """Values 0..255 as uint8."""
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def write_png(path: Path, picture: Picture) -> None:
    """Writes [H, W, 3] uint8 sRGB, as the PNG specification's simplest form.

    Raises:
        OutputError: the file cannot be written.
    """
    height, width = picture.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = picture.reshape(height, -1)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"sRGB", b"\0"),
        (b"IDAT", zlib.compress(rows.tobytes())),
        (b"IEND", b""),
    )
    chunks = (struct.pack(">I", len(data)) + kind + data + _checksum(kind + data) for kind, data in parts)
    try:
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    except OSError as error:
        raise OutputError(
            "output-unwritable",
            f"The picture cannot be written to {path}: {error.strerror or error}.",
            "Choose a folder that can be written and has space.",
        ) from error


def _checksum(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


def _weights(old: int, new: int, scale: float, offset: float) -> NDArray[np.float64]:
    """[new, old] weights of a triangle filter around where each new pixel's centre lies among the old ones."""
    centres = np.clip((np.arange(new) + 0.5 - offset) / scale, 0.5, old - 0.5)
    distances = np.abs(centres[:, None] - (np.arange(old) + 0.5))
    weights = np.maximum(0.0, 1.0 - distances * min(scale, 1.0))
    return weights / weights.sum(axis=1, keepdims=True)


def psnr(truth: np.ndarray, made: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and frames given, or over those of `mask` [T, H, W] bool; NaN
    where the mask is empty.
    """
    squares = (truth.astype(np.float32) - made.astype(np.float32)) ** 2
    if mask is not None:
        squares = squares[mask]
    if not squares.size:
        return float("nan")
    return float(-10 * np.log10(max(squares.mean(dtype=np.float64), _LEAST_ERROR) / 255**2))
