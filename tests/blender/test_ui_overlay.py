# SPDX-License-Identifier: GPL-3.0-or-later
"""When the first frame is looked at again for the tracking colors, and when not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import bpy
import pytest

import trackshade_addon
from tests.helpers import stage
from trackshade_addon.overlay import view, watch
from trackshade_addon.overlay.watch import OverlayWatcher


@pytest.fixture(autouse=True)
def registered(scene: bpy.types.Scene) -> Iterator[None]:
    trackshade_addon.register()
    yield
    trackshade_addon.unregister()


def moved() -> None:
    bpy.data.objects["Grid"].location.x += 1


def keyed() -> None:
    bpy.data.objects["Grid"].keyframe_insert("location", frame=3)


def shaped() -> None:
    bpy.data.meshes["Grid"].vertices[0].co.x += 1
    bpy.data.meshes["Grid"].update()


def hidden() -> None:
    bpy.data.objects["Grid"].hide_render = True


def unseen() -> None:
    bpy.data.objects["Grid"].visible_camera = False


def zoomed() -> None:
    bpy.data.cameras["Camera"].lens += 5


def selected() -> None:
    bpy.data.objects["Grid"].select_set(True)


def painted() -> None:
    bpy.data.materials["Paint"].diffuse_color = (1, 0, 0, 1)


def played() -> None:
    bpy.context.scene.frame_set(2)


CHANGES = (moved, keyed, shaped, hidden, unseen, zoomed)


@pytest.mark.parametrize("edit", [*CHANGES, selected, painted, played])
def test_what_matters(scene: bpy.types.Scene, edit: Callable[[], None]) -> None:
    stage.add_camera(scene)
    mesh = stage.grid()
    mesh.materials.append(bpy.data.materials.new("Paint"))
    stage.add(scene, "Grid", mesh)
    bpy.context.view_layer.update()
    said = []
    bpy.app.handlers.depsgraph_update_post.append(lambda _, depsgraph: said.append(watch._matters(depsgraph)))
    try:
        edit()
        bpy.context.view_layer.update()
    finally:
        bpy.app.handlers.depsgraph_update_post.pop()
    assert any(said) == (edit in CHANGES)


def test_a_state_is_kept_until_something_changes(scene: bpy.types.Scene) -> None:
    stage.add_camera(scene)
    stage.add(scene, "Grid", stage.grid())
    scene.frame_end = 17
    layer, watcher = bpy.context.view_layer, OverlayWatcher()
    assert watcher.get(scene, layer) is None
    state = watcher.update(scene, layer)
    assert state.error is None
    assert watcher.get(scene, layer) is state
    assert not state.is_outdated
    for change in (watcher.mark_changed, lambda: setattr(scene, "frame_end", 34)):
        again = watcher.update(scene, layer)
        change()
        state = watcher.get(scene, layer)
        assert state is not None
        assert state.is_outdated
        assert again.overlay is not None  # and is drawn until the new one is there
    watcher.clear()
    assert watcher.get(scene, layer) is None


def test_a_scene_without_a_camera_has_no_colors_and_says_why(scene: bpy.types.Scene) -> None:
    stage.add(scene, "Grid", stage.grid())
    state = OverlayWatcher().update(scene, bpy.context.view_layer)
    assert state.overlay is None
    assert state.error is not None
    assert state.error.code == "no-camera"


def test_nothing_is_drawn_or_timed_without_a_window(scene: bpy.types.Scene) -> None:
    watch.watcher.get(scene, bpy.context.view_layer)
    assert view._handle is None
    assert not bpy.app.timers.is_registered(watch.watcher._timer)
    assert not [handlers for handlers, function in watch.watcher.handlers() if function in handlers]
