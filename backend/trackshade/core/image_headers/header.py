# SPDX-License-Identifier: GPL-3.0-or-later
"""What the header of an image file says, and what its parsers share."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, replace
from typing import BinaryIO

from trackshade.core.color_profiles import SRGB, Encoding, encoding_of_icc

MAX_PIXELS = 1 << 26  # 8192 × 8192
MAX_PARTS = 1 << 18  # chunks, segments or attributes of one file
MAX_PROFILE = 8 << 20  # bytes of an ICC profile
CMYK = "It is CMYK, for print: its inks are converted without the printer's profile, and colors may differ."


@dataclass(frozen=True)
class ImageHeader:
    """The header of an image file."""

    format: str  # "PNG", "JPEG", "TIFF", "WebP", "BMP", "OpenEXR" or "Radiance HDR"
    stored_size: tuple[int, int]  # (width, height) in pixels, before `orientation` is applied
    bits: int = 8  # bits per channel after decoding: 8, 16, or 32 for floating point
    alpha: str = "none"  # "none", "straight" or "premultiplied"
    orientation: int = 1  # EXIF orientation, 1 to 8
    encoding: Encoding = SRGB  # how stored values are converted to linear light with sRGB's primaries
    linear_space: str = ""  # Blender's color space of floating-point values, otherwise ""
    notes: tuple[str, ...] = ()  # sentences about color conversions that are applied
    warnings: tuple[str, ...] = ()  # sentences about color conversions that are not possible

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels with the orientation applied."""
        width, height = self.stored_size
        return (height, width) if self.orientation >= 5 else (width, height)

    @property
    def scene_linear(self) -> bool:
        """Whether the values are scene-linear and need a view transform."""
        return bool(self.linear_space)


class DamagedError(Exception):
    """The file violates its format; the message continues "The picture is damaged: "."""


class UnsupportedError(Exception):
    """The kind of file is not supported; the message continues "The picture "."""


def require(is_intact: object, damage: str) -> None:
    """Raise DamagedError unless the condition holds."""
    if not is_intact:
        raise DamagedError(damage)


def support(is_supported: object, what: str) -> None:
    """Raise UnsupportedError unless the condition holds."""
    if not is_supported:
        raise UnsupportedError(what)


class ExactReader:
    """Reads a file, and raises DamagedError where it ends early."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def take(self, count: int) -> bytes:
        """Read `count` bytes."""
        data = self._file.read(count)
        require(len(data) == count, "it ends too early")
        return data

    def unpack(self, layout: str) -> tuple:
        """Read the values of a layout of `struct`."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def skip(self, count: int) -> None:
        """Pass over `count` bytes."""
        self._file.seek(count, io.SEEK_CUR)

    def at(self, position: int) -> ExactReader:
        """Go to a position in the file; return this reader."""
        require(0 <= position < 1 << 62, "a part of it lies outside the file")  # numbers in a file may have a sign
        self._file.seek(position)
        return self

    def rest(self, count: int) -> bytes:
        """Read at most `count` bytes."""
        return self._file.read(count)


def with_profile(header: ImageHeader, profile: bytes, name: str) -> ImageHeader:
    """Return the header with the encoding of an ICC profile, or a warning if it cannot be applied."""
    encoding = encoding_of_icc(profile)
    if encoding is None:
        return without_encoding(header, f"color profile '{name}'" if name else "color profile")
    return with_encoding(header, encoding)


def with_encoding(header: ImageHeader, encoding: Encoding) -> ImageHeader:
    """Return the header with an encoding, and a note that colors are converted."""
    notes = header.notes if encoding.is_srgb else (*header.notes, f"Its colors were converted from {encoding.name}.")
    return replace(header, encoding=encoding, notes=notes)


def without_encoding(header: ImageHeader, what: str) -> ImageHeader:
    """Return the header with a warning that `what` cannot be applied."""
    return replace(header, warnings=(f"Its {what} cannot be applied here; the colors are read as sRGB.",))
