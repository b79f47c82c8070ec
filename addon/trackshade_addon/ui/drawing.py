# SPDX-License-Identifier: GPL-3.0-or-later
"""What several panels draw, and what keeps them up to date while something goes on."""

from __future__ import annotations

import textwrap

import bpy

from .. import backend

CATEGORY = "Trackshade"  # of the sidebar's tab
TICK = 0.2  # seconds between two redraws while something goes on
_CHARACTER = 7.0  # pixels of a letter at scale 1, about
_AREAS = {"VIEW_3D", "PREFERENCES"}


def draw_text(layout: bpy.types.UILayout, context: bpy.types.Context, text: str, icon: str = "NONE") -> None:
    """A sentence over as many lines as the region's width asks for."""
    region = context.region
    width = region.width if region is not None else 300
    letters = max(16, int(width / (_CHARACTER * context.preferences.system.ui_scale)) - 6)
    column = layout.column(align=True)
    for number, line in enumerate(textwrap.wrap(text, letters)):
        column.label(text=line, icon=icon if number == 0 or icon == "NONE" else "BLANK1", translate=False)


def watch() -> None:
    """Redraws until nothing goes on any more; nothing in a Blender without a window."""
    if not bpy.app.background and not bpy.app.timers.is_registered(tick):
        bpy.app.timers.register(tick, first_interval=TICK, persistent=True)


def unwatch() -> None:
    if bpy.app.timers.is_registered(tick):
        bpy.app.timers.unregister(tick)


def tick() -> float | None:
    """A timer of Blender's: seconds until the next call, or None for no more."""
    redraw()
    return TICK if backend.busy() else None


def redraw() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in _AREAS:
                area.tag_redraw()
