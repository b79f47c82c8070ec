# SPDX-License-Identifier: GPL-3.0-or-later
"""Redrawing what shows something of Trackshade, after that has changed.

Only sidebars are redrawn where possible: to draw the view beside them, Blender draws the scene, which may take long.
"""

from __future__ import annotations

import time

import bpy

SETTLE_SECONDS = 0.1  # until a second redraw, after which all panels lie in their places
PROGRESS_SECONDS = 0.2  # between two redraws for progress

_redrawn = 0.0  # when sidebars were redrawn (monotonic seconds)


def redraw() -> None:
    """Redraw the sidebars of all 3D viewports, and preferences editors."""
    global _redrawn
    _redrawn = time.monotonic()
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "PREFERENCES":
                area.tag_redraw()
            elif area.type == "VIEW_3D":
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()


def redraw_progress() -> None:
    """Redraw, unless that was done a moment ago: for progress, which changes many times a second."""
    if time.monotonic() - _redrawn >= PROGRESS_SECONDS:
        redraw()


def redraw_views() -> None:
    """Redraw all 3D viewports with their sidebars, because what is drawn over the scene has changed."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
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
