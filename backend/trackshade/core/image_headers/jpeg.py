# SPDX-License-Identifier: GPL-3.0-or-later
"""Headers of JPEG files, and whether all pixels are there."""

from __future__ import annotations

import io
import struct
from dataclasses import replace

from trackshade.core.color_profiles import named_encoding
from trackshade.core.image_headers.header import (
    CMYK,
    MAX_PARTS,
    DamagedError,
    ExactReader,
    ImageHeader,
    require,
    support,
    with_encoding,
    with_profile,
)
from trackshade.core.image_headers.tiff import exif_orientation, exif_says_adobe


def parse_jpeg(reader: ExactReader) -> ImageHeader:
    """Read the header of a JPEG file. Raise DamagedError or UnsupportedError."""
    reader.take(2)
    profile: dict[int, bytes] = {}
    exif, size, components = b"", None, 0
    for _ in range(MAX_PARTS):
        marker = _jpeg_marker(reader)
        if marker in (0x01, *range(0xD0, 0xD9)):
            continue
        if marker in (0xD9, 0xDA):
            break
        length = reader.unpack(">H")[0] - 2
        require(length >= 0, "a part of it has no length")
        body = reader.take(length)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            support(marker <= 0xC2, "is a JPEG of a rare kind (lossless or arithmetic coding)")
            precision, height, width, components = struct.unpack_from(">BHHB", body)
            support(precision == 8, f"is a JPEG of {precision} bits")
            size = width, height
        elif marker == 0xE1 and body.startswith(b"Exif\0\0") and not exif:
            exif = body[6:]
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            profile[body[12]] = body[14:]
    if size is None:
        raise DamagedError("it has no header")
    support(components in (1, 3, 4), f"has {components} channels")
    header = ImageHeader("JPEG", size, orientation=exif_orientation(exif))
    if components == 4:
        return replace(header, warnings=(CMYK,))
    if profile:
        return with_profile(header, b"".join(profile[number] for number in sorted(profile)), "")
    if exif_says_adobe(exif):
        return with_encoding(header, named_encoding("Adobe RGB"))
    return header


def _jpeg_marker(reader: ExactReader) -> int:
    byte = reader.take(1)[0]
    require(byte == 0xFF, "a part of it begins in the wrong place")
    while byte == 0xFF:
        byte = reader.take(1)[0]
    return byte


def check_jpeg(data: bytes) -> None:
    """Check that there are pixels and an end marker. Data after it, as some phones append, is ignored."""
    file = io.BytesIO(data)
    reader = ExactReader(file)
    reader.skip(2)
    while (marker := _jpeg_marker(reader)) != 0xDA:  # start of scan; an earlier segment may hold a whole JPEG thumbnail
        require(marker != 0xD9, "it has no pixels")
        if marker != 0x01 and not 0xD0 <= marker <= 0xD8:
            reader.skip(reader.unpack(">H")[0] - 2)
    require(data.find(b"\xff\xd9", file.tell()) >= 0, "its end is missing")
