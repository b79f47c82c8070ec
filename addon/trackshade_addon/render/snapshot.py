# SPDX-License-Identifier: GPL-3.0-or-later
"""The exported first frame as the picture that a job starts from.

While Blender renders, its result can only be saved: with all layers, as light. When the render is over, the wanted
layer goes through the scene's view transform. So burnt-in stamps and the export's own format play no part.
"""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np

from trackshade.core.errors import OutputError, ShotError

from ..capture.render_guard import discard, image_format, own_render, render_result
from ..capture.scene_settings import TRACKSHADE_ENGINE
from .exr import read_channels

COMPOSITE = "Composite"


def save_result(scene: bpy.types.Scene, path: Path) -> None:
    """Saves the render's present result with all its layers. For a handler, in whatever thread.

    Raises:
        OutputError: the file cannot be written. ShotError: there is no result.
    """
    result = render_result()
    if result is None:
        raise ShotError("render-failed", "The render left no result to take the first frame from.", _FIX)
    with image_format(scene, "MULTI_LAYER_IMAGE", "OPEN_EXR_MULTILAYER") as output:
        output.exr_codec, output.color_depth = "NONE", "32"
        if hasattr(output, "use_exr_interleave"):  # Blender 5 writes a part for each layer otherwise
            output.use_exr_interleave = True
        _save(result, path, scene)


def make_savable() -> None:
    """Makes the image that stands for render results, without which none can be saved: `blender -b FILE -a` has none
    until something renders from within. For a handler of render_init, without a window.
    """
    if render_result() is not None or not bpy.app.background:
        return
    camera = bpy.data.cameras.new("Trackshade")
    seat = bpy.data.objects.new("Trackshade", camera)
    empty = bpy.data.scenes.new("Trackshade")
    try:
        empty.collection.objects.link(seat)
        empty.camera = seat
        empty.render.engine = TRACKSHADE_ENGINE  # which has nothing to do in renders of our own
        empty.render.resolution_x = empty.render.resolution_y = 8
        with own_render():
            bpy.ops.render.render(scene=empty.name)
    finally:
        bpy.data.batch_remove([empty, seat, camera])


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
        with image_format(scene, "IMAGE", "PNG") as output:
            output.color_mode, output.color_depth = "RGB", "8"
            output.color_management = "FOLLOW_SCENE"
            _save(image, path, scene)
    finally:
        discard(image)


_FIX = "Choose None for the first frame in the view layer's Trackshade panel, or export with Blender's own engines."


def _save(image: bpy.types.Image, path: Path, scene: bpy.types.Scene) -> None:
    try:
        image.save_render(str(path), scene=scene)
    except RuntimeError as error:
        raise OutputError(
            "output-unwritable",
            f"The first frame cannot be written to {path}: {str(error).strip().rsplit(': ', 1)[-1].rstrip('.')}.",
            "Choose an output folder that can be written and has space.",
        ) from error
