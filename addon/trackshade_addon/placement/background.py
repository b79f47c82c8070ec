# SPDX-License-Identifier: GPL-3.0-or-later
"""Results as background images of cameras, for the viewport."""

from __future__ import annotations

import re
from typing import Literal

import bpy

from trackshade.core.fitting import SizeFit

from ..capture.animation import curves
from .collection import PLATE_KEY, tag
from .drivers import clear_empty_animation
from .result_folder import ResultFolder
from .sequence import Sequence, load_sequence, play_in_viewport

_SWITCHED_KEY = "trackshade_showed_backgrounds"  # on a camera whose background images were switched off before
_PATH = re.compile(r"background_images\[(\d+)\]")


def add_backgrounds(
    result: ResultFolder, cameras: list[bpy.types.Object], sequence: Sequence, scene: bpy.types.Scene
) -> list[str]:
    """Give cameras a background image in front of the scene, which the meshes that it shows would hide otherwise.

    The model's image and the scene's frame have the same center, and one side in common: padded, the image just covers
    the frame, which is Blender's frame method "crop"; cropped, it just fits inside, which is "fit". Both keep the
    image's aspect under any pixel aspect of the scene. An image of the frame's own size is stretched to it, since its
    pixels have the scene's aspect. Returns warnings about cameras that cannot be given one.
    """
    method, warnings, image = _frame_method(result.fit), [], None
    if method is None:
        return ["The result shows a region of the frame, so the cameras were given no background image."]
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
        background.frame_method = method
        background.alpha = 1.0
        background.display_depth = "FRONT"
        play_in_viewport(background.image_user, sequence, scene)
        data.show_background_images = True
    return warnings


def _frame_method(fit: SizeFit) -> Literal["STRETCH", "FIT", "CROP"] | None:
    """Return how Blender has to fit images to the camera's frame; None if it cannot put them where they belong."""
    if fit.is_identity:
        return "STRETCH"
    left, top, right, bottom = fit.frame_in_model()
    margins = (left, top, fit.size[0] - right, fit.size[1] - bottom)
    is_centered = max(abs(margins[0] - margins[2]), abs(margins[1] - margins[3])) < 1e-6
    if not is_centered or min(map(abs, margins)) > 1e-6:
        return None
    return "CROP" if fit.mode == "pad" else "FIT"


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
