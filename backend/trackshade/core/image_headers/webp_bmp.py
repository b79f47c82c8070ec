# SPDX-License-Identifier: GPL-3.0-or-later
"""Headers of WebP and BMP files."""

from __future__ import annotations

import struct

from trackshade.core.image_headers.header import (
    MAX_PARTS,
    MAX_PIXELS,
    MAX_PROFILE,
    DamagedError,
    ExactReader,
    ImageHeader,
    require,
    support,
    with_profile,
)
from trackshade.core.image_headers.tiff import exif_orientation


def parse_webp(reader: ExactReader) -> ImageHeader:
    """Read the header of a WebP file. Raise DamagedError or UnsupportedError."""
    length = struct.unpack("<I", reader.take(12)[4:8])[0]
    kept = {b"VP8 ": 10, b"VP8L": 10, b"ANIM": 10, b"ALPH": 10, b"ICCP": MAX_PROFILE, b"EXIF": MAX_PROFILE}
    chunks: dict[bytes, bytes] = {}
    at = 4
    for _ in range(MAX_PARTS):
        if at + 8 > length:
            break
        kind, size = reader.unpack("<4sI")
        data = reader.take(0 if kind in chunks else min(size, kept.get(kind, 0)))
        if kind in kept:
            chunks.setdefault(kind, data)
        reader.skip(size + (size & 1) - len(data))
        at += 8 + size + (size & 1)
    support(b"ANIM" not in chunks, "is animated")
    alpha = b"ALPH" in chunks
    if len(frame := chunks.get(b"VP8 ", b"")) == 10 and frame[3:6] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", frame[6:10]))
    elif len(frame := chunks.get(b"VP8L", b"")) == 10 and frame[0] == 0x2F:
        word = int.from_bytes(frame[1:5], "little")
        width, height, alpha = (word & 0x3FFF) + 1, (word >> 14 & 0x3FFF) + 1, bool(word >> 28 & 1)
    else:
        raise DamagedError("it has no pixels")
    orientation = exif_orientation(chunks.get(b"EXIF", b"").removeprefix(b"Exif\0\0"))
    header = ImageHeader("WebP", (width, height), 8, "straight" if alpha else "none", orientation)
    return with_profile(header, chunks[b"ICCP"], "") if b"ICCP" in chunks else header


def check_webp(data: bytes) -> None:
    """Check that the file has the length that it states."""
    require(struct.unpack_from("<I", data, 4)[0] + 8 <= len(data), "its end is missing")


def parse_bmp(reader: ExactReader) -> ImageHeader:
    """Read the header of a BMP file. Raise DamagedError or UnsupportedError."""
    offset = struct.unpack("<I", reader.take(14)[10:14])[0]
    (length,) = reader.unpack("<I")
    support(length >= 40, "is a BMP of OS/2")
    width, height, planes, bits, compression, *_ = reader.unpack("<iiHHIIiiII")
    require(planes == 1 and height != -(1 << 31), "its header is not valid")
    is_usual = compression == 0 and bits in (1, 4, 8, 24)
    support(is_usual, "is a BMP of an unusual kind (24 bits, or 8 bits with a palette, are read)")
    end = offset + (width * bits + 31) // 32 * 4 * abs(height)
    if width > 0 and width * abs(height) <= MAX_PIXELS:
        require(reader.at(max(0, end - 1)).rest(1), "its end is missing")
    return ImageHeader("BMP", (width, abs(height)))
