# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports Alembic, at the rate that its samples were taken at. Blender's importer takes the scene's rate for theirs."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path

import bpy

from .exchange import Imported, run, set_rate
from .refusals import damaged, unsupported

_HIGHEST_RATE = 1000.0  # frames per second that are believed
_HDF = b"\x89HDF\r\n\x1a\n"


def import_alembic(file: Path, animation: str | None) -> Imported:
    """Imports an Alembic file with its range and rate.

    Raises:
        ShotError: it was cut short, or is of the old HDF5 form.
    """
    children = _root(file)
    rate = _rate(file, children)
    scene = bpy.context.scene
    if rate is not None:
        set_rate(scene, rate)  # before: Blender turns seconds into frames as it imports
    run(file, bpy.ops.wm, "alembic_import", set_frame_range=True, as_background_job=False)
    still = scene.frame_end <= scene.frame_start
    return Imported(None if still else (scene.frame_start, scene.frame_end))


def _root(file: Path) -> list[int]:
    """Where the parts of an Ogawa file begin; empty for what is no Ogawa file.

    Reading a file that was not written to its end would end the whole process. An Ogawa file starts with its magic, a
    byte that is 255 once it is complete, and at byte 8 the position of the root group, which is written last: a count
    of children and their positions, the highest bit a flag that tells data from groups.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(16)
        if head.startswith(_HDF):
            raise unsupported(file, "it is Alembic's old HDF5 form", "Write it again in the Ogawa form.")
        if not head.startswith(b"Ogawa"):
            return []
        places: tuple[int, ...] = ()
        complete = len(head) == 16 and head[5] == 255
        if complete:
            root = int.from_bytes(head[8:], "little")
            stream.seek(min(root, size))
            count = int.from_bytes(stream.read(8), "little")
            complete = 16 <= root <= size - 8 and 8 * count <= size - root - 8
            if complete:
                places = struct.unpack(f"<{count}Q", stream.read(8 * count))
                complete = all(place & ~(1 << 63) <= size - 8 for place in places)
    if not complete:
        raise damaged(file, "it is cut short")
    return list(places)


def _rate(file: Path, children: list[int]) -> float | None:
    """Frames per second: as the archive's metadata say, else of its finest uniform sampling; None for neither.

    The root's children are: two versions, the objects, the metadata, the samplings, and shared metadata.
    """
    if len(children) < 5:
        return None
    said = re.search(rb"FramesPerTimeUnit=([\d.]+)", _data(file, children[3]))
    rates = [] if said is None else [float(said[1])]
    rates = rates or _sampled(_data(file, children[4]))
    believed = [rate for rate in rates if math.isfinite(rate) and 0 < rate <= _HIGHEST_RATE]
    return max(believed, default=None)


def _data(file: Path, place: int) -> bytes:
    """The bytes of an Ogawa data block, behind their length."""
    with file.open("rb") as stream:
        stream.seek(place & ~(1 << 63))
        length = int.from_bytes(stream.read(8), "little")
        return stream.read(min(length, 1 << 20))


def _sampled(data: bytes) -> list[float]:
    """The rates of the time samplings: each has a last sample, seconds of a cycle, and the samples in it."""
    rates, at = [], 0
    while at + 16 <= len(data):
        last, cycle, count = struct.unpack_from("<IdI", data, at)
        at += 16 + 8 * count
        if last > 1 and 0 < cycle < 1:  # the first one stands for what has no time, a cycle of one second
            rates.append(1 / cycle)
    return rates
