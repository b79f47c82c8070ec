# SPDX-License-Identifier: GPL-3.0-or-later
"""What surfaces become: stored once where they are rigid, a row a frame where they deform, shared by instances."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from tests.helpers import stage
from trackshade.core.errors import ShotError

pytestmark = pytest.mark.smoke


def evaluated(obj: bpy.types.Object, scene: bpy.types.Scene, frame: int) -> np.ndarray:
    """[V, 3] world positions as Blender evaluates them, one vertex at a time."""
    scene.frame_set(frame)
    found = obj.evaluated_get(bpy.context.evaluated_depsgraph_get())
    return np.array([found.matrix_world @ vertex.co for vertex in found.data.vertices])


def test_a_moving_rigid_mesh_is_stored_once(scene):
    stage.add_camera(scene)
    obj = stage.add(scene, "Thing", stage.grid())
    stage.key(obj, "location", {1: (0, 0, 0), 3: (1, 2, 3)})
    shot = stage.shoot(scene)
    assert shot.geometries[0].positions.shape == (1, 25, 3)
    for t in range(3):
        np.testing.assert_allclose(stage.world(shot, "Thing", t), evaluated(obj, scene, 1 + t), atol=1e-6)


@pytest.mark.parametrize("kind", ["wave", "shape keys", "armature", "lattice"])
def test_deformation_is_recorded_whatever_makes_it(scene, kind):
    stage.add_camera(scene)
    obj = stage.add(scene, "Thing", stage.grid())
    if kind == "wave":
        obj.modifiers.new("Wave", "WAVE")
    elif kind == "shape keys":
        obj.shape_key_add(name="Basis")
        block = obj.shape_key_add(name="Up")
        block.data[3].co.z += 1.0
        stage.key(block, "value", {1: 0.0, 5: 1.0})
    elif kind == "lattice":
        lattice = stage.add(scene, "Lattice", bpy.data.lattices.new("Lattice"))
        lattice.data.points[0].co_deform.x -= 0.5
        stage.key(lattice, "scale", {1: (2, 2, 2), 5: (3, 2, 2)})
        obj.modifiers.new("Lattice", "LATTICE").object = lattice
    else:
        rig = stage.add(scene, "Rig", bpy.data.armatures.new("Rig"))
        bpy.context.view_layer.objects.active = rig
        bpy.ops.object.mode_set(mode="EDIT")
        rig.data.edit_bones.new("Bone").tail = (0, 0, 1)
        bpy.ops.object.mode_set(mode="OBJECT")
        group = obj.vertex_groups.new(name="Bone")
        group.add(range(10), 1.0, "REPLACE")
        obj.modifiers.new("Armature", "ARMATURE").object = rig
        stage.key(rig.pose.bones["Bone"], "location", {1: (0, 0, 0), 5: (0, 1, 0)})
    shot = stage.shoot(scene, 5)
    assert shot.geometries[0].positions.shape == (5, 25, 3)
    for t in range(5):
        np.testing.assert_allclose(stage.world(shot, "Thing", t), evaluated(obj, scene, 1 + t), atol=1e-6)


def test_a_modifier_that_changes_nothing_does_not_deform(scene):
    stage.add_camera(scene)
    obj = stage.add(scene, "Thing", stage.grid())
    obj.modifiers.new("Wave", "WAVE").height = 0.0
    assert len(stage.shoot(scene).geometries[0].positions) == 1


def test_deformation_that_starts_late_keeps_the_frames_before(scene):
    stage.add_camera(scene)
    obj = stage.add(scene, "Thing", stage.grid())
    obj.shape_key_add(name="Basis")
    block = obj.shape_key_add(name="Up")
    block.data[0].co.x = 9.0
    for frame, value in ((3, 0.0), (4, 1.0)):
        block.value = value
        block.keyframe_insert("value", frame=frame)
    positions = stage.shoot(scene, 5).geometries[0].positions
    np.testing.assert_allclose(positions[:, 0, 0], [-1, -1, -1, 9, 9], atol=1e-6)


def test_triangles_are_those_of_blender(scene):
    """Concave quads and larger faces: each triangle must be one of Blender's own."""
    stage.add_camera(scene)
    data = stage.mesh(
        "Faces",
        [(0, 0, 0), (2, 0, 0), (0.3, 0, 0.3), (0, 0, 2), (5, 0, 0), (6, 0, 0), (6.5, 0, 1), (5.5, 0, 2), (5, 0, 1)],
        [(0, 1, 2, 3), (4, 5, 6, 7, 8)],
    )
    stage.add(scene, "Faces", data)
    geometry = stage.shoot(scene).geometries[0]
    data.calc_loop_triangles()
    assert geometry.triangles.tolist() == [list(item.vertices) for item in data.loop_triangles]
    assert geometry.uv is None


def test_texture_coordinates_are_those_that_renders_use(scene):
    stage.add_camera(scene)
    data = stage.grid()
    stage.add(scene, "Thing", data)
    for name in ("First", "Second"):
        layer = data.uv_layers.new(name=name)
        values = np.random.default_rng(len(name)).random((len(data.loops), 2), np.float32)
        layer.uv.foreach_set("vector", values.reshape(-1))
    data.uv_layers["Second"].active_render = True
    data.uv_layers["First"].active = True
    geometry = stage.shoot(scene).geometries[0]
    data.calc_loop_triangles()
    expected = [[list(layer.uv[i].vector) for i in item.loops] for item in data.loop_triangles]
    assert geometry.uv is not None
    np.testing.assert_array_equal(geometry.uv, np.array(expected, np.float32))


@pytest.mark.parametrize("kind", ["curve", "text", "surface", "meta"])
def test_what_evaluates_to_a_surface_is_captured_once(scene, kind):
    stage.add_camera(scene)
    if kind == "curve":
        bpy.ops.curve.primitive_bezier_circle_add()
        bpy.context.object.data.bevel_depth = 0.1
    elif kind == "text":
        bpy.ops.object.text_add()
    elif kind == "surface":
        bpy.ops.surface.primitive_nurbs_surface_sphere_add()
    else:
        bpy.ops.object.metaball_add()
        bpy.ops.object.metaball_add(location=(1, 0, 0))
    shot = stage.shoot(scene)
    assert len(shot.meshes) == 1
    assert len(shot.geometries[0].triangles) > 20
    assert shot.warnings == ()


def test_a_curve_without_surface_is_nothing_visible(scene):
    stage.add_camera(scene)
    bpy.ops.curve.primitive_bezier_circle_add()
    with pytest.raises(ShotError, match="No surface is visible") as caught:
        stage.shoot(scene)
    assert caught.value.code == "nothing-visible"


def test_a_growing_curve_deforms(scene):
    stage.add_camera(scene)
    bpy.ops.curve.primitive_bezier_circle_add()
    obj = bpy.context.object
    obj.data.bevel_depth = 0.1
    stage.key(obj.data, "bevel_depth", {1: 0.1, 3: 0.3})
    shot = stage.shoot(scene)
    spread = np.ptp(shot.geometries[0].positions[..., 2], axis=1)
    np.testing.assert_allclose(spread, [0.2, spread[1], 0.6], atol=1e-3)


def test_what_is_being_edited_is_captured_as_edited(scene):
    stage.add_camera(scene, (0, -30, 0))
    obj = stage.add(scene, "Thing", stage.grid())
    bpy.context.view_layer.objects.active = obj
    obj.select_set(True)
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="SELECT")
    bpy.ops.transform.translate(value=(0, 0, 5))
    shot = stage.shoot(scene)
    assert obj.mode == "EDIT"
    assert stage.world(shot, "Thing", 0)[:, 2].min() == pytest.approx(4.0)


def test_vertices_that_are_not_finite_are_named(scene):
    stage.add_camera(scene)
    obj = stage.add(scene, "Broken", stage.grid())
    obj.shape_key_add(name="Basis")
    block = obj.shape_key_add(name="Bad")
    block.data[7].co.x = float("nan")
    stage.key(block, "value", {1: 0.0, 2: 0.0, 3: 1.0})
    with pytest.raises(ShotError, match=r"'Broken'.*at frame 3") as caught:
        stage.shoot(scene, 4)
    assert caught.value.code == "not-finite"


def test_rows_are_final_when_they_are_announced(scene):
    stage.add_camera(scene)
    still = stage.add(scene, "Still", stage.grid("Still", 2))
    still.location.x = 3
    moving = stage.add(scene, "Moving", stage.grid())
    moving.modifiers.new("Wave", "WAVE")
    seen: list[tuple[np.ndarray, int, bytes]] = []
    shot = stage.shoot(scene, 4, on_rows=lambda array, n: seen.append((array, n, array[:n].tobytes())))
    assert all(array[:n].tobytes() == then for array, n, then in seen)
    final = {}
    for array, n, _ in seen:
        assert array.flags.c_contiguous
        final[array.ctypes.data] = n
    for geometry in shot.geometries:
        assert final[geometry.positions.ctypes.data] == len(geometry.positions)
        assert final[geometry.triangles.ctypes.data] == len(geometry.triangles)
    wave = next(item.positions for item in shot.geometries if item.deforms)
    assert [n for array, n, _ in seen if array.ctypes.data == wave.ctypes.data] == [2, 3, 4]


def test_what_appears_late_is_invisible_before(scene):
    stage.add_camera(scene)
    stage.add(scene, "Always", stage.grid("Always", 2))
    obj = stage.add(scene, "Late", stage.triangle())
    stage.key(obj, "hide_render", {1: True, 3: False})
    shot = stage.shoot(scene, 4)
    assert stage.track(shot, "Late").visible.tolist() == [False, False, True, True]
    assert stage.track(shot, "Always").visible.all()


def test_pass_index_and_size_travel_along(scene):
    stage.add_camera(scene)
    stage.add(scene, "Thing", stage.triangle()).pass_index = 7
    shot = stage.shoot(scene)
    assert stage.track(shot, "Thing").pass_index == 7
    assert shot.size == stage.SIZE
    assert shot.source["scene"] == scene.name
    shot.check_values()
