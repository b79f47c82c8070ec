# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's render handlers, as the engine and the hook need them. In a window they run in the thread of the render."""

from __future__ import annotations

import bpy

from .. import discard
from . import engine

_HANDLERS = {
    "render_init": [discard.render_begins, engine.forget],
    "render_complete": [engine.forget, discard.render_ends],
    "render_cancel": [engine.forget, discard.render_ends],
}


def attach() -> None:
    """Adds them; they stay when another file is opened."""
    for name, own in _HANDLERS.items():
        for handler in own:
            getattr(bpy.app.handlers, name).append(bpy.app.handlers.persistent(handler))


def detach() -> None:
    for name, own in _HANDLERS.items():
        found = getattr(bpy.app.handlers, name)
        for handler in own:
            if handler in found:
                found.remove(handler)
