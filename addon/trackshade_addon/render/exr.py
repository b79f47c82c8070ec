# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the uncompressed multi-layer OpenEXR files that Blender writes for us: one part, scan lines, whole channels.

By the format's specification ("OpenEXR File Layout", openexr.com).
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackshade.core.errors import ShotError

_MAGIC = b"v/1\x01"
_TYPES = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}


def read_channels(path: Path) -> dict[str, NDArray[np.float32]]:
    """[H, W] float32 by channel, such as "View Layer.Combined.R"; top row first.

    Raises:
        ShotError: the file cannot be read, or is of another kind.
    """
    try:
        data = path.read_bytes()
        if data[:4] != _MAGIC or struct.unpack_from("<I", data, 4)[0] & 0x1A00:  # tiled, deep or of several parts
            raise ValueError("it is no plain OpenEXR file")
        header, start = _header(data)
        if header["compression"] != b"\0":
            raise ValueError("it is compressed")
        left, top, right, bottom = struct.unpack("<4i", header["dataWindow"])
        width, height = right - left + 1, bottom - top + 1
        names, types = _channels(header["channels"])
        row = np.dtype([("y", "<i4"), ("size", "<i4"), *((str(i), kind, width) for i, kind in enumerate(types))])
        rows = np.frombuffer(data, row, height, start + 8 * height)  # after the table of where each line starts
        order = np.argsort(rows["y"])
        return {name: rows[str(i)][order].astype(np.float32) for i, name in enumerate(names)}
    except (OSError, ValueError, KeyError, IndexError, struct.error) as error:
        raise ShotError("bad-picture", f"{path} cannot be read: {error}.", "Render the export again.") from error


def _header(data: bytes) -> tuple[dict[str, bytes], int]:
    """The attributes, and where the file goes on."""
    found, at = {}, 8
    while data[at]:
        name, at = _text(data, at)
        _, at = _text(data, at)
        (size,) = struct.unpack_from("<i", data, at)
        found[name] = data[at + 4 : at + 4 + size]
        at += 4 + size
    return found, at + 1


def _channels(data: bytes) -> tuple[list[str], list[np.dtype]]:
    names, types, at = [], [], 0
    while data[at]:
        name, at = _text(data, at)
        kind, _, x, y = struct.unpack_from("<iiii", data, at)
        if (x, y) != (1, 1):
            raise ValueError(f"its channel {name} is thinned out")
        names.append(name)
        types.append(_TYPES[kind])
        at += 16
    return names, types


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at)
    return data[at:end].decode(), end + 1
