# SPDX-License-Identifier: GPL-3.0-or-later
"""Headers of files with floating-point values: OpenEXR and Radiance HDR."""

from __future__ import annotations

import re
import struct
from dataclasses import replace

from trackshade.core.image_headers.header import (
    MAX_PROFILE,
    ExactReader,
    ImageHeader,
    UnsupportedError,
    require,
    support,
)

# Chromaticities of red, green, blue and white in OpenEXR files, by the name of Blender's color space for them.
_LINEAR_SPACES = {
    "Linear Rec.709": (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290),
    "Linear DCI-P3 D65": (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.3290),
    "Linear Rec.2020": (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    "ACEScg": (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767),
    "ACES2065-1": (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767),
}


def parse_exr(reader: ExactReader) -> ImageHeader:
    """Read the header of an OpenEXR file. Raise DamagedError or UnsupportedError."""
    _, version = reader.unpack("<II")
    support(version & 0xFF == 2, f"is an OpenEXR file of version {version & 0xFF}")
    support(not version & 0x1800, "is an OpenEXR file of several parts or with deep pixels")
    found: dict[str, bytes] = {}
    for _ in range(4096):
        name = _exr_text(reader)
        if not name:
            break
        _exr_text(reader)
        (length,) = reader.unpack("<i")
        require(0 <= length <= MAX_PROFILE, "its header is not valid")
        found[name] = reader.take(length)
    is_complete = {"channels", "dataWindow", "displayWindow"} <= found.keys() and len(found["dataWindow"]) == 16
    require(is_complete, "its header is not complete")
    left, top, right, bottom = struct.unpack("<4i", found["dataWindow"])
    names = _exr_channels(found["channels"])
    plain = {"R", "G", "B"} <= names or names in ({"Y"}, {"Y", "A"})
    is_plain = plain and not any("." in name for name in names)
    support(is_plain, "is an OpenEXR file without plain RGB channels, such as one of several layers")
    is_whole = found["displayWindow"] == found["dataWindow"]
    support(is_whole, "is an OpenEXR file of a part of its frame, such as a rendered region")
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


def _exr_text(reader: ExactReader) -> str:
    text = b""
    while (byte := reader.take(1)) != b"\0":
        text += byte
        require(len(text) <= 255, "its header is not valid")
    return text.decode("latin-1")


def _exr_channels(data: bytes) -> set[str]:
    names, at = set(), 0
    while at < len(data) and data[at]:
        end = data.find(b"\0", at)
        require(end >= 0, "its header is not valid")
        names.add(data[at:end].decode("latin-1"))
        at = end + 17
    return names


def parse_hdr(reader: ExactReader) -> ImageHeader:
    """Read the header of a Radiance HDR file. Raise DamagedError or UnsupportedError."""
    start = reader.rest(1 << 16)
    text, found, rest = start.partition(b"\n\n")
    require(found, "it has no header")
    kind = re.search(rb"^FORMAT=(.*)$", text, re.MULTILINE)
    is_rgb = kind is None or kind[1].strip() == b"32-bit_rle_rgbe"
    support(is_rgb, "is a Radiance picture whose values are not RGB")
    size = re.match(rb"-Y (\d{1,9}) \+X (\d{1,9})\n", rest)
    if size is None:
        raise UnsupportedError("is a Radiance picture of an unusual orientation")
    return ImageHeader("Radiance HDR", (int(size[2]), int(size[1])), 32, linear_space="Linear Rec.709")
