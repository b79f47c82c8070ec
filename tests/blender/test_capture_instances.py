# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances of every kind: each is a matrix per frame, and those that show the same surface share it."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from tests.helpers import stage


def collection_instance(scene, *objects: bpy.types.Object, name: str = "Instance") -> bpy.types.Object:
    collection = bpy.data.collections.new(name)
    for obj in objects:
        for home in obj.users_collection:
            home.objects.unlink(obj)
        collection.objects.link(obj)
    empty = stage.add(scene, name, None)
    empty.instance_type, empty.instance_collection = "COLLECTION", collection
    return empty


def scatter(scene, source: bpy.types.Object, count: int, realize: bool = False) -> bpy.types.Object:
    """An object whose nodes put `count` instances of `source` on a line."""
    with stage.node_group("Scatter") as group:
        line = group.nodes.new("GeometryNodeMeshLine")
        line.inputs["Count"].default_value = count
        info = group.nodes.new("GeometryNodeObjectInfo")
        info.inputs["Object"].default_value = source
        info.inputs["As Instance"].default_value = not realize
        put = group.nodes.new("GeometryNodeInstanceOnPoints")
        group.links.new(line.outputs["Mesh"], put.inputs["Points"])
        group.links.new(info.outputs["Geometry"], put.inputs["Instance"])
        group.links.new(put.outputs["Instances"], group.nodes["out"].inputs[0])
    host = stage.add(scene, "Host", stage.triangle("Host"))
    host.modifiers.new("Scatter", "NODES").node_group = group
    return host


def test_a_thousand_instances_cost_a_thousand_matrices(scene):
    stage.add_camera(scene)
    source = stage.add(scene, "Source", stage.grid())
    host = scatter(scene, source, 1000)
    stage.key(host, "location", {1: (0, 0, 0), 3: (0, 0, 1)})
    shot = stage.shoot(scene)
    assert len(shot.geometries) == 1
    assert len(shot.meshes) == 1001  # the source itself renders too
    made = [item for item in shot.meshes if item.name == "Host/Source"]
    assert len(made) == 1000
    heights = np.array([item.matrix_world[:, 2, 3] for item in made])  # [N, T]
    np.testing.assert_allclose(np.sort(heights[:, 0]), np.arange(1000), atol=1e-3)
    np.testing.assert_allclose(heights[:, 2] - heights[:, 0], 1.0, atol=1e-3)


def test_instances_of_generated_meshes_share_one_geometry(scene):
    stage.add_camera(scene)
    source = stage.add(scene, "Source", stage.grid())
    source.hide_render = True
    scatter(scene, source, 5, realize=True)
    shot = stage.shoot(scene)
    assert len(shot.meshes) == 5
    assert len(shot.geometries) == 1


def test_collection_instances_move_with_their_empty(scene):
    stage.add_camera(scene)
    inner = stage.add(scene, "Inner", stage.grid())
    inner.location = (1, 0, 0)
    empty = collection_instance(scene, inner)
    stage.key(empty, "location", {1: (0, 0, 0), 3: (0, 0, 4)})
    twin = stage.add(scene, "Twin", None)
    twin.instance_type, twin.instance_collection = "COLLECTION", empty.instance_collection
    shot = stage.shoot(scene)
    assert stage.names(shot) == ["Instance/Inner", "Twin/Inner"]
    assert len(shot.geometries) == 1
    np.testing.assert_allclose(stage.track(shot, "Instance/Inner").matrix_world[2, :3, 3], (1, 0, 4), atol=1e-6)
    np.testing.assert_allclose(stage.track(shot, "Twin/Inner").matrix_world[2, :3, 3], (1, 0, 0), atol=1e-6)


def test_a_deforming_instance_deforms_once_for_all(scene):
    stage.add_camera(scene)
    inner = stage.add(scene, "Inner", stage.grid())
    inner.modifiers.new("Wave", "WAVE")
    empty = collection_instance(scene, inner)
    twin = stage.add(scene, "Twin", None)
    twin.instance_type, twin.instance_collection = "COLLECTION", empty.instance_collection
    shot = stage.shoot(scene, 4)
    assert [item.positions.shape[0] for item in shot.geometries] == [4]
    assert {item.geometry for item in shot.meshes} == {0}


@pytest.mark.parametrize("kind", ["VERTS", "FACES"])
def test_parented_instances_follow_their_parent(scene, kind):
    stage.add_camera(scene)
    parent = stage.add(scene, "Parent", stage.grid(cells=2))
    child = stage.add(scene, "Child", stage.triangle("Child"))
    child.parent, parent.instance_type = parent, kind
    parent.show_instancer_for_render = False
    stage.key(parent, "location", {1: (0, 0, 0), 3: (0, 3, 0)})
    shot = stage.shoot(scene)
    assert stage.names(shot) == ["Parent/Child"] * (9 if kind == "VERTS" else 4)
    for item in shot.meshes:
        np.testing.assert_allclose(item.matrix_world[2, :3, 3] - item.matrix_world[0, :3, 3], (0, 3, 0), atol=1e-5)


def test_particles_are_instances(scene):
    stage.add_camera(scene)
    source = stage.add(scene, "Source", stage.triangle("Source"))
    source.hide_render = True
    emitter = stage.add(scene, "Emitter", stage.grid())
    emitter.modifiers.new("Particles", "PARTICLE_SYSTEM")
    settings = emitter.particle_systems[0].settings
    settings.count, settings.frame_start, settings.frame_end = 20, -50, -49
    settings.lifetime, settings.physics_type = 1000, "NO"
    settings.render_type, settings.instance_object = "OBJECT", source
    shot = stage.shoot(scene)
    assert sum(item.name == "Emitter/Source" for item in shot.meshes) == 20
    assert len(shot.geometries) == 2


def test_linked_duplicates_share_one_geometry(scene):
    stage.add_camera(scene)
    data = stage.grid()
    for name in ("A", "B", "C"):
        stage.add(scene, name, data)
    assert len(stage.shoot(scene).geometries) == 1


def test_equal_surfaces_of_separate_meshes_share_one_geometry(scene):
    stage.add_camera(scene)
    for name in ("A", "B"):
        stage.add(scene, name, stage.grid(name)).modifiers.new("Bevel", "BEVEL")
    assert len(stage.shoot(scene).geometries) == 1


def test_surfaces_part_where_they_stop_being_equal(scene):
    """Both start alike, and both deform later, each its own way and from a frame of its own."""
    stage.add_camera(scene)
    for name, first in (("A", 2), ("B", 3), ("C", 9)):
        obj = stage.add(scene, name, stage.grid(name))
        obj.shape_key_add(name="Basis")
        block = obj.shape_key_add(name="Up")
        block.data[0].co.x = float(first)
        stage.key(block, "value", {first: 0.0, first + 1: 1.0})
    shot = stage.shoot(scene, 5)
    assert len(shot.geometries) == 3
    x = {item.name: shot.geometries[item.geometry].positions[:, 0, 0].tolist() for item in shot.meshes}
    assert x == {"A": [-1, -1, 2, 2, 2], "B": [-1, -1, -1, 3, 3], "C": [-1]}


def test_deforming_surfaces_may_part_later(scene):
    """Two curves deform alike until frame 3, when one of them stops."""
    stage.add_camera(scene)
    for name, last in (("A", 3), ("B", 5)):
        obj = stage.add(scene, name, stage.grid(name))
        obj.shape_key_add(name="Basis")
        block = obj.shape_key_add(name="Up")
        block.data[0].co.x = 7.0
        stage.key(block, "value", {1: 0.0, 2: 0.5, 3: 0.75, **({5: 1.0} if last == 5 else {})})
    shot = stage.shoot(scene, 5)
    for name in ("A", "B"):
        positions = shot.geometries[stage.track(shot, name).geometry].positions[:, 0, 0]
        for t, x in enumerate(positions):
            scene.frame_set(1 + t)
            obj = bpy.data.objects[name].evaluated_get(bpy.context.evaluated_depsgraph_get())
            assert x == obj.data.vertices[0].co.x, (name, t)


def test_an_instance_keeps_its_identity_when_others_come_and_go(scene):
    stage.add_camera(scene)
    data = stage.grid()
    for index, name in enumerate(("A", "B", "C")):
        stage.add(scene, name, data).location.x = 2.0 * index
    stage.key(bpy.data.objects["B"], "hide_render", {1: False, 2: True, 3: False})
    shot = stage.shoot(scene)
    assert stage.track(shot, "B").visible.tolist() == [True, False, True]
    for index, name in enumerate(("A", "B", "C")):
        np.testing.assert_allclose(stage.track(shot, name).matrix_world[:, 0, 3], 2.0 * index, atol=1e-6)
