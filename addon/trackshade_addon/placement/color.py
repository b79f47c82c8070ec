# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping a result's colors unchanged: the inverse of the scene's view transform, and how exact it is.

The images of a result are finished sRGB. A render takes scene-linear light through the view transform, so a plate
needs its images read with the inverse of that transform. Blender offers the inverse of most transforms as a color
space. The exposure is divided out in the plate's emission (see `materials`); looks, curves and gamma cannot be undone.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import bpy
import imbuf
import numpy as np

from trackshade.core.images import write_png

from ..capture.render_guard import discard

_INVERSE = {
    "Standard": "sRGB",
    "AgX": "AgX Base sRGB",
    "Filmic": "Filmic sRGB",
    "Khronos PBR Neutral": "Khronos PBR Neutral sRGB",
    "ACES 1.3": "ACES 1.3 sRGB",
    "ACES 2.0": "ACES 2.0 sRGB",
    "Raw": "Non-Color",
}
TOLERANCE = 2  # levels of 255
SAMPLE = 10_000  # pixels of an image that are checked, at most


def inverse_space(scene: bpy.types.Scene, what: str = "the plate", undoes_gamma: bool = False) -> tuple[str, list[str]]:
    """Choose the color space for reading a result's images, so that the scene shows them unchanged.

    Returns:
        The name of the color space, and warnings about what will change the colors of `what` nevertheless. The gamma of
        the view settings is not among them if the caller undoes it.
    """
    view = scene.view_settings
    known = bpy.types.ColorManagedInputColorspaceSettings.bl_rna.properties["name"].enum_items
    space = _INVERSE.get(view.view_transform)
    warnings = []
    if space is None or space not in known:
        warnings.append(
            f"Blender has no inverse of the view transform '{view.view_transform}', which will change the colors of "
            f"{what}. Set the view transform to Standard to see them as they were made."
        )
        space = "sRGB"
    changes = [
        *([f"the look '{view.look}'"] if view.look not in ("", "None") else []),
        *([f"the gamma of {view.gamma:g}"] if view.gamma != 1 and not undoes_gamma else []),
        *(["the curves"] if view.use_curve_mapping else []),
        *(["the white balance"] if getattr(view, "use_white_balance", False) else []),
    ]
    if changes:
        named = ", ".join(changes[:-1]) + " and " * (len(changes) > 1) + changes[-1]
        warnings.append(
            f"{named[0].upper()}{named[1:]} of the scene's color management will change the colors of {what}. "
            "Switch off what should not touch them."
        )
    if scene.display_settings.display_device != "sRGB":
        warnings.append(
            f"The scene's display is '{scene.display_settings.display_device}': the sRGB colors of {what} will "
            "be converted to it."
        )
    return space, warnings


def take_sample(path: Path, folder: Path) -> Path:
    """Write a small image to `folder`: every n-th pixel of the image at `path`, SAMPLE in all at most."""
    image = imbuf.load(str(path))
    try:
        width, height = image.size
        shrink = max(1.0, math.sqrt(width * height / SAMPLE))
        image.resize((max(1, int(width / shrink)), max(1, int(height / shrink))), method="FAST")
        sample = folder / "sample.png"
        imbuf.write(image, filepath=str(sample))
    finally:
        image.free()
    return sample


def warm_up(scene: bpy.types.Scene) -> None:
    """Make Blender compute its tables for the scene's colors, which takes up to a second the first time."""
    with tempfile.TemporaryDirectory(prefix="trackshade-") as folder:
        write_png(Path(folder) / "gray.png", np.full((4, 4, 3), 128, np.uint8))
        changed_fraction(Path(folder) / "gray.png", scene, inverse_space(scene)[0])


def changed_fraction(path: Path, scene: bpy.types.Scene, space: str) -> tuple[float, int]:
    """Measure how much the scene's view transform changes an image that is read with a color space.

    Blender itself computes it. A transform cannot show every color (AgX no fully saturated one), and then the inverse
    yields only the nearest.

    Returns:
        The fraction of the pixels that change by more than TOLERANCE, and the largest change in levels of 255.
    """
    image = bpy.data.images.load(str(path), check_existing=False)
    check = bpy.data.scenes.new("Trackshade color check")
    try:
        image.colorspace_settings.name = space
        check.display_settings.display_device = scene.display_settings.display_device
        view = check.view_settings
        view.view_transform, view.look = scene.view_settings.view_transform, scene.view_settings.look
        # With exactly no exposure Blender sees that the file is in the display's space already and converts nothing.
        view.exposure, view.gamma = 1e-6, scene.view_settings.gamma
        check.render.image_settings.file_format = "PNG"
        check.render.image_settings.color_mode = "RGB"
        check.render.image_settings.compression = 0
        check.render.dither_intensity = 0
        with tempfile.TemporaryDirectory(prefix="trackshade-") as folder:
            shown = Path(folder) / "shown.png"
            image.save_render(str(shown), scene=check)
            change = np.abs(read_levels(shown) - read_levels(path)).max(axis=-1)
    finally:
        discard(check)
        discard(image)
    return float((change > TOLERANCE).mean()), int(change.max())


def linear_pixels(path: Path, space: str) -> np.ndarray:
    """Read an image with a color space as [H, W, 3] float32 scene-linear pixels, top row first."""
    image = bpy.data.images.load(str(path), check_existing=False)
    writer = bpy.data.scenes.new("Trackshade color")
    try:
        image.colorspace_settings.name = space
        output = writer.render.image_settings
        output.file_format, output.color_mode, output.color_depth, output.exr_codec = "OPEN_EXR", "RGB", "32", "ZIP"
        with tempfile.TemporaryDirectory(prefix="trackshade-") as folder:
            linear = Path(folder) / "light.exr"
            image.save_render(str(linear), scene=writer)
            return _read_pixels(linear)[..., :3]
    finally:
        discard(writer)
        discard(image)


def read_levels(path: Path) -> np.ndarray:
    """Read an 8-bit image without color management as [H, W, 3], 0 to 255, top row first."""
    return np.rint(_read_pixels(path, "Non-Color")[..., :3] * 255)


def _read_pixels(path: Path, space: str | None = None) -> np.ndarray:
    """Read an image file as [H, W, C] float32, top row first."""
    image = bpy.data.images.load(str(path), check_existing=False)
    try:
        if space is not None:
            image.colorspace_settings.name = space
        width, height = image.size
        values = np.empty(width * height * image.channels, np.float32)
        image.pixels.foreach_get(values)
    finally:
        discard(image)
    return values.reshape(height, width, -1)[::-1]
