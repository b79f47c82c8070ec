# SPDX-License-Identifier: GPL-3.0-or-later
"""After a capture, a failed or a cancelled one, the user's file is what it was before."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
import pytest

from tests.blender.test_capture_instances import collection_instance, scatter
from tests.helpers import stage
from trackshade.core.errors import CancelledError, ShotError
from trackshade_addon.capture import Capture
from trackshade_addon.capture.first_frame import render_sample

# Facts about the running Blender and not about the file, or what is only known after evaluation.
_SKIP = {
    "rna_type",
    "bl_rna",
    "execution_time",
    "depsgraph",
    "is_updated_transform",
    "session_uid",
    "is_evaluated",
    "original",
    "id_data",
    "tag",
    "users",
    "rotation_mode_next",
}


# What is not part of any scene is compared by name alone.
_BESIDE = {"window_managers", "screens", "workspaces", "brushes", "libraries", "palettes", "paint_curves"}


def plain(value: Any, depth: int) -> Any:
    """A value of a Blender property as plain data; data blocks as their names."""
    if isinstance(value, bpy.types.ID) and depth > 0:
        return f"{type(value).__name__}:{value.name_full}"
    if isinstance(value, bpy.types.bpy_struct):
        return described(value, depth + 1) if depth < 5 else value.name if hasattr(value, "name") else str(type(value))
    if isinstance(value, bpy.types.bpy_prop_collection):
        if len(value) > 400:
            return len(value)
        return [plain(item, depth + 1) for item in value]
    if hasattr(value, "__len__") and not isinstance(value, str):
        return [plain(item, depth + 1) for item in value]
    return value


def described(item: Any, depth: int = 0) -> dict[str, Any]:
    return {
        prop.identifier: plain(getattr(item, prop.identifier), depth)
        for prop in item.bl_rna.properties
        if prop.identifier not in _SKIP
    }


def snapshot() -> dict[str, Any]:
    """All data blocks with all their properties, and what the user has selected and is doing."""
    facts: dict[str, Any] = {}
    for prop in bpy.data.bl_rna.properties:
        if prop.type == "COLLECTION" and prop.identifier != "all_ids":  # which has the others' data blocks once more
            for block in getattr(bpy.data, prop.identifier):
                beside = prop.identifier in _BESIDE
                facts[f"{prop.identifier}/{block.name_full}"] = {} if beside else described(block)
    for mesh in bpy.data.meshes:
        facts[f"positions/{mesh.name}"] = [tuple(vertex.co) for vertex in mesh.vertices]
    for scene in bpy.data.scenes:
        facts[f"frame/{scene.name}"] = (scene.frame_current, scene.frame_subframe, scene.frame_float)
        for layer in scene.view_layers:
            facts[f"layer/{scene.name}/{layer.name}"] = [
                (
                    obj.name,
                    obj.select_get(view_layer=layer),
                    obj.hide_get(view_layer=layer),
                    obj.visible_get(view_layer=layer),
                )
                for obj in layer.objects
            ] + [layer.objects.active and layer.objects.active.name]
    facts["modes"] = [(obj.name, obj.mode) for obj in bpy.data.objects]
    facts["matrices"] = [(obj.name, [tuple(row) for row in obj.matrix_world]) for obj in bpy.data.objects]
    facts["dirty"] = bpy.data.is_dirty
    facts["context"] = (bpy.context.scene.name, bpy.context.view_layer.name)
    return facts


def differences(before: dict[str, Any], after: dict[str, Any], path: str = "") -> list[str]:
    """Where two snapshots differ, as far down as it can be told."""
    if isinstance(before, dict) and isinstance(after, dict):
        found = []
        for name in sorted(before.keys() | after.keys()):
            if name not in before or name not in after:
                found.append(f"{path}/{name} {'lost' if name in before else 'new'}")
            else:
                found += differences(before[name], after[name], f"{path}/{name}")
        return found
    same = before == after or (before != before and after != after)
    return [] if same else [f"{path}: {before!r} -> {after!r}"]


def busy(scene) -> None:
    """A scene that gives a capture every reason to change something."""
    first = stage.add_camera(scene)
    second = stage.add(scene, "Second", bpy.data.cameras.new("Second"))
    second.location, second.rotation_euler = (0, -5, 1), first.rotation_euler
    scene.timeline_markers.new("one", frame=1).camera = first
    scene.timeline_markers.new("two", frame=3).camera = second

    moving = stage.add(scene, "Moving", stage.grid("Moving"))
    stage.key(moving, "location", {1: (0, 0, 0), 5: (1, 0, 0)})
    moving.location = (7, 7, 7)  # changed by the user and not keyed
    moving["strength"] = 1.0
    moving.keyframe_insert('["strength"]', frame=1)
    moving["strength"] = 4.0
    modifier = moving.modifiers.new("Subdivision", "SUBSURF")
    modifier.levels, modifier.render_levels = 0, 1
    cast = moving.modifiers.new("Cast", "CAST")
    for frame, shown in ((1, False), (3, True)):
        cast.show_render = shown
        moving.keyframe_insert('modifiers["Cast"].show_render', frame=frame)
    wave = stage.add(scene, "Wave", stage.grid("Wave"))
    wave.modifiers.new("Wave", "WAVE").show_viewport = False

    bpy.ops.curve.primitive_bezier_circle_add()
    bpy.context.object.data.bevel_depth, bpy.context.object.data.render_resolution_u = 0.1, 7
    bpy.context.object.data.splines[0].resolution_u = 5

    rig = stage.add(scene, "Rig", bpy.data.armatures.new("Rig"))
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    rig.data.edit_bones.new("Bone").tail = (0, 0, 1)
    bpy.ops.object.mode_set(mode="POSE")
    bone = rig.pose.bones["Bone"]
    stage.key(bone, "location", {1: (0, 0, 0), 5: (0, 1, 0)})
    bone.location = (0, 0, 3)  # posed and not keyed

    screened = stage.add(scene, "Screened", stage.grid("Screened"))
    screened.hide_viewport = True
    eye = stage.add(scene, "Eye", stage.grid("Eye"))
    eye.hide_set(True)
    blinking = stage.add(scene, "Blinking", stage.grid("Blinking"))
    stage.key(blinking, "hide_viewport", {1: True, 2: False})
    stage.key(blinking, "hide_render", {1: False, 2: True})
    selected = stage.add(scene, "Selected", stage.grid("Selected"))
    scatter(scene, wave, 3)
    collection_instance(scene, stage.add(scene, "Inner", stage.grid("Inner"))).hide_set(True)

    home = bpy.data.collections.new("Home")
    scene.collection.children.link(home)
    home.objects.link(bpy.data.objects.new("Homely", stage.grid("Homely")))
    home.hide_viewport = True
    scene.view_layers[0].layer_collection.children["Home"].hide_viewport = True
    scene.view_layers.new("Other")
    scene.render.engine = "CYCLES"
    scene.render.image_settings.file_format = "OPEN_EXR"
    scene.render.image_settings.color_depth = "16"
    scene.render.image_settings.color_mode = "RGBA"
    scene.cycles.samples = 1
    selected.select_set(True)
    scene.frame_set(2, subframe=0.25)
    moving.location, moving["strength"], bone.location = (7, 7, 7), 4.0, (0, 0, 3)
    bpy.context.view_layer.update()
    for mesh in bpy.data.meshes:
        described(mesh)  # the first reading of a mesh's selection gives it the attributes that hold it


def test_the_snapshot_notices_changes(scene):
    busy(scene)
    before = snapshot()
    bpy.data.objects["Moving"].modifiers["Subdivision"].levels = 2
    bpy.data.objects["Selected"].select_set(False)
    found = differences(before, snapshot())
    assert any("modifiers" in line for line in found)
    assert any(line.startswith("/layer/") for line in found)


def test_a_capture_leaves_the_scene_as_it_was(scene, tmp_path):
    busy(scene)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "busy.blend"))
    before = snapshot()
    shot = stage.shoot(scene, 4)
    assert {"Moving", "Wave", "Screened", "Eye", "Homely", "Instance/Inner"} <= set(stage.names(shot))
    assert differences(before, snapshot()) == []


def test_a_capture_of_another_layer_and_camera_leaves_the_scene_as_it_was(scene):
    busy(scene)
    before = snapshot()
    stage.shoot(scene, 4, view_layer=scene.view_layers["Other"], camera=bpy.data.objects["Second"])
    assert differences(before, snapshot()) == []


def test_a_failed_capture_leaves_the_scene_as_it_was(scene):
    busy(scene)
    stage.key(bpy.data.cameras["Second"], "type", {1: "PERSP", 4: "PANO"})
    scene.frame_set(2, subframe=0.25)
    before = snapshot()
    with pytest.raises(ShotError, match="panoramic"):
        stage.shoot(scene, 4)
    assert differences(before, snapshot()) == []


@pytest.mark.parametrize("steps", [0, pytest.param(1, marks=pytest.mark.long), 3])
def test_a_cancelled_capture_leaves_the_scene_as_it_was(scene, steps):
    busy(scene)
    before = snapshot()
    running = Capture(scene, frame_map=stage.frames(4), size_fit=stage.fit(scene))
    for done in range(steps):
        assert running.step() == done + 1
    running.cancel()
    assert differences(before, snapshot()) == []
    with pytest.raises(CancelledError, match=f"after {steps} of 4"):
        running.shot()


def test_an_interrupt_from_the_progress_leaves_the_scene_as_it_was(scene):
    busy(scene)
    before = snapshot()

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.shoot(scene, 4, progress=interrupt)
    assert differences(before, snapshot()) == []


def test_stepping_gives_the_same_shot_as_capturing_at_once(scene):
    busy(scene)
    whole = stage.shoot(scene, 4)
    running = Capture(scene, frame_map=stage.frames(4), size_fit=stage.fit(scene))
    assert running.total == 4
    while running.done < running.total:
        running.step()
    assert running.step() == 4
    shot = running.shot()
    assert stage.names(shot) == stage.names(whole)
    for ours, theirs in zip(shot.geometries, whole.geometries, strict=True):
        np.testing.assert_array_equal(ours.positions, theirs.positions)


def test_what_the_user_deletes_meanwhile_is_no_trouble(scene):
    stage.add_camera(scene)
    stage.add(scene, "Thing", stage.grid())
    obj = stage.add(scene, "Deleted", stage.grid("Deleted"))
    obj.hide_viewport = True
    running = Capture(scene, frame_map=stage.frames(4), size_fit=stage.fit(scene))
    running.step()
    bpy.data.objects.remove(obj)
    running.close()
    assert scene.frame_current == 1


def test_a_first_frame_leaves_the_scene_as_it_was(scene):
    busy(scene)
    shot = stage.shoot(scene, 4)
    before = snapshot()
    picture = render_sample(shot, 0, scene)
    assert picture.shape == (64, 96, 3)
    assert differences(before, snapshot()) == []
