# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves what earlier versions kept in the extension's folder, once, and lets scenes find it (`backend.extension_data`).

Where old and new folders are on one disk that is done when the add-on is registered, in milliseconds. Else they are
copied by a thread, which the Backend panel shows and can cancel; a Blender without a window leaves them where they are,
for one with a window to move.
"""

from __future__ import annotations

import sys

import bpy

from trackshade.core.errors import CancelledError, TrackshadeError

from .backend import extension_data
from .backend.extension_data import Moved
from .backend.tasks import BackgroundTask
from .placement.relocated import relocate
from .properties.chosen import extension_data as data_folder
from .properties.chosen import unsaved_results_folder

RESULTS = "Results of scenes that were never saved are now in {folder}."
ENVIRONMENTS = "The backend's environment is now in {folder}, for all versions of Blender."
TICK = 0.5  # seconds between two looks at the thread

_moved = Moved()
_work: BackgroundTask | None = None


def attach() -> None:
    """Moves what can be moved at once, and begins to copy the rest. For the end of `register`."""
    global _moved, _work
    if reopened not in bpy.app.handlers.load_post:
        bpy.app.handlers.load_post.append(reopened)
    _moved, _work = Moved(), None
    data = data_folder()
    if data is not None and extension_data.has_data(data):
        results = unsaved_results_folder()
        _moved = extension_data.rename_to_new_folders(data, results)
        if _moved.to_copy and not bpy.app.background:
            _work = BackgroundTask(
                lambda task: extension_data.copy_to_new_folders(data, results, task.report, task), "Moving"
            )
            bpy.app.timers.register(_follow, first_interval=TICK, persistent=True)
        _tell(_moved)
    if not bpy.app.background:  # `register` may not look at the open file yet
        bpy.app.timers.register(reopened, first_interval=0.0)


def detach() -> None:
    """Ends the copying; what was copied as a whole stays moved."""
    for timer in (_follow, reopened):
        if bpy.app.timers.is_registered(timer):
            bpy.app.timers.unregister(timer)
    if _work is not None:
        _work.cancel()
        _work.wait(2.0)
    if reopened in bpy.app.handlers.load_post:
        bpy.app.handlers.load_post.remove(reopened)


def work() -> BackgroundTask | None:
    """The copying, while it goes on."""
    return _work if _work is not None and _work.running else None


def moved() -> Moved:
    """What has become of the old folders in this session."""
    return _moved


@bpy.app.handlers.persistent
def reopened(*_: object) -> None:
    """Lets the open file find results that were moved."""
    count = relocate(extension_data.moved_results())
    if count:
        print(f"Trackshade: {count} paths to results that were moved now lead to where they are.", file=sys.stderr)


def _follow() -> float | None:
    """Waits for the end of the copying."""
    global _moved
    if _work is None:
        return None
    if _work.running:
        return TICK
    error: TrackshadeError | None = _work.error
    copied: Moved = _work.result or Moved(error=None if isinstance(error, CancelledError) else error)
    _moved = Moved(copied.results or _moved.results, copied.environments or _moved.environments, copied.error)
    _tell(copied)
    reopened()
    return None


def _tell(what: Moved) -> None:
    for pattern, folder in ((RESULTS, what.results), (ENVIRONMENTS, what.environments)):
        if folder is not None:
            print("Trackshade:", pattern.format(folder=folder), file=sys.stderr)
    if what.error is not None:
        print("Trackshade:", what.error, file=sys.stderr)
