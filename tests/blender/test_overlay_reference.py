# SPDX-License-Identifier: GPL-3.0-or-later
"""The viewport's tracking colors follow the very points that a capture sends, by the very rule of its colors."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from tests.helpers import stage
from trackshade.core.errors import ShotError
from trackshade.shot import Shot
from trackshade.shot.track_colors import mesh_rule
from trackshade_addon.capture.animation import READS_ONLY
from trackshade_addon.capture.stepping import finish
from trackshade_addon.overlay.reference import Reference, read_reference_steps
from trackshade_addon.overlay.tracking import KEPT_TOPOLOGIES, SLOW_VERTICES, DrawItem, PointTracker

COUNT = 4


def shown(tracker: PointTracker, frame: int, **options: object) -> dict[str, DrawItem]:
    """What is drawn in a frame, by the name of its object or instance."""
    scene, layer = bpy.context.scene, bpy.context.view_layer
    scene.frame_set(frame)
    names = {start: key for key, start in tracker.reference.starts.items()}
    objects = {obj.session_uid: obj.name for obj in bpy.data.objects}
    return {objects[names[item.start][0]]: item for item in tracker.draw_items(layer.depsgraph, **options)}


def now(thing: DrawItem) -> np.ndarray:
    """[V, 3] the points of a thing in the world."""
    positions = thing.mesh.origins if thing.positions is None else thing.positions
    matrix = np.array(thing.matrix_world)
    return positions @ matrix[:3, :3].T + matrix[:3, 3]


def reference(count: int = COUNT) -> Reference:
    scene = bpy.context.scene
    return finish(read_reference_steps(scene, bpy.context.view_layer, stage.frames(count), stage.fit(scene)))


@pytest.fixture
def busy(scene: bpy.types.Scene) -> Shot:
    """What a capture makes of things that move, bend, come, go, block the view, and are instanced."""
    camera = stage.add_camera(scene)
    stage.key(camera, "location", {1: (0, -10, 0), 4: (1, -9, 1)})
    floor = stage.add(scene, "Floor", stage.grid("Floor"))
    floor.location = (0, 3, 0)
    moving = stage.add(scene, "Moving", stage.grid("Moving"))
    stage.key(moving, "location", {1: (-1, 0, 0), 4: (1, 0, 0.5)})
    bending = stage.add(scene, "Bending", stage.grid("Bending", 8))
    wave = bending.modifiers.new("Wave", "WAVE")
    wave.speed, wave.width, wave.height = 0.5, 1.0, 0.4
    late = stage.add(scene, "Late", stage.grid("Late"))
    late.modifiers.new("Wave", "WAVE").height = 0.3
    stage.key(late, "location", {1: (2, 0, 0), 4: (0, 0, 0)})
    stage.key(late, "hide_render", {1: True, 3: False})
    gone = stage.add(scene, "Gone", stage.triangle("Gone"))
    stage.key(gone, "hide_render", {1: False, 3: True})
    stage.add(scene, "Hole", stage.grid("Hole")).is_holdout = True
    never = stage.add(scene, "Never", stage.grid("Never"))
    never.hide_render = True
    return stage.shoot(scene, COUNT)


def test_every_point_is_where_a_capture_has_it(busy: Shot) -> None:
    tracker = PointTracker(reference())
    for frame in (1, 2, 3, 4, 2, 4, 1):  # in any order: nothing depends on it
        items = shown(tracker, frame)
        sent = {mesh.name: i for i, mesh in enumerate(busy.meshes) if mesh.visible[frame - 1]}
        assert set(items) == set(sent)
        for name, mesh in sent.items():
            np.testing.assert_allclose(now(items[name]), busy.world_positions(mesh, frame - 1), atol=1e-5)
            geometry = busy.geometries[busy.meshes[mesh].geometry]
            np.testing.assert_array_equal(items[name].mesh.triangles, geometry.triangles)
    assert not tracker.reference.late
    assert not tracker.reference.hidden


@pytest.mark.parametrize("old_new", [(100, 200), (100, 50)])
def test_where_time_is_stretched_things_begin_in_the_frame_that_shows_them(
    scene: bpy.types.Scene, old_new: tuple[int, int]
) -> None:
    stage.add_camera(scene)
    stage.add(scene, "Floor", stage.grid("Floor")).location = (0, 3, 0)
    late = stage.add(scene, "Late", stage.grid("Late"))
    stage.key(late, "location", {1: (2, 0, 0), 16: (-2, 0, 0)})
    stage.key(late, "hide_render", {1: True, 3: False})
    stage.key(late, "hide_viewport", {1: True, 3: False})
    scene.render.frame_map_old, scene.render.frame_map_new = old_new
    shot = stage.shoot(scene, 8)
    visible = stage.track(shot, "Late").visible
    tracker = PointTracker(reference(8))
    for frame in (8, 7, 6, 3, 2, 1):
        assert ("Late" in shown(tracker, frame)) == visible[frame - 1], frame
    assert not tracker.reference.late
    begun = next(start for key, start in tracker.reference.starts.items() if key[0] == late.session_uid)
    assert begun.frame == 1 + int(np.argmax(visible))
    # What is met later than it was looked for begins anew where an earlier frame shows it.
    tracker.reference.starts.clear()
    tracker.reference.late["Late"] = None
    for frame in (8, 7):
        scene.frame_set(frame)
        assert len(list(tracker.draw_items(bpy.context.view_layer.depsgraph))) == 2
    begun = next(start for key, start in tracker.reference.starts.items() if key[0] == late.session_uid)
    assert begun.frame == 7


def test_colors_are_the_job_s_own(busy: Shot) -> None:
    """The rule, and the place in the first frame that each point is colored by."""
    found, rule = reference(), mesh_rule(busy)
    np.testing.assert_array_equal(found.rule.world_to_camera, rule.world_to_camera)
    np.testing.assert_array_equal(found.rule.intrinsics, rule.intrinsics)
    assert (found.rule.size, found.rule.orthographic) == (rule.size, rule.orthographic)
    assert found.rule.limits == rule.limits  # the 2nd and 98th percentile of the same vertices
    items = shown(PointTracker(found), 4)
    assert "Late" in items
    for mesh in busy.meshes:
        if mesh.visible[3]:
            start = items[mesh.name].start
            np.testing.assert_array_equal(start.mesh.origins, busy.geometries[mesh.geometry].at(0))
            rows = np.array(start.rows)
            if mesh.holdout:
                assert (rows[2] @ [0.3, 0.2, 0.1, 1.0]) < 0  # behind the camera: black
            else:
                np.testing.assert_array_equal(rows.ravel(), rule.packed_parameters(mesh.matrix_world[0])[:12])


def test_a_surface_that_stays_is_read_and_sent_to_the_card_once(busy: Shot) -> None:
    tracker = PointTracker(reference())
    for frame in (2, 3):
        items = shown(tracker, frame)
        assert items["Moving"].positions is None  # its matrix moves it
        assert items["Bending"].positions is not None


def test_instances_share_a_surface(scene: bpy.types.Scene) -> None:
    stage.add_camera(scene)
    mesh = stage.grid()
    for number in range(5):
        stage.add(scene, f"Copy {number}", mesh).location.x = number
    items = shown(PointTracker(reference()), 1)
    assert len(items) == 5
    assert len({id(item.mesh) for item in items.values()}) == 1
    assert len({item.key for item in items.values()}) == 1  # so one buffer serves them all


def remeshed(scene: bpy.types.Scene, cells: dict[int, int]) -> None:
    with stage.node_group("Remesh") as group:
        square = group.nodes.new("GeometryNodeMeshGrid")
        square.inputs["Size X"].default_value = square.inputs["Size Y"].default_value = 2.0
        for side in ("Vertices X", "Vertices Y"):
            for frame, count in cells.items():
                square.inputs[side].default_value = count + 1
                square.inputs[side].keyframe_insert("default_value", frame=frame)
        group.links.new(square.outputs["Mesh"], group.nodes["out"].inputs[0])
    obj = stage.add(scene, "Square", stage.triangle())
    obj.rotation_euler.x = np.pi / 2
    obj.modifiers.new("Remesh", "NODES").node_group = group


def test_another_topology_carries_the_points(scene: bpy.types.Scene) -> None:
    stage.add_camera(scene)
    remeshed(scene, {1: 4, 2: 4, 3: 7, 4: 5})
    shot = stage.shoot(scene, COUNT)
    tracker = PointTracker(reference())
    for frame in (1, 3, 4, 2):
        thing = shown(tracker, frame)["Square"]
        np.testing.assert_allclose(now(thing), shot.world_positions(0, frame - 1), atol=1e-5)
        geometry = shot.geometry_of(0, frame - 1)
        np.testing.assert_array_equal(thing.mesh.triangles, geometry.triangles)
        np.testing.assert_allclose(thing.mesh.origins, geometry.first, atol=1e-5)
    assert not tracker.reference.late


def test_what_grows_is_colored_as_in_the_shot(scene: bpy.types.Scene) -> None:
    """Played forward: copies of a bending mesh, faces that are built, and a ball that is remeshed while it grows."""
    stage.add_camera(scene)
    row = stage.add(scene, "Row", stage.grid("Row"))
    bend = row.modifiers.new("Bend", "SIMPLE_DEFORM")
    bend.deform_method, bend.deform_axis = "TWIST", "X"
    stage.key(bend, "angle", {1: 0.0, 4: 1.0})
    stage.key(row.modifiers.new("Array", "ARRAY"), "count", {1: 1, 2: 2, 3: 2, 4: 3})
    built = stage.add(scene, "Built", stage.grid("Built", 9)).modifiers.new("Build", "BUILD")
    built.frame_start, built.frame_duration = 0, 4
    bpy.ops.object.metaball_add(radius=1.0)
    ball = bpy.context.object
    ball.data.resolution = ball.data.render_resolution = 0.2
    stage.key(ball.data.elements[0], "radius", {1: 1.0, 4: 1.4})
    shot = stage.shoot(scene, COUNT)
    tracker = PointTracker(reference())
    for frame in (1, 2, 3, 4, 2, 3, 1, 4):
        items = shown(tracker, frame)
        assert set(items) == {"Row", "Built", "Mball"}
        for index, mesh in enumerate(shot.meshes):
            geometry = shot.geometry_of(index, frame - 1)
            thing = items[mesh.name]
            np.testing.assert_allclose(now(thing), shot.world_positions(index, frame - 1), atol=1e-5)
            np.testing.assert_array_equal(thing.mesh.triangles, geometry.triangles)
            np.testing.assert_array_equal(thing.mesh.origins, geometry.first)
    assert not tracker.reference.late


def test_what_came_in_frames_that_were_not_shown_is_told_of(scene: bpy.types.Scene) -> None:
    stage.add_camera(scene)
    row = stage.add(scene, "Row", stage.grid("Row"))
    stage.key(row.modifiers.new("Array", "ARRAY"), "count", {1: 1, 2: 2, 3: 2, 4: 3})
    tracker = PointTracker(reference())
    shown(tracker, 1)
    shown(tracker, 4)
    assert list(tracker.reference.late) == ["Row"]


def test_topologies_of_other_frames_do_not_fill_the_memory(scene: bpy.types.Scene) -> None:
    stage.add_camera(scene)
    remeshed(scene, {frame: 3 + frame for frame in range(1, 25)})
    tracker = PointTracker(reference())
    for frame in range(1, 25):
        shown(tracker, frame)
    (ride,) = tracker._states.values()
    assert len(ride.topologies) == KEPT_TOPOLOGIES
    items = shown(tracker, 2)  # which is not kept any more
    assert len(now(items["Square"])) == 36


def test_what_cannot_be_carried_in_time_waits(scene: bpy.types.Scene) -> None:
    stage.add_camera(scene)
    side = int(SLOW_VERTICES**0.5) + 1  # more vertices than are carried while it plays
    remeshed(scene, {1: side, 2: side, 3: side + 1})
    tracker = PointTracker(reference())
    assert shown(tracker, 3, skip_slow=True) == {}
    assert list(tracker.skipped) == ["Square"]
    assert "Square" in shown(tracker, 3)
    assert "Square" in shown(tracker, 3, skip_slow=True)  # it is carried already
    assert not tracker.skipped


def test_what_is_born_later_is_told_of(scene: bpy.types.Scene) -> None:
    """The number of instances is another one in frame 3: nothing in the first frame knows of it."""
    stage.add_camera(scene)
    with stage.node_group("More") as group:
        line = group.nodes.new("GeometryNodeMeshLine")
        for frame, count in {1: 1, 2: 1, 3: 3}.items():
            line.inputs["Count"].default_value = count
            line.inputs["Count"].keyframe_insert("default_value", frame=frame)
        put = group.nodes.new("GeometryNodeInstanceOnPoints")
        square = group.nodes.new("GeometryNodeMeshGrid")
        group.links.new(line.outputs["Mesh"], put.inputs["Points"])
        group.links.new(square.outputs["Mesh"], put.inputs["Instance"])
        group.links.new(put.outputs["Instances"], group.nodes["out"].inputs[0])
    host = stage.add(scene, "Host", stage.triangle())
    host.modifiers.new("More", "NODES").node_group = group
    tracker = PointTracker(reference())
    scene.frame_set(3)
    assert len(list(tracker.draw_items(bpy.context.view_layer.depsgraph))) == 3
    assert list(tracker.reference.late) == ["Host"]


def test_what_the_viewport_hides_is_told_of(scene: bpy.types.Scene) -> None:
    stage.add_camera(scene)
    stage.add(scene, "Seen", stage.grid())
    stage.add(scene, "Hidden", stage.grid()).hide_viewport = True
    found = reference()
    assert found.hidden == ("Hidden",)
    assert set(shown(PointTracker(found), 1)) == {"Seen"}


def test_levels_of_the_viewport_are_drawn_and_those_of_the_render_counted(scene: bpy.types.Scene) -> None:
    stage.add_camera(scene)
    levels = stage.add(scene, "Cube", stage.grid()).modifiers.new("Subdivision", "SUBSURF")
    levels.levels, levels.render_levels = 1, 3
    shot = stage.shoot(scene, COUNT)
    found = reference()
    assert found.rule.limits == mesh_rule(shot).limits
    thing = shown(PointTracker(found), 1)["Cube"]
    assert len(now(thing)) == 81
    assert len(shot.world_positions(0, 0)) == 33**2
    assert levels.levels == 1


def test_the_scene_is_left_as_it_was(busy: Shot) -> None:
    scene = bpy.context.scene
    scene.frame_set(3)
    moved = bpy.data.objects["Moving"]
    moved.location.x = 7.5  # not keyed yet
    calls = []

    def count(*_: object) -> None:
        calls.append(scene.frame_current)

    setattr(count, READS_ONLY, True)  # or every frame would be stepped through for its sake
    bpy.app.handlers.frame_change_post.append(count)
    reference()
    bpy.app.handlers.frame_change_post.clear()
    assert scene.frame_current == 3
    assert moved.location.x == pytest.approx(7.5)
    assert len(calls) <= 6  # the first frame and that in which something appears, and back, twice


def test_a_scene_that_cannot_be_shot_says_why(scene: bpy.types.Scene) -> None:
    stage.add(scene, "Seen", stage.grid())
    with pytest.raises(ShotError) as caught:
        reference()
    assert caught.value.code == "no-camera"
