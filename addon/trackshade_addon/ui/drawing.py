# SPDX-License-Identifier: GPL-3.0-or-later
"""What several panels draw, and what keeps them up to date while something goes on."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable

import blf
import bpy

from .. import backend, relocation

CATEGORY = "Trackshade"  # of the sidebar's tab
TICK = 0.2  # seconds between two redraws while something goes on
SETTLE = 0.1  # seconds until a redraw after which all parts lie in their places
_BESIDE = 78.0  # pixels at scale 1 beside a text: its icon, the panel's frame, and the tabs
_BOX = 16.0  # and the frame of a box
_BUTTON = 22.0  # a button that is only an icon
_AREAS = {"VIEW_3D", "PREFERENCES"}


def draw_text(
    layout: bpy.types.UILayout,
    context: bpy.types.Context,
    text: str,
    icon: str = "NONE",
    boxed: bool = False,
    buttons: int = 0,
) -> None:
    """A sentence over as many lines as the region's width asks for; `boxed` where `layout` is a box's, and `buttons`
    where so many that are only icons stand beside it.
    """
    region = context.region
    scale = context.preferences.system.ui_scale
    room = (300 if region is None else region.width) - (_BESIDE + _BOX * boxed + _BUTTON * buttons) * scale
    column = layout.column(align=True)
    for number, line in enumerate(_lines(text, room, context.preferences.ui_styles[0].widget.points * scale)):
        column.label(text=line, icon=icon if number == 0 or icon == "NONE" else "BLANK1", translate=False)


def draw_online(layout: bpy.types.UILayout, context: bpy.types.Context, why: str) -> None:
    """Why the network is wanted, and Blender's own switch for it where that is off."""
    if bpy.app.online_access:
        return
    layout.label(text=why, icon="INTERNET_OFFLINE")
    row = layout.row()
    row.enabled = not bpy.app.online_access_override  # Blender was started with it off
    row.prop(context.preferences.system, "use_online_access", text="Allow Online Access")


def wrapped(text: str, room: float, width: Callable[[str], float]) -> list[str]:
    """The lines of a text, none wider than `room` as `width` measures them; a word that is too long is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if width(longer) <= room:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        while len(word) > 1 and width(word) > room:
            cut = max(1, bisect.bisect_right(range(1, len(word)), room, key=lambda n, word=word: width(word[:n])))
            lines[-1:] = [word[:cut], ""]
            word = word[cut:]
        lines[-1] = word
    return lines


@functools.lru_cache(256)
def _lines(text: str, room: float, points: float) -> list[str]:
    """In Blender's own letters; kept, since panels are drawn many times a second."""
    blf.size(0, points)
    return wrapped(text, room, lambda line: blf.dimensions(0, line)[0])


def watch() -> None:
    """Redraws until nothing goes on any more; nothing in a Blender without a window."""
    if not bpy.app.background and not bpy.app.timers.is_registered(tick):
        bpy.app.timers.register(tick, first_interval=TICK, persistent=True)


def unwatch() -> None:
    for timer in (tick, redraw):
        if bpy.app.timers.is_registered(timer):
            bpy.app.timers.unregister(timer)


def tick() -> float | None:
    """A timer of Blender's: seconds until the next call, or None for no more."""
    if backend.is_busy() or relocation.work() is not None:
        redraw()
        return TICK
    redraw_settled()
    return None


def redraw_settled() -> None:
    """Redraws where parts may get another height: those below a part move to their places only in the next redraw."""
    redraw()
    if not bpy.app.background and not bpy.app.timers.is_registered(redraw):
        bpy.app.timers.register(redraw, first_interval=SETTLE)


def redraw() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in _AREAS:
                area.tag_redraw()
