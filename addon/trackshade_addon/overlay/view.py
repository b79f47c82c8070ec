# SPDX-License-Identifier: GPL-3.0-or-later
"""Drawing the tracking colors in 3D viewports: where the overlay is on, and where Trackshade is the render engine."""

from __future__ import annotations

from typing import Any

import bpy

from trackshade.core.errors import TrackshadeError

from ..capture.scene_settings import TRACKSHADE_ENGINE
from ..scene_watcher import is_playing
from .draw import VIEWPORT_GAMMA, draw_overlay, free_shader
from .watch import watcher

_handle: Any = None


def attach() -> None:
    """Add the draw handler, unless Blender has no window."""
    global _handle
    if _handle is None and not bpy.app.background:
        _handle = bpy.types.SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_VIEW")


def detach() -> None:
    """Remove the draw handler, and free what it used."""
    global _handle
    if _handle is not None:
        bpy.types.SpaceView3D.draw_handler_remove(_handle, "WINDOW")
        _handle = None
    watcher.close()
    free_shader()


def _draw() -> None:
    context = bpy.context
    space, scene, layer = context.space_data, context.scene, context.view_layer
    if space is None or context.region_data is None:  # drawing to an offscreen buffer
        return
    settings = scene.trackshade_overlay
    engine = scene.render.engine == TRACKSHADE_ENGINE and space.shading.type == "RENDERED"
    if not engine and not (settings.show and space.overlay.show_overlays):
        return
    state = watcher.get(scene, layer)
    if state is None or state.overlay is None or layer.depsgraph is None:
        return
    try:
        draw_overlay(
            layer.depsgraph,
            state.overlay,
            context.region_data.perspective_matrix,
            gamma=VIEWPORT_GAMMA,
            opacity=1.0 if engine else settings.opacity,
            background=engine or settings.background,
            space=space,
            skip_slow=is_playing(),
        )
    except Exception as error:  # gpu raises nothing narrower; otherwise each redraw would raise it again
        state.overlay = None
        state.error = TrackshadeError(
            "overlay-failed",
            f"The graphics driver could not draw the tracking colors ({error}).",
            "See Blender's system console.",
        )
        raise
