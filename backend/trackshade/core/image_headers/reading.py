# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads headers and bytes of image files, whose format their content tells, and names what is wrong with them."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from trackshade.core.errors import ShotError
from trackshade.core.image_headers.floating import parse_exr, parse_hdr
from trackshade.core.image_headers.header import (
    MAX_PIXELS,
    DamagedError,
    ExactReader,
    ImageHeader,
    UnsupportedError,
    require,
)
from trackshade.core.image_headers.jpeg import check_jpeg, parse_jpeg
from trackshade.core.image_headers.png import check_png, parse_png
from trackshade.core.image_headers.tiff import check_tiff, parse_tiff
from trackshade.core.image_headers.webp_bmp import check_webp, parse_bmp, parse_webp

_FORMATS = "PNG, JPEG, TIFF, WebP, BMP, OpenEXR or Radiance HDR"
MAX_BYTES = 1 << 30
_SAVE_AGAIN = "Save it again, or choose another picture."
_CONVERT = f"Save it as {_FORMATS}."

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
_PARSERS: tuple[tuple[bytes, Callable[[ExactReader], ImageHeader]], ...] = (
    (rb"\x89PNG\r\n\x1a\n", parse_png),
    (rb"\xff\xd8\xff", parse_jpeg),
    (rb"II[\x2a\x2b]\x00|MM\x00[\x2a\x2b]", parse_tiff),
    (rb"RIFF....WEBP", parse_webp),
    (rb"BM.{12}[\x0c-\x80]\x00\x00\x00", parse_bmp),
    (rb"\x76\x2f\x31\x01", parse_exr),
    (rb"#\?(RADIANCE|RGBE)\n", parse_hdr),
)


def read_header(path: Path) -> ImageHeader:
    """Read the header of an image file, and as little else of the file as possible.

    Raises:
        ShotError: The file cannot be read, is not an image or has an unsupported format.
    """
    with _explained(path), _open(path) as file:
        return _parse_header(path, file)


def read_image_bytes(path: Path) -> tuple[bytes, ImageHeader]:
    """Read an image file's bytes and its header, and check that it is complete.

    Raises:
        ShotError: The file cannot be read, is not an image, has an unsupported format or is damaged.
    """
    with _explained(path):
        with _open(path) as file:
            data = file.read(os.fstat(file.fileno()).st_size)  # allocated at once
        header = _parse_header(path, io.BytesIO(data))
        # Some decoders fill missing parts with arbitrary pixels.
        checks = {"PNG": check_png, "JPEG": check_jpeg, "TIFF": check_tiff, "WebP": check_webp}
        if header.format in checks:
            checks[header.format](data)
    return data, header


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the errors of reading a file into ShotError."""
    try:
        yield
    except UnsupportedError as error:
        raise ShotError("picture-format", f"The picture {path} {error}.", _CONVERT) from error
    except struct.error as error:  # its message means nothing to a user
        raise damaged_image(path, "its header is not valid") from error
    except (DamagedError, zlib.error) as error:
        raise damaged_image(path, str(error)) from error
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ShotError(
            "bad-picture", f"The picture {path} cannot be read: {reason}.", "Check the file's permissions."
        ) from error


def _open(path: Path) -> BinaryIO:
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
        raise ShotError("bad-picture", f"{path} is {what}.", f"Give a {_FORMATS} file.")
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
        raise UnsupportedError(f"is {next(kinds, 'not an image in a known format')}")
    file.seek(0)
    header = parse(ExactReader(file))
    width, height = header.stored_size
    require(width >= 1 and height >= 1, f"its size is {width}×{height}")
    if width * height > MAX_PIXELS:
        raise ShotError(
            "picture-too-large",
            f"The picture {path} has {width}×{height} pixels, and at most {MAX_PIXELS} are read.",
            "Make it smaller; a model's picture has less than two million.",
        )
    return header
