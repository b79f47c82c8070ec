# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the first frames that the tracking colors are drawn from up to date.

Drawing asks; a timer answers, a moment after the scene changed and never while it plays. To look at the first frame is
to step there and back, so what takes long is done once, and then when somebody asks for it.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import bpy

from trackshade.core.errors import TrackshadeError

from ..capture.stepping import Steps
from ..jobs.job import is_edited
from ..jobs.session import current
from ..overlay import Preview, looking
from .drawing import redraw_settled

WAIT = 0.3  # seconds without a change before the first frame is looked at
SLOW = 0.5  # seconds that looking may take to be done unasked
_MODES = {"OBJECT", "POSE"}


@dataclass
class Found:
    """What was found of a scene's first frame.

    Attributes:
        preview: None where the scene cannot be shot; `error` says why.
        seconds: that looking took.
        old: the scene is not what it was then.
    """

    key: Any
    preview: Preview | None
    error: TrackshadeError | None
    seconds: float
    old: bool = False


class Watch:
    """What was found, by scene and view layer."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, str], Found] = {}
        self._wanted: dict[tuple[int, str], None] = {}
        self._changed = 0.0  # when the scene changed last
        self._looking = False

    def found(self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> Found | None:
        """The latest; asks for a newer one where it is old. For drawing."""
        name = scene.session_uid, view_layer.name
        found = self._found.get(name)
        if found is not None and found.key != _key(scene, view_layer):
            found.old = True
        if found is None or (found.old and found.seconds <= SLOW):
            self._ask(name)
        return found

    def look_at(self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, patience: float | None = None) -> Found:
        """Looks at the first frame now.

        Args:
            patience: seconds after which the stepping of a simulation is given up; None for never. The first frame is
                then to be looked at when somebody asks for it.
        """
        began = time.monotonic()
        steps = self.looking(scene, view_layer)
        with contextlib.closing(steps):
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    return end.value
                if patience is not None and time.monotonic() - began > patience:
                    break
        before = self._found.get((scene.session_uid, view_layer.name))
        preview = None if before is None else before.preview
        found = Found(_key(scene, view_layer), preview, None, math.inf, old=True)
        self._found[scene.session_uid, view_layer.name] = found
        return found

    def looking(self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> Generator[Steps, None, Found]:
        """Looks at the first frame, a little at a time; yields the frames of simulations that were stepped."""
        key, began = _key(scene, view_layer), time.monotonic()
        preview, failed = None, None
        self._looking = True
        try:
            what = scene.trackshade.what(view_layer.name)
            frames, size = what.plan(scene)
            layer = scene.view_layers[what.view_layer or view_layer.name]
            camera = None if what.camera is None else scene.objects.get(what.camera)
            preview = Preview((yield from looking(scene, layer, frames, size, camera, what.glass)))
        except TrackshadeError as error:
            failed = error
        finally:
            self._looking = False
        found = Found(key, preview, failed, time.monotonic() - began)
        self._found[scene.session_uid, view_layer.name] = found
        return found

    def changed(self, depsgraph: bpy.types.Depsgraph | None = None) -> None:
        """The scene is not what it was. Called often."""
        if not self._looking and (depsgraph is None or _matters(depsgraph)):
            self._changed = time.monotonic()
            for found in self._found.values():
                found.old = True

    def answer(self) -> float | None:
        """The timer's work: seconds until it is to be called again, or None."""
        rest = WAIT - (time.monotonic() - self._changed)
        if rest > 0:
            return rest
        if _busy():
            return WAIT
        wanted, self._wanted = self._wanted, {}
        for window in bpy.context.window_manager.windows:
            name = window.scene.session_uid, window.view_layer.name
            if name in wanted:
                del wanted[name]
                self.look_at(window.scene, window.view_layer, SLOW)
        redraw_settled()
        return None

    def forget(self) -> None:
        """All that was found belongs to a file that is closed."""
        self._found.clear()
        self._wanted.clear()

    def close(self) -> None:
        """Ends the timer and the listening."""
        if bpy.app.timers.is_registered(_timer):
            bpy.app.timers.unregister(_timer)
        for handlers, function in _listens():
            if function in handlers:
                handlers.remove(function)
        self.forget()

    def _ask(self, name: tuple[int, str]) -> None:
        self._wanted.setdefault(name)
        if bpy.app.background:
            return
        if not bpy.app.timers.is_registered(_timer):
            bpy.app.timers.register(_timer, first_interval=0.01, persistent=True)
        for handlers, function in _listens():
            if function not in handlers:
                handlers.append(function)


def _key(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> Any:
    """What the first frame depends on and no change of the scene's evaluation tells of."""
    render = scene.render
    return (
        scene.trackshade.what(view_layer.name),
        *(scene.frame_start, scene.frame_end, scene.frame_step, render.fps, render.fps_base),
        *(render.frame_map_old, render.frame_map_new),
        *(render.resolution_x, render.resolution_y, render.resolution_percentage),
        *(render.pixel_aspect_x, render.pixel_aspect_y),
        None if scene.camera is None else scene.camera.session_uid,
    )


def _matters(depsgraph: bpy.types.Depsgraph) -> bool:
    """Whether something moved, or changed its shape, its visibility or its animation.

    A click that selects is no change, a window that shows other things neither (Blender tells of the scene then, and of
    all its objects), and materials say nothing about where things are: Blender 5.3 tells of the geometry of all objects
    that wear a changed material, but not of their meshes.
    """
    updates = list(depsgraph.updates)
    paints = any(isinstance(update.id, bpy.types.Material) for update in updates)
    looks = paints or any(isinstance(update.id, bpy.types.Scene) for update in updates)
    return any(
        (update.is_updated_geometry and not (paints and isinstance(update.id, bpy.types.Object)))
        or update.is_updated_transform
        or isinstance(update.id, bpy.types.Action)
        or (not looks and isinstance(update.id, bpy.types.Object))
        for update in updates
    )


def plays() -> bool:
    return any(window.screen.is_animation_playing for window in bpy.context.window_manager.windows)


def _busy() -> bool:
    """Whether the scene is not to be stepped now."""
    return (
        current().holds_scene
        or bpy.app.is_job_running("RENDER")
        or plays()
        or bpy.context.mode not in _MODES
        or is_edited()
    )


def _timer() -> float | None:
    return watch.answer()


@bpy.app.handlers.persistent
def _noticed(scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph) -> None:
    if not current().holds_scene:
        watch.changed(depsgraph)


@bpy.app.handlers.persistent
def _undone(*_: object) -> None:
    watch.changed()


@bpy.app.handlers.persistent
def _closing(*_: object) -> None:
    watch.forget()


def _listens() -> list[tuple[list[Any], Any]]:
    handlers = bpy.app.handlers
    return [
        (handlers.depsgraph_update_post, _noticed),
        (handlers.undo_post, _undone),
        (handlers.redo_post, _undone),
        (handlers.load_pre, _closing),
    ]


watch = Watch()
