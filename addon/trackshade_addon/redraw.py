# SPDX-License-Identifier: GPL-3.0-or-later
"""Redrawing the areas that show something of Trackshade, after what they show has changed."""

from __future__ import annotations

import bpy

SETTLE_SECONDS = 0.1  # until a second redraw, after which all panels lie in their places
_AREAS = {"VIEW_3D", "PREFERENCES"}


def redraw() -> None:
    """Redraw all 3D viewports and preferences editors."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in _AREAS:
                area.tag_redraw()


def redraw_settled() -> None:
    """Redraw twice, for panels whose height may change: those below one only move in the next redraw."""
    redraw()
    if not bpy.app.background and not bpy.app.timers.is_registered(redraw):
        bpy.app.timers.register(redraw, first_interval=SETTLE_SECONDS)


def cancel_redraw() -> None:
    """Cancel the second redraw."""
    if bpy.app.timers.is_registered(redraw):
        bpy.app.timers.unregister(redraw)
