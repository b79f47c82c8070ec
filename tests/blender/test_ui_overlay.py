# SPDX-License-Identifier: GPL-3.0-or-later
"""When the first frame is looked at again for the tracking colors, and when not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import bpy
import pytest

import trackshade_addon
from tests.helpers import stage
from trackshade_addon.ui import overlay_view, overlay_watch
from trackshade_addon.ui.overlay_watch import Watch


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
    bpy.app.handlers.depsgraph_update_post.append(lambda _, depsgraph: said.append(overlay_watch._matters(depsgraph)))
    try:
        edit()
        bpy.context.view_layer.update()
    finally:
        bpy.app.handlers.depsgraph_update_post.pop()
    assert any(said) == (edit in CHANGES)


def test_a_look_is_kept_until_something_changes(scene: bpy.types.Scene) -> None:
    stage.add_camera(scene)
    stage.add(scene, "Grid", stage.grid())
    scene.frame_end = 17
    layer, watch = bpy.context.view_layer, Watch()
    assert watch.found(scene, layer) is None
    found = watch.look_at(scene, layer)
    assert found.error is None
    assert watch.found(scene, layer) is found
    assert not found.old
    for change in (watch.changed, lambda: setattr(scene, "frame_end", 34)):
        again = watch.look_at(scene, layer)
        change()
        assert watch.found(scene, layer).old
        assert again.preview is not None  # and is drawn until the new one is there
    watch.forget()
    assert watch.found(scene, layer) is None


def test_a_scene_without_a_camera_has_no_colors_and_says_why(scene: bpy.types.Scene) -> None:
    stage.add(scene, "Grid", stage.grid())
    found = Watch().look_at(scene, bpy.context.view_layer)
    assert found.preview is None
    assert found.error is not None
    assert found.error.code == "no-camera"


def test_nothing_is_drawn_or_timed_without_a_window(scene: bpy.types.Scene) -> None:
    overlay_watch.watch.found(scene, bpy.context.view_layer)
    assert overlay_view._handle is None
    assert not bpy.app.timers.is_registered(overlay_watch._timer)
    assert not [found for found, function in overlay_watch._listens() if function in found]
