# SPDX-License-Identifier: GPL-3.0-or-later
"""Still images without an imaging library: written as PNG, and compared."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackshade.core.atomic_files import writing

_MIN_SQUARED_ERROR = 1e-6  # squared levels: equal images have a PSNR of 108 dB instead of an infinite one


def write_png(
    path: Path,
    image: NDArray[np.uint8],  # [H, W, 3] sRGB, or [H, W, 4] with straight alpha
) -> None:
    """Write an image as a PNG file in its simplest form (PNG specification, third edition). Raise OutputError."""
    height, width, channels = image.shape
    rows: np.ndarray = np.zeros((height, 1 + channels * width), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = image.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 6, 0, 0, 0)
    parts = {b"IHDR": header, b"sRGB": b"\0", b"IDAT": zlib.compress(rows.tobytes()), b"IEND": b""}
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    )
    with writing("The picture", path):
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def psnr(
    truth: np.ndarray,  # [..., H, W, C], levels 0..255
    image: np.ndarray,  # the same shape
    mask: np.ndarray | None = None,  # [..., H, W] bool
) -> float:
    """Compute the peak signal-to-noise ratio in dB over all pixels, or those of `mask`; NaN if that is empty."""
    squares = (truth.astype(np.float32) - image.astype(np.float32)) ** 2
    if mask is not None:
        squares = squares[mask]
    if not squares.size:
        return float("nan")
    return float(-10 * np.log10(max(squares.mean(dtype=np.float64), _MIN_SQUARED_ERROR) / 255**2))
