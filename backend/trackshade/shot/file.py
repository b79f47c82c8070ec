# SPDX-License-Identifier: GPL-3.0-or-later
r"""The shot's file: magic, one msgpack header, then raw little-endian buffers, each aligned to 64 bytes.

bytes 0..7    b"TRKSHOT\x01"
bytes 8..15   length of the header, unsigned little-endian
then          the header of `encode_shot`, its arrays with "offset" from the start of the file
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from io import FileIO
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from trackshade.core.atomic_files import atomic_file, writing
from trackshade.core.errors import OutputError, ShotError
from trackshade.shot.encoding import array_specs

MAGIC = b"TRKSHOT\x01"
LIGHT_SUFFIX = ".light.npy"  # of the clay renders beside a shot file: [T, h, w, 3] float16, scene-linear
_ALIGN = 64
_MAX_HEADER = 1 << 28
_BLOCK = 1 << 24  # bytes that are read at once


def write_file(path: Path, header: dict[str, Any], arrays: list[np.ndarray], force: bool) -> Path:
    """Write a header and its arrays; see `Shot.save`."""
    if path.exists() and not force:
        raise OutputError("output-exists", f"{path} exists and was kept.", "Use --force to replace it.")
    packed, offsets = _pack(header, [array.nbytes for array in arrays])
    with writing("The shot", path), atomic_file(path) as partial, partial.open("xb") as file:
        file.write(MAGIC + struct.pack("<Q", len(packed)) + packed)
        for array, offset in zip(arrays, offsets, strict=True):
            file.seek(offset)
            file.write(array.reshape(-1).view(np.uint8).data)
        file.truncate(max(file.tell(), len(MAGIC) + 8 + len(packed)))
    return path


def read_file(path: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Read a header and its arrays; see `Shot.load`.

    The arrays are copies: pages of a mapped file are lost, and end the process, when another program shortens the file.
    """
    try:
        with path.open("rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            header = _read_header(path, file, before.st_size)
            places = _places(path, header, before.st_size)
            end = max((offset + nbytes for offset, nbytes in places), default=0)
            buffer = _read_bytes(file, end)
            after = os.fstat(file.fileno())
    except FileNotFoundError as error:
        raise ShotError("missing-file", f"There is no file {path}.", "Check the path.") from error
    except (MemoryError, OverflowError) as error:
        raise ShotError(
            "shot-too-large", f"There is too little memory for {path}.", "Export fewer frames or simpler meshes."
        ) from error
    except OSError as error:
        raise ShotError("unreadable-file", f"{path} cannot be read: {error.strerror or error}.") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ShotError("damaged-shot", f"{path} was changed while it was read.", "Try again.")
    arrays = []
    for (dtype, shape), (offset, nbytes) in zip(array_specs(header), places, strict=True):
        array = np.frombuffer(buffer, dtype, nbytes // dtype.itemsize, offset).reshape(shape)
        array.flags.writeable = False
        arrays.append(array)
    return header, arrays


def _read_header(path: Path, file: FileIO, size: int) -> dict[str, Any]:
    """Read the beginning of a file of `size` bytes."""
    head = file.read(16) or b""
    if len(head) < 16 or head[:7] != MAGIC[:7]:
        raise ShotError("not-a-shot", f"{path} is not a shot file.", "Make one with: trackshade export SCENE")
    if head[7] != MAGIC[7]:
        raise ShotError(
            "shot-too-new",
            f"{path} has file format {head[7]}; this Trackshade reads {MAGIC[7]}.",
            "Update Trackshade on this side.",
        )
    (length,) = struct.unpack("<Q", head[8:])
    if length > min(_MAX_HEADER, size - 16):
        raise _damaged(path, "its header is cut short")
    try:
        header = msgpack.unpackb(file.read(length) or b"", strict_map_key=True)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise _damaged(path, "its header cannot be read") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a map")
    return header


def _places(path: Path, header: dict[str, Any], size: int) -> list[tuple[int, int]]:
    """Return offset and number of bytes of each array of a header in a file of `size` bytes."""
    places = []
    for (dtype, shape), item in zip(array_specs(header), header["arrays"], strict=True):
        offset, nbytes = item.get("offset"), math.prod(shape) * dtype.itemsize
        if type(offset) is not int or offset < 16 or offset + nbytes > size:
            raise _damaged(path, "an array is cut short")
        places.append((offset, nbytes))
    return places


def _read_bytes(file: FileIO, count: int) -> mmap.mmap:
    """Read the first `count` bytes into pages of their own; bytes that the file no longer has are 0."""
    buffer = mmap.mmap(-1, max(1, count))
    file.seek(0)
    with memoryview(buffer) as view:
        position = 0
        while position < count and (done := file.readinto(view[position : position + _BLOCK])):
            position += done
    return buffer


def _pack(header: dict[str, Any], sizes: list[int]) -> tuple[bytes, list[int]]:
    """Return the packed header with each array's offset in it; the offsets depend on the header's length."""
    start = 0
    while True:
        offsets, position = [], start
        for nbytes in sizes:
            offsets.append(position)
            position += -(-nbytes // _ALIGN) * _ALIGN
        for item, offset in zip(header["arrays"], offsets, strict=True):
            item["offset"] = offset
        packed = bytes(msgpack.packb(header) or b"")
        needed = -(-(len(MAGIC) + 8 + len(packed)) // _ALIGN) * _ALIGN
        if needed <= start:
            return packed, offsets
        start = needed


def _damaged(path: Path, what: str) -> ShotError:
    return ShotError("damaged-shot", f"{path} is damaged: {what}.", "Export the shot again.")
