# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's render handlers, as the engine and the hook need them. In a window they run in the thread of the render."""

from __future__ import annotations

import bpy

from .. import discard
from . import engine
from .hook import Hook
from .rest import is_own_render
from .starting import start

_hook = Hook(start)


def _init(scene: bpy.types.Scene, *_: object) -> None:
    if not is_own_render():
        discard.render_begins()
        engine.forget()
        _hook.init(scene)


def _pre(scene: bpy.types.Scene, *_: object) -> None:
    if not is_own_render():
        _hook.pre(scene)


def _write(scene: bpy.types.Scene, *_: object) -> None:
    if not is_own_render():
        _hook.write(scene)


def _complete(scene: bpy.types.Scene, *_: object) -> None:
    if not is_own_render():
        engine.forget()
        discard.render_ends()
        _hook.complete(scene)


def _cancel(scene: bpy.types.Scene, *_: object) -> None:
    if not is_own_render():
        engine.forget()
        discard.render_ends()
        _hook.cancel(scene)


_HANDLERS = {
    "render_init": _init,
    "render_pre": _pre,
    "render_write": _write,
    "render_complete": _complete,
    "render_cancel": _cancel,
}


def attach() -> None:
    """Adds them; they stay when another file is opened."""
    for name, handler in _HANDLERS.items():
        getattr(bpy.app.handlers, name).append(bpy.app.handlers.persistent(handler))


def detach() -> None:
    """Takes them away; what a render that goes on has kept so far is not kept."""
    _hook.cancel()
    for name, handler in _HANDLERS.items():
        found = getattr(bpy.app.handlers, name)
        if handler in found:
            found.remove(handler)
