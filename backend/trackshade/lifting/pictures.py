# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the picture that is lifted, its masks and its depth file, and what the picture's metadata says of the lens.

The picture is analyzed at a reduced size; its own pixels are used only by the scene that is built from the result. What
files are pictures, and which way up they are, is decided as for every picture (`trackshade.core.image_headers`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trackshade.core.colors import linear_to_srgb, to_uint8
from trackshade.core.errors import ShotError
from trackshade.core.image_headers import ImageHeader, damaged_image, read_header, read_image_bytes
from trackshade.shot.input_image import Decoder, load_input_image, upright

MAX_PIXELS = 2_000_000  # of the analyzed picture
_FULL_FRAME_DIAGONAL = 43.27  # millimetres, of the film that equivalent focal lengths refer to
_MIN_SIDE = 8  # pixels
_EXIF, _EQUIVALENT, _FOCAL, _PLANE_WIDTH, _PLANE_UNIT, _PIXELS_WIDE = 0x8769, 0xA405, 0x920A, 0xA20E, 0xA210, 0xA002


@dataclass(frozen=True, eq=False)
class Photo:
    """A picture to lift.

    Attributes:
        path: absolute path of the file.
        size: (width, height) in pixels, upright.
        colors: [h, w, 3] uint8 sRGB, at most `MAX_PIXELS`.
        focal: focal length by the picture's metadata, pixels of the full size; None where it says nothing.
    """

    path: Path
    size: tuple[int, int]
    colors: NDArray[np.uint8]
    focal: float | None

    @property
    def scale(self) -> tuple[float, float]:
        """(x, y) pixels of the full size for one of the analyzed picture."""
        height, width = self.colors.shape[:2]
        return self.size[0] / width, self.size[1] / height


def read_photo(path: Path, decode: Decoder) -> Photo:
    """Read a picture. Raise ShotError if it cannot be read, is not supported or has less than 8 × 8 pixels."""
    path = path.absolute()
    header = read_header(path)
    width, height = header.size
    if min(width, height) < _MIN_SIDE:
        raise ShotError(
            "picture-too-small", f"The picture {path} has {width}×{height} pixels.", "Give one of at least 8×8 pixels."
        )
    size = analyzed_size(header.size)
    if header.scene_linear:
        colors = _read_scene_linear(path, header, size)
    else:
        image = load_input_image(path, decode)
        pixels, most = image.pixels, np.iinfo(image.pixels.dtype).max
        colors = _reduced(np.ascontiguousarray(pixels[..., :3]), size)
        if header.alpha != "none":
            alpha = _reduced(np.ascontiguousarray(pixels[..., 3]), size)[..., None]
            colors = colors if header.alpha == "premultiplied" else colors * (alpha / most)
        colors = np.rint(colors * (255 / most)).astype(np.uint8)
    return Photo(path, header.size, colors, _metadata_focal(path, header))


def analyzed_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the (width, height) at which a picture is analyzed: its own, or one of at most `MAX_PIXELS`."""
    width, height = size
    factor = min(1.0, math.sqrt(MAX_PIXELS / (width * height)))
    return max(1, round(width * factor)), max(1, round(height * factor))


def _reduced(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if pixels.shape[1::-1] == size:
        return pixels
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def read_channels(path: Path) -> tuple[NDArray[np.float32], list[str]]:
    """Read a floating-point image file with OpenImageIO: [H, W, C] and the channels' names. Raise ShotError."""
    import OpenImageIO as oiio

    image = oiio.ImageInput.open(str(path))
    if image is None:
        raise damaged_image(path, oiio.geterror().partition("\n")[0] or "it cannot be opened")
    try:
        spec = image.spec()
        values = image.read_image(0, 0, 0, spec.nchannels, oiio.FLOAT)
        if values is None:
            raise damaged_image(path, image.geterror().partition("\n")[0] or "its pixels cannot be decoded")
        return np.asarray(values, np.float32).reshape(spec.height, spec.width, -1), list(spec.channelnames)
    finally:
        image.close()


def _read_scene_linear(path: Path, header: ImageHeader, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a scene-linear picture with its exposure set so that it can be analyzed."""
    read_image_bytes(path)  # checks that it is complete
    values, names = read_channels(path)
    order = [names.index(name) for name in "RGB"] if {"R", "G", "B"} <= set(names) else [0, 0, 0]
    light = upright(np.nan_to_num(values[..., order], nan=0.0, posinf=0.0, neginf=0.0), header.orientation)
    light = np.maximum(_reduced(np.ascontiguousarray(light), size), 0)
    middle = float(np.median(light.mean(axis=-1)))
    return to_uint8(linear_to_srgb(light * (0.2 / middle if middle > 0 else 1.0)))


def _metadata_focal(path: Path, header: ImageHeader) -> float | None:
    """Return the focal length that the metadata gives, pixels of the full size; None where there is none."""
    from PIL import Image, UnidentifiedImageError

    if header.format not in ("JPEG", "PNG", "TIFF", "WebP"):
        return None
    try:
        with Image.open(path) as image:
            tags = image.getexif().get_ifd(_EXIF)
        equivalent, diagonal = float(tags.get(_EQUIVALENT, 0)), math.hypot(*header.size)
        if equivalent > 0:
            focal = equivalent / _FULL_FRAME_DIAGONAL * diagonal
        else:
            per_unit, unit = float(tags.get(_PLANE_WIDTH, 0)), {2: 25.4, 3: 10.0}.get(int(tags.get(_PLANE_UNIT, 2)), 0)
            if not per_unit or not unit:
                return None
            wide = float(tags.get(_PIXELS_WIDE, 0)) or header.stored_size[0]
            focal = float(tags.get(_FOCAL, 0)) * per_unit / unit * header.stored_size[0] / wide
    except (OSError, UnidentifiedImageError, ValueError, TypeError, ZeroDivisionError, SyntaxError):
        return None
    return focal if 0.2 < focal / max(header.size) < 50 else None


def read_mask(path: Path, size: tuple[int, int], decode: Decoder) -> NDArray[np.bool_]:
    """Read a mask [height, width]: what is white, and opaque where the mask has an alpha channel.

    Args:
        path: the file.
        size: (width, height) of the picture, pixels.
        decode: the decoder.

    Raises:
        ShotError: it cannot be read, has another size than the picture, or is empty.
    """
    image = load_input_image(path, decode)
    if image.size != size:
        raise ShotError(
            "mask-size",
            f"The mask {path} has {image.size[0]}×{image.size[1]} pixels, and the picture {size[0]}×{size[1]}.",
            "Give a mask of the picture's size.",
        )
    values = image.pixels[..., :3].max(axis=-1)
    if image.header.alpha != "none" and image.pixels.shape[-1] == 4:
        values = np.minimum(values, image.pixels[..., 3])
    mask = values > np.iinfo(values.dtype).max // 2
    if not mask.any():
        raise ShotError("empty-mask", f"The mask {path} is black everywhere.", "Paint the object white.")
    return mask
