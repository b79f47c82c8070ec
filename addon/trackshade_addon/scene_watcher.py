# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping what is shown of scenes up to date: drawing asks for it, and a timer computes it after a change.

Nothing is computed while the scene is stepped, rendered or played.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import bpy

from .jobs.session import current
from .redraw import redraw_settled

WAIT = 0.3  # seconds without a change before the scene is read again

State = TypeVar("State")
SceneKey = tuple[int, str]  # session_uid of the scene, name of the view layer


class SceneWatcher(ABC, Generic[State]):
    """Keeps a state for each scene and view layer that is shown.

    A subclass defines `update`, which stores the state, and `handlers`.
    """

    first_interval = WAIT

    def __init__(self) -> None:
        self.states: dict[SceneKey, State] = {}
        self._requested: dict[SceneKey, None] = {}
        self._changed = 0.0  # when the scene changed last
        self._timer = lambda: self.run()  # one object, since Blender finds a timer by identity

    @abstractmethod
    def update(self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> State:
        """Read the scene now, and store and return its state."""

    @abstractmethod
    def handlers(self) -> list[tuple[list[Any], Any]]:
        """Return lists of Blender's handlers, and the functions that belong in them while states are kept."""

    def is_busy(self) -> bool:
        """Return whether the scene cannot be read now."""
        return current().holds_scene or bpy.app.is_job_running("RENDER") or is_playing()

    def request(self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> None:
        """Ask for an update, a moment after the last change. May be called while Blender draws."""
        self._requested.setdefault(scene_key(scene, view_layer))
        if bpy.app.background:
            return
        if not bpy.app.timers.is_registered(self._timer):
            bpy.app.timers.register(self._timer, first_interval=self.first_interval, persistent=True)
        for handlers, function in self.handlers():
            if function not in handlers:
                handlers.append(function)

    def run(self) -> float | None:
        """Update what was requested; return the seconds until the timer's next call, or None if there is none."""
        rest = WAIT - (time.monotonic() - self._changed)
        if rest > 0:
            return rest
        if self.is_busy():
            return WAIT
        requested, self._requested = self._requested, {}
        for window in bpy.context.window_manager.windows:
            key = scene_key(window.scene, window.view_layer)
            if key in requested:
                del requested[key]
                self.update_on_timer(window.scene, window.view_layer)
        self.show_updates()
        return None

    def show_updates(self) -> None:
        """Redraw what shows the states."""
        redraw_settled()

    def update_on_timer(self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> None:
        """Update a state that was requested."""
        self.update(scene, view_layer)

    def clear(self) -> None:
        """Forget all states, as when their file is closed."""
        self.states.clear()
        self._requested.clear()

    def close(self) -> None:
        """Remove the timer and the handlers."""
        if bpy.app.timers.is_registered(self._timer):
            bpy.app.timers.unregister(self._timer)
        for handlers, function in self.handlers():
            if function in handlers:
                handlers.remove(function)
        self.clear()


def scene_key(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> SceneKey:
    """Return the key of a scene and view layer in `SceneWatcher.states`."""
    return scene.session_uid, view_layer.name


def is_playing() -> bool:
    """Return whether an animation plays in any window."""
    return any(window.screen.is_animation_playing for window in bpy.context.window_manager.windows)


def output_settings(scene: bpy.types.Scene) -> tuple[Any, ...]:
    """Return the settings of a scene's range, time, resolution and camera, whose changes have no depsgraph update."""
    render = scene.render
    return (
        *(scene.frame_start, scene.frame_end, scene.frame_step, render.fps, render.fps_base),
        *(render.frame_map_old, render.frame_map_new),
        *(render.resolution_x, render.resolution_y, render.resolution_percentage),
        *(render.pixel_aspect_x, render.pixel_aspect_y),
        None if scene.camera is None else scene.camera.session_uid,
    )
