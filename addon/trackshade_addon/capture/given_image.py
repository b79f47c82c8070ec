# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads images that the user gives for the first frame: files, and images open in Blender. Main thread only.

`trackshade.shot.input_image` interprets the values, for Blender and the backend alike. Scene-linear images go through
the view transform that the shot was captured with.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from trackshade.core.colors import linear_to_srgb
from trackshade.core.errors import ShotError
from trackshade.core.image_headers import MAX_PIXELS, ImageHeader, read_header, read_image_bytes
from trackshade.shot.input_image import DecodingError, InputImage, Pixels, load_input_image

from .render_guard import discard, image_format, render_result

IMAGE = "image:"  # prefix of the name of an image in Blender, in place of a path
_log = logging.getLogger(__name__)
_DATA = "Non-Color"
_DISPLAY_SPACES = ("sRGB", _DATA)
_VIEW = ("view_transform", "look", "exposure", "gamma", "use_curve_mapping")
_WHITE_BALANCE = ("use_white_balance", "white_balance_temperature", "white_balance_tint")  # Blender 4.3 and newer


def check_given_image(source: str) -> ImageHeader:
    """Checks a given image before any work.

    Args:
        source: path of a file, or IMAGE followed by the name of an image in Blender.

    Raises:
        ShotError: the image cannot be read, is damaged or of an unsupported type.
    """
    if source.startswith(IMAGE):
        return _image_header(_image(source))
    return read_image_bytes(Path(source))[1]


def read_given_header(source: str) -> ImageHeader:
    """Like `check_given_image`, but reads only the header of a file."""
    return check_given_image(source) if source.startswith(IMAGE) else read_header(Path(source))


def read_given_image(source: str, color_management: Mapping[str, Any] | None) -> InputImage:
    """Reads a given image, with the scene's color management for a scene-linear one. See `check_given_image`."""
    if source.startswith(IMAGE):
        return _read_image(_image(source), color_management or {})
    return read_image_file(Path(source), color_management)


def read_image_file(path: Path, color_management: Mapping[str, Any] | None) -> InputImage:
    """Reads an image file, as `read_given_image`."""

    def decode(data: bytes, header: ImageHeader) -> Pixels:
        if header.scene_linear:
            return _read_linear(data, header, color_management or {})
        with _load(data, _DATA) as image:
            return _quantize(_values(image), np.uint16 if header.bits == 16 else np.uint8)

    return load_input_image(path, decode)


def copy_render_result(scene: bpy.types.Scene, name: str) -> bpy.types.Image:
    """Returns a new, packed image of Blender that shows the latest render as the scene does.

    Raises:
        ShotError: nothing was rendered yet.
    """
    result = render_result()
    with tempfile.TemporaryDirectory(prefix="trackshade-") as folder:
        path = Path(folder) / "shown.png"
        try:
            if result is None:
                raise DecodingError("nothing was rendered")
            with image_format(scene, "IMAGE", "PNG") as output:
                output.color_mode, output.color_depth = "RGB", "8"
                output.color_management = "FOLLOW_SCENE"
                result.save_render(str(path), scene=scene)
        except (DecodingError, RuntimeError) as error:
            reason = str(error).strip().removeprefix("Error: ").rstrip(".")
            raise ShotError(
                "no-render-result", f"There is no render to copy: {reason}.", "Render this frame first (F12)."
            ) from error
        data = path.read_bytes()
    image = bpy.data.images.new(name, 1, 1)
    image.pack(data=data, data_len=len(data))
    image.source = "FILE"
    return image


def color_management(scene: bpy.types.Scene) -> dict[str, Any]:
    """The color management settings of a scene, as plain values for a shot's `source`."""
    view = scene.view_settings
    found: dict[str, Any] = {"display_device": scene.display_settings.display_device}
    found |= {name: getattr(view, name) for name in (*_VIEW, *_WHITE_BALANCE) if hasattr(view, name)}
    if view.use_curve_mapping:
        curves = view.curve_mapping
        found["curves"] = {
            "black": list(curves.black_level),
            "white": list(curves.white_level),
            "points": [[[*point.location, point.handle_type] for point in curve.points] for curve in curves.curves],
        }
    return found


def _image(source: str) -> bpy.types.Image:
    name = source.removeprefix(IMAGE)
    image = bpy.data.images.get(name)
    if image is None:
        raise ShotError("bad-picture", f"There is no image '{name}' in this file.", "Choose another image.")
    if image.source not in ("FILE", "GENERATED") or image.type not in ("IMAGE", "UV_TEST"):
        raise ShotError(
            "picture-format",
            f"The image '{name}' is a movie, a sequence, of several tiles or layers, or a render result.",
            "Save the wanted picture to a file, and choose that.",
        )
    return image


def _image_header(image: bpy.types.Image) -> ImageHeader:
    width, height = image.size
    if not width or not height:
        raise ShotError("bad-picture", f"The image '{image.name}' has no pixels: its file is missing or no picture.",
                        "Choose another image.")  # fmt: skip
    if width * height > MAX_PIXELS:
        raise ShotError(
            "picture-too-large",
            f"The image '{image.name}' has {width}×{height} pixels, and at most {MAX_PIXELS} are read.",
            "Make it smaller.",
        )
    space = image.colorspace_settings.name
    if image.is_float and space not in _DISPLAY_SPACES:
        return ImageHeader("image", (width, height), 32, linear_space=space)
    alpha = "none" if image.alpha_mode == "NONE" or image.channels < 4 else "straight"
    # Blender stores images of more than 8 bits scene linear and premultiplied; they are converted back, without alpha.
    return ImageHeader("image", (width, height), *((16, "none") if image.is_float else (8, alpha)))


def _read_image(image: bpy.types.Image, management: Mapping[str, Any]) -> InputImage:
    """Reads an image of Blender as it is displayed, including what was painted on it."""
    header = _image_header(image)
    try:
        if header.scene_linear:
            pixels = _render_image(image, management)
        elif image.is_float:
            pixels = _values(image)
            if image.colorspace_settings.name == "sRGB":
                pixels[..., :3] = linear_to_srgb(pixels[..., :3])
            pixels = _quantize(pixels, np.uint16)
        else:
            pixels = _quantize(_values(image), np.uint8)
    except (DecodingError, MemoryError) as error:
        raise ShotError(
            "bad-picture", f"The image '{image.name}' cannot be read: {error}.", "Choose another image."
        ) from error
    return InputImage(pixels, header, image.name)


def _read_linear(data: bytes, header: ImageHeader, management: Mapping[str, Any]) -> Pixels:
    """Reads a scene-linear image file as the scene shows it, [H, W, 4] uint16."""
    with _load(data, header.linear_space) as image:
        image.alpha_mode = "PREMUL"
        return _render_image(image, management)


def _render_image(image: bpy.types.Image, management: Mapping[str, Any]) -> Pixels:
    """Applies the scene's view transform to a scene-linear image, for an sRGB display and over black.

    Returns:
        [H, W, 4] uint16.
    """
    scene = bpy.data.scenes.new("Trackshade first frame")
    try:
        _apply(management, scene)
        output = scene.render.image_settings
        if hasattr(output, "media_type"):  # Blender 5.0 and newer
            output.media_type = "IMAGE"
        output.file_format, output.color_mode, output.color_depth = "PNG", "RGB", "16"
        output.compression = 0
        scene.render.dither_intensity = 0
        with tempfile.TemporaryDirectory(prefix="trackshade-") as folder:
            path = Path(folder) / "shown.png"
            try:
                image.save_render(str(path), scene=scene)
            except RuntimeError as error:
                raise DecodingError(_reason(error)) from error
            with _load(path.read_bytes(), _DATA) as shown:
                return _quantize(_values(shown), np.uint16)
    finally:
        discard(scene)


def _apply(management: Mapping[str, Any], scene: bpy.types.Scene) -> None:
    """Applies color management settings to a new scene, except those that this Blender does not know."""
    view = scene.view_settings
    with suppress(TypeError):  # the OpenColorIO configuration has no such display
        scene.display_settings.display_device = "sRGB"
    for name in (*_VIEW, *_WHITE_BALANCE):
        if name not in management or not hasattr(view, name):
            continue
        try:
            setattr(view, name, management[name])
        except TypeError:  # a view transform or look of another configuration
            _log.warning("The color management has no %s %r", name, management[name])
    curves = management.get("curves")
    if curves is not None and view.use_curve_mapping:
        mapping = view.curve_mapping
        mapping.black_level, mapping.white_level = curves["black"], curves["white"]
        for curve, points in zip(mapping.curves, curves["points"], strict=True):
            while len(curve.points) > len(points):
                curve.points.remove(curve.points[-1])
            for x, y, _ in points[len(curve.points) :]:
                curve.points.new(x, y)
            for point, (x, y, handle) in zip(curve.points, points, strict=True):
                point.location, point.handle_type = (x, y), handle
        mapping.update()


@contextmanager
def _load(data: bytes, space: str) -> Iterator[bpy.types.Image]:
    """Loads an image file for the duration of the block.

    It is loaded from memory, so that its name is not taken for that of a sequence, a tile or a movie.

    Args:
        data: content of the file.
        space: color space of its values.
    """
    image = bpy.data.images.new("Trackshade first frame", 1, 1)
    try:
        image.pack(data=data, data_len=len(data))
        image.source = "FILE"
        image.alpha_mode = "CHANNEL_PACKED"
        _set_space(image, space)
        if not image.has_data and not all(image.size):
            raise DecodingError("its pixels cannot be decoded")
        yield image
    except RuntimeError as error:
        raise DecodingError(_reason(error)) from error
    finally:
        discard(image)


def _set_space(image: bpy.types.Image, space: str) -> None:
    """Sets the color space of an image.

    If the OpenColorIO configuration has no such space, this uses its space for data, or its default for color.
    """
    settings = image.colorspace_settings
    try:
        settings.name = space
    except TypeError:
        if space != _DATA:
            return
        for item in settings.bl_rna.properties["name"].enum_items:
            settings.name = item.identifier
            if settings.is_data:
                return


def _values(image: bpy.types.Image) -> np.ndarray:
    """Reads the values of an image, [H, W, 4] float32, top row first."""
    width, height = image.size
    channels = image.channels
    if not width or not height or channels not in (1, 3, 4):
        raise DecodingError("its pixels cannot be decoded")
    values = np.empty(width * height * channels, np.float32)
    image.pixels.foreach_get(values)
    values = values.reshape(height, width, channels)[::-1]
    if channels == 4:
        return values
    pixels = np.ones((height, width, 4), np.float32)
    pixels[..., :3] = values
    return pixels


def _quantize(values: np.ndarray, kind: type) -> Pixels:
    """Converts values 0 to 1 to integers of a type. Overwrites the values, to save memory for large images."""
    np.clip(values, 0, 1, out=values)
    values *= np.iinfo(kind).max
    np.rint(values, out=values)
    return values.astype(kind)


def _reason(error: RuntimeError) -> str:
    return str(error).strip().rsplit(": ", 1)[-1] or "Blender gave no reason"
