# SPDX-License-Identifier: GPL-3.0-or-later
"""Results as background images of cameras, for the viewport."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Generator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from trackshade.client import later
from trackshade.core.atomic_files import writing
from trackshade.core.colors import to_uint8
from trackshade.core.fitting import SizeFit
from trackshade.core.images import write_png
from trackshade.core.resampling import crop_to_frame, frame_coverage

from ..capture.animation import curves
from ..capture.first_frame import read_picture
from .collection import PLATE_KEY, tag
from .drivers import clear_empty_animation
from .result_folder import ResultFolder
from .sequence import FrameChoice, Sequence, load_sequence, play_in_viewport, write_sequence

_SWITCHED_KEY = "trackshade_showed_backgrounds"  # on a camera whose background images were switched off before
_FIX = "Make the result's folder writable, or copy it to one that is."
_PATH = re.compile(r"background_images\[(\d+)\]")


def add_backgrounds(
    result: ResultFolder, cameras: list[bpy.types.Object], sequence: Sequence, scene: bpy.types.Scene
) -> list[str]:
    """Give cameras a background image in front of the scene, which the meshes that it shows would hide otherwise.

    Args:
        result: The result.
        cameras: The cameras.
        sequence: Images that show the scene's frame, no more and no less: those of the result if it has the frame's
            pixels, else those of `write_frame_images`. They are stretched to the camera's frame, whose aspect they
            have under any pixel aspect of the scene.
        scene: The scene.

    Returns:
        Warnings about cameras that cannot be given one.
    """
    warnings, image = [], None
    for data in dict.fromkeys(camera.data for camera in cameras):
        if data.library is not None:
            warnings.append(f"Camera data '{data.name}' is linked from a library and was given no background image.")
            continue
        if image is None:
            # The viewport draws background images over the finished picture: there is no view transform to undo.
            image = tag(load_sequence(f"{result.name} background", sequence, "sRGB"), result)
        if not data.show_background_images:
            data[_SWITCHED_KEY] = True
        background = data.background_images.new()
        background.image = image
        background.frame_method = "STRETCH"
        background.alpha = 1.0
        background.display_depth = "FRONT"
        play_in_viewport(background.image_user, sequence, scene)
        data.show_background_images = True
    return warnings


def write_frame_images(
    result: ResultFolder, choices: list[FrameChoice]
) -> Generator[Future[Any] | None, None, Sequence]:
    """Write images of the scene's frame, from those of a model or of a render region, beside the result's frames.

    What a model was shown around the frame is cut off; parts of the frame that it did not see, and those outside of
    the region, are transparent. Yields as `prepare` does.

    Raises:
        OutputError: The images cannot be written.
    """
    fit = result.fit
    size = round(fit.scale[0] * fit.source[0]), round(fit.scale[1] * fit.source[1])
    with writing("The background's images", result.folder, _FIX):
        folder = tempfile.TemporaryDirectory(prefix=".trackshade-", dir=result.folder, ignore_cleanup_errors=True)
    with folder as name:
        images = [Path(name) / image.name for image in result.images]
        for sample in sorted({choice.sample for choice in choices}):
            image = read_picture(result.images[sample])
            yield None
            drawing = later(_write_frame_image, images[sample], image, fit, size)
            yield drawing
            drawing.result()
        linking = later(write_sequence, result, choices, images, "background")
        yield linking
        return linking.result()


def _write_frame_image(path: Path, image: np.ndarray, fit: SizeFit, size: tuple[int, int]) -> None:
    """Write the scene's frame, at a size in pixels, as an image [h, w, 3] of a fit shows it."""
    covered = frame_coverage(fit, size)
    frame = _paste(image, fit) if fit.scale == (1.0, 1.0) else to_uint8(crop_to_frame(image, fit, size) / 255)
    write_png(path, frame if covered.all() else np.dstack([frame, np.where(covered, np.uint8(255), np.uint8(0))]))


def _paste(image: np.ndarray, fit: SizeFit) -> np.ndarray:
    """Return a frame [H, W, 3] with the image [h, w, 3] of its render region, unchanged."""
    frame = np.zeros((fit.source[1], fit.source[0], 3), np.uint8)
    left, top = round(-fit.offset[0]), round(-fit.offset[1])
    frame[top : top + fit.size[1], left : left + fit.size[0]] = image
    return frame


def remove_backgrounds(data: bpy.types.Camera, tag: str) -> None:
    """Remove the background images of the result with this folder from a camera."""
    images = [item for item in data.background_images if item.image is not None and item.image.get(PLATE_KEY) == tag]
    for item in images:
        item.image = None  # otherwise the image keeps a user
        _remove(data, item)
    others = any(item.image is not None and PLATE_KEY in item.image for item in data.background_images)
    if images and not others and data.get(_SWITCHED_KEY):
        data.show_background_images = False
        del data[_SWITCHED_KEY]


def _remove(data: bpy.types.Camera, item: bpy.types.CameraBackgroundImage) -> None:
    """Remove a background image, and renumber the animation of those after it."""
    index = list(data.background_images).index(item)
    item.image_user.driver_remove("frame_offset")
    data.background_images.remove(item)
    if data.animation_data is not None:
        for curve in [*curves(data), *data.animation_data.drivers]:
            found = _PATH.match(curve.data_path)
            if found and int(found[1]) > index:
                curve.data_path = f"background_images[{int(found[1]) - 1}]{curve.data_path[found.end() :]}"
        clear_empty_animation(data)
