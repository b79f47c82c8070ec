# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged shot files and pictures: each gives what it holds, or a sentence."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path

import msgpack
import numpy as np
from PIL import Image

from tests.campaigns.mutants import damaged_bytes, damaged_value
from tests.campaigns.table import Row
from tests.helpers.shots import changing_shot, small_shot
from trackshade.cli.image_decoder import decode
from trackshade.shot import Shot
from trackshade.shot.file import MAGIC
from trackshade.shot.input_image import load_input_image


def shots(folder: Path, count: int, seed: int) -> Row:
    """Load damaged shot files: bytes anywhere, and values in the header."""
    row, rng = Row("shot files"), random.Random(seed)
    files = [small_shot().save(folder / "a.shot"), changing_shot().save(folder / "b.shot")]
    originals = [file.read_bytes() for file in files]
    target = folder / "damaged.shot"
    for number in range(count):
        data = rng.choice(originals)
        mutant = damaged_bytes(data, rng) if number % 2 else _with_damaged_header(data, rng)
        target.write_bytes(mutant)
        row.attempt(lambda: Shot.load(target), f"shot {number}")
    return row


def pictures(folder: Path, count: int, seed: int) -> Row:
    """Read damaged pictures of every format that Pillow writes here."""
    row, rng = Row("pictures"), random.Random(seed)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)
    originals = []
    for kind in ("png", "jpeg", "tiff", "webp", "bmp"):
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, kind)
        originals.append((kind, data.getvalue()))
    for number in range(count):
        kind, data = rng.choice(originals)
        target = folder / f"damaged.{kind}"
        target.write_bytes(damaged_bytes(data, rng))
        row.attempt(lambda path=target: load_input_image(path, decode), f"{kind} {number}")
    return row


def _with_damaged_header(data: bytes, rng: random.Random) -> bytes:
    """Replace a value in the header of a shot's file."""
    (length,) = struct.unpack("<Q", data[8:16])
    header = damaged_value(msgpack.unpackb(data[16 : 16 + length]), rng)
    try:
        packed = bytes(msgpack.packb(header) or b"")
    except (ValueError, OverflowError):  # msgpack has no such value
        return damaged_bytes(data, rng)
    return (MAGIC + struct.pack("<Q", len(packed)) + packed).ljust(16 + length, b"\0") + data[16 + length :]
