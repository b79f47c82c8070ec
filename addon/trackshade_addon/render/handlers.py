# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's render handlers, as the engine and the hook need them. In a window they run in the thread of the render."""

from __future__ import annotations

import bpy

from ..capture import render_guard
from ..capture.render_guard import is_own_render
from . import engine
from .hook import Hook
from .starting import start

_hook = Hook(start)
_frames: set[int] = set()  # session numbers of the scenes of which a frame is being rendered


def _is_part(scene: bpy.types.Scene) -> bool:
    """Whether a render is our own first frame's, or belongs to another scene's frame, which has this one as a strip."""
    return is_own_render() or any(number != scene.session_uid for number in _frames)


def _init(scene: bpy.types.Scene, *_: object) -> None:
    if not _is_part(scene):
        render_guard.on_render_init()
        engine.forget()
        _hook.init(scene)


def _pre(scene: bpy.types.Scene, *_: object) -> None:
    if not _is_part(scene):
        _hook.pre(scene)
    if not is_own_render():
        _frames.add(scene.session_uid)


def _post(scene: bpy.types.Scene, *_: object) -> None:
    if not is_own_render():
        _frames.discard(scene.session_uid)


def _write(scene: bpy.types.Scene, *_: object) -> None:
    if not _is_part(scene):
        _hook.write(scene)


def _complete(scene: bpy.types.Scene, *_: object) -> None:
    _post(scene)
    if not _is_part(scene):
        engine.forget()
        render_guard.on_render_end()
        _hook.complete(scene)


def _cancel(scene: bpy.types.Scene, *_: object) -> None:
    _post(scene)
    if not _is_part(scene):
        engine.forget()
        render_guard.on_render_end()
        _hook.cancel(scene)


_HANDLERS = {
    "render_init": _init,
    "render_pre": _pre,
    "render_post": _post,
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
    _frames.clear()
    for name, handler in _HANDLERS.items():
        found = getattr(bpy.app.handlers, name)
        if handler in found:
            found.remove(handler)
