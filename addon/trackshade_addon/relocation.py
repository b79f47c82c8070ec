# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves files of earlier versions out of the extension's folder, once, and updates scenes (`backend.extension_data`).

If old and new folders are on one disk, this happens within milliseconds when the add-on is registered. Otherwise a
thread copies the files, which the Backend panel shows and can cancel; without a window they stay where they are until
Blender is started with one.
"""

from __future__ import annotations

import sys

import bpy

from trackshade.core.errors import CancelledError

from .backend import extension_data
from .backend.extension_data import Moved
from .backend.tasks import BackgroundTask
from .placement.moved_results import update_paths
from .properties.preferences import extension_data_folder, unsaved_results_folder

RESULTS = "The results of files that have not been saved are now in {folder}."
ENVIRONMENTS = "The environment of the backend is now in {folder}, for all versions of Blender."
TICK = 0.5  # seconds after which the thread is checked

_moved = Moved()
_task: BackgroundTask | None = None


def attach() -> None:
    """Move what can be moved at once, and start to copy the rest. To be called at the end of `register`."""
    global _moved, _task
    if on_load not in bpy.app.handlers.load_post:
        bpy.app.handlers.load_post.append(on_load)
    _moved, _task = Moved(), None
    data = extension_data_folder()
    if data is not None and extension_data.has_data(data):
        results = unsaved_results_folder()
        _moved = extension_data.move(data, results)
        if _moved.to_copy and not bpy.app.background:
            _task = BackgroundTask(lambda task: extension_data.move(data, results, task.report, task), "Moving")
            bpy.app.timers.register(_follow, first_interval=TICK, persistent=True)
        _print(_moved)
    if not bpy.app.background:  # `register` cannot access the open file yet
        bpy.app.timers.register(on_load, first_interval=0.0)


def detach() -> None:
    """End the copying; folders that were copied completely stay moved."""
    for timer in (_follow, on_load):
        if bpy.app.timers.is_registered(timer):
            bpy.app.timers.unregister(timer)
    if _task is not None:
        _task.cancel()
        _task.wait(2.0)
    if on_load in bpy.app.handlers.load_post:
        bpy.app.handlers.load_post.remove(on_load)


def task() -> BackgroundTask | None:
    """Return the task that copies files, while it runs."""
    return _task if _task is not None and _task.running else None


def moved() -> Moved:
    """Return what was moved in this session."""
    return _moved


@bpy.app.handlers.persistent
def on_load(*_: object) -> None:
    """Update the paths of the open file to results that were moved."""
    if count := update_paths(extension_data.moved_results()):
        print(f"Trackshade: updated {count} path{'s' * (count != 1)} to results that were moved.", file=sys.stderr)


def _follow() -> float | None:
    """Wait for the end of the copying, for a timer."""
    global _moved
    if _task is None:
        return None
    if _task.running:
        return TICK
    copied: Moved = _task.result or Moved(error=None if isinstance(_task.error, CancelledError) else _task.error)
    _moved = Moved(copied.results or _moved.results, copied.environments or _moved.environments, copied.error)
    _print(copied)
    on_load()
    return None


def _print(what: Moved) -> None:
    for pattern, folder in ((RESULTS, what.results), (ENVIRONMENTS, what.environments)):
        if folder is not None:
            print("Trackshade:", pattern.format(folder=folder), file=sys.stderr)
    if what.error is not None:
        print("Trackshade:", what.error, file=sys.stderr)
