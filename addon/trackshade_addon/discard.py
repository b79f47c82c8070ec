# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes data blocks of our own away again, which must not be done while Blender renders: 5.2 crashes at its next frame.

What is discarded then gives its pixels back at once, and goes when the render is over.
"""

from __future__ import annotations

import bpy

LOOK_EVERY = 0.2  # seconds between two looks at whether the render's thread has ended
_waiting: list[tuple[str, int]] = []  # (collection of bpy.data, session number)
_rendering = False


def discard(block: bpy.types.Image | bpy.types.Scene) -> None:
    """Removes a data block, now or when the render that goes on is over."""
    if isinstance(block, bpy.types.Image):
        block.buffers_free()
    _waiting.append(("images" if isinstance(block, bpy.types.Image) else "scenes", block.session_uid))
    if not _rendering and not bpy.app.is_job_running("RENDER"):
        _flush()


def render_begins(*_: object) -> None:
    """A handler for render_init."""
    global _rendering
    _rendering = True


def render_ends(*_: object) -> None:
    """A handler for render_complete and render_cancel: in a window they run in the thread of the render."""
    global _rendering
    _rendering = False
    if not _waiting:
        return
    if bpy.app.background:
        _flush()
    else:
        bpy.app.timers.register(_flush_later, first_interval=LOOK_EVERY)


def _flush_later() -> float | None:
    if _rendering or bpy.app.is_job_running("RENDER"):
        return LOOK_EVERY
    _flush()
    return None


def _flush() -> None:
    wanted = set(_waiting)
    _waiting.clear()
    found = [
        block
        for name in ("images", "scenes")
        for block in getattr(bpy.data, name)
        if (name, block.session_uid) in wanted
    ]
    bpy.data.batch_remove(found)  # scenes.remove() needs a window, and Blender 4.3 crashes where there is none
