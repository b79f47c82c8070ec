# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's render handlers for the engine and the hook. In a window they run in the thread of the render."""

from __future__ import annotations

from collections.abc import Callable

import bpy

from ..capture import render_guard
from ..capture.render_guard import is_own_render
from . import engine
from .hook import Hook

_hook = Hook()
_frames: set[int] = set()  # session numbers of the scenes whose frame is being rendered


def _is_nested(scene: bpy.types.Scene) -> bool:
    """Return whether a render is internal, or part of another scene's frame, which has this scene as a strip."""
    return is_own_render() or any(number != scene.session_uid for number in _frames)


def _init(scene: bpy.types.Scene, *_: object) -> None:
    if not _is_nested(scene):
        render_guard.on_render_init()
        engine.forget()
        _hook.init(scene)


def _pre(scene: bpy.types.Scene, *_: object) -> None:
    if not _is_nested(scene):
        _hook.pre(scene)
    if not is_own_render():
        _frames.add(scene.session_uid)


def _post(scene: bpy.types.Scene, *_: object) -> None:
    if not is_own_render():
        _frames.discard(scene.session_uid)


def _write(scene: bpy.types.Scene, *_: object) -> None:
    if not _is_nested(scene):
        _hook.write(scene)


def _end(scene: bpy.types.Scene, finish: Callable[[bpy.types.Scene], None]) -> None:
    _post(scene)
    if not _is_nested(scene):
        engine.forget()
        render_guard.on_render_end()
        finish(scene)


def _complete(scene: bpy.types.Scene, *_: object) -> None:
    _end(scene, _hook.complete)


def _cancel(scene: bpy.types.Scene, *_: object) -> None:
    _end(scene, _hook.cancel)


_HANDLERS = {
    "render_init": _init,
    "render_pre": _pre,
    "render_post": _post,
    "render_write": _write,
    "render_complete": _complete,
    "render_cancel": _cancel,
}


def attach() -> None:
    """Add the handlers; they stay when another file is opened."""
    for name, handler in _HANDLERS.items():
        getattr(bpy.app.handlers, name).append(bpy.app.handlers.persistent(handler))


def detach() -> None:
    """Remove the handlers, and drop the tracks of a render that is going on."""
    _hook.cancel()
    _frames.clear()
    for name, handler in _HANDLERS.items():
        found = getattr(bpy.app.handlers, name)
        if handler in found:
            found.remove(handler)
