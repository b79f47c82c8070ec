# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks again at what the panel shows of a scene, a moment after the scene changed and only while somebody looks.

Drawing asks; a timer answers. Nothing here changes the scene.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import bpy

from ..capture.stepping import Steps, finish
from ..jobs.session import current
from . import checks_facts
from .checks import Facts, Finding, findings
from .drawing import redraw, redraw_settled

WAIT = 0.3  # seconds without a change before the scene is looked at
QUIET = 0.5  # seconds after a check in which Blender tells of the frames that it stepped
AGAIN = 5.0  # seconds after which memory and files are looked at again


@dataclass
class _Found:
    key: Any
    facts: Facts
    when: float
    stepped: bool = False  # whether the shot's own frames were looked at


class Watch:
    """What was found, by scene."""

    def __init__(self) -> None:
        self._found: dict[int, _Found] = {}
        self._wanted: set[int] = set()
        self._changed = 0.0  # when the scene changed last
        self._dirty: set[int] = set()
        self._quiet_until = 0.0

    def facts(self, context: bpy.types.Context) -> Facts | None:
        """The latest facts of the scene that is shown; asks for newer ones where they are old. For `draw`."""
        scene = context.scene
        uid, key = scene.session_uid, _key(scene, context.view_layer)
        found = self._found.get(uid)
        fresh = found is not None and found.key == key and uid not in self._dirty
        if found is None or not fresh or (time.monotonic() - found.when > AGAIN and not found.stepped):
            self._ask(uid)
        return None if found is None else found.facts

    def findings(self, context: bpy.types.Context) -> tuple[Finding, ...]:
        facts = self.facts(context)
        return () if facts is None else findings(facts)

    def stepped(self, context: bpy.types.Context) -> bool:
        """Whether the latest facts are those of the shot's own frames."""
        found = self._found.get(context.scene.session_uid)
        return found is not None and found.stepped and context.scene.session_uid not in self._dirty

    def check_now(self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> Facts:
        """Looks at the shot's first, middle and last frame."""
        return finish(self.checking(scene, view_layer))

    def checking(self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> Generator[Steps, None, Facts]:
        """The same, a little at a time; yields as `checks_facts.look_at_frames`."""
        layer = _layer(scene, view_layer)
        facts = yield from checks_facts.look_at_frames(scene, layer, scene.trackshade.what(view_layer.name))
        self._dirty.discard(scene.session_uid)
        self._found[scene.session_uid] = _Found(_key(scene, view_layer), facts, time.monotonic(), True)
        self._quiet_until = time.monotonic() + QUIET
        return facts

    def changed(self) -> None:
        """The scene is not what it was. Called often."""
        now = time.monotonic()
        if now < self._quiet_until:
            return
        self._changed = now
        if self._found.keys() - self._dirty:
            self._dirty.update(self._found)
            redraw()  # so that a panel that is to be seen asks: Blender redraws it after some changes only

    def look(self) -> float | None:
        """The timer's work: seconds until it is to be called again, or None."""
        rest = WAIT - (time.monotonic() - self._changed)
        if rest > 0:
            return rest
        if current().holds_scene or bpy.app.is_job_running("RENDER") or _plays():
            return WAIT
        wanted, self._wanted = self._wanted, set()
        for window in bpy.context.window_manager.windows:
            if window.scene.session_uid in wanted:
                wanted.discard(window.scene.session_uid)
                self.look_at(window.scene, window.view_layer)
        redraw_settled()
        return None

    def look_at(self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> Facts:
        """Looks at the frame that is shown."""
        facts = checks_facts.look(scene, _layer(scene, view_layer), scene.trackshade.what(view_layer.name))
        self._dirty.discard(scene.session_uid)
        self._found[scene.session_uid] = _Found(_key(scene, view_layer), facts, time.monotonic())
        return facts

    def close(self) -> None:
        if bpy.app.timers.is_registered(_timer):
            bpy.app.timers.unregister(_timer)
        if _noticed in bpy.app.handlers.depsgraph_update_post:
            bpy.app.handlers.depsgraph_update_post.remove(_noticed)
        self.__init__()

    def _ask(self, uid: int) -> None:
        self._wanted.add(uid)
        if bpy.app.background:
            return
        if not bpy.app.timers.is_registered(_timer):
            bpy.app.timers.register(_timer, first_interval=WAIT, persistent=True)
        if _noticed not in bpy.app.handlers.depsgraph_update_post:
            bpy.app.handlers.depsgraph_update_post.append(_noticed)


def _layer(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> bpy.types.ViewLayer:
    return scene.view_layers.get(scene.trackshade.view_layer) or view_layer


def _key(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> Any:
    """What the facts depend on and no change of the scene's evaluation tells of."""
    own, render, view = scene.trackshade, scene.render, scene.view_settings
    camera = scene.camera
    return (
        *(own.what(view_layer.name), view_layer.name, bpy.data.filepath),
        *(scene.frame_current, scene.frame_start, scene.frame_end, scene.frame_step, render.fps, render.fps_base),
        *(render.frame_map_old, render.frame_map_new),
        *(render.resolution_x, render.resolution_y, render.resolution_percentage),
        *(render.pixel_aspect_x, render.pixel_aspect_y),
        *(None if camera is None else camera.session_uid, view.view_transform, view.look, view.gamma),
        view.use_curve_mapping,
    )


def _plays() -> bool:
    return any(window.screen.is_animation_playing for window in bpy.context.window_manager.windows)


def _timer() -> float | None:
    return watch.look()


@bpy.app.handlers.persistent
def _noticed(*_: object) -> None:
    if not current().holds_scene:
        watch.changed()


watch = Watch()
