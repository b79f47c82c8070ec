# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a mesh changes its vertices or faces, points are carried across by the nearest surface, with a warning."""

from __future__ import annotations

import bpy
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import stage
from trackshade_addon.capture.topology import attach, barycentric


def remeshing(scene, counts: dict[int, int]) -> bpy.types.Object:
    """A flat square of side 2 whose number of cells a side changes at the given frames."""
    with stage.node_group("Remesh") as group:
        square = group.nodes.new("GeometryNodeMeshGrid")
        square.inputs["Size X"].default_value = square.inputs["Size Y"].default_value = 2.0
        for side in ("Vertices X", "Vertices Y"):
            for frame, count in counts.items():
                square.inputs[side].default_value = count + 1
                square.inputs[side].keyframe_insert("default_value", frame=frame)
        group.links.new(square.outputs["Mesh"], group.nodes["out"].inputs[0])
    obj = stage.add(scene, "Square", stage.triangle())
    obj.rotation_euler.x = np.pi / 2
    obj.modifiers.new("Remesh", "NODES").node_group = group
    return obj


def test_points_stay_where_the_surface_stays(scene):
    stage.add_camera(scene)
    remeshing(scene, {1: 4, 2: 4, 3: 7, 4: 5})
    shot = stage.shoot(scene, 4)
    positions = shot.geometries[0].positions
    assert positions.shape[1:] == (25, 3)
    for t in range(len(positions)):
        np.testing.assert_allclose(positions[t], positions[0], atol=1e-5)
    (warning,) = shot.warnings
    assert "'Square'" in warning
    assert "at frame 3, 4;" in warning


def test_attached_points_ride_on_the_new_surface(scene):
    """From frame 3 on, the surface is another mesh, which a wave of the whole object lifts by shape: points follow."""
    stage.add_camera(scene)
    obj = remeshing(scene, {2: 4, 3: 8})
    cast = obj.modifiers.new("Bend", "SIMPLE_DEFORM")
    cast.deform_method = "TAPER"
    for frame, factor in ((3, 0.0), (4, 1.0)):
        cast.factor = factor
        obj.keyframe_insert('modifiers["Bend"].factor', frame=frame)
    shot = stage.shoot(scene, 4)
    positions = shot.geometries[0].positions
    np.testing.assert_allclose(positions[2], positions[0], atol=1e-5)
    scene.frame_set(4)
    data = obj.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    surface = {tuple(np.round(vertex.co, 4)) for vertex in data.vertices}
    # The vertices of the 4×4 grid are every second one of the 8×8 grid, so each must be where that one went.
    assert {tuple(np.round(point, 4)) for point in positions[3].astype(float)} <= surface
    assert np.abs(positions[3] - positions[2]).max() > 0.1


def test_the_first_topology_brings_back_exact_identity(scene):
    stage.add_camera(scene)
    remeshing(scene, {1: 4, 2: 9, 3: 4})
    positions = stage.shoot(scene, 3).geometries[0].positions
    assert len(positions) == 3 or len(positions) == 1
    np.testing.assert_array_equal(positions[-1], positions[0])


def test_equal_counts_do_not_hide_another_topology(scene):
    """Two grids of 2×6 and 6×2 cells have equal counts of everything, and other corners."""
    stage.add_camera(scene)
    obj = remeshing(scene, {})
    square = obj.modifiers[0].node_group.nodes["Grid"]
    for frame, (x, y) in {1: (3, 7), 2: (7, 3)}.items():
        for side, count in (("Vertices X", x), ("Vertices Y", y)):
            square.inputs[side].default_value = count
            square.inputs[side].keyframe_insert("default_value", frame=frame)
    shot = stage.shoot(scene, 2)
    positions = shot.geometries[0].positions
    np.testing.assert_allclose(positions[-1], positions[0], atol=1e-5)
    assert len(shot.warnings) == 1


def test_scripts_may_rebuild_a_mesh_between_frames(scene):
    stage.add_camera(scene)
    data = stage.grid(cells=4)
    stage.add(scene, "Scripted", data)

    def rebuild(current: bpy.types.Scene, *_: object) -> None:
        other = stage.grid("Other", 4)
        order = np.arange(25) if current.frame_current < 3 else np.arange(25)[::-1]
        inverse = np.argsort(order)
        vertices = [tuple(other.vertices[i].co) for i in order]
        faces = [[int(inverse[v]) for v in face.vertices] for face in other.polygons]
        data.clear_geometry()
        data.from_pydata(vertices, [], faces)
        bpy.data.meshes.remove(other)

    bpy.app.handlers.frame_change_pre.append(rebuild)
    try:
        shot = stage.shoot(scene, 4)
    finally:
        bpy.app.handlers.frame_change_pre.remove(rebuild)
    positions = shot.geometries[0].positions
    np.testing.assert_allclose(positions[-1], positions[0], atol=1e-5)
    assert "'Scripted' changes at frame 3" in shot.warnings[0]


def test_metaballs_are_carried_across(scene):
    stage.add_camera(scene)
    bpy.ops.object.metaball_add(radius=1.0)
    obj = bpy.context.object
    obj.data.resolution = obj.data.render_resolution = 0.3
    stage.key(obj.data.elements[0], "radius", {1: 1.0, 5: 1.5})
    shot = stage.shoot(scene, 5)
    radius = np.linalg.norm(shot.geometries[0].positions, axis=2).mean(axis=1)
    assert np.all(np.diff(radius) > 0.01)
    assert "'Mball'" in shot.warnings[0]


def test_a_mesh_that_grows_from_nothing_appears_with_its_first_faces(scene):
    stage.add_camera(scene)
    stage.add(scene, "Still", stage.triangle())
    obj = stage.add(scene, "Built", stage.grid())
    build = obj.modifiers.new("Build", "BUILD")
    build.frame_start, build.frame_duration = 2, 4
    track = stage.track(stage.shoot(scene, 6), "Built")
    assert track.visible.tolist() == [False, False, True, True, True, True]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_attachment_is_the_nearest_point_of_all_triangles(seed, count):
    """Against sampling each triangle densely: nothing there is nearer than the attachment."""
    random = np.random.default_rng(seed)
    surface = random.normal(size=(12, 3)).astype(np.float32)
    triangles = np.array([random.choice(12, 3, replace=False) for _ in range(count)], np.int32)
    points = random.normal(size=(5, 3)).astype(np.float32)
    attachment = attach(points, surface, triangles)
    assert np.all(attachment.weights >= 0)
    np.testing.assert_allclose(attachment.weights.sum(axis=1), 1.0, atol=1e-6)
    grid = np.array([(a, b, 1 - a - b) for a in np.linspace(0, 1, 21) for b in np.linspace(0, 1 - a, 21)])
    samples = np.einsum("sk,fkc->fsc", grid, surface[triangles]).reshape(-1, 3)
    found = np.linalg.norm(attachment.positions(surface) - points, axis=1)
    best = np.linalg.norm(samples[None] - points[:, None], axis=2).min(axis=1)
    assert np.all(found <= best + 1e-4)


def test_a_triangle_without_area_gives_its_nearest_corner():
    triangles = np.array([[(0, 0, 0), (1, 0, 0), (2, 0, 0)]], np.float64)
    weights = barycentric(np.array([(1.9, 0.0, 0.0)]), triangles)
    np.testing.assert_array_equal(weights, [[0, 0, 1]])


def test_a_hidden_change_is_no_change(scene):
    stage.add_camera(scene)
    stage.add(scene, "Still", stage.triangle())
    obj = remeshing(scene, {1: 4, 2: 9, 3: 4})
    stage.key(obj, "hide_render", {1: False, 2: True, 3: False})
    shot = stage.shoot(scene, 3)
    assert shot.warnings == ()
    track = stage.track(shot, "Square")
    assert track.visible.tolist() == [True, False, True]
    assert len(shot.geometries[track.geometry].positions) == 1


def test_two_users_of_a_changing_mesh_share_it(scene):
    stage.add_camera(scene)
    obj = remeshing(scene, {1: 4, 2: 9, 3: 6})
    scene.collection.objects.link(obj.copy())
    shot = stage.shoot(scene, 3)
    assert len(shot.geometries) == 1
    assert len(shot.meshes) == 2
