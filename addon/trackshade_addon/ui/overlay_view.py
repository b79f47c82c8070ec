# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the tracking colors in the 3D views where they are switched on, and where the engine's own view is shown."""

from __future__ import annotations

from typing import Any

import bpy

from trackshade.core.errors import TrackshadeError

from ..overlay import VIEWPORT_GAMMA, draw_control
from ..overlay import shader as overlay_shader
from .overlay_watch import plays, watch

ENGINE = "TRACKSHADE"

_handle: Any = None


def attach() -> None:
    """Draws from now on; nothing in a Blender without a window."""
    global _handle
    if _handle is None and not bpy.app.background:
        _handle = bpy.types.SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_VIEW")


def detach() -> None:
    global _handle
    if _handle is not None:
        bpy.types.SpaceView3D.draw_handler_remove(_handle, "WINDOW")
        _handle = None
    watch.close()
    overlay_shader.forget()


def _draw() -> None:
    context = bpy.context
    space, scene, layer = context.space_data, context.scene, context.view_layer
    if space is None or context.region_data is None:  # a view that is drawn into a picture, for a script say
        return
    own = scene.trackshade_overlay
    engine = scene.render.engine == ENGINE and space.shading.type == "RENDERED"
    if not engine and not (own.show and space.overlay.show_overlays):
        return
    found = watch.found(scene, layer)
    if found is None or found.preview is None or layer.depsgraph is None:
        return
    try:
        draw_control(
            layer.depsgraph,
            found.preview,
            context.region_data.perspective_matrix,
            gamma=VIEWPORT_GAMMA,
            opacity=1.0 if engine else own.opacity,
            background=engine or own.background,
            space=space,
            hurry=plays(),
        )
    except Exception as error:  # gpu raises nothing narrower; without this it would be raised at every redraw
        found.preview = None
        found.error = TrackshadeError(
            "overlay-failed",
            f"The graphics driver could not draw the tracking colors ({error}).",
            "Look at Blender's system console.",
        )
        raise
