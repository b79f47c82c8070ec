# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping the findings that the panel shows up to date, a moment after the scene changed."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import bpy

from ..capture.stepping import Steps
from ..jobs.session import current
from ..redraw import redraw
from ..scene_watcher import SceneWatcher, output_settings, scene_key
from .facts import Facts, read_current_frame, read_frames
from .findings import Finding, findings

QUIET_SECONDS = 0.5  # after a check, in which Blender reports the frames that were stepped
RENEWAL_SECONDS = 5.0  # after which memory and files are checked again


@dataclass
class ChecksState:
    """Facts about a scene."""

    settings: Any  # settings that they depend on
    facts: Facts
    findings: tuple[Finding, ...]  # what follows from them
    when: float  # when they were read, by the monotonic clock
    is_stepped: bool  # whether the shot's frames were read, not only the current one
    is_outdated: bool = False  # whether the scene has changed since


class ChecksWatcher(SceneWatcher[ChecksState]):
    """The facts about the shown scenes."""

    def __init__(self) -> None:
        super().__init__()
        self._quiet_until = 0.0

    def get(self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> ChecksState | None:
        """Return the latest state, and request a new one if that is old. May be called while drawing."""
        state = self.states.get(scene_key(scene, view_layer))
        if state is not None and state.settings != _settings(scene, view_layer):
            state.is_outdated = True
        is_old = state is not None and not state.is_stepped and time.monotonic() - state.when > RENEWAL_SECONDS
        if state is None or state.is_outdated or is_old:
            self.request(scene, view_layer)
        return state

    def update(self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> ChecksState:
        """Read the current frame."""
        request = scene.trackshade.shot_request(view_layer.name)
        return self._store(scene, view_layer, read_current_frame(scene, _layer(scene, view_layer), request), False)

    def check_steps(
        self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer
    ) -> Generator[Steps, None, ChecksState]:
        """Read the shot's first, middle and last frame in steps; yield as `read_frames`."""
        request = scene.trackshade.shot_request(view_layer.name)
        facts = yield from read_frames(scene, _layer(scene, view_layer), request)
        self._quiet_until = time.monotonic() + QUIET_SECONDS
        return self._store(scene, view_layer, facts, True)

    def mark_changed(self) -> None:
        """Mark all states as outdated. Called often."""
        now = time.monotonic()
        if now < self._quiet_until:
            return
        self._changed = now
        if any(not state.is_outdated for state in self.states.values()):
            for state in self.states.values():
                state.is_outdated = True
            redraw()  # so that a visible panel requests an update: Blender redraws it after some changes only

    def handlers(self) -> list[tuple[list[Any], Any]]:
        """Return the handler for changes of the scene."""
        return [(bpy.app.handlers.depsgraph_update_post, _on_update)]

    def _store(
        self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, facts: Facts, is_stepped: bool
    ) -> ChecksState:
        settings = _settings(scene, view_layer)
        state = ChecksState(settings, facts, findings(facts), time.monotonic(), is_stepped)
        self.states[scene_key(scene, view_layer)] = state
        return state


def _layer(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> bpy.types.ViewLayer:
    return scene.view_layers.get(scene.trackshade.view_layer) or view_layer


def _settings(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> Any:
    """Return the settings that the facts depend on and whose changes have no depsgraph update."""
    view = scene.view_settings
    color = view.view_transform, view.look, view.gamma, view.use_curve_mapping
    own = scene.trackshade
    shading = own.model, own.key_pictures, own.image_model, own.output_size, own.steps, own.memory, own.splats > 0
    request = own.shot_request(view_layer.name)
    return request, shading, bpy.data.filepath, scene.frame_current, output_settings(scene), color


@bpy.app.handlers.persistent
def _on_update(*_: object) -> None:
    if not current().holds_scene:
        watcher.mark_changed()


watcher = ChecksWatcher()
