# SPDX-License-Identifier: GPL-3.0-or-later
"""Fits given pictures to a shot, as its first frame.

The panel, the render engine, the commands, track sets and the Python client all use it. Pixels are averaged in linear
light, so that a picture is reduced to what an engine would have rendered at that size; alpha is composited over black
in linear light, as in a first frame with a transparent film.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackshade.core.errors import ShotError
from trackshade.core.fitting import SizeFit
from trackshade.core.geometry import linear_to_srgb, to_uint8
from trackshade.core.image_files import PictureHeader, damaged, read_whole
from trackshade.core.images import resample
from trackshade.shot import Shot

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Decoder = Callable[[bytes, PictureHeader], Pixels]
"""Returns [H, W, 4] RGBA as stored (before orientation), uint8 or uint16 by the header's bits; raises DecodingError."""

_TOLERANCE = 0.5  # pixels of the model by which two aspects may differ and still be the same


class DecodingError(Exception):
    """A file cannot be decoded; the message continues "The picture is damaged: "."""


@dataclass(frozen=True, eq=False)
class GivenPicture:
    """A decoded picture.

    Attributes:
        pixels: [H, W, 3 or 4] uint8 or uint16, upright.
        header: what the values mean.
        name: its file's name, or another name for messages.
    """

    pixels: Pixels
    header: PictureHeader
    name: str

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def light(
        self,
        pixels: NDArray[Any],  # [..., 3 or 4]
    ) -> NDArray[np.float64]:
        """Return the linear light [..., 3] of some of the picture's pixels, with sRGB's primaries, over black."""
        most = np.iinfo(self.pixels.dtype).max
        colors, alpha = pixels[..., :3], None
        if self.header.alpha != "none" and pixels.shape[-1] == 4:
            alpha = pixels[..., 3:].astype(np.float64) / most
            if self.header.alpha == "premultiplied":
                straight = colors / np.maximum(alpha, 1 / most)
                colors = np.rint(np.minimum(straight, most)).astype(self.pixels.dtype)
        table = self.header.encoding.table(np.iinfo(self.pixels.dtype).bits)
        light = np.empty(colors.shape, np.float64)
        for channel in range(3):
            light[..., channel] = table[channel][colors[..., channel]]
        if self.header.encoding.matrix is not None:
            light = np.clip(light @ np.array(self.header.encoding.matrix).T, 0, 1)
        return light if alpha is None else light * alpha


@dataclass(frozen=True)
class Placement:
    """Where a picture is in the model's image: model pixels = picture pixels × scale + offset.

    Attributes:
        kind: "same" (the model's size), "model" (its aspect), "scaled", "padded", "cut" (the scene's frame), or
            "covering" (another aspect).
        scale: (x, y).
        offset: (x, y), model pixels.
        statement: a sentence about what was done.
    """

    kind: str
    scale: tuple[float, float]
    offset: tuple[float, float]
    statement: str

    @property
    def fits(self) -> bool:
        """Whether the picture shows the scene's frame or the model's image, judged by its aspect."""
        return self.kind != "covering"


@dataclass(frozen=True, eq=False)
class FittedPicture:
    """A picture of the model's size.

    Attributes:
        pixels: [height, width, 3] uint8 sRGB.
        statement: sentences about what was done, for results and the panel.
        warnings: sentences about what may not be as intended.
    """

    pixels: NDArray[np.uint8]
    statement: str
    warnings: tuple[str, ...]


def read_given(path: Path, decode: Decoder) -> GivenPicture:
    """Read a picture file.

    Args:
        path: the file.
        decode: decodes its bytes.

    Raises:
        ShotError: it cannot be read, is damaged or of an unsupported kind.
    """
    data, header = read_whole(path)
    try:
        pixels = decode(data, header)
    except DecodingError as error:
        raise damaged(path, str(error)) from error
    except MemoryError as error:
        raise ShotError(
            "picture-too-large", f"There is not enough memory to read the picture {path}.", "Make it smaller."
        ) from error
    if pixels.shape != (*header.stored_size[::-1], 4):
        raise damaged(path, f"it has {pixels.shape[1]}×{pixels.shape[0]} pixels and says otherwise")
    alpha = pixels[..., 3]  # Blender leaves it 0 for pixels that it could not decode
    if not alpha.any():
        raise damaged(path, "it is transparent everywhere")
    if header.alpha == "none" and alpha.min() < np.iinfo(pixels.dtype).max:
        raise damaged(path, "pixels are missing")
    return GivenPicture(upright(pixels, header.orientation), header, path.name)


def given_array(pixels: NDArray[Any]) -> GivenPicture:
    """Return the picture of an array [H, W, 3] uint8, sRGB.

    Raises:
        ShotError: the array has another type or shape.
    """
    array = np.asarray(pixels)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or not array.size:
        raise ShotError(
            "bad-image",
            f"The first frame is an array {list(array.shape)} of {array.dtype}.",
            "Give [height, width, 3] of uint8, sRGB.",
        )
    return GivenPicture(array, PictureHeader("array", (array.shape[1], array.shape[0])), "array")


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return a view of pixels [H, W, C], turned by EXIF's orientation."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def place_picture(size: tuple[int, int], model: tuple[int, int], fit: SizeFit | None, shows: str = "any") -> Placement:
    """Decide where a picture is in the model's image.

    A picture with the model's aspect is the model's image. One with the aspect of the scene's frame, with its pixel
    aspect or with square pixels, is fitted as the shot was. Any other is scaled evenly until it covers the frame.

    Args:
        size: (width, height) of the picture, pixels.
        model: (width, height) of the model's image.
        fit: how the scene's frame is fitted to it; None if that is not known.
        shows: "frame" if the picture is known to show the scene's frame whatever its aspect, else "any".
    """
    label = f"The picture ({size[0]}×{size[1]})"
    if size == model and shows == "any":
        return Placement("same", (1.0, 1.0), (0.0, 0.0), f"{label} has the model's size and was taken as it is.")
    kind = "frame" if shows == "frame" and fit is not None else _kind(size, model, fit)
    target = f"{model[0]}×{model[1]}"
    if kind == "model":
        scale = model[0] / size[0], model[1] / size[1]
        words = f"{label} has the shape of the model's image and was scaled to {target}."
        return Placement("model", scale, (0.0, 0.0), words)
    if kind == "frame" and fit is not None:
        scale = fit.scale[0] * fit.source[0] / size[0], fit.scale[1] * fit.source[1] / size[1]
        whole = max(abs(value) for value in fit.offset) < _TOLERANCE
        how = "scaled" if whole else "padded" if fit.mode == "pad" else "cut"
        return Placement(how, scale, fit.offset, f"{label} shows the scene's frame and was {how} to {target}.")
    left, top, right, bottom = (0.0, 0.0, *model) if fit is None else fit.frame_in_model()
    unit = max((right - left) / size[0], (bottom - top) / size[1])
    offset = (left + right - unit * size[0]) / 2, (top + bottom - unit * size[1]) / 2
    if fit is None:
        words = f"{label} has another shape than the model's image ({target}), and was cut to it."
    else:
        frame = f"{fit.source[0]}×{fit.source[1]}"
        words = (
            f"{label} has another shape than the scene's frame ({frame}) and the model's image ({target}): it was "
            "scaled to cover the frame and cut, and may not lie over what moves."
        )
    return Placement("covering", (unit, unit), offset, words)


def _kind(size: tuple[int, int], model: tuple[int, int], fit: SizeFit | None) -> str:
    """Return what a picture shows by its aspect: "model", "frame" or "other"."""
    if fit is not None and size == fit.source:
        return "frame"
    if _same_shape(size, model, model):
        return "model"
    if fit is None:
        return "other"
    (width, height), (x, y) = fit.source, fit.pixel_aspect
    shapes = ((width, height), (width * x, height * y))
    return "frame" if any(_same_shape(size, shape, model) for shape in shapes) else "other"


def _same_shape(size: tuple[int, int], shape: tuple[float, float], model: tuple[int, int]) -> bool:
    """Return whether two aspects differ at most by rounding of the picture's sides, or half a pixel of the model."""
    width, height = size
    difference = math.log(width * shape[1] / (height * shape[0]))
    return abs(difference) * max(1, min(width, height) - 1) <= 1 or abs(difference) * max(model) <= _TOLERANCE


def fit_picture(given: GivenPicture, model: tuple[int, int], fit: SizeFit | None, shows: str = "any") -> FittedPicture:
    """Fit a picture to the model's image; its edges are repeated outside. Arguments are those of `place_picture`."""
    placement = place_picture(given.size, model, fit, shows)
    header = given.header
    untouched = given.pixels.dtype == np.uint8 and header.alpha == "none" and header.encoding.is_srgb
    if untouched and given.size == model and placement.scale == (1.0, 1.0) and placement.offset == (0.0, 0.0):
        pixels = np.ascontiguousarray(given.pixels[..., :3], np.uint8)
    else:
        light = resample(given.pixels, model, placement.scale, placement.offset, given.light)
        pixels = to_uint8(linear_to_srgb(light))
    notes = [f"The picture {given.name}: {note}" for note in header.warnings]
    warnings = tuple(notes if placement.fits else [placement.statement, *notes])
    return FittedPicture(pixels, " ".join([placement.statement, *header.notes]), warnings)


def with_first_frame(shot: Shot, given: GivenPicture, shows: str = "any") -> tuple[Shot, NDArray[np.uint8]]:
    """Fit a picture to a shot, as its first frame.

    Args:
        shot: the shot.
        given: the picture.
        shows: see `place_picture`.

    Returns:
        The shot with a statement about the picture in its `source`, and warnings if its aspect differs; and the
        picture, [H, W, 3] uint8 sRGB of the shot's size.
    """
    fitted = fit_picture(given, shot.size, size_fit_of(shot), shows)
    first_frame = {"name": given.name, "size": list(given.size), "statement": fitted.statement}
    warnings = list(dict.fromkeys([*shot.warnings, *fitted.warnings]))
    source = {**shot.source, "first_frame": first_frame, "warnings": warnings}
    return replace(shot, source=source), fitted.pixels


def size_fit_of(shot: Shot) -> SizeFit | None:
    """Return how the scene's frame is fitted to the shot's image; None if the shot does not say.

    Raises:
        ShotError: the entry is damaged.
    """
    data = shot.source.get("size_fit")
    if not data:
        return None
    try:
        fit = SizeFit.from_dict(dict(data))
        valid = min(*fit.scale, *fit.source, *fit.pixel_aspect) > 0 and tuple(fit.size) == tuple(shot.size)
    except (TypeError, ValueError) as error:
        raise ShotError("bad-size-fit", f"The shot's size fit cannot be read: {error}.", "Export it again.") from error
    if not valid:
        raise ShotError("bad-size-fit", "The shot's size fit is not that of its own image.", "Export it again.")
    return fit
