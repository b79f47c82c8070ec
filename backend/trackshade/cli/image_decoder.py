# SPDX-License-Identifier: GPL-3.0-or-later
"""Decodes image files in the backend's environment with OpenImageIO, which Blender uses for most formats, too.

Scene-linear images need a scene's view transform: Blender decodes those, see `trackshade.cli.shade`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import OpenImageIO as oiio

from trackshade.core.image_headers import ImageHeader
from trackshade.shot.input_image import DecodingError, Pixels

_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif", "WebP": ".webp", "BMP": ".bmp"}


def decode(data: bytes, header: ImageHeader) -> Pixels:
    """Decode a display-referred image; see `trackshade.shot.input_image.Decoder`.

    Raises:
        DecodingError: The file is damaged.
    """
    with tempfile.TemporaryDirectory(prefix="trackshade-") as folder:
        path = Path(folder) / f"image{_SUFFIXES[header.format]}"  # the library detects the format by the suffix first
        path.write_bytes(data)
        values = _read(path)
    kind = np.uint16 if header.bits == 16 else np.uint8
    if values.dtype != kind or values.shape[2] > 4:
        raise DecodingError(f"it has {values.shape[2]} channels of {values.dtype}")
    height, width, channels = values.shape
    pixels: np.ndarray = np.full((height, width, 4), np.iinfo(kind).max, kind)
    pixels[..., :3] = values[..., :3] if channels >= 3 else values[..., :1]
    if channels in (2, 4):
        pixels[..., 3] = values[..., -1]
    return pixels


def _read(path: Path) -> np.ndarray:
    config = oiio.ImageSpec()
    config["oiio:UnassociatedAlpha"] = 1
    image = oiio.ImageInput.open(str(path), config)
    if image is None:
        raise DecodingError(_first_line(oiio.geterror(), path) or "it cannot be opened")
    try:
        spec = image.spec()
        values = image.read_image(0, 0, 0, spec.nchannels, spec.format)
        warned = image.has_error and not path.name.endswith(".jpg")  # many cameras' JPEGs break small rules
        if values is None or warned:
            raise DecodingError(_first_line(image.geterror(), path) or "its pixels cannot be decoded")
    finally:
        image.close()
    return np.asarray(values)


def _first_line(text: str, path: Path) -> str:
    """Return the library's message without the path of the temporary file."""
    return text.partition("\n")[0].replace(f' ("{path}")', "").replace(str(path), "it")
