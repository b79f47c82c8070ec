# SPDX-License-Identifier: GPL-3.0-or-later
"""Headers of TIFF files, whether all pixels are there, and the EXIF blocks of other files, which have their layout."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace

from trackshade.core.image_headers.header import (
    CMYK,
    MAX_PIXELS,
    MAX_PROFILE,
    DamagedError,
    ExactReader,
    ImageHeader,
    require,
    support,
    with_profile,
)

_TIFF_LAYOUTS = {1: "B", 2: "s", 3: "H", 4: "I", 6: "b", 7: "s", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_TIFF_CMYK = 5
_TIFF_COMPRESSIONS = (1, 5, 8, 32946, 32773)  # none, LZW, deflate (two numbers), PackBits


class _TiffTags(dict[int, "tuple | bytes"]):
    """The tags of a directory: text and bytes as bytes, numbers as a tuple."""

    def first(self, tag: int, default: int) -> int:
        """Return the first number of a tag."""
        values = self.get(tag, ())
        return int(values[0]) if values and not isinstance(values, bytes) else default


def parse_tiff(reader: ExactReader) -> ImageHeader:
    """Read the header of a TIFF file. Raise DamagedError or UnsupportedError."""
    tags, after = _tiff_tags(reader)
    first = tags.first
    size = first(256, 0), first(257, 0)
    samples, bits, kind = first(277, 1), set(tags.get(258, (1,))), first(339, 1)
    photometric, compression = first(262, 1), first(259, 1)
    depth = int(bits.pop()) if len(bits) == 1 else 0
    base = {2: 3, _TIFF_CMYK: 4}.get(photometric, 1)
    channels = (base,) if photometric in (3, _TIFF_CMYK) else (base, base + 1)
    support(
        compression in _TIFF_COMPRESSIONS,
        f"is a TIFF with compression {compression} (LZW, deflate, PackBits or none are read)",
    )
    support(
        photometric in (0, 1, 2, 3, _TIFF_CMYK),
        f"is a TIFF whose colors are of kind {photometric} (RGB, CMYK, gray or a palette are read)",
    )
    is_usual = depth in (1, 8, 16, 32) and kind in (1, 3)
    support(is_usual, "is a TIFF of an unusual depth (8, 16 bits or floating point are read)")
    support(depth in (16, 32) if kind == 3 else depth != 32, "is a TIFF of 32-bit whole numbers")
    support(samples in channels and (depth > 1 or samples == 1), f"is a TIFF with {samples} channels")
    _check_tiff_strips(reader, tags, depth, samples, size)
    alpha = "none" if samples == base else "premultiplied" if first(338, 0) == 1 else "straight"
    header = ImageHeader("TIFF", size, max(8, depth), alpha, _orientation(first(274, 1)))
    if kind == 3:
        return replace(header, bits=32, linear_space="Linear Rec.709")
    if after:
        header = replace(header, notes=("Only the first of its pages is used.",))
    if photometric == _TIFF_CMYK:
        return replace(header, warnings=(CMYK,))
    profile = tags.get(34675, b"")
    if not profile:
        return header
    if not isinstance(profile, bytes):
        profile = bytes(profile) if all(0 <= value < 256 for value in profile) else b""  # b"" cannot be applied
    return with_profile(header, profile, "")


def _tiff_tags(reader: ExactReader) -> tuple[_TiffTags, int]:
    """Read the first directory of a TIFF file or an EXIF block: its tags, and the next directory's offset or 0."""
    start = reader.at(0).take(8)
    order = {b"II": "<", b"MM": ">"}.get(start[:2], "")
    version = struct.unpack(order + "H", start[2:4])[0] if order else 0
    require(version in (42, 43), "it has no header")
    position = struct.unpack(order + "I", start[4:])[0] if version == 42 else reader.unpack(order + "Q")[0]
    return _tiff_directory(reader, position, order, big=version == 43)


def _tiff_directory(reader: ExactReader, position: int, order: str, big: bool) -> tuple[_TiffTags, int]:
    entry, size = (order + "HHQ8s", 8) if big else (order + "HHI4s", 4)
    count = reader.at(position).unpack(order + ("Q" if big else "H"))[0]
    require(count <= 4096, "its directory is too long")
    entries = [reader.unpack(entry) for _ in range(count)]
    after = reader.rest(size)
    tags = _TiffTags()
    for tag, kind, number, value in entries:
        letter = _TIFF_LAYOUTS.get(kind)
        if letter is None or tag not in _TIFF_WANTED or not number:  # an empty tag is ignored
            continue
        length = number * struct.calcsize(letter)
        require(length <= MAX_PROFILE, "a part of it is too long")
        if length > size:
            where = struct.unpack(order + ("Q" if big else "I"), value)[0]
            value = reader.at(where).take(length)
        value = value[:length]
        tags[tag] = value if letter == "s" else struct.unpack(f"{order}{number}{letter}", value)
    return tags, int.from_bytes(after, "little")


_TIFF_WANTED = {254, 256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 322, 323, 324, 325, 338, 339, 34675, 1,
                0x8769, 0xA005}  # fmt: skip


def _check_tiff_strips(reader: ExactReader, tags: _TiffTags, depth: int, samples: int, size: tuple) -> None:
    """Raise DamagedError where pixels lie beyond the end of the file, or are fewer than the size says."""
    for offset, count in _tiff_parts(tags):
        require(not count or reader.at(offset + count - 1).rest(1), "its end is missing")
    if tags.first(259, 1) == 1 and 324 not in tags:
        row = -(-size[0] * depth * samples // 8)
        require(sum(count for _, count in _tiff_parts(tags)) >= row * size[1], "pixels are missing")


def _tiff_parts(tags: _TiffTags) -> list[tuple[int, int]]:
    """Return the offset and length in bytes of each tile, or of each strip in a file without tiles."""
    offset, count = (324, 325) if 324 in tags else (273, 279)
    offsets, counts = tags.get(offset, ()), tags.get(count, ())
    require(offsets and len(offsets) == len(counts), "it does not say where its pixels are")
    return [(int(start), int(length)) for start, length in zip(offsets, counts, strict=True)]


def check_tiff(data: bytes) -> None:
    """Check that deflate-compressed pixels are complete; LZW and PackBits would need a decoder."""
    tags, _ = _tiff_tags(ExactReader(io.BytesIO(data)))
    first = tags.first
    if first(259, 1) not in (8, 32946):
        return
    bits = first(258, 1) * (1 if first(284, 1) == 2 else first(277, 1))
    tiled = 324 in tags
    width, rows = (first(322, 0), first(323, 0)) if tiled else (first(256, 0), min(first(278, 1 << 31), first(257, 0)))
    row = -(-width * bits // 8)
    strips = -(-first(257, 0) // max(1, rows))
    for index, (offset, count) in enumerate(_tiff_parts(tags)):
        left = first(257, 0) - index % strips * rows
        wanted = row * (rows if tiled else min(rows, left))
        require(wanted <= MAX_PIXELS * 16, "a part of it is too long")
        found = zlib.decompressobj().decompress(data[offset : offset + count], max(1, wanted))
        require(len(found) >= wanted, "pixels are missing")


def _orientation(value: int) -> int:
    return value if 1 <= value <= 8 else 1


def exif_orientation(block: bytes) -> int:
    """Return the EXIF orientation; 1 if it is missing or the EXIF block is damaged, since the pixels may be intact."""
    try:
        return _orientation(_tiff_tags(ExactReader(io.BytesIO(block)))[0].first(274, 1)) if block else 1
    except (DamagedError, struct.error):
        return 1


def exif_says_adobe(block: bytes) -> bool:
    """Return whether the EXIF interoperability index says Adobe RGB ("R03")."""
    if not block:
        return False
    reader = ExactReader(io.BytesIO(block))
    order = "<" if block[:2] == b"II" else ">"
    try:
        tags = _tiff_tags(reader)[0]
        for pointer in (0x8769, 0xA005):
            tags = _tiff_directory(reader, int(tags[pointer][0]), order, big=False)[0]
        index = tags.get(1, b"")
    except (DamagedError, struct.error, KeyError, IndexError):
        return False
    return isinstance(index, bytes) and index.startswith(b"R03")
