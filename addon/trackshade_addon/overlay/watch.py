# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping the first frames that the tracking colors are drawn from up to date.

To read the first frame is to step there and back, so what takes long is done once, and again only when the user asks.
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
from ..redraw import redraw_views
from ..scene_watcher import SceneWatcher, output_settings, scene_key
from .draw import Overlay
from .reference import read_reference_steps

SLOW_SECONDS = 0.5  # reading that takes longer waits until the user asks for it
_MODES = {"OBJECT", "POSE"}


@dataclass
class OverlayState:
    """The overlay of a scene."""

    settings: Any  # settings that it depends on
    overlay: Overlay | None  # None where the scene cannot be captured, or is not read yet
    error: TrackshadeError | None  # why the scene cannot be captured
    seconds: float  # time that reading took
    is_outdated: bool = False  # whether the scene has changed since


class OverlayWatcher(SceneWatcher[OverlayState]):
    """The overlays of the shown scenes."""

    first_interval = 0.01

    def __init__(self) -> None:
        super().__init__()
        self._is_reading = False

    def get(self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> OverlayState | None:
        """Return the latest state, and request a new one if need be. May be called while drawing."""
        state = self.states.get(scene_key(scene, view_layer))
        if state is not None and state.settings != _settings(scene, view_layer):
            state.is_outdated = True
        if state is None or (state.is_outdated and state.seconds <= SLOW_SECONDS):
            self.request(scene, view_layer)
        return state

    def show_updates(self) -> None:
        """Redraw the views, over which the colors are drawn, and the panels."""
        redraw_views()
        super().show_updates()

    def update(
        self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, patience: float | None = None
    ) -> OverlayState:
        """Read the first frame now; give up stepping a simulation after `patience` seconds, until the user asks."""
        began = time.monotonic()
        with contextlib.closing(self.update_steps(scene, view_layer)) as steps:
            while patience is None or time.monotonic() - began <= patience:
                try:
                    next(steps)
                except StopIteration as stop:
                    return stop.value
        key = scene_key(scene, view_layer)
        before = self.states.get(key)
        overlay = None if before is None else before.overlay
        self.states[key] = OverlayState(_settings(scene, view_layer), overlay, None, math.inf, is_outdated=True)
        return self.states[key]

    def update_on_timer(self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> None:
        """Read the first frame, unless that takes long."""
        self.update(scene, view_layer, SLOW_SECONDS)

    def update_steps(
        self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer
    ) -> Generator[Steps, None, OverlayState]:
        """Read the first frame in steps; yield how many frames of simulations were stepped, and of how many."""
        settings, began = _settings(scene, view_layer), time.monotonic()
        overlay, failure = None, None
        self._is_reading = True
        try:
            request = scene.trackshade.shot_request(view_layer.name)
            frames, size = request.plan(scene)
            layer = scene.view_layers[request.view_layer or view_layer.name]
            camera = None if request.camera is None else scene.objects.get(request.camera)
            overlay = Overlay((yield from read_reference_steps(scene, layer, frames, size, camera, request.glass)))
        except TrackshadeError as error:
            failure = error
        finally:
            self._is_reading = False
        state = OverlayState(settings, overlay, failure, time.monotonic() - began)
        self.states[scene_key(scene, view_layer)] = state
        return state

    def mark_changed(self, depsgraph: bpy.types.Depsgraph | None = None) -> None:
        """Mark all states as outdated, if the updates of the depsgraph matter. Called often."""
        if not self._is_reading and (depsgraph is None or _matters(depsgraph)):
            self._changed = time.monotonic()
            for state in self.states.values():
                state.is_outdated = True

    def is_busy(self) -> bool:
        """Return whether the scene cannot be stepped now."""
        return super().is_busy() or bpy.context.mode not in _MODES or is_edited()

    def handlers(self) -> list[tuple[list[Any], Any]]:
        """Return the handlers for changes of the scene, undo, and closing the file."""
        handlers = bpy.app.handlers
        return [
            (handlers.depsgraph_update_post, _on_update),
            (handlers.undo_post, _on_undo),
            (handlers.redo_post, _on_undo),
            (handlers.load_pre, _on_load),
        ]


def _settings(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> Any:
    """Return the settings that the first frame depends on and whose changes have no depsgraph update."""
    return scene.trackshade.shot_request(view_layer.name), output_settings(scene)


def _matters(depsgraph: bpy.types.Depsgraph) -> bool:
    """Return whether something moved, or changed its shape, its visibility or its animation.

    Selecting is no change, and neither is a window that shows another scene (Blender then reports the scene and all its
    objects). Materials do not move anything: Blender 5.3 reports the geometry of all objects that have a changed
    material, but not of their meshes.
    """
    updates = list(depsgraph.updates)
    has_materials = any(isinstance(update.id, bpy.types.Material) for update in updates)
    has_scenes = any(isinstance(update.id, bpy.types.Scene) for update in updates)
    return any(
        (update.is_updated_geometry and not (has_materials and isinstance(update.id, bpy.types.Object)))
        or update.is_updated_transform
        or isinstance(update.id, bpy.types.Action)
        or (not has_materials and not has_scenes and isinstance(update.id, bpy.types.Object))
        for update in updates
    )


@bpy.app.handlers.persistent
def _on_update(scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph) -> None:
    if not current().holds_scene:
        watcher.mark_changed(depsgraph)


@bpy.app.handlers.persistent
def _on_undo(*_: object) -> None:
    watcher.mark_changed()


@bpy.app.handlers.persistent
def _on_load(*_: object) -> None:
    watcher.clear()


watcher = OverlayWatcher()
