# SPDX-License-Identifier: GPL-3.0-or-later
"""Picture files of many kinds, for tests; and, as a script, what the backend makes of them.

python picture_files.py FOLDER      writes all files there, and `reference.npz`: how the backend reads each
"""

from __future__ import annotations

import io
import struct
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio
from PIL import Image

WIDTH, HEIGHT = 36, 24
P3_D50 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
ADOBE_D50 = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
SRGB_D50 = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141))
ACESCG = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)  # x and y of red, green, blue and white
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def icc(name: str, columns: tuple, gamma: float | None, space: bytes = b"RGB ") -> bytes:
    """A matrix profile: colorants in XYZ (D50), and a gamma, or sRGB's curve for None."""

    def fixed(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    curve = b"para\0\0\0\0" + (
        struct.pack(">HH", 3, 0) + fixed(*SRGB_CURVE) if gamma is None else struct.pack(">HH", 0, 0) + fixed(gamma)
    )
    text = name.encode("ascii") + b"\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + b"\0" * 78
    tags = {b"desc": description, b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249)}
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        for letter, column in zip(b"rgb", columns, strict=True):
            tags[bytes([letter]) + b"XYZ"] = b"XYZ \0\0\0\0" + fixed(*column)
            tags[bytes([letter]) + b"TRC"] = curve
    table, body, at = b"", b"", 132 + 12 * len(tags)
    for tag, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += struct.pack(">4sII", tag, at + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", 0, b"none", 0x02100000, b"mntr", space, b"XYZ ") + b"\0" * 12 + b"acsp"
    head = head.ljust(68, b"\0") + fixed(0.9642, 1.0, 0.8249)
    profile = head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(profile)) + profile[4:]


P3 = icc("Display P3", P3_D50, None)
ADOBE = icc("Adobe RGB (1998)", ADOBE_D50, 563 / 256)
SRGB = icc("sRGB", SRGB_D50, None)


def exif(orientation: int) -> bytes:
    return b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">HH", orientation, 0) + b"\0\0\0\0"


def smooth() -> np.ndarray:
    """[H, W, 3] uint8 without sharp edges, so that lossy files keep it nearly."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([40 + 5 * columns, 30 + 8 * rows, 200 - 2 * columns - 3 * rows], axis=-1).astype(np.uint8)


def noise(kind: Any, channels: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, np.iinfo(kind).max + 1, (HEIGHT, WIDTH, channels))
    return values.astype(kind)


def pillow(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def written(values: np.ndarray, suffix: str, **attributes: Any) -> bytes:
    """A file by OpenImageIO: attributes by their names with _ for :, channels' `names`, the frame's `full_width`."""
    height, width, channels = values.shape
    kind = {"float32": "float", "float16": "half", "uint32": "uint"}.get(str(values.dtype), str(values.dtype))
    spec = oiio.ImageSpec(width, height, channels, kind)
    if channels == 2:
        spec.channelnames, spec.alpha_channel = ("Y", "A"), 1
    spec.channelnames = attributes.pop("names", spec.channelnames)
    spec.full_width = attributes.pop("full_width", width)
    for name, value in attributes.items():
        if isinstance(value, tuple):
            spec.attribute(name, oiio.TypeDesc(f"float[{len(value)}]"), value)
        else:
            spec[name.replace("_", ":")] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"picture{suffix}"
        output = oiio.ImageOutput.create(str(path))
        assert output is not None
        assert output.open(str(path), spec), output.geterror()
        assert output.write_image(values), output.geterror()
        assert output.close()
        return path.read_bytes()


def plain_png(values: np.ndarray) -> bytes:
    """A PNG of [H, W, 3] uint8 or uint16 that says nothing about its colors."""
    rows = values.astype(values.dtype.newbyteorder(">"))
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 8 * values.itemsize, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + b"\0" * 25
    return start[:8] + png_with(start, (b"IHDR", head), (b"IDAT", body), (b"IEND", b""))[33:]


def png_with(data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with more chunks after its header."""
    more = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return data[:33] + more + data[33:]


def files() -> dict[str, bytes]:
    """By name: one file of every kind that is taken."""
    color, grey = noise(np.uint8, 3), noise(np.uint8, 1)
    alpha, deep = noise(np.uint8, 4), noise(np.uint16, 3)
    palette = Image.fromarray(smooth()).quantize(48)
    transparent = palette.copy()
    bilevel = Image.fromarray(grey[..., 0] > 127)
    ramp = np.concatenate([smooth(), np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1).astype(np.uint8)], axis=2)
    light = (np.random.default_rng(3).random((HEIGHT, WIDTH, 3)) ** 3 * 4).astype(np.float32)
    covered = np.concatenate([light * 0.5, np.full((HEIGHT, WIDTH, 1), 0.5, np.float32)], axis=2)
    straight = {"oiio_UnassociatedAlpha": 1}
    found = {
        "color.png": pillow(color, "PNG"),
        "grey.png": pillow(grey[..., 0], "PNG"),
        "alpha.png": pillow(alpha, "PNG"),
        "grey-alpha.png": pillow(alpha[..., :2].copy(), "PNG"),
        "palette.png": pillow(palette, "PNG"),
        "palette-alpha.png": pillow(transparent, "PNG", transparency=bytes(range(0, 240, 5))),
        "key-color.png": pillow(color, "PNG", transparency=tuple(int(value) for value in color[0, 0])),
        "bilevel.png": pillow(bilevel, "PNG"),
        "deep.png": written(deep, ".png"),
        "deep-grey.png": written(deep[..., :1], ".png"),
        "deep-alpha.png": written(noise(np.uint16, 4), ".png", **straight),
        "deep-grey-alpha.png": written(noise(np.uint16, 2), ".png", **straight),
        "p3.png": pillow(color, "PNG", icc_profile=P3),
        "deep-adobe.png": png_with(plain_png(deep), (b"iCCP", b"Adobe\0\0" + zlib.compress(ADOBE))),
        "srgb.png": pillow(color, "PNG", icc_profile=SRGB),
        "gamma.png": png_with(pillow(color, "PNG"), (b"gAMA", struct.pack(">I", 100000))),
        "cicp-p3.png": png_with(pillow(color, "PNG"), (b"cICP", bytes([12, 13, 0, 1]))),
        "turned.png": png_with(pillow(color, "PNG"), (b"eXIf", exif(6)[6:])),
        "baseline.jpg": pillow(smooth(), "JPEG"),
        "progressive.jpg": pillow(smooth(), "JPEG", progressive=True),
        "full-color.jpg": pillow(smooth(), "JPEG", subsampling=0, quality=98),
        "grey.jpg": pillow(smooth()[..., 0].copy(), "JPEG"),
        "cmyk.jpg": pillow(Image.fromarray(smooth()).convert("CMYK"), "JPEG"),
        "cmyk-profile.jpg": pillow(Image.fromarray(smooth()).convert("CMYK"), "JPEG", icc_profile=ADOBE),
        "adobe.jpg": pillow(smooth(), "JPEG", icc_profile=ADOBE),
        **{f"turned-{side}.jpg": pillow(smooth(), "JPEG", exif=exif(side)) for side in range(1, 9)},
        "lossy.webp": pillow(smooth(), "WEBP"),
        "lossless.webp": pillow(color, "WEBP", lossless=True),
        "alpha.webp": pillow(alpha, "WEBP", lossless=True, exact=True),
        "lossy-alpha.webp": pillow(ramp, "WEBP"),
        "p3-turned.webp": pillow(color, "WEBP", lossless=True, icc_profile=P3, exif=exif(8)),
        "plain.bmp": pillow(color, "BMP"),
        "palette.bmp": pillow(palette, "BMP"),
        "palette.tif": pillow(palette, "TIFF"),
        "bilevel.tif": pillow(bilevel, "TIFF"),
        "white-is-zero.tif": pillow(grey[..., 0], "TIFF", tiffinfo={262: 0}),
        "cmyk.tif": pillow(Image.fromarray(color).convert("CMYK"), "TIFF"),
        "turned.tif": pillow(color, "TIFF", tiffinfo={274: 3}),
        "premultiplied.tif": written(noise(np.uint8, 4) // 2 + np.array([0, 0, 0, 128], np.uint8), ".tif"),
        "planes.tif": written(color, ".tif", planarconfig="separate"),
        "p3.tif": pillow(color, "TIFF", icc_profile=P3),
        "light.exr": written(light.astype(np.float16), ".exr"),
        "light-full.exr": written(light, ".exr"),
        "covered.exr": written(covered, ".exr"),
        "grey.exr": written(light[..., :1], ".exr"),
        "acescg.exr": written(light, ".exr", chromaticities=ACESCG),
        "light.hdr": written(light, ".hdr"),
        "light.tif": written(light, ".tif"),
        "half.tif": written(light.astype(np.float16), ".tif"),
    }
    for compression in ("none", "lzw", "zip", "packbits"):
        for name, values in (("color", color), ("deep", deep), ("alpha", alpha), ("grey", grey)):
            found[f"{name}-{compression}.tif"] = written(values, ".tif", compression=compression, **straight)
    return found


def main(folder: Path) -> None:
    from trackshade.cli.image_decoder import decode
    from trackshade.core.image_files import read_header
    from trackshade.shot.given_image import read_given

    reference = {}
    for name, data in files().items():
        path = folder / name
        path.write_bytes(data)
        if not read_header(path).scene_linear:
            reference[name] = np.asarray(read_given(path, decode).pixels)
    np.savez(folder / "reference.npz", **reference)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
