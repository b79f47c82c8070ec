# SPDX-License-Identifier: GPL-3.0-or-later
"""Still pictures without an imaging library: laid over the model's size, and written as PNG."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackshade.errors import OutputError

Picture = NDArray[np.uint8]


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
    rows = _weights(height, size[1], scale)
    columns = _weights(width, size[0], scale)
    mixed = np.einsum("ih,hwc->iwc", rows, picture.astype(np.float64))
    mixed = np.einsum("jw,iwc->ijc", columns, mixed)
    return np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)


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


def _weights(old: int, new: int, scale: float) -> NDArray[np.float64]:
    """[new, old] weights of a triangle filter over the middle `new / scale` pixels of `old`."""
    centres = (np.arange(new) + 0.5 - new / 2) / scale + old / 2
    distances = np.abs(centres[:, None] - (np.arange(old) + 0.5))
    weights = np.maximum(0.0, 1.0 - distances * min(scale, 1.0))
    return weights / weights.sum(axis=1, keepdims=True)
