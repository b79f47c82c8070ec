# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a mesh changes its vertices or faces: what is there is shown exactly, and points keep their colors."""

from __future__ import annotations

from collections.abc import Callable

import bpy
import numpy as np
import pytest

from tests.helpers import stage
from trackshade.shot import Shot


def remeshing(scene, counts: dict[int, int | tuple[int, int]], **options: float) -> bpy.types.Object:
    """A flat square of side 2 whose number of cells a side changes at the given frames."""
    with stage.node_group("Remesh") as group:
        square = group.nodes.new("GeometryNodeMeshGrid")
        square.inputs["Size X"].default_value = square.inputs["Size Y"].default_value = 2.0
        for frame, count in counts.items():
            cells = count if isinstance(count, tuple) else (count, count)
            for side, number in zip(("Vertices X", "Vertices Y"), cells, strict=True):
                square.inputs[side].default_value = number + 1
                square.inputs[side].keyframe_insert("default_value", frame=frame)
        group.links.new(square.outputs["Mesh"], group.nodes["out"].inputs[0])
    obj = stage.add(scene, "Square", stage.triangle())
    obj.rotation_euler.x = np.pi / 2
    obj.modifiers.new("Remesh", "NODES").node_group = group
    return obj


def evaluated(obj: bpy.types.Object, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """[V, 3] vertices in the world and [F, 3] triangles that Blender evaluates in a frame."""
    scene = bpy.context.scene
    scene.frame_set(frame)
    view = obj.evaluated_get(bpy.context.evaluated_depsgraph_get())
    data = view.to_mesh()
    data.calc_loop_triangles()
    local = np.array([vertex.co for vertex in data.vertices], np.float64).reshape(-1, 3)
    triangles = np.array([item.vertices for item in data.loop_triangles], np.int32).reshape(-1, 3)
    matrix = np.array(view.matrix_world)
    view.to_mesh_clear()
    return local @ matrix[:3, :3].T + matrix[:3, 3], triangles


def assert_exact(shot: Shot, name: str) -> None:
    """Every sample has the very vertices and faces that Blender evaluates."""
    obj = bpy.data.objects[name]
    track = stage.track(shot, name)
    index = shot.meshes.index(track)
    for t in np.flatnonzero(track.visible).tolist():
        world, triangles = evaluated(obj, t + 1)
        assert len(shot.world_positions(index, t)) == len(world), t
        np.testing.assert_allclose(shot.world_positions(index, t), world, atol=1e-5)
        np.testing.assert_array_equal(shot.geometry_of(index, t).triangles, triangles)


def places(shot: Shot, t: int, name: str = "") -> np.ndarray:
    """[V, 3] where what a mesh has in sample `t` was in the first sample."""
    return shot.first_places(shot.meshes.index(stage.track(shot, name)) if name else 0, t)


def born(shot: Shot, t: int, name: str = "") -> np.ndarray:
    return shot.geometry_of(shot.meshes.index(stage.track(shot, name)) if name else 0, t).born


def subdivided(obj: bpy.types.Object, levels: int = 3) -> None:
    modifier = obj.modifiers.new("Subdivision", "SUBSURF")
    modifier.subdivision_type, modifier.levels, modifier.render_levels = "SIMPLE", levels, levels


def test_a_still_surface_keeps_its_colors_whatever_its_faces_are(scene):
    stage.add_camera(scene)
    remeshing(scene, {1: 4, 2: 4, 3: 7, 4: 5, 5: (5, 9)})
    shot = stage.shoot(scene, 5)
    assert_exact(shot, "Square")
    for t in range(5):
        np.testing.assert_allclose(places(shot, t), shot.world_positions(0, t), atol=1e-5)
        assert not born(shot, t).any()
    assert shot.warnings == ()


def test_an_array_gains_copies_and_loses_them(scene):
    stage.add_camera(scene)
    obj = stage.add(scene, "Row", stage.grid())
    array = obj.modifiers.new("Array", "ARRAY")
    stage.key(array, "count", {1: 1, 2: 2, 3: 4, 4: 3})
    shot = stage.shoot(scene, 4)
    assert_exact(shot, "Row")
    assert [len(places(shot, t)) for t in range(4)] == [25, 50, 100, 75]
    for t in range(4):
        np.testing.assert_allclose(places(shot, t), shot.world_positions(0, t), atol=1e-6)
    # Each copy is born with its sample; the edge that touches the copy before lies on that one.
    assert [np.median(born(shot, 3)[first : first + 25]) for first in (0, 25, 50)] == [0, 1, 2]
    assert shot.warnings == ()


def test_copies_of_what_moves_keep_the_identity_of_their_vertices(scene):
    """A wave bends the mesh that is repeated, so that no vertex stays where it was."""
    stage.add_camera(scene)
    obj = stage.add(scene, "Row", stage.grid(cells=8))
    bend = obj.modifiers.new("Bend", "SIMPLE_DEFORM")
    bend.deform_method, bend.deform_axis = "TWIST", "X"
    stage.key(bend, "angle", {1: 0.0, 4: 2.0})
    array = obj.modifiers.new("Array", "ARRAY")
    array.relative_offset_displace = (1.5, 0, 0)
    stage.key(array, "count", {1: 1, 2: 1, 3: 2, 4: 3})
    shot = stage.shoot(scene, 4)
    assert_exact(shot, "Row")
    first = places(shot, 0)
    assert np.abs(shot.world_positions(0, 3)[:81] - first).max() > 0.3
    for t in (2, 3):
        np.testing.assert_array_equal(places(shot, t)[:81], first)
        assert not born(shot, t)[:81].any()
    np.testing.assert_array_equal(born(shot, 3)[81:162], 2)
    np.testing.assert_array_equal(places(shot, 3)[81:162], places(shot, 2)[81:])


@pytest.mark.parametrize("shuffled", [False, True])
def test_faces_that_are_built_are_new_and_the_others_stay(shuffled: bool, scene):
    stage.add_camera(scene)
    obj = stage.add(scene, "Built", stage.grid(cells=10))
    build = obj.modifiers.new("Build", "BUILD")
    build.frame_start, build.frame_duration, build.use_random_order = 0, 6, shuffled
    shot = stage.shoot(scene, 6)
    assert_exact(shot, "Built")
    for t in range(6):
        np.testing.assert_allclose(places(shot, t), shot.world_positions(0, t), atol=1e-6)
    counts = [len(places(shot, t)) for t in range(6)]
    for t in range(1, 6):
        assert np.count_nonzero(born(shot, t) == t) == counts[t] - counts[t - 1]
    assert shot.warnings == ()


def test_a_mask_hides_and_shows_vertices_in_between(scene):
    stage.add_camera(scene)
    obj = stage.add(scene, "Masked", stage.grid(cells=10))
    group = obj.vertex_groups.new(name="Shown")
    for vertex in obj.data.vertices:
        group.add([vertex.index], abs(vertex.co.x), "REPLACE")
    mask = obj.modifiers.new("Mask", "MASK")
    mask.vertex_group = "Shown"
    stage.key(mask, "threshold", {1: 0.1, 2: 0.5, 3: 0.7, 4: 0.3, 5: 0.1})
    shot = stage.shoot(scene, 5)
    assert_exact(shot, "Masked")
    counts = [len(places(shot, t)) for t in range(5)]
    assert counts == [110, 66, 44, 88, 110]
    for t in range(5):
        np.testing.assert_allclose(places(shot, t), shot.world_positions(0, t), atol=1e-6)
    assert np.count_nonzero(born(shot, 3) == 3) == counts[3] - counts[2]
    assert not born(shot, 4).any()  # the first topology came back


def test_what_a_moving_cutter_leaves_keeps_its_place(scene):
    stage.add_camera(scene)
    bpy.ops.mesh.primitive_cube_add(size=2)
    block = bpy.context.object
    block.name = "Block"
    subdivided(block)
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.6, segments=12, ring_count=8)
    cutter = bpy.context.object
    cutter.hide_render = True
    stage.key(cutter, "location", {1: (-1.2, -1, 0), 5: (1.2, -1, 0.3)})
    boolean = block.modifiers.new("Cut", "BOOLEAN")
    boolean.object, boolean.solver = cutter, "EXACT"
    shot = stage.shoot(scene, 5)
    assert_exact(shot, "Block")
    for t in range(1, 5):
        world = shot.world_positions(0, t)
        outside = (np.abs(np.abs(world).max(axis=1) - 1) < 1e-5) & (np.abs(world[:, 1] + 1) > 1e-5)
        np.testing.assert_allclose(places(shot, t)[outside], world[outside], atol=1e-5)


def test_a_surface_that_moves_is_carried_by_the_nearest_point(scene):
    """A ball that is remeshed in each frame while it grows: its points stay on their rays from the middle."""
    stage.add_camera(scene)
    bpy.ops.object.metaball_add(radius=1.0)
    obj = bpy.context.object
    obj.data.resolution = obj.data.render_resolution = 0.15
    stage.key(obj.data.elements[0], "radius", {1: 1.0, 5: 1.5})
    shot = stage.shoot(scene, 5)
    assert_exact(shot, "Mball")
    size = np.linalg.norm(places(shot, 0), axis=1).mean()
    for t in range(1, 5):
        now, then = shot.world_positions(0, t), places(shot, t)
        assert not born(shot, t).any()
        assert np.linalg.norm(now, axis=1).mean() > size * (1 + 0.05 * t)
        np.testing.assert_allclose(np.linalg.norm(then, axis=1), size, rtol=0.05)
        cosine = np.einsum("vc,vc->v", now, then) / np.linalg.norm(now, axis=1) / np.linalg.norm(then, axis=1)
        assert cosine.min() > 0.95
        assert np.median(cosine) > 0.995
    (warning,) = shot.warnings
    assert "'Mball' changes at frame 2, 3, 4, 5 while its surface moves" in warning


def test_realised_instances_come_and_go(scene):
    stage.add_camera(scene)
    with stage.node_group("More") as group:
        line = group.nodes.new("GeometryNodeMeshLine")
        for frame, count in {1: 1, 2: 3, 3: 2, 4: 4}.items():
            line.inputs["Count"].default_value = count
            line.inputs["Count"].keyframe_insert("default_value", frame=frame)
        line.inputs["Offset"].default_value = (1.5, 0, 0)
        put = group.nodes.new("GeometryNodeInstanceOnPoints")
        ball = group.nodes.new("GeometryNodeMeshIcoSphere")
        ball.inputs["Radius"].default_value = 0.5
        realise = group.nodes.new("GeometryNodeRealizeInstances")
        group.links.new(line.outputs["Mesh"], put.inputs["Points"])
        group.links.new(ball.outputs["Mesh"], put.inputs["Instance"])
        group.links.new(put.outputs["Instances"], realise.inputs[0])
        group.links.new(realise.outputs[0], group.nodes["out"].inputs[0])
    stage.add(scene, "Balls", stage.triangle()).modifiers.new("More", "NODES").node_group = group
    shot = stage.shoot(scene, 4)
    assert_exact(shot, "Balls")
    assert [sorted(set(born(shot, t).tolist())) for t in range(4)] == [[0], [0, 1], [0, 1], [0, 1, 3]]
    for t in range(4):
        np.testing.assert_allclose(places(shot, t), shot.world_positions(0, t), atol=1e-6)


def test_a_counter_of_text_shows_its_digits(scene):
    stage.add_camera(scene)
    curve = bpy.data.curves.new("Counter", "FONT")
    curve.extrude = 0.1
    stage.add(scene, "Counter", curve).rotation_euler.x = np.pi / 2

    def count(current: bpy.types.Scene, *_: object) -> None:
        curve.body = f"1{current.frame_current}"

    bpy.app.handlers.frame_change_pre.append(count)
    try:
        shot = stage.shoot(scene, 4)
        assert_exact(shot, "Counter")
    finally:
        bpy.app.handlers.frame_change_pre.remove(count)
    still = (shot.world_positions(0, 0)[:, None] == shot.world_positions(0, 3)[None]).all(axis=-1).any(axis=1)
    assert still.any()  # the tens
    for t in range(1, 4):
        away = np.linalg.norm(places(shot, t) - shot.world_positions(0, t), axis=1)
        assert away.max() < 0.3  # a digit is half as wide


def test_a_changing_cache_is_shown_as_it_is(scene, tmp_path):
    """An Alembic cache of a mesh that is remeshed in each frame, played without the mesh."""
    source = remeshing(scene, {1: 3, 2: 5, 3: 4})
    source.name = "Baked"
    scene.frame_start, scene.frame_end = 1, 3
    path = str(tmp_path / "cache.abc")
    bpy.ops.wm.alembic_export(filepath=path, start=1, end=3, as_background_job=False)
    for item in list(scene.objects):
        bpy.data.objects.remove(item)
    bpy.ops.wm.alembic_import(filepath=path, as_background_job=False)
    stage.add_camera(scene)
    scene.frame_start, scene.frame_end = 1, 3
    shot = stage.shoot(scene, 3)
    assert_exact(shot, shot.meshes[0].name)
    assert [len(places(shot, t)) for t in range(3)] == [16, 36, 25]


def test_the_first_topology_brings_back_exact_identity(scene):
    stage.add_camera(scene)
    obj = remeshing(scene, {1: 4, 2: 9, 3: 4})
    bend = obj.modifiers.new("Bend", "SIMPLE_DEFORM")
    bend.deform_method = "TAPER"
    stage.key(bend, "factor", {1: 0.0, 3: 1.0})
    shot = stage.shoot(scene, 3)
    assert_exact(shot, "Square")
    assert np.abs(shot.world_positions(0, 2) - shot.world_positions(0, 0)).max() > 0.1
    np.testing.assert_array_equal(places(shot, 2), places(shot, 0))
    assert shot.geometry_of(0, 0).same_points(shot.geometry_of(0, 2))


def test_topologies_that_alternate_are_stored_once(scene):
    stage.add_camera(scene)
    remeshing(scene, {1: 4, 2: 9, 3: 4, 4: 9, 5: 4})
    shot = stage.shoot(scene, 5)
    assert_exact(shot, "Square")
    assert len(shot.geometries) == 2
    assert [index for _, index in shot.meshes[0].changes] == [1, 0, 1, 0]


def test_equal_counts_do_not_hide_another_topology(scene):
    """Two grids of 2×6 and 6×2 cells have equal counts of everything, and other corners."""
    stage.add_camera(scene)
    remeshing(scene, {1: (2, 6), 2: (6, 2)})
    shot = stage.shoot(scene, 2)
    assert_exact(shot, "Square")
    np.testing.assert_allclose(places(shot, 1), shot.world_positions(0, 1), atol=1e-5)


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
    np.testing.assert_array_equal(places(shot, 3), places(shot, 0)[::-1])
    assert [t for t, _ in stage.track(shot, "Scripted").changes] == [2]


def test_a_mesh_that_grows_from_nothing_appears_with_its_first_faces(scene):
    stage.add_camera(scene)
    stage.add(scene, "Still", stage.triangle())
    obj = stage.add(scene, "Built", stage.grid())
    build = obj.modifiers.new("Build", "BUILD")
    build.frame_start, build.frame_duration = 2, 4
    shot = stage.shoot(scene, 6)
    track = stage.track(shot, "Built")
    assert track.visible.tolist() == [False, False, True, True, True, True]
    assert_exact(shot, "Built")


def test_a_mesh_that_vanishes_and_comes_back_is_the_same(scene):
    stage.add_camera(scene)
    stage.add(scene, "Still", stage.triangle())
    obj = remeshing(scene, {1: 4, 2: 4, 3: 4, 4: 6})
    wipe = obj.modifiers.new("Wipe", "MASK")
    wipe.vertex_group = obj.vertex_groups.new(name="None").name  # nothing is in it
    stage.key(wipe, "show_render", {1: False, 2: True, 3: False})
    shot = stage.shoot(scene, 4)
    track = stage.track(shot, "Square")
    assert track.visible.tolist() == [True, False, True, True]
    np.testing.assert_array_equal(places(shot, 2, "Square"), places(shot, 0, "Square"))
    assert not born(shot, 3, "Square").any()


def test_a_hidden_change_is_no_change(scene):
    stage.add_camera(scene)
    stage.add(scene, "Still", stage.triangle())
    obj = remeshing(scene, {1: 4, 2: 9, 3: 4})
    stage.key(obj, "hide_render", {1: False, 2: True, 3: False})
    shot = stage.shoot(scene, 3)
    assert shot.warnings == ()
    track = stage.track(shot, "Square")
    assert track.visible.tolist() == [True, False, True]
    assert track.changes == ()
    assert len(shot.geometries[track.geometry].positions) == 1


def test_two_users_of_a_changing_mesh_share_it(scene):
    stage.add_camera(scene)
    obj = remeshing(scene, {1: 4, 2: 9, 3: 6})
    scene.collection.objects.link(obj.copy())
    shot = stage.shoot(scene, 3)
    assert len(shot.geometries) == 3
    assert len(shot.meshes) == 2
    assert shot.meshes[0].changes == shot.meshes[1].changes == ((1, 1), (2, 2))


def test_users_that_part_at_a_change_share_what_was_before(scene):
    """Two meshes are equal in frames 1 and 2; then one gets other faces, and the other bends."""
    stage.add_camera(scene)
    one = remeshing(scene, {1: 4, 2: 4, 3: 9, 4: 9})
    other = one.copy()
    scene.collection.objects.link(other)
    other.name = "Bent"
    other.modifiers[0].node_group = other.modifiers[0].node_group.copy()
    with stage.node_group("Steady") as group:
        square = group.nodes.new("GeometryNodeMeshGrid")
        square.inputs["Size X"].default_value = square.inputs["Size Y"].default_value = 2.0
        square.inputs["Vertices X"].default_value = square.inputs["Vertices Y"].default_value = 5
        group.links.new(square.outputs["Mesh"], group.nodes["out"].inputs[0])
    other.modifiers[0].node_group = group
    bend = other.modifiers.new("Bend", "SIMPLE_DEFORM")
    bend.deform_method = "TAPER"
    stage.key(bend, "factor", {1: 0.0, 2: 0.0, 3: 0.5, 4: 1.0})
    shot = stage.shoot(scene, 4)
    assert_exact(shot, "Square")
    assert_exact(shot, "Bent")
    square, bent = stage.track(shot, "Square"), stage.track(shot, "Bent")
    assert [t for t, _ in square.changes] == [2]
    assert bent.changes == ()


def test_a_shot_does_not_grow_with_the_square_of_its_frames(scene):
    stage.add_camera(scene)
    remeshing(scene, {t: 8 + t for t in range(1, 25)})
    shot = stage.shoot(scene, 24)
    assert len(shot.geometries) == 24
    assert all(len(item.positions) == 1 for item in shot.geometries)


def test_rows_are_final_when_they_are_announced(scene):
    """Also of a mesh that deforms with one topology, then with another, and goes back."""
    stage.add_camera(scene)
    obj = remeshing(scene, {1: 4, 3: 4, 4: 6, 5: 6, 6: 4, 7: 4})
    bend = obj.modifiers.new("Bend", "SIMPLE_DEFORM")
    bend.deform_method = "TAPER"
    stage.key(bend, "factor", {1: 0.0, 7: 1.0})
    seen: list[tuple[np.ndarray, int, bytes]] = []
    shot = stage.shoot(scene, 7, on_rows=lambda array, n: seen.append((array, n, array[:n].tobytes())))
    assert_exact(shot, "Square")
    assert all(array[:n].tobytes() == then for array, n, then in seen)
    final: dict[tuple[int, int], int] = {}
    for array, n, _ in seen:
        assert array.flags.c_contiguous
        final[array.ctypes.data, array.nbytes] = n
    assert len(shot.geometries) == 3
    for geometry in shot.geometries:
        for array in (geometry.positions, geometry.triangles, geometry.origins, geometry.births):
            if array is not None:
                assert final[array.ctypes.data, array.nbytes] == len(array)


HOLDS: dict[str, Callable[[bpy.types.Object], None]] = {
    "many": lambda obj: None,
    "moving": lambda obj: stage.key(obj, "location", {1: (0, 0, 0), 12: (1, 0, 0)}),
}


@pytest.mark.parametrize("kind", HOLDS)
def test_many_topologies_with_several_samples_each(kind: str, scene):
    """More than have room for all samples from the beginning; each of them deforms."""
    stage.add_camera(scene)
    obj = remeshing(scene, {t: 3 + t // 2 for t in range(1, 13)})
    bend = obj.modifiers.new("Bend", "SIMPLE_DEFORM")
    bend.deform_method = "TAPER"
    stage.key(bend, "factor", {1: 0.0, 12: 1.0})
    HOLDS[kind](obj)
    shot = stage.shoot(scene, 12)
    assert_exact(shot, "Square")
    assert max(len(item.positions) for item in shot.geometries) == 2
    assert [t for t, _ in shot.meshes[0].changes] == [1, 3, 5, 7, 9, 11]


def slots_by_index(group: bpy.types.NodeTree, counts: dict[int, int]) -> None:
    """Faces with a smaller index than an animated number get the second material slot."""
    new, link = group.nodes.new, group.links.new
    chosen, compare = new("GeometryNodeSetMaterialIndex"), new("FunctionNodeCompare")
    compare.data_type, compare.operation = "INT", "LESS_THAN"
    first, limit = (socket for socket in compare.inputs if socket.type == "INT")
    for frame, count in counts.items():
        limit.default_value = count
        limit.keyframe_insert("default_value", frame=frame)
    chosen.inputs["Material Index"].default_value = 1
    link(new("GeometryNodeInputIndex").outputs[0], first)
    link(compare.outputs[0], chosen.inputs["Selection"])
    link(group.nodes["in"].outputs[0], chosen.inputs["Geometry"])
    link(chosen.outputs[0], group.nodes["out"].inputs[0])


@pytest.mark.parametrize("solid", [False, True])
@pytest.mark.parametrize("moves", [False, True])
def test_faces_may_change_their_material_slots(moves: bool, solid: bool, scene):
    """Where a slot is see-through, what is drawn follows; points keep their colors, also where they move."""
    stage.add_camera(scene)
    obj = stage.add(scene, "Square", stage.grid(cells=4))
    for name in ("Shown", "Gone"):
        material = bpy.data.materials.new(name)
        if bpy.app.version < (5, 0):
            material.use_nodes = True
        alpha = 0.0 if name == "Gone" and not solid else 1.0
        material.node_tree.nodes["Principled BSDF"].inputs["Alpha"].default_value = alpha
        obj.data.materials.append(material)
    if moves:
        bend = obj.modifiers.new("Bend", "SIMPLE_DEFORM")
        bend.deform_method, bend.deform_axis = "TWIST", "X"
        stage.key(bend, "angle", {1: 0.0, 6: 2.0})
    with stage.node_group("Slots") as group:
        slots_by_index(group, {1: 0, 2: 4, 3: 12, 4: 12, 5: 4, 6: 0})
    obj.modifiers.new("Slots", "NODES").node_group = group
    shot = stage.shoot(scene, 6)
    assert_exact(shot, "Square")
    for t, gone in enumerate((0, 4, 12, 12, 4, 0)):
        np.testing.assert_array_equal(places(shot, t), places(shot, 0))
        assert not born(shot, t).any()
        slots = shot.geometry_of(0, t).materials
        if not solid:
            assert (0 if slots is None else np.count_nonzero(slots) // 2) == gone
    assert bool(shot.meshes[0].changes) == (not solid)
    assert shot.warnings == ()
