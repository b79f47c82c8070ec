# SPDX-License-Identifier: GPL-3.0-or-later
"""Fit an image that the user supplies as a shot's first frame to the shot's image.

The panel, the render engine, the commands, track sets and the Python client all use this module. Pixels are averaged
in linear light, so that a scaled image looks like one rendered at that size; transparent pixels are composited over
black in linear light, as in a first frame rendered with a transparent film.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackshade.core.colors import linear_to_srgb, to_uint8
from trackshade.core.errors import ShotError
from trackshade.core.fitting import SizeFit
from trackshade.core.image_headers import ImageHeader, damaged_image, read_image_bytes
from trackshade.core.resampling import resample
from trackshade.shot import Shot

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Decoder = Callable[[bytes, ImageHeader], Pixels]
"""Decode a file to [H, W, 4] RGBA as stored (before orientation), uint8 or uint16 by the header's bits.

Raises DecodingError.
"""

_LEAST_ENLARGED, _MOST_ENLARGED = 1.25, 4.0  # times the shot's size: where larger images have more detail, and enough
_SHAPE_TOLERANCE = 0.5  # pixels of the model by which two shapes may differ and still count as the same


class DecodingError(Exception):
    """A file cannot be decoded; the message continues "The picture is damaged: "."""


@dataclass(frozen=True, eq=False)
class InputImage:
    """A decoded image as supplied, before it is fitted.

    Attributes:
        pixels: [H, W, 3 or 4] uint8 or uint16, with the orientation applied.
        header: What the values mean.
        name: Name for messages, such as the file name.
    """

    pixels: Pixels
    header: ImageHeader
    name: str

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def to_linear(self, pixels: NDArray[Any]) -> NDArray[np.float64]:
        """Convert some of its pixels to linear light with sRGB's primaries, composited over black: [..., 3]."""
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
class ImagePlacement:
    """Where an image lies in the shot's image: pixels of the shot's image = image pixels × scale + offset.

    Attributes:
        kind: "same" (has the shot's size), "model" (has its aspect), "scaled", "padded" or "cut" (shows the scene's
            frame), or "covering" (has another aspect).
        scale: (x, y).
        offset: (x, y), pixels of the shot's image.
        statement: A sentence that says how the image was fitted.
    """

    kind: str
    scale: tuple[float, float]
    offset: tuple[float, float]
    statement: str

    @property
    def fits(self) -> bool:
        """Whether the image has the aspect of the scene's frame or of the shot's image."""
        return self.kind != "covering"


@dataclass(frozen=True, eq=False)
class FittedImage:
    """An image fitted to the shot's size.

    Attributes:
        pixels: [height, width, 3] uint8 sRGB.
        statement: Sentences that say how the image was fitted and converted.
        warnings: Sentences about what may not be as intended.
    """

    pixels: NDArray[np.uint8]
    statement: str
    warnings: tuple[str, ...]


def load_input_image(path: Path, decode: Decoder) -> InputImage:
    """Read and decodes an image file.

    Args:
        path: The file.
        decode: The decoder, Blender's or the backend's.

    Raises:
        ShotError: The file cannot be read, is damaged or has an unsupported format.
    """
    data, header = read_image_bytes(path)
    try:
        pixels = decode(data, header)
    except DecodingError as error:
        raise damaged_image(path, str(error)) from error
    except MemoryError as error:
        raise ShotError(
            "picture-too-large", f"There is not enough memory to read the picture {path}.", "Make it smaller."
        ) from error
    if pixels.shape != (*header.stored_size[::-1], 4):
        raise damaged_image(path, f"it has {pixels.shape[1]}×{pixels.shape[0]} pixels and says otherwise")
    alpha = pixels[..., 3]  # Blender leaves it 0 for missing pixels
    if not alpha.any():
        raise damaged_image(path, "it is transparent everywhere")
    if header.alpha == "none" and alpha.min() < np.iinfo(pixels.dtype).max:
        raise damaged_image(path, "pixels are missing")
    return InputImage(upright(pixels, header.orientation), header, path.name)


def input_image_from_array(pixels: NDArray[Any]) -> InputImage:
    """Wrap an array from Python.

    Args:
        pixels: [H, W, 3] uint8 sRGB.

    Raises:
        ShotError: The array has another shape or type.
    """
    array = np.asarray(pixels)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or not array.size:
        raise ShotError(
            "bad-image",
            f"The first frame is an array {list(array.shape)} of {array.dtype}.",
            "Give [height, width, 3] of uint8, sRGB.",
        )
    return InputImage(array, ImageHeader("array", (array.shape[1], array.shape[0])), "array")


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation to [H, W, C]; returns a view."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def place_image(
    size: tuple[int, int], model: tuple[int, int], fit: SizeFit | None, content: str = "any"
) -> ImagePlacement:
    """Decide where an image lies in the shot's image.

    An image with the model's aspect is scaled to the shot's image. One with the aspect of the scene's frame (with its
    pixel aspect or square pixels) is fitted as the shot was. Any other is scaled until it covers the scene's frame.

    Args:
        size: The image's (width, height) in pixels.
        model: The shot's (width, height) in pixels.
        fit: How the scene's frame lies in the shot's image; None if that is not known.
        content: "frame" if the image is known to show the scene's frame whatever its aspect, otherwise "any".
    """
    subject = f"The picture ({size[0]}×{size[1]})"
    if size == model and content == "any":
        return ImagePlacement("same", (1.0, 1.0), (0.0, 0.0), f"{subject} has the shot's size and is used as it is.")
    kind = "frame" if content == "frame" and fit is not None else _content_by_shape(size, model, fit)
    target = f"{model[0]}×{model[1]}"
    if kind == "model":
        scale = model[0] / size[0], model[1] / size[1]
        words = f"{subject} has the shape of the shot's image and was scaled to {target}."
        return ImagePlacement("model", scale, (0.0, 0.0), words)
    if kind == "frame" and fit is not None:
        scale = fit.scale[0] * fit.source[0] / size[0], fit.scale[1] * fit.source[1] / size[1]
        whole = max(abs(value) for value in fit.offset) < _SHAPE_TOLERANCE
        how = "scaled" if whole else "padded" if fit.mode == "pad" else "cut"
        return ImagePlacement(how, scale, fit.offset, f"{subject} shows the scene's frame and was {how} to {target}.")
    left, top, right, bottom = (0.0, 0.0, *model) if fit is None else fit.frame_in_model()
    unit = max((right - left) / size[0], (bottom - top) / size[1])
    offset = (left + right - unit * size[0]) / 2, (top + bottom - unit * size[1]) / 2
    if fit is None:
        words = f"{subject} has another shape than the shot's image ({target}), and was cut to it."
    else:
        frame = f"{fit.source[0]}×{fit.source[1]}"
        words = (
            f"{subject} has another shape than the scene's frame ({frame}) and the shot's image ({target}): it was "
            "scaled to cover the frame and cut, and may not lie over what moves."
        )
    return ImagePlacement("covering", (unit, unit), offset, words)


def _content_by_shape(size: tuple[int, int], model: tuple[int, int], fit: SizeFit | None) -> str:
    """Tell by an image's aspect what it shows: "model", "frame" or "other"."""
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
    """Return whether two aspects differ by at most the rounding of the image's sides, or half a model pixel."""
    width, height = size
    difference = math.log(width * shape[1] / (height * shape[0]))
    return abs(difference) * max(1, min(width, height) - 1) <= 1 or abs(difference) * max(model) <= _SHAPE_TOLERANCE


def fit_image(image: InputImage, model: tuple[int, int], fit: SizeFit | None, content: str = "any") -> FittedImage:
    """Fit an image to the shot's image; its edges are repeated beyond it.

    Args:
        image: The image.
        model: As in `place_image`.
        fit: As in `place_image`.
        content: As in `place_image`.
    """
    placement = place_image(image.size, model, fit, content)
    header = image.header
    untouched = image.pixels.dtype == np.uint8 and header.alpha == "none" and header.encoding.is_srgb
    if untouched and image.size == model and placement.scale == (1.0, 1.0) and placement.offset == (0.0, 0.0):
        pixels = np.ascontiguousarray(image.pixels[..., :3], np.uint8)
    else:
        light = resample(image.pixels, model, placement.scale, placement.offset, image.to_linear)
        pixels = to_uint8(linear_to_srgb(light))
    notes = [f"The picture {image.name}: {note}" for note in header.warnings]
    warnings = tuple(notes if placement.fits else [placement.statement, *notes])
    return FittedImage(pixels, " ".join([placement.statement, *header.notes]), warnings)


def attach_first_frame(shot: Shot, image: InputImage, content: str = "any") -> tuple[Shot, NDArray[np.uint8]]:
    """Fit an image to a shot as its first frame.

    Returns:
        The shot with a statement about the image in its `source`, and warnings if the aspects differ; and the fitted
        image, [H, W, 3] uint8 sRGB of the shot's size.
    """
    fitted = fit_image(image, shot.size, size_fit_of(shot), content)
    subject = {"name": image.name, "size": list(image.size), "statement": fitted.statement}
    warnings = list(dict.fromkeys([*shot.warnings, *fitted.warnings]))
    source = {**shot.source, "first_frame": subject, "warnings": warnings}
    return replace(shot, source=source), fitted.pixels


def fit_larger(shot: Shot, image: InputImage, content: str = "any") -> NDArray[np.uint8] | None:
    """Fit an image to a shot's aspect, and keep the resolution that exceeds the shot's.

    Returns:
        [h, w, 3] uint8 sRGB, larger than the shot by at most `_MOST_ENLARGED`; None if the shot's size shows all of the
        image's detail.
    """
    fit = size_fit_of(shot)
    factor = min(1 / max(place_image(image.size, shot.size, fit, content).scale), _MOST_ENLARGED)
    if factor < _LEAST_ENLARGED:
        return None
    width, height = (round(side * factor) for side in shot.size)
    if fit is not None:
        x, y = width / shot.size[0], height / shot.size[1]
        (sx, sy), (ox, oy) = fit.scale, fit.offset
        fit = replace(fit, size=(width, height), scale=(sx * x, sy * y), offset=(ox * x, oy * y))
    return fit_image(image, (width, height), fit, content).pixels


def sample_of_frame(shot: Shot, frame: float) -> int:
    """Return the sample of a shot that shows a scene frame. Raise ShotError if the shot has no such frame."""
    return find_sample(shot.frame_numbers, frame)


def find_sample(frames: Sequence[float] | NDArray[np.float64], frame: float) -> int:
    """Return where a scene frame is among the frames of a shot. Raise ShotError if it is none of them."""
    numbers = np.asarray(frames)
    nearest = int(np.abs(numbers - frame).argmin())
    if abs(numbers[nearest] - frame) > 1e-4:
        raise ShotError(
            "no-such-frame",
            f"The shot has no frame {frame:g}: its {len(numbers)} frames are {numbers[0]:g} to {numbers[-1]:g}.",
            f"Give a picture of one of them, such as frame {numbers[nearest]:g}.",
        )
    return nearest


@dataclass(frozen=True)
class KeyPlaces:
    """Where key pictures of a shot belong, and which of these places are taken.

    Attributes:
        frame_numbers: the shot's scene frames, ascending.
        size: (width, height) of the shot, pixels.
        fit: how the shot lies in the scene's frame, or None.
        taken: camera and sample of the pictures so far.
    """

    frame_numbers: Sequence[float]
    size: tuple[int, int]
    fit: SizeFit | None
    taken: set[tuple[str | None, int]] = field(default_factory=set)

    def take(self, camera: str | None, frame: float, size: tuple[int, int], name: str) -> int:
        """Return the sample that a picture shows.

        Args:
            camera: its camera; None for the first one.
            frame: its scene frame.
            size: (width, height) of the picture, pixels.
            name: its name in errors.

        Raises:
            ShotError: The shot has no such frame, another picture shows it, or the picture has another aspect.
        """
        sample = find_sample(self.frame_numbers, frame)
        number = self.frame_numbers[sample]
        if (camera, sample) in self.taken:
            raise ShotError(
                "two-key-pictures",
                f"Two pictures show frame {number:g}; the second one is {name}.",
                "Give one picture for each frame.",
            )
        if not place_image(size, self.size, self.fit).fits:
            (width, height), target = size, self.size if self.fit is None else self.fit.source
            raise ShotError(
                "other-aspect",
                f"The picture of frame {number:g}, {name}, has {width} × {height} pixels, another shape than the "
                f"scene's {target[0]} × {target[1]}.",
                "Render or crop it with the aspect of the camera.",
            )
        self.taken.add((camera, sample))
        return sample


def attach_key_pictures(
    shot: Shot, pictures: Iterable[tuple[str | None, float, InputImage]]
) -> tuple[Shot, dict[int, NDArray[np.uint8]]]:
    """Fit images to a shot as pictures of some of its frames.

    Args:
        shot: The shot.
        pictures: Camera (None for the first one), scene frame and image of each.

    Returns:
        The shot with statements about the images in its `source`; and the fitted images by cell (sample * number of
        cameras + camera), [h, w, 3] uint8 sRGB of the shot's size, or larger where they have more detail.

    Raises:
        ShotError: The shot has no such camera or frame, two images show the same one, or an image has another aspect
            or is black.
    """
    fitted: dict[int, NDArray[np.uint8]] = {}
    subjects, warnings = [], list(shot.warnings)
    names, fit = [camera.name for camera in shot.cameras], size_fit_of(shot)
    places = KeyPlaces(shot.frame_numbers.tolist(), shot.size, fit)
    for camera, frame, image in pictures:
        if camera is not None and camera not in names:
            raise ShotError(
                "unknown-camera",
                f"A picture is given for camera '{camera}', which the shot does not have.",
                f"Its cameras are {', '.join(names)}.",
            )
        view = 0 if camera is None else names.index(camera)
        sample = places.take(names[view], frame, image.size, image.name)
        cell, number = sample * len(names) + view, float(shot.frame_numbers[sample])
        result = fit_image(image, shot.size, fit)
        if not result.pixels.any():
            raise black_picture(number, image.name)
        larger = fit_larger(shot, image)
        fitted[cell] = result.pixels if larger is None else larger
        subjects.append({"frame": number, "name": image.name, "size": list(image.size), "statement": result.statement})
        warnings += result.warnings
    subjects = [*shot.source.get("key_pictures", ()), *subjects]
    source = {**shot.source, "key_pictures": subjects, "warnings": list(dict.fromkeys(warnings))}
    return (replace(shot, source=source) if subjects else shot), fitted


def black_picture(frame: float, name: str = "") -> ShotError:
    """Return the error of a key picture that is black everywhere."""
    return ShotError(
        "black-key-picture",
        f"The picture of frame {frame:g}{name and f', {name},'} is black everywhere.",
        "Give a picture that shows the scene, or leave it out.",
    )


def size_fit_of(shot: Shot) -> SizeFit | None:
    """Read how the scene's frame lies in the shot's image; None if the shot does not record it.

    Raises:
        ShotError: The record cannot be read.
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
