# SPDX-License-Identifier: GPL-3.0-or-later
"""Passes of the render result: which there are, and arrays put into them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

COMBINED, DEPTH, INDEX, TRACKING = "Combined", "Depth", "Object Index", "Tracking"
# What Blender calls the passes that it knows, before and from 5.0 on.
_BLENDERS = {DEPTH: ("Z", "Depth"), INDEX: ("IndexOB", "Object Index")}


def pass_name(name: str) -> str:
    """What this Blender calls a pass."""
    names = _BLENDERS.get(name)
    return name if names is None else names[bpy.app.version >= (5, 0, 0)]


def wanted(layer: bpy.types.ViewLayer) -> set[str]:
    """The passes that a view layer asks for."""
    chosen = {DEPTH: layer.use_pass_z, INDEX: layer.use_pass_object_index, TRACKING: layer.trackshade.use_pass_tracking}
    return {COMBINED, *(name for name, on in chosen.items() if on)}


def register(engine: bpy.types.RenderEngine, scene: bpy.types.Scene, layer: bpy.types.ViewLayer) -> None:
    """Tells Blender which passes there will be, for the compositor's sockets."""
    engine.register_pass(scene, layer, COMBINED, 4, "RGBA", "COLOR")
    asked = wanted(layer)
    if DEPTH in asked:
        engine.register_pass(scene, layer, pass_name(DEPTH), 1, "Z", "VALUE")
    if INDEX in asked:
        engine.register_pass(scene, layer, pass_name(INDEX), 1, "X", "VALUE")
    if TRACKING in asked:
        engine.register_pass(scene, layer, TRACKING, 3, "RGB", "COLOR")


def deliver(
    engine: bpy.types.RenderEngine,
    scene: bpy.types.Scene,
    layer: bpy.types.ViewLayer,
    passes: Mapping[str, Callable[[], NDArray[np.float32]]],
) -> None:
    """Puts pictures [H, W] or [H, W, C] of the whole frame, top row first, into the render result.

    Where only a region is rendered, its part of them.
    """
    if TRACKING in passes:
        engine.add_pass(TRACKING, 3, "RGB", layer=layer.name)
    width, height = engine.resolution_x, engine.resolution_y
    pictures = {pass_name(name): make() for name, make in passes.items()}
    result: Any = engine.begin_result(0, 0, width, height, layer=layer.name)  # which is cut to the region
    left, bottom = _corner(scene, width, height)
    columns = slice(left, left + result.resolution_x)
    rows = slice(bottom, bottom + result.resolution_y)
    for item in result.layers[0].passes:
        picture = pictures.get(item.name)
        if picture is not None:
            upwards = picture.reshape(height, width, -1)[::-1]
            item.rect.foreach_set(np.ascontiguousarray(upwards[rows, columns], np.float32).reshape(-1))
    engine.end_result(result)


def _corner(scene: bpy.types.Scene, width: int, height: int) -> tuple[int, int]:
    """The lower left corner of what is rendered, pixels from the frame's own; rounded down as Blender does."""
    render = scene.render
    if not render.use_border:
        return 0, 0
    return int(render.border_min_x * width), int(render.border_min_y * height)
