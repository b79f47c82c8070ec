# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes temporary data-blocks, but not while Blender renders: Blender 5.2 would crash at its next frame.

What is discarded during a render frees its pixels at once, and is removed when the render is over.
"""

from __future__ import annotations

import bpy

POLL_INTERVAL = 0.2  # seconds between two checks whether the render's thread has ended
_waiting: list[tuple[str, int]] = []  # (collection of bpy.data, session number)
_rendering = False


def discard(block: bpy.types.Image | bpy.types.Scene) -> None:
    """Remove a data-block, now or when the present render is over."""
    if isinstance(block, bpy.types.Image):
        block.buffers_free()
    _waiting.append(("images" if isinstance(block, bpy.types.Image) else "scenes", block.session_uid))
    if not _rendering and not bpy.app.is_job_running("RENDER"):
        _flush()


def render_begins(*_: object) -> None:
    """Note that a render begins, as a handler of render_init."""
    global _rendering
    _rendering = True


def render_ends(*_: object) -> None:
    """Remove what was discarded, as a handler of render_complete and render_cancel. May run in the render's thread."""
    global _rendering
    _rendering = False
    if not _waiting:
        return
    if bpy.app.background:
        _flush()
    else:
        bpy.app.timers.register(_flush_later, first_interval=POLL_INTERVAL)


def _flush_later() -> float | None:
    if _rendering or bpy.app.is_job_running("RENDER"):
        return POLL_INTERVAL
    _flush()
    return None


def _flush() -> None:
    discarded = set(_waiting)
    _waiting.clear()
    found = [
        block
        for name in ("images", "scenes")
        for block in getattr(bpy.data, name)
        if (name, block.session_uid) in discarded
    ]
    bpy.data.batch_remove(found)  # scenes.remove() needs a window, and Blender 4.3 crashes where there is none
