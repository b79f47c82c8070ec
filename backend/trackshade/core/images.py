# SPDX-License-Identifier: GPL-3.0-or-later
"""Still pictures without an imaging library: resampled, cut back to the scene's frame, written as PNG, and compared."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackshade.core.errors import OutputError
from trackshade.core.fitting import SizeFit

Picture = NDArray[np.uint8]
_ROWS = 64  # of a picture that are resampled at a time
_LEAST_ERROR = 1e-6  # squared levels: equal pictures have a PSNR of 108 dB instead of an infinite one


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
    picture: NDArray[Any],
    size: tuple[int, int],
    scale: tuple[float, float],
    offset: tuple[float, float],
    values: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
) -> NDArray[np.float64]:
    """[H, W, C] to [height, width, C]: new pixels are old ones times `scale` plus `offset`, each (x, y).

    A triangle filter, as wide as the larger of an old and a new pixel. Beyond the picture its edges are held.

    Args:
        values: what is averaged, of some rows [h, W, C]; the picture's own values where it is left out.
    """
    columns = _filtered(picture, size[1], scale[1], offset[1], values)
    rows = _filtered(columns.transpose(1, 0, 2), size[0], scale[0], offset[0])
    return np.ascontiguousarray(rows.transpose(1, 0, 2))


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


def _filtered(
    picture: NDArray[Any],
    new: int,
    scale: float,
    offset: float,
    values: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
) -> NDArray[np.float64]:
    """[H, W, C] to [new, W, C]: a triangle filter around where each new row's center lies among the old ones.

    It goes over a few old rows at a time: only the new rows that they touch are computed, and only they are converted.
    """
    old = len(picture)
    centers = np.clip((np.arange(new) + 0.5 - offset) / scale, 0.5, old - 0.5)  # ascending
    reach = max(1.0, 1.0 / scale)
    made, shape, total = None, (), np.zeros(new)
    for start in range(0, old, _ROWS):
        end = min(start + _ROWS, old)
        first, last = np.searchsorted(centers, (start + 0.5 - reach, end - 0.5 + reach))
        block = np.asarray(picture[start:end] if values is None else values(picture[start:end]), np.float64)
        if made is None:
            shape = block.shape[1:]
            made = np.zeros((new, shape[0] * shape[1]))
        distances = np.abs(centers[first:last, None] - (np.arange(start, end) + 0.5))
        weights = np.maximum(0.0, 1.0 - distances / reach)
        total[first:last] += weights.sum(axis=1)
        made[first:last] += weights @ block.reshape(end - start, -1)
    assert made is not None
    made /= total[:, None]
    return made.reshape(new, *shape)


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
