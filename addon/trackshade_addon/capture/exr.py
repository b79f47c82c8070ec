# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of the uncompressed OpenEXR files that the add-on has Blender write: render results, and clay renders.

Blender cannot give the pixels of a single layer of such a file to a script, and OpenImageIO's Python module is missing
in the bpy packages and in some Linux distributions' Blender. Follows the OpenEXR File Layout specification
(openexr.com): one part, scan lines, uncompressed.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackshade.core.errors import ShotError

_MAGIC = b"v/1\x01"
_TILED_DEEP_OR_MULTI_PART = 0x1A00
_TYPES = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}


def read_channels(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read the channels of an OpenEXR file.

    Returns:
        [H, W] values by channel, such as "View Layer.Combined.R"; top row first.

    Raises:
        ShotError: The file cannot be read, or it is tiled, compressed, deep or of several parts.
    """
    try:
        data = path.read_bytes()
        if data[:4] != _MAGIC or struct.unpack_from("<I", data, 4)[0] & _TILED_DEEP_OR_MULTI_PART:
            raise ValueError("it is not an OpenEXR file of one part in scan lines")
        header, end = _parse_header(data)
        if header["compression"] != b"\0":
            raise ValueError("it is compressed")
        left, top, right, bottom = struct.unpack("<4i", header["dataWindow"])
        width, height = right - left + 1, bottom - top + 1
        names, types = _parse_channel_list(header["channels"])
        line = np.dtype([("y", "<i4"), ("size", "<i4"), *((str(i), kind, width) for i, kind in enumerate(types))])
        lines = np.frombuffer(data, line, height, end + 8 * height)  # after the table of offsets
        order = np.argsort(lines["y"])
        return {name: lines[str(i)][order].astype(np.float32) for i, name in enumerate(names)}
    except (OSError, ValueError, KeyError, IndexError, struct.error) as error:
        raise ShotError("bad-picture", f"{path} cannot be read: {error}.", "Render the export again.") from error


def _parse_header(data: bytes) -> tuple[dict[str, bytes], int]:
    """Return the attributes by name, and the offset of what follows the header."""
    attributes, offset = {}, 8
    while data[offset]:
        name, offset = _parse_string(data, offset)
        _, offset = _parse_string(data, offset)  # the attribute's type
        (size,) = struct.unpack_from("<i", data, offset)
        attributes[name] = data[offset + 4 : offset + 4 + size]
        offset += 4 + size
    return attributes, offset + 1


def _parse_channel_list(data: bytes) -> tuple[list[str], list[np.dtype]]:
    names, types, offset = [], [], 0
    while data[offset]:
        name, offset = _parse_string(data, offset)
        pixel_type, _, *sampling = struct.unpack_from("<iiii", data, offset)
        if sampling != [1, 1]:
            raise ValueError(f"its channel {name} is subsampled")
        names.append(name)
        types.append(_TYPES[pixel_type])
        offset += 16
    return names, types


def _parse_string(data: bytes, offset: int) -> tuple[str, int]:
    end = data.index(b"\0", offset)
    return data[offset:end].decode(), end + 1
