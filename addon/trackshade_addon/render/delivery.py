# SPDX-License-Identifier: GPL-3.0-or-later
"""The passes of a render: which ones are requested, and their arrays delivered into Blender's render result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

COMBINED, DEPTH, INDEX, TRACKING = "Combined", "Depth", "Object Index", "Tracking"
# Number of channels, their names, and the type of the compositor's socket.
_FORMATS = {
    COMBINED: (4, "RGBA", "COLOR"),
    DEPTH: (1, "Z", "VALUE"),
    INDEX: (1, "X", "VALUE"),
    TRACKING: (3, "RGB", "COLOR"),
}
# Blender's names of these passes, before and from 5.0 on.
_BLENDER_NAMES = {DEPTH: ("Z", "Depth"), INDEX: ("IndexOB", "Object Index")}


def pass_name(name: str) -> str:
    """Return the name of a pass in this version of Blender."""
    names = _BLENDER_NAMES.get(name)
    return name if names is None else names[bpy.app.version >= (5, 0, 0)]


def requested_passes(layer: bpy.types.ViewLayer) -> list[str]:
    """Return the passes that a view layer requests."""
    requested = {
        COMBINED: True,
        DEPTH: layer.use_pass_z,
        INDEX: layer.use_pass_object_index,
        TRACKING: layer.trackshade.use_pass_tracking,
    }
    return [name for name, is_requested in requested.items() if is_requested]


def register(engine: bpy.types.RenderEngine, scene: bpy.types.Scene, layer: bpy.types.ViewLayer) -> None:
    """Tell Blender which passes there will be, for the sockets of the compositor."""
    for name in requested_passes(layer):
        engine.register_pass(scene, layer, pass_name(name), *_FORMATS[name])


def deliver(
    engine: bpy.types.RenderEngine,
    scene: bpy.types.Scene,
    layer: bpy.types.ViewLayer,
    passes: Mapping[str, Callable[[], NDArray[np.float32]]],
) -> None:
    """Put the passes of a frame into the render result, or their part if only a region is rendered.

    Args:
        engine: The engine that renders.
        scene: The evaluated scene.
        layer: The evaluated view layer.
        passes: By name, functions that return [H, W] or [H, W, C] arrays of the whole frame, top row first.
    """
    if TRACKING in passes:
        engine.add_pass(TRACKING, *_FORMATS[TRACKING][:2], layer=layer.name)
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
    """Return the lower left corner of the rendered region in pixels, rounded down as Blender does."""
    render = scene.render
    if not render.use_border:
        return 0, 0
    return int(render.border_min_x * width), int(render.border_min_y * height)
