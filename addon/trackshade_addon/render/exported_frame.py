# SPDX-License-Identifier: GPL-3.0-or-later
"""The first exported frame of a view layer as the picture that a job starts from.

While Blender renders, its result can only be saved: with all layers, as scene-linear light. When the render is over,
the layer is read from that file and goes through the scene's view transform. So burnt-in stamps and the format of the
export do not matter.
"""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np

from trackshade.core.errors import OutputError, ShotError

from ..capture.exr import read_channels
from ..capture.render_guard import discard, image_format, own_render, render_result
from ..capture.scene_settings import TRACKSHADE_ENGINE

_FIX = "Choose None for the first frame in the view layer's Trackshade panel, or export with Blender's own engines."


def save_render_result(scene: bpy.types.Scene, path: Path) -> None:
    """Save the present render result with all its layers. For a render handler, in any thread.

    Raises:
        OutputError: The file cannot be written.
        ShotError: There is no result.
    """
    result = render_result()
    if result is None:
        raise ShotError("render-failed", "The render left no result to take the first frame from.", _FIX)
    with image_format(scene, "MULTI_LAYER_IMAGE", "OPEN_EXR_MULTILAYER") as output:
        output.exr_codec, output.color_depth = "NONE", "32"
        if hasattr(output, "use_exr_interleave"):  # Blender 5 writes a part for each layer otherwise
            output.use_exr_interleave = True
        _save(result, path, scene)


def ensure_render_result() -> None:
    """Create the image that stands for render results, without which none can be saved.

    `blender -b FILE -a` has none until a script renders something. For a handler of render_init without a window.
    """
    if render_result() is not None or not bpy.app.background:
        return
    camera = bpy.data.cameras.new("Trackshade")
    holder = bpy.data.objects.new("Trackshade", camera)
    empty = bpy.data.scenes.new("Trackshade")
    try:
        empty.collection.objects.link(holder)
        empty.camera = holder
        empty.render.engine = TRACKSHADE_ENGINE  # which does nothing in internal renders
        empty.render.resolution_x = empty.render.resolution_y = 8
        with own_render():
            bpy.ops.render.render(scene=empty.name)
    finally:
        bpy.data.batch_remove([empty, holder, camera])


def write_display_picture(saved: Path, layer: str, composited: bool, scene: bpy.types.Scene, path: Path) -> None:
    """Write a layer of a saved render result as an 8-bit image, as the view transform shows it. Main thread only.

    Args:
        saved: File of `save_render_result`.
        layer: Name of the view layer.
        composited: Use the compositor's output if there is one, instead of what the layer's engine rendered.
        scene: Scene with the view transform.
        path: Image file to write.

    Raises:
        ShotError: The result has no such layer.
        OutputError: The image cannot be written.
    """
    channels = read_channels(saved)
    names = ["Composite.Combined", f"{layer}.Combined"] if composited else [f"{layer}.Combined"]
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


def _save(image: bpy.types.Image, path: Path, scene: bpy.types.Scene) -> None:
    try:
        image.save_render(str(path), scene=scene)
    except RuntimeError as error:
        raise OutputError(
            "output-unwritable",
            f"The first frame cannot be written to {path}: {str(error).strip().rsplit(': ', 1)[-1].rstrip('.')}.",
            "Choose an output folder that can be written and has space.",
        ) from error
