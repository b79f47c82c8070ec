# SPDX-License-Identifier: GPL-3.0-or-later
"""Headers of PNG files, and whether all pixels are there."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from trackshade.core.color_profiles import encoding_of_chromaticities, named_encoding
from trackshade.core.image_headers.header import (
    MAX_PARTS,
    MAX_PROFILE,
    DamagedError,
    ExactReader,
    ImageHeader,
    require,
    support,
    with_encoding,
    with_profile,
    without_encoding,
)
from trackshade.core.image_headers.tiff import exif_orientation


def parse_png(reader: ExactReader) -> ImageHeader:
    """Read the header of a PNG file. Raise DamagedError or UnsupportedError."""
    chunks = dict(_png_chunks(reader))
    require(len(chunks.get(b"IHDR", b"")) == 13, "it has no header")
    width, height, depth, kind, compression, method, _ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    allowed = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    require(depth in allowed.get(kind, ()) and not compression and not method, "its header is not valid")
    support(b"acTL" not in chunks, "is animated")
    alpha = "straight" if kind in (4, 6) or b"tRNS" in chunks else "none"
    orientation = exif_orientation(chunks.get(b"eXIf", b""))
    return _png_encoding(ImageHeader("PNG", (width, height), max(8, depth), alpha, orientation), chunks)


def _png_chunks(reader: ExactReader) -> Iterator[tuple[bytes, bytes]]:
    """Yield the first chunk of each type that says how to read the pixels."""
    reader.take(8)
    wanted = {b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"eXIf", b"acTL"}
    for _ in range(MAX_PARTS):
        length, kind = reader.unpack(">I4s")
        if kind == b"IEND":
            return
        if kind in wanted and length <= MAX_PROFILE:
            wanted.remove(kind)
            yield kind, reader.take(length)
            reader.skip(4)
        else:
            require(kind != b"IHDR", "its header is not valid")
            reader.skip(length + 4)
    raise DamagedError("it has too many parts")


def _png_encoding(header: ImageHeader, chunks: dict[bytes, bytes]) -> ImageHeader:
    """Apply the color chunks in the order of the PNG specification: cICP, iCCP, sRGB, then gAMA and cHRM."""
    if len(chunks.get(b"cICP", b"")) == 4:
        primaries, transfer, matrix, _ = chunks[b"cICP"]
        support(transfer not in (16, 18), "is an HDR picture (PQ or HLG)")
        names = {(1, 13): "sRGB", (1, 1): "sRGB", (12, 13): "Display P3", (9, 13): "Rec.2020 with sRGB's curve"}
        found = names.get((primaries, transfer)) if not matrix else None
        if found is None:
            return without_encoding(header, f"color code {primaries}/{transfer}/{matrix}")
        return with_encoding(header, named_encoding(found))
    if b"iCCP" in chunks:
        name, _, packed = chunks[b"iCCP"].partition(b"\0")
        try:
            profile = zlib.decompressobj().decompress(packed[1:], MAX_PROFILE)
        except zlib.error:
            profile = b""
        return with_profile(header, profile, name.decode("latin-1"))
    if b"sRGB" in chunks or len(chunks.get(b"gAMA", b"")) != 4:
        return header
    gamma = struct.unpack(">I", chunks[b"gAMA"])[0] / 1e5
    if not 0.1 <= gamma <= 10:
        return header
    primaries = None
    if len(chunks.get(b"cHRM", b"")) == 32:
        white_x, white_y, *rest = (value / 1e5 for value in struct.unpack(">8I", chunks[b"cHRM"]))
        primaries = (*rest, white_x, white_y)
    return with_encoding(
        header, encoding_of_chromaticities(primaries, None if abs(gamma - 0.45455) < 2e-3 else 1 / gamma)
    )


def check_png(data: bytes) -> None:
    """Check the checksums of the chunks, and that the compressed pixels are complete."""
    at, bodies = 8, []
    for _ in range(MAX_PARTS):
        require(at + 12 <= len(data), "its end is missing")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        require(end <= len(data), "its end is missing")
        intact = kind[0] & 0x20 or zlib.crc32(data[at + 4 : end - 4]) == struct.unpack_from(">I", data, end - 4)[0]
        require(intact, f"the checksum of its part {kind.decode('latin-1')} is wrong")
        if kind == b"IDAT":
            bodies.append((at + 8, end - 4))
        if kind == b"IEND":
            break
        at = end
    wanted = _png_bytes(data)
    inflate, found = zlib.decompressobj(), 0
    for first, last in bodies:
        rest, more = data[first:last], b"more"
        while found < wanted and (rest or more):  # piece by piece: a small file may expand to any size
            more = inflate.decompress(rest, 1 << 20)
            found, rest = found + len(more), inflate.unconsumed_tail
    require(found >= wanted, "pixels are missing")


def _png_bytes(data: bytes) -> int:
    """Compute how many bytes the uncompressed rows have, with their filter bytes."""
    width, height, depth, kind, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    total = 0
    for x, y, step_x, step_y in passes:
        columns, rows = max(0, -(-(width - x) // step_x)), max(0, -(-(height - y) // step_y))
        total += rows * (1 + -(-columns * bits // 8)) if columns else 0
    return total
