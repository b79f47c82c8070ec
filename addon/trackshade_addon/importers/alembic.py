# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports Alembic at the frame rate of its samples. Blender's importer assumes the scene's rate instead."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path

import bpy

from .exchange import Imported, damaged_error, run, set_rate, unsupported_error

_HIGHEST_RATE = 1000.0  # frames per second; higher values are taken for errors
_HDF = b"\x89HDF\r\n\x1a\n"


def import_alembic(file: Path, animation: str | None) -> Imported:
    """Import an Alembic file with its frame range and rate.

    Raises:
        ShotError: the file is incomplete, or in the old HDF5 form.
    """
    rate = _rate(file, _root(file))
    scene = bpy.context.scene
    if rate is not None:
        set_rate(scene, rate)  # before the import, in which Blender turns seconds into frames
    run(file, bpy.ops.wm, "alembic_import", set_frame_range=True, as_background_job=False)
    still = scene.frame_end <= scene.frame_start
    return Imported(None if still else (scene.frame_start, scene.frame_end))


def _root(file: Path) -> list[int]:
    """Read the positions of the root group's children in an Ogawa file; [] if it is not an Ogawa file.

    Reading an incomplete file would crash the whole process, so this checks that it is complete. An Ogawa file begins
    with its magic, a byte that is 255 once the file is complete, and at byte 8 the position of the root group, which is
    written last: the number of children and their positions. The highest bit of a position marks data.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(16)
        if head.startswith(_HDF):
            raise unsupported_error(file, "it is Alembic's old HDF5 form", "Write it again in the Ogawa form.")
        if not head.startswith(b"Ogawa"):
            return []
        root = int.from_bytes(head[8:], "little")
        stream.seek(min(root, size))
        count = int.from_bytes(stream.read(8), "little")
        if len(head) == 16 and head[5] == 255 and 16 <= root <= size - 8 and 8 * count <= size - root - 8:
            places = struct.unpack(f"<{count}Q", stream.read(8 * count))
            if all(place & ~(1 << 63) <= size - 8 for place in places):
                return list(places)
    raise damaged_error(file, "it is cut short")


def _rate(file: Path, children: list[int]) -> float | None:
    """Return the frames per second in the archive's metadata, else of its finest uniform time sampling, else None.

    The root's children are: two versions, the objects, the metadata, the time samplings, and shared metadata.
    """
    if len(children) < 5:
        return None
    found = re.search(rb"FramesPerTimeUnit=([\d.]+)", _data(file, children[3]))
    rates = [] if found is None else [float(found[1])]
    rates = rates or _sampling_rates(_data(file, children[4]))
    plausible = [rate for rate in rates if math.isfinite(rate) and 0 < rate <= _HIGHEST_RATE]
    return max(plausible, default=None)


def _data(file: Path, place: int) -> bytes:
    """Read an Ogawa data block: its length, followed by the bytes."""
    with file.open("rb") as stream:
        stream.seek(place & ~(1 << 63))
        length = int.from_bytes(stream.read(8), "little")
        return stream.read(min(length, 1 << 20))


def _sampling_rates(data: bytes) -> list[float]:
    """Return the rates of the time samplings, each stored as: last sample, seconds of a cycle, samples."""
    rates, at = [], 0
    while at + 16 <= len(data):
        last, cycle, count = struct.unpack_from("<IdI", data, at)
        at += 16 + 8 * count
        if last > 1 and 0 < cycle < 1:  # the first one, with a cycle of one second, is for what does not move
            rates.append(1 / cycle)
    return rates
