# SPDX-License-Identifier: GPL-3.0-or-later
"""The exported first frame as the picture that a job starts from.

While Blender renders, its result can only be saved: with all layers, as light. When the render is over, the wanted
layer goes through the scene's view transform. So burnt-in stamps and the export's own format play no part.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import bpy
import numpy as np

from trackshade.errors import OutputError, ShotError

from ..capture.restore import Changes
from ..discard import discard
from .exr import read_channels

COMPOSITE = "Composite"
_FORMAT = (
    "media_type",
    "file_format",
    "color_mode",
    "color_depth",
    "exr_codec",
    "use_exr_interleave",
    "color_management",
)


def save_result(scene: bpy.types.Scene, path: Path) -> None:
    """Saves the render's present result with all its layers. For a handler, in whatever thread.

    Raises:
        OutputError: the file cannot be written. ShotError: there is no result.
    """
    result = bpy.data.images.get("Render Result")
    if result is None:
        raise ShotError("render-failed", "The render left no result to take the first frame from.", _FIX)
    with _format(scene, "MULTI_LAYER_IMAGE", "OPEN_EXR_MULTILAYER") as output:
        output.exr_codec, output.color_depth = "NONE", "32"
        if hasattr(output, "use_exr_interleave"):  # Blender 5 writes a part for each layer otherwise
            output.use_exr_interleave = True
        _save(result, path, scene)


def display_picture(saved: Path, layer: str, composited: bool, scene: bpy.types.Scene, path: Path) -> None:
    """Writes a layer of a saved result as an 8-bit picture, as the scene's view transform shows it. Main thread only.

    Args:
        composited: what the compositor made of it, where there is a compositor; else what the layer's engine rendered.

    Raises:
        ShotError: the result has no such layer. OutputError: the picture cannot be written.
    """
    channels = read_channels(saved)
    names = [f"{COMPOSITE}.Combined", f"{layer}.Combined"] if composited else [f"{layer}.Combined"]
    found = next((name for name in names if f"{name}.R" in channels), None)
    if found is None:
        raise ShotError("no-layer-picture", f"The render result has no picture of view layer '{layer}'.", _FIX)
    light = np.stack([channels[f"{found}.{channel}"] for channel in "RGB"], axis=-1)
    height, width = light.shape[:2]
    pixels = np.ones((height, width, 4), np.float32)
    pixels[..., :3] = light[::-1]
    image = bpy.data.images.new("Trackshade first frame", width, height, alpha=False, float_buffer=True)
    try:
        image.pixels.foreach_set(pixels.reshape(-1))
        with _format(scene, "IMAGE", "PNG") as output:
            output.color_mode, output.color_depth = "RGB", "8"
            output.color_management = "FOLLOW_SCENE"
            _save(image, path, scene)
    finally:
        discard(image)


_FIX = "Choose None for the first frame in the view layer's Trackshade panel, or export with Blender's own engines."


@contextlib.contextmanager
def _format(scene: bpy.types.Scene, media: str, kind: str) -> Iterator[bpy.types.ImageFormatSettings]:
    output = scene.render.image_settings
    changes = Changes()
    changes.keep(output, *(name for name in _FORMAT if hasattr(output, name)))
    try:
        if hasattr(output, "media_type"):  # Blender 5.0 and newer
            output.media_type = media
        output.file_format = kind
        yield output
    finally:
        changes.undo()


def _save(image: bpy.types.Image, path: Path, scene: bpy.types.Scene) -> None:
    try:
        image.save_render(str(path), scene=scene)
    except RuntimeError as error:
        raise OutputError(
            "output-unwritable",
            f"The first frame cannot be written to {path}: {str(error).strip().rsplit(': ', 1)[-1].rstrip('.')}.",
            "Choose an output folder that can be written and has space.",
        ) from error
