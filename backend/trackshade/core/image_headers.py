# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the headers of image files: whether a file is supported, and what its pixel values mean.

The format is detected from the content, never from the file name. The pixels are decoded by Blender or by OpenImageIO
in the backend; everything in which these two could differ (orientation, alpha, bit depth, color profile, damaged files)
is decided here and in `trackshade.shot.input_image`, so that both give the same image. Blender has no image library
in all supported versions, so the headers are parsed here.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from trackshade.core.color_profiles import SRGB, Encoding, encoding_of_chromaticities, encoding_of_icc, named_encoding
from trackshade.core.errors import ShotError

FORMATS = "PNG, JPEG, TIFF, WebP, BMP, OpenEXR or Radiance HDR"
MAX_PIXELS = 1 << 26  # 8192 × 8192
MAX_BYTES = 1 << 30
_MAX_PARTS = 1 << 18  # chunks, segments or attributes of one file
_MAX_PROFILE = 8 << 20  # bytes of an ICC profile
_SAVE_AGAIN = "Save it again, or choose another picture."
_CONVERT = f"Save it as {FORMATS}."

# Formats that are named in the error message instead of being called unknown.
_UNSUPPORTED_FORMATS = (
    (rb"8BPS", "a Photoshop document"),
    (rb"%PDF|%!PS|\xc5\xd0\xd3\xc6", "a PDF or PostScript document"),
    (rb"GIF8[79]a", "a GIF"),
    (rb"DDS ", "a DDS texture"),
    (rb"BLENDER|\x28\xb5\x2f\xfd|\x1f\x8b", "a Blender file or a compressed file"),
    (rb"....ftyp(avif|avis)", "an AVIF picture"),
    (rb"....ftyp(hei|hev|mif1|msf1)", "an HEIF picture"),
    (rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ", "a movie"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE[^>]*>\s*)?<svg", "an SVG drawing"),
    (rb"PK\x03\x04", "an archive"),
    (rb"SDPX|XPDS", "a DPX picture"),
)
# Chromaticities of red, green, blue and white in OpenEXR files, by the name of Blender's color space for them.
_LINEAR_SPACES = {
    "Linear Rec.709": (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290),
    "Linear DCI-P3 D65": (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.3290),
    "Linear Rec.2020": (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    "ACEScg": (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767),
    "ACES2065-1": (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767),
}


@dataclass(frozen=True)
class ImageHeader:
    """The header of an image file.

    Attributes:
        format: "PNG", "JPEG", "TIFF", "WebP", "BMP", "OpenEXR" or "Radiance HDR".
        stored_size: (width, height) in pixels, before `orientation` is applied.
        bits: Bits per channel after decoding: 8, 16, or 32 for floating point.
        alpha: "none", "straight" or "premultiplied".
        orientation: EXIF orientation, 1 to 8.
        encoding: How stored values are converted to linear light with sRGB's primaries.
        linear_space: Blender's color space of floating-point values, otherwise "".
        notes: Sentences about color conversions that are applied.
        warnings: Sentences about color conversions that are not possible.
    """

    format: str
    stored_size: tuple[int, int]
    bits: int = 8
    alpha: str = "none"
    orientation: int = 1
    encoding: Encoding = SRGB
    linear_space: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels with the orientation applied."""
        width, height = self.stored_size
        return (height, width) if self.orientation >= 5 else (width, height)

    @property
    def scene_linear(self) -> bool:
        """Whether the values are scene-linear and need a view transform."""
        return bool(self.linear_space)


class _DamagedError(Exception):
    """The file violates its format; the message continues "The picture is damaged: "."""


class _UnsupportedError(Exception):
    """The kind of file is not supported; the message continues "The picture "."""


def _require(is_intact: object, damage: str) -> None:
    """Raise _DamagedError unless the condition holds."""
    if not is_intact:
        raise _DamagedError(damage)


def _support(is_supported: object, what: str) -> None:
    """Raise _UnsupportedError unless the condition holds."""
    if not is_supported:
        raise _UnsupportedError(what)


def read_header(path: Path) -> ImageHeader:
    """Read the header of an image file, and as little else of the file as possible.

    Raises:
        ShotError: The file cannot be read, is not an image or has an unsupported format.
    """
    with _explained(path), open_image(path) as file:
        return _parse_header(path, file)


def read_image_bytes(path: Path) -> tuple[bytes, ImageHeader]:
    """Read an image file and check that it is complete.

    Returns:
        The file's bytes, and its header.

    Raises:
        ShotError: The file cannot be read, is not an image, has an unsupported format or is damaged.
    """
    with _explained(path):
        with open_image(path) as file:
            data = file.read(os.fstat(file.fileno()).st_size)  # allocated at once
        header = _parse_header(path, io.BytesIO(data))
        # Some decoders fill missing parts with arbitrary pixels.
        checks = {"PNG": _check_png, "JPEG": _check_jpeg, "TIFF": _check_tiff, "WebP": _check_webp}
        if header.format in checks:
            checks[header.format](data)
    return data, header


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the errors of reading a file into ShotError."""
    try:
        yield
    except _UnsupportedError as error:
        raise ShotError("picture-format", f"The picture {path} {error}.", _CONVERT) from error
    except struct.error as error:  # its message means nothing to a user
        raise damaged_image(path, "its header is not valid") from error
    except (_DamagedError, zlib.error) as error:
        raise damaged_image(path, str(error)) from error
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ShotError(
            "bad-picture", f"The picture {path} cannot be read: {reason}.", "Check the file's permissions."
        ) from error


def open_image(path: Path) -> BinaryIO:
    """Open a regular file of at most MAX_BYTES for reading.

    Raises:
        ShotError: The file does not exist, is not a regular file, is empty or is too large.
        OSError: The file cannot be opened.
    """
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ShotError("bad-picture", f"The picture {path} does not exist.", "Check its path.") from None
    except ValueError as error:  # a null byte in the name
        raise ShotError("bad-picture", f"{str(path)!r} is not a valid path.", "Check its path.") from error
    if not stat.S_ISREG(facts.st_mode):
        what = "a folder, not a picture" if stat.S_ISDIR(facts.st_mode) else "not a regular file"
        raise ShotError("bad-picture", f"{path} is {what}.", f"Give a {FORMATS} file.")
    if facts.st_size == 0:
        raise ShotError("bad-picture", f"The picture {path} is empty (0 bytes).", _SAVE_AGAIN)
    if facts.st_size > MAX_BYTES:
        raise ShotError(
            "picture-too-large",
            f"The picture {path} has {facts.st_size >> 20} MB, and at most {MAX_BYTES >> 20} MB are read.",
            "Save it smaller.",
        )
    return path.open("rb")


def damaged_image(path: Path, reason: str) -> ShotError:
    """Make the error for a file that cannot be decoded."""
    return ShotError("bad-picture", f"The picture {path} is damaged: {reason.strip().rstrip('.')}.", _SAVE_AGAIN)


def _parse_header(path: Path, file: BinaryIO) -> ImageHeader:
    start = file.read(64)
    parse = next((parse for magic, parse in _PARSERS if re.match(magic, start, re.DOTALL)), None)
    if parse is None:
        start += file.read(4096)
        kinds = (kind for magic, kind in _UNSUPPORTED_FORMATS if re.match(magic, start, re.DOTALL))
        raise _UnsupportedError(f"is {next(kinds, 'not an image in a known format')}")
    file.seek(0)
    header = parse(_ExactReader(file))
    width, height = header.stored_size
    _require(width >= 1 and height >= 1, f"its size is {width}×{height}")
    if width * height > MAX_PIXELS:
        raise ShotError(
            "picture-too-large",
            f"The picture {path} has {width}×{height} pixels, and at most {MAX_PIXELS} are read.",
            "Make it smaller; a model's picture has less than two million.",
        )
    return header


class _ExactReader:
    """Reads a file, and raises _DamagedError where it ends early."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def take(self, count: int) -> bytes:
        data = self._file.read(count)
        _require(len(data) == count, "it ends too early")
        return data

    def unpack(self, layout: str) -> tuple:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def skip(self, count: int) -> None:
        self._file.seek(count, io.SEEK_CUR)

    def at(self, position: int) -> _ExactReader:
        _require(0 <= position < 1 << 62, "a part of it lies outside the file")  # numbers in a file may have a sign
        self._file.seek(position)
        return self

    def rest(self, count: int) -> bytes:
        """Read at most `count` bytes."""
        return self._file.read(count)


# PNG


def _png(reader: _ExactReader) -> ImageHeader:
    chunks = dict(_png_chunks(reader))
    _require(len(chunks.get(b"IHDR", b"")) == 13, "it has no header")
    width, height, depth, kind, compression, method, _ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    allowed = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    _require(depth in allowed.get(kind, ()) and not compression and not method, "its header is not valid")
    _support(b"acTL" not in chunks, "is animated")
    alpha = "straight" if kind in (4, 6) or b"tRNS" in chunks else "none"
    orientation = _exif_orientation(chunks.get(b"eXIf", b""))
    return _png_encoding(ImageHeader("PNG", (width, height), max(8, depth), alpha, orientation), chunks)


def _png_chunks(reader: _ExactReader) -> Iterator[tuple[bytes, bytes]]:
    """Yield the first chunk of each type that says how to read the pixels."""
    reader.take(8)
    wanted = {b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"eXIf", b"acTL"}
    for _ in range(_MAX_PARTS):
        length, kind = reader.unpack(">I4s")
        if kind == b"IEND":
            return
        if kind in wanted and length <= _MAX_PROFILE:
            wanted.remove(kind)
            yield kind, reader.take(length)
            reader.skip(4)
        else:
            _require(kind != b"IHDR", "its header is not valid")
            reader.skip(length + 4)
    raise _DamagedError("it has too many parts")


def _png_encoding(header: ImageHeader, chunks: dict[bytes, bytes]) -> ImageHeader:
    """Apply the color chunks in the order of the PNG specification: cICP, iCCP, sRGB, then gAMA and cHRM."""
    if len(chunks.get(b"cICP", b"")) == 4:
        primaries, transfer, matrix, _ = chunks[b"cICP"]
        _support(transfer not in (16, 18), "is an HDR picture (PQ or HLG)")
        names = {(1, 13): "sRGB", (1, 1): "sRGB", (12, 13): "Display P3", (9, 13): "Rec.2020 with sRGB's curve"}
        found = names.get((primaries, transfer)) if not matrix else None
        if found is None:
            return _without_encoding(header, f"color code {primaries}/{transfer}/{matrix}")
        return _with_encoding(header, named_encoding(found))
    if b"iCCP" in chunks:
        name, _, packed = chunks[b"iCCP"].partition(b"\0")
        try:
            profile = zlib.decompressobj().decompress(packed[1:], _MAX_PROFILE)
        except zlib.error:
            profile = b""
        return _with_profile(header, profile, name.decode("latin-1"))
    if b"sRGB" in chunks or len(chunks.get(b"gAMA", b"")) != 4:
        return header
    gamma = struct.unpack(">I", chunks[b"gAMA"])[0] / 1e5
    if not 0.1 <= gamma <= 10:
        return header
    primaries = None
    if len(chunks.get(b"cHRM", b"")) == 32:
        white_x, white_y, *rest = (value / 1e5 for value in struct.unpack(">8I", chunks[b"cHRM"]))
        primaries = (*rest, white_x, white_y)
    return _with_encoding(
        header, encoding_of_chromaticities(primaries, None if abs(gamma - 0.45455) < 2e-3 else 1 / gamma)
    )


def _check_png(data: bytes) -> None:
    """Check the checksums of the chunks, and that the compressed pixels are complete."""
    at, bodies = 8, []
    for _ in range(_MAX_PARTS):
        _require(at + 12 <= len(data), "its end is missing")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        _require(end <= len(data), "its end is missing")
        intact = kind[0] & 0x20 or zlib.crc32(data[at + 4 : end - 4]) == struct.unpack_from(">I", data, end - 4)[0]
        _require(intact, f"the checksum of its part {kind.decode('latin-1')} is wrong")
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
    _require(found >= wanted, "pixels are missing")


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


# JPEG

_CMYK = "It is CMYK, for print: its inks are converted without the printer's profile, and colors may differ."


def _jpeg(reader: _ExactReader) -> ImageHeader:
    reader.take(2)
    profile: dict[int, bytes] = {}
    exif, size, components = b"", None, 0
    for _ in range(_MAX_PARTS):
        marker = _jpeg_marker(reader)
        if marker in (0x01, *range(0xD0, 0xD9)):
            continue
        if marker in (0xD9, 0xDA):
            break
        length = reader.unpack(">H")[0] - 2
        _require(length >= 0, "a part of it has no length")
        body = reader.take(length)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            _support(marker <= 0xC2, "is a JPEG of a rare kind (lossless or arithmetic coding)")
            precision, height, width, components = struct.unpack_from(">BHHB", body)
            _support(precision == 8, f"is a JPEG of {precision} bits")
            size = width, height
        elif marker == 0xE1 and body.startswith(b"Exif\0\0") and not exif:
            exif = body[6:]
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            profile[body[12]] = body[14:]
    if size is None:
        raise _DamagedError("it has no header")
    _support(components in (1, 3, 4), f"has {components} channels")
    header = ImageHeader("JPEG", size, orientation=_exif_orientation(exif))
    if components == 4:
        return replace(header, warnings=(_CMYK,))
    if profile:
        return _with_profile(header, b"".join(profile[number] for number in sorted(profile)), "")
    if _exif_says_adobe(exif):
        return _with_encoding(header, named_encoding("Adobe RGB"))
    return header


def _jpeg_marker(reader: _ExactReader) -> int:
    byte = reader.take(1)[0]
    _require(byte == 0xFF, "a part of it begins in the wrong place")
    while byte == 0xFF:
        byte = reader.take(1)[0]
    return byte


def _check_jpeg(data: bytes) -> None:
    """Check that there are pixels and an end marker. Data after it, as some phones append, is ignored."""
    file = io.BytesIO(data)
    reader = _ExactReader(file)
    reader.skip(2)
    while (marker := _jpeg_marker(reader)) != 0xDA:  # start of scan; an earlier segment may hold a whole JPEG thumbnail
        _require(marker != 0xD9, "it has no pixels")
        if marker != 0x01 and not 0xD0 <= marker <= 0xD8:
            reader.skip(reader.unpack(">H")[0] - 2)
    _require(data.find(b"\xff\xd9", file.tell()) >= 0, "its end is missing")


# TIFF

_TIFF_LAYOUTS = {1: "B", 2: "s", 3: "H", 4: "I", 6: "b", 7: "s", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_TIFF_CMYK = 5
_TIFF_COMPRESSIONS = (1, 5, 8, 32946, 32773)  # none, LZW, deflate (two numbers), PackBits


class _TiffTags(dict[int, "tuple | bytes"]):
    """The tags of a directory: text and bytes as bytes, numbers as a tuple."""

    def first(self, tag: int, default: int) -> int:
        """Return the first number of a tag."""
        values = self.get(tag, ())
        return int(values[0]) if values and not isinstance(values, bytes) else default


def _tiff(reader: _ExactReader) -> ImageHeader:
    tags, after = _tiff_tags(reader)
    first = tags.first
    size = first(256, 0), first(257, 0)
    samples, bits, kind = first(277, 1), set(tags.get(258, (1,))), first(339, 1)
    photometric, compression = first(262, 1), first(259, 1)
    depth = int(bits.pop()) if len(bits) == 1 else 0
    base = {2: 3, _TIFF_CMYK: 4}.get(photometric, 1)
    channels = (base,) if photometric in (3, _TIFF_CMYK) else (base, base + 1)
    _support(
        compression in _TIFF_COMPRESSIONS,
        f"is a TIFF with compression {compression} (LZW, deflate, PackBits or none are read)",
    )
    _support(
        photometric in (0, 1, 2, 3, _TIFF_CMYK),
        f"is a TIFF whose colors are of kind {photometric} (RGB, CMYK, grey or a palette are read)",
    )
    is_usual = depth in (1, 8, 16, 32) and kind in (1, 3)
    _support(is_usual, "is a TIFF of an unusual depth (8, 16 bits or floating point are read)")
    _support(depth in (16, 32) if kind == 3 else depth != 32, "is a TIFF of 32-bit whole numbers")
    _support(samples in channels and (depth > 1 or samples == 1), f"is a TIFF with {samples} channels")
    _check_tiff_strips(reader, tags, depth, samples, size)
    alpha = "none" if samples == base else "premultiplied" if first(338, 0) == 1 else "straight"
    header = ImageHeader("TIFF", size, max(8, depth), alpha, _orientation(first(274, 1)))
    if kind == 3:
        return replace(header, bits=32, linear_space="Linear Rec.709")
    if after:
        header = replace(header, notes=("Only the first of its pages is used.",))
    if photometric == _TIFF_CMYK:
        return replace(header, warnings=(_CMYK,))
    profile = tags.get(34675, b"")
    if not profile:
        return header
    if not isinstance(profile, bytes):
        profile = bytes(profile) if all(0 <= value < 256 for value in profile) else b""  # b"" cannot be applied
    return _with_profile(header, profile, "")


def _tiff_tags(reader: _ExactReader) -> tuple[_TiffTags, int]:
    """Read the first directory of a TIFF file or an EXIF block: its tags, and the next directory's offset or 0."""
    start = reader.at(0).take(8)
    order = {b"II": "<", b"MM": ">"}.get(start[:2], "")
    version = struct.unpack(order + "H", start[2:4])[0] if order else 0
    _require(version in (42, 43), "it has no header")
    position = struct.unpack(order + "I", start[4:])[0] if version == 42 else reader.unpack(order + "Q")[0]
    return _tiff_directory(reader, position, order, big=version == 43)


def _tiff_directory(reader: _ExactReader, position: int, order: str, big: bool) -> tuple[_TiffTags, int]:
    entry, size = (order + "HHQ8s", 8) if big else (order + "HHI4s", 4)
    count = reader.at(position).unpack(order + ("Q" if big else "H"))[0]
    _require(count <= 4096, "its directory is too long")
    entries = [reader.unpack(entry) for _ in range(count)]
    after = reader.rest(size)
    tags = _TiffTags()
    for tag, kind, number, value in entries:
        letter = _TIFF_LAYOUTS.get(kind)
        if letter is None or tag not in _TIFF_WANTED or not number:  # an empty tag is ignored
            continue
        length = number * struct.calcsize(letter)
        _require(length <= _MAX_PROFILE, "a part of it is too long")
        if length > size:
            where = struct.unpack(order + ("Q" if big else "I"), value)[0]
            value = reader.at(where).take(length)
        value = value[:length]
        tags[tag] = value if letter == "s" else struct.unpack(f"{order}{number}{letter}", value)
    return tags, int.from_bytes(after, "little")


_TIFF_WANTED = {254, 256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 322, 323, 324, 325, 338, 339, 34675, 1,
                0x8769, 0xA005}  # fmt: skip


def _check_tiff_strips(reader: _ExactReader, tags: _TiffTags, depth: int, samples: int, size: tuple) -> None:
    """Raise _DamagedError where pixels lie beyond the end of the file, or are fewer than the size says."""
    for offset, count in _tiff_parts(tags):
        _require(not count or reader.at(offset + count - 1).rest(1), "its end is missing")
    if tags.first(259, 1) == 1 and 324 not in tags:
        row = -(-size[0] * depth * samples // 8)
        _require(sum(count for _, count in _tiff_parts(tags)) >= row * size[1], "pixels are missing")


def _tiff_parts(tags: _TiffTags) -> list[tuple[int, int]]:
    """Return the offset and length in bytes of each tile, or of each strip in a file without tiles."""
    offset, count = (324, 325) if 324 in tags else (273, 279)
    offsets, counts = tags.get(offset, ()), tags.get(count, ())
    _require(offsets and len(offsets) == len(counts), "it does not say where its pixels are")
    return [(int(start), int(length)) for start, length in zip(offsets, counts, strict=True)]


def _check_tiff(data: bytes) -> None:
    """Check that deflate-compressed pixels are complete; LZW and PackBits would need a decoder."""
    tags, _ = _tiff_tags(_ExactReader(io.BytesIO(data)))
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
        _require(wanted <= MAX_PIXELS * 16, "a part of it is too long")
        found = zlib.decompressobj().decompress(data[offset : offset + count], max(1, wanted))
        _require(len(found) >= wanted, "pixels are missing")


# WebP


def _webp(reader: _ExactReader) -> ImageHeader:
    length = struct.unpack("<I", reader.take(12)[4:8])[0]
    kept = {b"VP8 ": 10, b"VP8L": 10, b"ANIM": 10, b"ALPH": 10, b"ICCP": _MAX_PROFILE, b"EXIF": _MAX_PROFILE}
    chunks: dict[bytes, bytes] = {}
    at = 4
    for _ in range(_MAX_PARTS):
        if at + 8 > length:
            break
        kind, size = reader.unpack("<4sI")
        data = reader.take(0 if kind in chunks else min(size, kept.get(kind, 0)))
        if kind in kept:
            chunks.setdefault(kind, data)
        reader.skip(size + (size & 1) - len(data))
        at += 8 + size + (size & 1)
    _support(b"ANIM" not in chunks, "is animated")
    alpha = b"ALPH" in chunks
    if len(frame := chunks.get(b"VP8 ", b"")) == 10 and frame[3:6] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", frame[6:10]))
    elif len(frame := chunks.get(b"VP8L", b"")) == 10 and frame[0] == 0x2F:
        word = int.from_bytes(frame[1:5], "little")
        width, height, alpha = (word & 0x3FFF) + 1, (word >> 14 & 0x3FFF) + 1, bool(word >> 28 & 1)
    else:
        raise _DamagedError("it has no pixels")
    orientation = _exif_orientation(chunks.get(b"EXIF", b"").removeprefix(b"Exif\0\0"))
    header = ImageHeader("WebP", (width, height), 8, "straight" if alpha else "none", orientation)
    return _with_profile(header, chunks[b"ICCP"], "") if b"ICCP" in chunks else header


def _check_webp(data: bytes) -> None:
    _require(struct.unpack_from("<I", data, 4)[0] + 8 <= len(data), "its end is missing")


# BMP


def _bmp(reader: _ExactReader) -> ImageHeader:
    offset = struct.unpack("<I", reader.take(14)[10:14])[0]
    (length,) = reader.unpack("<I")
    _support(length >= 40, "is a BMP of OS/2")
    width, height, planes, bits, compression, *_ = reader.unpack("<iiHHIIiiII")
    _require(planes == 1 and height != -(1 << 31), "its header is not valid")
    is_usual = compression == 0 and bits in (1, 4, 8, 24)
    _support(is_usual, "is a BMP of an unusual kind (24 bits, or 8 bits with a palette, are read)")
    end = offset + (width * bits + 31) // 32 * 4 * abs(height)
    if width > 0 and width * abs(height) <= MAX_PIXELS:
        _require(reader.at(max(0, end - 1)).rest(1), "its end is missing")
    return ImageHeader("BMP", (width, abs(height)))


# OpenEXR and Radiance HDR


def _exr(reader: _ExactReader) -> ImageHeader:
    _, version = reader.unpack("<II")
    _support(version & 0xFF == 2, f"is an OpenEXR file of version {version & 0xFF}")
    _support(not version & 0x1800, "is an OpenEXR file of several parts or with deep pixels")
    found: dict[str, bytes] = {}
    for _ in range(4096):
        name = _exr_text(reader)
        if not name:
            break
        _exr_text(reader)
        (length,) = reader.unpack("<i")
        _require(0 <= length <= _MAX_PROFILE, "its header is not valid")
        found[name] = reader.take(length)
    is_complete = {"channels", "dataWindow", "displayWindow"} <= found.keys() and len(found["dataWindow"]) == 16
    _require(is_complete, "its header is not complete")
    left, top, right, bottom = struct.unpack("<4i", found["dataWindow"])
    names = _exr_channels(found["channels"])
    plain = {"R", "G", "B"} <= names or names in ({"Y"}, {"Y", "A"})
    is_plain = plain and not any("." in name for name in names)
    _support(is_plain, "is an OpenEXR file without plain RGB channels, such as one of several layers")
    is_whole = found["displayWindow"] == found["dataWindow"]
    _support(is_whole, "is an OpenEXR file of a part of its frame, such as a rendered region")
    alpha = "premultiplied" if "A" in names else "none"
    header = ImageHeader("OpenEXR", (right - left + 1, bottom - top + 1), 32, alpha, linear_space="Linear Rec.709")
    chromaticities = found.get("chromaticities", b"")
    if len(chromaticities) != 32:
        return header
    stored = struct.unpack("<8f", chromaticities)
    for space, known in _LINEAR_SPACES.items():
        if all(abs(a - b) < 2e-3 for a, b in zip(stored, known, strict=True)):
            notes = () if space == header.linear_space else (f"Its colors were converted from {space}.",)
            return replace(header, linear_space=space, notes=notes)
    return replace(header, warnings=("Its primaries are not known; they are read as those of Rec.709.",))


def _exr_text(reader: _ExactReader) -> str:
    text = b""
    while (byte := reader.take(1)) != b"\0":
        text += byte
        _require(len(text) <= 255, "its header is not valid")
    return text.decode("latin-1")


def _exr_channels(data: bytes) -> set[str]:
    names, at = set(), 0
    while at < len(data) and data[at]:
        end = data.find(b"\0", at)
        _require(end >= 0, "its header is not valid")
        names.add(data[at:end].decode("latin-1"))
        at = end + 17
    return names


def _hdr(reader: _ExactReader) -> ImageHeader:
    start = reader.rest(1 << 16)
    text, found, rest = start.partition(b"\n\n")
    _require(found, "it has no header")
    kind = re.search(rb"^FORMAT=(.*)$", text, re.MULTILINE)
    is_rgb = kind is None or kind[1].strip() == b"32-bit_rle_rgbe"
    _support(is_rgb, "is a Radiance picture whose values are not RGB")
    size = re.match(rb"-Y (\d{1,9}) \+X (\d{1,9})\n", rest)
    if size is None:
        raise _UnsupportedError("is a Radiance picture of an unusual orientation")
    return ImageHeader("Radiance HDR", (int(size[2]), int(size[1])), 32, linear_space="Linear Rec.709")


_PARSERS: tuple[tuple[bytes, Callable[[_ExactReader], ImageHeader]], ...] = (
    (rb"\x89PNG\r\n\x1a\n", _png),
    (rb"\xff\xd8\xff", _jpeg),
    (rb"II[\x2a\x2b]\x00|MM\x00[\x2a\x2b]", _tiff),
    (rb"RIFF....WEBP", _webp),
    (rb"BM.{12}[\x0c-\x80]\x00\x00\x00", _bmp),
    (rb"\x76\x2f\x31\x01", _exr),
    (rb"#\?(RADIANCE|RGBE)\n", _hdr),
)


# EXIF and color profiles


def _orientation(value: int) -> int:
    return value if 1 <= value <= 8 else 1


def _exif_orientation(block: bytes) -> int:
    """Return the EXIF orientation; 1 if it is missing or the EXIF block is damaged, since the pixels may be intact."""
    try:
        return _orientation(_tiff_tags(_ExactReader(io.BytesIO(block)))[0].first(274, 1)) if block else 1
    except (_DamagedError, struct.error):
        return 1


def _exif_says_adobe(block: bytes) -> bool:
    """Return whether the EXIF interoperability index says Adobe RGB ("R03")."""
    if not block:
        return False
    reader = _ExactReader(io.BytesIO(block))
    order = "<" if block[:2] == b"II" else ">"
    try:
        tags = _tiff_tags(reader)[0]
        for pointer in (0x8769, 0xA005):
            tags = _tiff_directory(reader, int(tags[pointer][0]), order, big=False)[0]
        index = tags.get(1, b"")
    except (_DamagedError, struct.error, KeyError, IndexError):
        return False
    return isinstance(index, bytes) and index.startswith(b"R03")


def _with_profile(header: ImageHeader, profile: bytes, name: str) -> ImageHeader:
    encoding = encoding_of_icc(profile)
    if encoding is None:
        return _without_encoding(header, f"color profile '{name}'" if name else "color profile")
    return _with_encoding(header, encoding)


def _with_encoding(header: ImageHeader, encoding: Encoding) -> ImageHeader:
    notes = header.notes if encoding.is_srgb else (*header.notes, f"Its colors were converted from {encoding.name}.")
    return replace(header, encoding=encoding, notes=notes)


def _without_encoding(header: ImageHeader, what: str) -> ImageHeader:
    return replace(header, warnings=(f"Its {what} cannot be applied here; the colors are read as sRGB.",))
