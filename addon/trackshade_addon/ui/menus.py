# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of Blender's render menu, and the shortcut of the Shade button."""

from __future__ import annotations

from typing import Any

import bpy

_SHORTCUT = {"type": "F12", "value": "PRESS", "ctrl": True, "shift": True}
_items: list[tuple[bpy.types.KeyMap, bpy.types.KeyMapItem]] = []


def attach() -> None:
    """Add the entries, and the shortcut, which users can change or remove in Blender's preferences."""
    bpy.types.TOPBAR_MT_render.append(_draw_render)
    keyconfig = bpy.context.window_manager.keyconfigs.addon
    if keyconfig is not None:  # none without a window
        keymap = keyconfig.keymaps.new(name="Screen", space_type="EMPTY")
        _items.append((keymap, keymap.keymap_items.new("trackshade.shade", **_SHORTCUT)))


def detach() -> None:
    """Remove both."""
    for keymap, item in _items:
        keymap.keymap_items.remove(item)
    _items.clear()
    bpy.types.TOPBAR_MT_render.remove(_draw_render)


def _draw_render(menu: Any, context: bpy.types.Context) -> None:
    layout = menu.layout
    layout.separator()
    layout.operator_context = "INVOKE_DEFAULT"
    layout.operator("trackshade.shade", text="Shade with Trackshade", icon="RENDER_ANIMATION")
    layout.operator("trackshade.control", icon="TRACKING")
