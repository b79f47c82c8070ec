# SPDX-License-Identifier: GPL-3.0-or-later
"""Scene files of every type open, and those that cannot say what is wrong with them."""

from __future__ import annotations

import os
from pathlib import Path

import bpy
import numpy as np
import pytest

import stage
from trackshade.errors import ShotError
from trackshade_addon.autocamera import add_auto_camera
from trackshade_addon.importers import animation_range, open_scene

EXPORTERS = {
    ".glb": lambda path: bpy.ops.export_scene.gltf(filepath=path, export_format="GLB", export_cameras=True),
    ".gltf": lambda path: bpy.ops.export_scene.gltf(filepath=path, export_format="GLTF_SEPARATE"),
    ".usd": lambda path: bpy.ops.wm.usd_export(filepath=path, export_animation=True),
    ".usda": lambda path: bpy.ops.wm.usd_export(filepath=path, export_animation=True),
    ".usdc": lambda path: bpy.ops.wm.usd_export(filepath=path, export_animation=True),
    ".abc": lambda path: bpy.ops.wm.alembic_export(filepath=path, as_background_job=False),
    ".fbx": lambda path: bpy.ops.export_scene.fbx(filepath=path, bake_anim=True),
    ".obj": lambda path: bpy.ops.wm.obj_export(filepath=path),
}


def animated(scene) -> None:
    """A square that rises by 3 from frame 4 to 12."""
    scene.frame_start, scene.frame_end = 4, 12
    obj = stage.add(scene, "Thing", stage.grid())
    stage.key(obj, "location", {4: (0, 0, 0), 12: (0, 0, 3)})


def rise(scene) -> float:
    """How much the highest vertex of the scene rises over its range."""
    tops = []
    for frame in (scene.frame_start, scene.frame_end):
        scene.frame_set(frame)
        depsgraph = bpy.context.evaluated_depsgraph_get()
        points = [
            item.matrix_world @ vertex.co
            for item in depsgraph.object_instances
            if item.object.type == "MESH"
            for vertex in item.object.data.vertices
        ]
        tops.append(max(point.z for point in points))
    return tops[1] - tops[0]


@pytest.mark.parametrize("suffix", EXPORTERS)
def test_each_type_opens_with_its_animation(scene, tmp_path, suffix):
    animated(scene)
    path = tmp_path / f"scene{suffix}"
    EXPORTERS[suffix](str(path))
    opened = open_scene(path)
    assert opened == bpy.context.scene
    assert any(obj.type == "MESH" for obj in opened.objects)
    if suffix == ".obj":
        return
    assert opened.frame_end > opened.frame_start
    assert opened.frame_end - opened.frame_start <= 12
    assert rise(opened) == pytest.approx(3.0, abs=0.01)
    assert opened.frame_current in (opened.frame_start, opened.frame_end)


def test_a_blend_file_opens_as_it_is(scene, tmp_path):
    animated(scene)
    scene.render.engine = "BLENDER_WORKBENCH"
    path = tmp_path / "scene.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    before = path.read_bytes()
    bpy.ops.wm.read_factory_settings(use_empty=False)
    opened = open_scene(path)
    assert (opened.frame_start, opened.frame_end) == (4, 12)
    assert opened.render.engine == "BLENDER_WORKBENCH"
    assert path.read_bytes() == before


def test_scripts_of_a_file_do_not_run_unless_trusted(scene, tmp_path):
    text = bpy.data.texts.new("autorun.py")
    text.write("import bpy\nbpy.context.scene['ran'] = True\n")
    text.use_module = True
    path = tmp_path / "scene.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    assert "ran" not in open_scene(path)
    assert "ran" in open_scene(path, trust_scripts=True)


def test_what_is_open_is_replaced_and_add_ons_stay(scene, tmp_path):
    animated(scene)
    path = tmp_path / "scene.glb"
    EXPORTERS[".glb"](str(path))
    stage.add(scene, "Old", stage.grid("Old"))
    before = set(bpy.context.preferences.addons.keys())
    opened = open_scene(path)
    assert "Old" not in opened.objects
    assert before <= set(bpy.context.preferences.addons.keys())


def test_imports_can_be_rendered_anywhere_and_have_light(scene, tmp_path):
    animated(scene)
    path = tmp_path / "scene.glb"
    EXPORTERS[".glb"](str(path))
    opened = open_scene(path)
    assert opened.render.engine == "CYCLES"
    assert any(obj.type == "LIGHT" for obj in opened.objects)


def test_the_camera_of_the_file_is_used(scene, tmp_path):
    animated(scene)
    stage.add_camera(scene)
    path = tmp_path / "scene.glb"
    EXPORTERS[".glb"](str(path))
    assert open_scene(path).camera is not None


def refusal(path: Path | str) -> ShotError:
    with pytest.raises(ShotError) as caught:
        open_scene(path)
    assert Path(path).name in caught.value.message
    assert caught.value.exit_code == 3
    return caught.value


def test_a_missing_file(tmp_path):
    assert refusal(tmp_path / "none.blend").code == "missing-file"
    assert refusal(tmp_path / "none.glb").code == "missing-file"


def test_a_folder(tmp_path):
    (tmp_path / "scene.glb").mkdir()
    assert refusal(tmp_path / "scene.glb").code == "missing-file"


def test_an_unknown_type(tmp_path):
    (tmp_path / "scene.max").write_bytes(b"x")
    error = refusal(tmp_path / "scene.max")
    assert error.code == "unknown-type"
    assert ".blend" in str(error.fix)


@pytest.mark.parametrize("suffix", [".blend", *EXPORTERS])
def test_an_empty_file(tmp_path, suffix):
    (tmp_path / f"scene{suffix}").write_bytes(b"")
    assert refusal(tmp_path / f"scene{suffix}").code == "damaged-file"


@pytest.mark.parametrize("suffix", [".blend", *EXPORTERS])
def test_a_file_of_something_else(tmp_path, suffix):
    (tmp_path / f"scene{suffix}").write_bytes(np.random.default_rng(0).bytes(5000))
    assert refusal(tmp_path / f"scene{suffix}").code == "damaged-file"


@pytest.mark.parametrize("suffix", [".blend", ".glb", ".usdc", ".abc", ".fbx"])
def test_a_file_cut_short(scene, tmp_path, suffix):
    animated(scene)
    path = tmp_path / f"scene{suffix}"
    if suffix == ".blend":
        bpy.ops.wm.save_as_mainfile(filepath=str(path))
    else:
        EXPORTERS[suffix](str(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert refusal(path).code == "damaged-file"


def test_a_blend_file_of_the_future(scene, tmp_path):
    path = tmp_path / "scene.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path), compress=False)
    data = path.read_bytes()
    assert data.startswith(b"BLENDER")
    # The version stands behind the letters, in the form of its time: "-v405" or "17-01v0502".
    at = data.index(b"v") + 1
    digits = 4 if data[at : at + 4].isdigit() else 3
    path.write_bytes(data[:at] + b"9" * digits + data[at + digits :])
    error = refusal(path)
    assert error.code == "file-too-new"
    assert "Update Blender" in str(error.fix)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "scene.blend"
    path.write_bytes(b"BLENDER")
    path.chmod(0)
    assert refusal(path).code == "unreadable-file"


def test_the_range_of_an_animation_spans_strips_and_shape_keys(scene):
    obj = stage.add(scene, "Thing", stage.grid())
    assert animation_range(scene) is None
    obj.shape_key_add(name="Basis")
    stage.key(obj.shape_key_add(name="Up"), "value", {5: 0.0, 20: 1.0})
    assert animation_range(scene) == (5, 20)
    stage.key(obj, "location", {2.5: (0, 0, 0), 9: (1, 0, 0)})
    assert animation_range(scene) == (2, 20)
    animation = obj.animation_data
    action, animation.action = animation.action, None
    animation.nla_tracks.new().strips.new("Strip", 30, action)
    found = animation_range(scene)
    assert found is not None
    assert found[1] > 30


def test_an_automatic_camera_sees_all_that_moves(scene):
    obj = stage.add(scene, "Thing", stage.grid())
    obj.rotation_euler = (0.3, 0.2, 0.1)
    stage.key(obj, "location", {1: (0, 0, 0), 5: (4, 1, 2)})
    ground = stage.add(scene, "Ground", stage.grid("Ground"))
    ground.scale = (1000, 1000, 1000)
    scene.frame_set(3)
    camera = add_auto_camera(scene, scene.view_layers[0], [1, 2, 3, 4, 5])
    assert scene.camera == camera
    assert scene.frame_current == 3
    shot = stage.shoot(scene, 5)
    index = shot.meshes.index(stage.track(shot, "Thing"))
    seen = []
    for t in range(5):
        matrix = shot.camera.world_to_camera[t]
        points = shot.world_positions(index, t) @ matrix[:3, :3].T + matrix[:3, 3]
        k = shot.camera.intrinsics[t]
        seen.append(points[:, :2] / points[:, 2:] * (k[0, 0], k[1, 1]) + k[:2, 2])
        near, far = shot.camera.clip[t]
        assert np.all((points[:, 2] > near) & (points[:, 2] < far))
    # In the frame of the scene, which the model's image contains.
    left, top, right, bottom = stage.fit(scene).frame_in_model()
    pixels = np.concatenate(seen)
    assert pixels[:, 0].min() > left
    assert pixels[:, 0].max() < right
    assert pixels[:, 1].min() > top
    assert pixels[:, 1].max() < bottom
    assert max(np.ptp(pixels[:, 0]) / (right - left), np.ptp(pixels[:, 1]) / (bottom - top)) > 0.6


def test_an_automatic_camera_of_an_empty_scene(scene):
    with pytest.raises(ShotError, match="No surface is visible") as caught:
        add_auto_camera(scene, scene.view_layers[0], [1])
    assert caught.value.code == "nothing-visible"
    assert not bpy.data.cameras
