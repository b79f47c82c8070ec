# SPDX-License-Identifier: GPL-3.0-or-later
"""What a frame takes from the one before: captures and renders show it as it is played, and leave what was played."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from tests.helpers import simulated, stage
from tests.helpers.simulated import KINDS, LAST, build, jumped, play, seen
from trackshade.client.job_run import run_to_end
from trackshade.client.progress import Progress
from trackshade.core.errors import CancelledError
from trackshade.core.fitting import FrameMap
from trackshade.shot import Shot
from trackshade_addon.capture import Capture, capture
from trackshade_addon.capture.animation import READS_ONLY
from trackshade_addon.capture.auto_camera import add_auto_camera
from trackshade_addon.capture.camera import sees
from trackshade_addon.capture.first_frame import read_picture, render_sample
from trackshade_addon.capture.request import ShotRequest
from trackshade_addon.capture.simulations import simulations
from trackshade_addon.capture.stepping import Stepper, finish
from trackshade_addon.jobs.composer import capture_scene
from trackshade_addon.messages.texts import progress_text
from trackshade_addon.overlay.reference import read_reference_steps
from trackshade_addon.render.engine_jobs import RenderContext, capture_evaluation

SPARSE = (1.0, 5.0, 9.0, 13.0)


def frame_map(frames: Sequence[float]) -> FrameMap:
    return FrameMap(frames[0], frames[-1], 1, "resample", tuple(frames), 24.0, "")


def shoot(frames: Sequence[float], **options: Any) -> Shot:
    scene = bpy.context.scene
    return capture(scene, frame_map=frame_map(frames), size_fit=stage.fit(scene), **options)


def points(shot: Shot, t: int) -> np.ndarray:
    return np.concatenate([shot.world_positions(i, t) for i in range(len(shot.meshes))])


def assert_shows(shot: Shot, t: int, shown: np.ndarray, tolerance: float = 2e-3) -> None:
    """The order of meshes may be another one."""
    ours = points(shot, t)
    assert ours.shape == shown.shape
    np.testing.assert_allclose(ours[np.lexsort(ours.T.round(3))], shown[np.lexsort(shown.T.round(3))], atol=tolerance)


@pytest.fixture
def passed() -> Iterator[list[int]]:
    """The frames that Blender was set to."""
    frames: list[int] = []

    def note(scene: bpy.types.Scene, *_: object) -> None:
        frames.append(scene.frame_current)

    setattr(note, READS_ONLY, True)
    bpy.app.handlers.frame_change_post.append(note)
    yield frames
    if note in bpy.app.handlers.frame_change_post:  # a new file removes it
        bpy.app.handlers.frame_change_post.remove(note)


@pytest.fixture
def falling_script() -> Iterator[None]:
    """A script that moves 'Thing' down by 0.1 in each frame."""

    def fall(scene: bpy.types.Scene, *_: object) -> None:
        z = bpy.data.objects["Thing"].location.z
        bpy.data.objects["Thing"].location.z = 0 if scene.frame_current == scene.frame_start else z - 0.1

    bpy.app.handlers.frame_change_pre.append(fall)
    yield
    bpy.app.handlers.frame_change_pre.remove(fall)


@pytest.mark.parametrize("kind", [*KINDS, "paint", "itasc"])
def test_a_shot_shows_what_is_played(scene, kind):
    build(kind)
    sparse, late = shoot(SPARSE), shoot((8.0, 10.0, 12.0))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    build(kind)
    shown = play()
    assert np.abs(shown[13] - shown[1]).max() > 0.1
    for shot in (sparse, late):
        for t, frame in enumerate(shot.frame_numbers):
            assert_shows(shot, t, shown[int(frame)])
    assert not sparse.warnings


@pytest.mark.once
@pytest.mark.parametrize("kind", KINDS)
def test_between_whole_frames_a_shot_shows_what_a_played_scene_shows_there(scene, kind):
    build(kind)
    shot = shoot((3.0, 5.5, 8.0, 10.25))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    build(kind)
    play()
    for t, (whole, part) in enumerate(((3, 0.0), (5, 0.5), (8, 0.0), (10, 0.25))):
        bpy.context.scene.frame_set(whole, subframe=part)
        assert_shows(shot, t, seen())


@pytest.mark.once
@pytest.mark.parametrize("kind", KINDS)
def test_frames_that_were_jumped_to_before_do_not_count(scene, kind):
    build(kind)
    scene.frame_set(9)
    shot = shoot(SPARSE)
    assert scene.frame_current == 9
    bpy.ops.wm.read_factory_settings(use_empty=True)
    build(kind)
    shown = play()
    for t, frame in enumerate(shot.frame_numbers):
        assert_shows(shot, t, shown[int(frame)])


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_played_stays_bit_for_bit(scene, kind):
    thing = build(kind)
    simulated.add_levels(thing)  # after the simulation: matching it would discard the frames
    shine(scene)
    play(9)
    shown = dict(zip((2, 4, 7, 9), jumped(2, 4, 7, 9), strict=True))
    shot = shoot(SPARSE)
    assert any("'Thing'" in warning and "played" in warning for warning in shot.warnings)
    if kind != "emitter":  # whose frames Blender's own render discards where its levels are others
        render_sample(shot, 1, scene)
    finish(add_auto_camera(scene, bpy.context.view_layer, SPARSE))
    assert scene.frame_current == 9
    for frame, there in zip((9, 4, 7, 2), jumped(9, 4, 7, 2), strict=True):
        np.testing.assert_array_equal(there, shown[frame])


@pytest.mark.once
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_played_stays_where_the_start_was_shown_again_and_a_capture_is_cancelled(scene, kind):
    build(kind)
    play(9)
    shown = dict(zip((1, 4, 7, 9), jumped(1, 4, 7, 9), strict=True))  # Blender takes frames after 9 for inexact now
    for _ in range(2):
        with Capture(scene, frame_map=frame_map((1.0, 13.0)), size_fit=stage.fit(scene)) as running:
            for _ in range(3):
                running.step()
            assert running.done < running.total
        assert scene.frame_current == 9
        np.testing.assert_array_equal(seen(), shown[9])
        for frame, there in zip((4, 1, 7, 9), jumped(4, 1, 7, 9), strict=True):
            np.testing.assert_array_equal(there, shown[frame])


@pytest.mark.once
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_warned_of_where_nothing_differs(scene, kind, passed):
    build(kind)
    shown = play(13)
    passed.clear()
    shot = shoot(SPARSE)
    assert not shot.warnings
    assert kind == "nodes" or passed == [1, 5, 9, 13, 13]  # the frames are there: no stepping
    np.testing.assert_array_equal(jumped(6)[0], shown[6])


@pytest.mark.parametrize("change", ["levels", "show", "hide", "simplify", "collider", "instancer"])
def test_each_change_that_would_discard_played_cloth_is_left(scene, change):
    thing = build("cloth")
    other = stage.add(scene, "Other", stage.grid("Other"))
    other.location.z = -20
    other.modifiers.new("Collision", "COLLISION")
    simulated.add_levels(other, 0, 0)
    simulated.add_levels(thing, 1, 1)
    if change == "levels":
        thing.modifiers["Subdivision"].render_levels = 2
    elif change == "show":
        thing.modifiers["Subdivision"].show_render = False
    elif change == "hide":
        other.hide_viewport = True
    elif change == "simplify":
        scene.render.use_simplify = True
        scene.render.simplify_subdivision, scene.render.simplify_subdivision_render = 1, 0
    elif change == "collider":
        other.modifiers["Subdivision"].render_levels = 1
    else:
        thing.show_instancer_for_render = False
    scene.frame_set(1)
    shown = play(9)
    shot = shoot(SPARSE)
    assert len(shot.warnings) == (0 if change == "hide" else 1), shot.warnings
    for frame, there in zip((9, 4), jumped(9, 4), strict=True):
        np.testing.assert_array_equal(there, shown[frame])


def test_rigid_bodies_that_were_played_stay_where_another_body_differs(scene):
    build("constraint")
    simulated.add_levels(bpy.data.objects["Held"], 0, 1)
    shown = play(9)
    shot = shoot(SPARSE)
    assert any("'Held'" in warning for warning in shot.warnings)
    np.testing.assert_array_equal(jumped(4)[0], shown[4])


def test_an_object_that_simulation_nodes_refer_to_is_left_too(scene):
    thing = build("nodes")
    other = stage.add(scene, "Other", stage.grid("Other"))
    simulated.add_levels(other, 0, 1)
    group = thing.modifiers["Nodes"].node_group
    info, join = group.nodes.new("GeometryNodeObjectInfo"), group.nodes.new("GeometryNodeJoinGeometry")
    info.inputs["Object"].default_value = other
    end = group.nodes["out"].inputs[0]
    group.links.new(end.links[0].from_socket, join.inputs[0])
    group.links.new(info.outputs["Geometry"], join.inputs[0])
    group.links.new(join.outputs[0], end)
    scene.frame_set(1)
    shown = play(9)
    shot = shoot(SPARSE)
    assert any("'Other'" in warning for warning in shot.warnings)
    np.testing.assert_array_equal(jumped(4)[0], shown[4])


@pytest.mark.parametrize("kind", ["rigid", "cloth", "emitter", "nodes"])
def test_what_was_not_played_runs_as_it_renders_and_leaves_no_frames_of_that(scene, kind):
    build(kind, above=True)
    shot = shoot(SPARSE, keep_played=False)
    assert not shot.warnings
    after = play(9)  # with the viewport's levels again
    bpy.ops.wm.read_factory_settings(use_empty=True)
    build(kind, above=True)
    before = play(9)
    for frame in range(2, 10):  # the first time that particles are at their start is a little different
        np.testing.assert_allclose(after[frame], before[frame], atol=1e-5)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    thing = build(kind, above=True)
    thing.modifiers["Subdivision"].levels = 2
    scene = bpy.context.scene
    scene.frame_set(1)
    shown = play(9)
    for t, frame in ((1, 5), (2, 9)):
        assert_shows(shot, t, shown[frame])


def test_a_sample_before_the_start_and_one_after_the_end(scene):
    build("cloth").modifiers["Cloth"].point_cache.frame_end = 6
    scene.frame_set(1)
    shot = shoot((-3.0, 1.0, 4.0, 12.0))
    shown = play(6)
    for t, frame in enumerate((1, 1, 4, 6)):
        assert_shows(shot, t, shown[frame])


def test_a_simulation_that_is_switched_off_in_renders_is_not_stepped(scene, passed):
    build("cloth").modifiers["Cloth"].show_render = False
    shoot(SPARSE)
    assert 2 not in passed


def test_a_baked_simulation_is_jumped_through(scene, passed):
    cache = build("cloth").modifiers["Cloth"].point_cache
    shown = play()
    with bpy.context.temp_override(point_cache=cache):
        bpy.ops.ptcache.bake_from_cache()
    passed.clear()
    shot = shoot(SPARSE)
    assert passed == [1, 5, 9, 13, LAST]
    for t, frame in enumerate(shot.frame_numbers):
        assert_shows(shot, t, shown[int(frame)])


def test_without_a_cache_of_frames_simulation_nodes_are_stepped_anew(scene):
    thing = build("nodes")
    thing.use_simulation_cache = False
    shot = shoot((1.0, 4.0, 7.5, 9.0))
    heights = [points(shot, t)[:, 2].mean() for t in range(4)]
    each = 0.1 * np.cos(0.3)
    np.testing.assert_allclose(np.diff(heights), np.multiply((-3, -3.5, -1.5), each), atol=1e-4)
    assert points(shoot((8.0,)), 0)[:, 2].mean() == pytest.approx(heights[0] - 7 * each, abs=1e-4)


def test_scripts_on_frame_changes_see_every_frame(scene, falling_script):
    stage.add_camera(scene)
    stage.add(scene, "Thing", stage.grid("Thing"))
    shot = shoot(SPARSE)
    assert [points(shot, t)[:, 2].mean() for t in range(4)] == pytest.approx([0, -0.4, -0.8, -1.2], abs=1e-5)


def shine(scene: bpy.types.Scene) -> None:
    scene.render.engine, scene.cycles.samples = "CYCLES", 1
    scene.cycles.device, scene.cycles.use_denoising = "CPU", False
    scene.world = bpy.data.worlds.new("World")
    scene.render.resolution_x, scene.render.resolution_y = stage.SIZE
    material = bpy.data.materials.new("Shines")
    material.use_nodes = True
    tree = material.node_tree
    shader = tree.nodes.new("ShaderNodeEmission")
    tree.links.new(shader.outputs[0], tree.nodes["Material Output"].inputs[0])
    for mesh in bpy.data.meshes:
        mesh.materials.append(material)


def rendered(scene: bpy.types.Scene, path: Path) -> np.ndarray:
    """What Blender's own render of the present frame shows."""
    scene.render.filepath = str(path)
    scene.render.image_settings.file_format = "PNG"
    bpy.ops.render.render(write_still=True)
    return read_picture(path)


@pytest.mark.parametrize("kind", ["rigid", "nodes"])
def test_the_input_render_is_that_of_a_scene_which_is_played(scene, kind, passed, tmp_path):
    build(kind)
    shine(scene)
    scene.frame_end = 20  # 17 samples, most of them between whole frames
    what = ShotRequest(frames=(4, 20, 1), first_frame="render", input_render=True, keep_played=False)
    said: list[Progress] = []
    made = run_to_end(capture_scene(what, scene), said.append)
    assert made.first_frame is not None
    assert made.input_render is not None
    np.testing.assert_array_equal(made.first_frame, made.input_render[0])
    assert passed.count(2) <= 2  # for the shot and for the pictures: not for each of these
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    build(kind)
    shine(scene)
    scene.render.resolution_x, scene.render.resolution_y = made.shot.size
    scene.render.dither_intensity = 0
    for frame in range(1, 17):
        scene.frame_set(frame)
        if frame in (4, 10, 16):
            ours, theirs = made.input_render[frame - 4].astype(int), rendered(scene, tmp_path / "frame.png").astype(int)
            assert theirs.max() - theirs.min() > 100
            assert (np.abs(ours - theirs).max(axis=-1) > 16).mean() < 0.002  # at silhouettes


@pytest.mark.parametrize("kind", KINDS)
def test_the_render_engine_shows_what_is_played(scene, kind):
    build(kind)
    made: dict[str, Any] = {}

    class Engine(bpy.types.RenderEngine):
        bl_idname = "TEST_STEPS"
        bl_label = "Steps"

        def render(self, depsgraph: bpy.types.Depsgraph) -> None:
            context = RenderContext(self.frame_set, depsgraph, lambda: False)
            steps = capture_evaluation(context, frame_map(SPARSE), stage.fit(depsgraph.scene), None, Future())
            told = []
            try:
                while True:
                    told.append(next(steps))
            except StopIteration as end:
                made["shot"], made["told"] = end.value, told
            made["frame"] = depsgraph.scene.frame_current
            self.end_result(self.begin_result(0, 0, self.resolution_x, self.resolution_y))

    bpy.utils.register_class(Engine)
    try:
        scene.frame_set(3)
        scene.render.engine = "TEST_STEPS"
        scene.render.resolution_x = scene.render.resolution_y = 16
        bpy.ops.render.render()
    finally:
        bpy.utils.unregister_class(Engine)
    assert made["frame"] == scene.frame_current == 3
    assert [item.step for item in made["told"] if item.state == "stepping"][-1] == 13
    bpy.ops.wm.read_factory_settings(use_empty=True)
    build(kind)
    shown = play()
    for t, frame in enumerate(made["shot"].frame_numbers):
        assert_shows(made["shot"], t, shown[int(frame)], 2e-2 if frame == 1 else 2e-3)


def test_an_added_camera_has_a_falling_body_in_its_frame_to_the_end(scene):
    build("rigid")
    bpy.data.objects.remove(bpy.data.objects["Camera"])
    camera = finish(add_auto_camera(scene, bpy.context.view_layer, (1.0, 20.0, 40.0)))
    shot = shoot((1.0, 40.0), camera=camera)
    assert points(shot, 1)[:, 2].mean() < -5
    assert sees(shot.camera, shot.size, 1, points(shot, 1))
    scene.frame_set(1)
    bpy.data.objects.remove(camera)


def test_a_capture_can_be_cancelled_between_the_frames_of_a_simulation(scene):
    build("cloth", above=True)
    scene.frame_set(2)
    running = Capture(scene, frame_map=frame_map((12.0, 14.0)), size_fit=stage.fit(scene))
    for number in range(2, 6):
        assert running.step() == 0
        assert running.simulated == (number, 14)
    running.cancel()
    assert scene.frame_current == 2
    assert bpy.data.objects["Thing"].modifiers["Subdivision"].levels == 1
    with pytest.raises(CancelledError):
        running.shot()


def test_a_job_says_which_frame_of_a_simulation_it_is_at(scene):
    build("cloth")
    said = []
    shot = run_to_end(capture_scene(ShotRequest(frames=(3, 19, 1), first_frame="none"), scene), said.append).shot
    stepping = [(item.step, item.steps) for item in said if item.state == "stepping"]
    assert stepping == [(number, 19) for number in range(1, 20)]
    assert "stepping the simulation, frame 12 of 19" in [str(item) for item in said]
    assert "Stepping the simulation, frame 12 of 19" in [progress_text(item) for item in said]
    assert said[-1].state == "capturing"
    assert said[-1].step == len(shot.frame_numbers) == 17


@pytest.mark.parametrize("until", ["stepping", "rendering"])
def test_a_job_that_is_cancelled_leaves_the_scene_as_it_was(scene, until):
    thing = build("cloth", above=True)
    shine(scene)
    steps = capture_scene(ShotRequest(frames=(5, 21, 1), input_render=True, keep_played=False), scene)
    for progress in steps:
        if progress.state == until and (progress.step or 0) >= 3:
            break
    steps.close()
    assert scene.frame_current == 1
    assert thing.modifiers["Subdivision"].levels == 1
    assert bpy.data.objects.keys() == ["Camera", "Thing"]
    after = play(9)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    build("cloth", above=True)
    for frame, shown in play(9).items():
        np.testing.assert_allclose(after[frame], shown, atol=1e-5)


@pytest.mark.parametrize("played", [1, 7])
@pytest.mark.parametrize("kind", ["rigid", "nodes"])
def test_simulations_that_begin_in_different_frames(scene, kind, played):
    def several() -> bpy.types.Scene:
        build(kind)
        for name, x, start in (("Late", 4, 5), ("Early", -4, 2)):
            cloth = stage.add(bpy.context.scene, name, stage.grid(name))
            cloth.location = (x, 0, 0)
            cloth.modifiers.new("Cloth", "CLOTH").point_cache.frame_start = start
        bpy.context.scene.frame_set(1)
        return bpy.context.scene

    several()
    play(played)
    shot = shoot((1.0, 2.0, 6.0, 8.5, 12.0))
    there = dict(zip((3, 7), jumped(3, 7), strict=True))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = several()
    shown = play(12)
    for frame in there:
        np.testing.assert_array_equal(there[frame], shown[frame])
    for t in (0, 1, 2, 4):
        assert_shows(shot, t, shown[int(shot.frame_numbers[t])])
    scene.frame_set(8, subframe=0.5)
    assert_shows(shot, 3, seen())


@pytest.mark.parametrize("kind", ["rigid", "cloth"])
@pytest.mark.parametrize("played", [-5, 4])
def test_a_simulation_that_begins_before_the_first_frame(scene, kind, played):
    def early() -> None:
        thing = build(kind)
        world = bpy.context.scene.rigidbody_world
        (thing.modifiers["Cloth"] if world is None else world).point_cache.frame_start = -5
        bpy.context.scene.frame_set(-5)

    early()
    play(played, -5)
    shot = shoot((-3.0, 0.0, 2.0, 6.0))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    early()
    shown = play(6, -5)
    assert np.abs(shown[-5] - shown[6]).max() > 0.1
    for t, frame in enumerate((-3, 0, 2, 6)):
        assert_shows(shot, t, shown[frame])


def test_the_tracking_colors_begin_with_the_simulated_first_frame(scene):
    build("rigid")
    shown = play(9)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    build("rigid")
    found = finish(read_reference_steps(scene, bpy.context.view_layer, frame_map((9.0, 11.0)), stage.fit(scene)))
    matrix = next(iter(found.matrices.values()))
    assert matrix[2, 3] == pytest.approx(shown[9][:, 2].mean(), abs=1e-5)
    assert matrix[2, 3] < -0.2


def test_going_back_and_on_shows_what_is_played(scene):
    build("cloth")
    shown = play(12)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    build("cloth")
    stepper = Stepper(scene, bpy.context.view_layer, (4.0, 12.0))
    assert [item.name for item in simulations(scene, bpy.context.view_layer)] == ["the cloth 'Thing'"]
    for frame in (8, 3, 12, 5, 6):
        for done, total in stepper.to(float(frame)):
            assert 0 < done <= total == 12
        np.testing.assert_allclose(seen(), shown[frame], atol=1e-6)


@pytest.mark.parametrize("where", ["another scene", "another layer"])
def test_what_no_window_shows_is_simulated_as_well(scene, where):
    build("nodes")
    shown = play(13)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    build("nodes")
    if where == "another scene":
        bpy.context.window.scene = bpy.data.scenes.new("Shown")
        layer = scene.view_layers[0]
    else:
        layer = scene.view_layers.new("Second")
    shot = capture(scene, layer, frame_map=frame_map(SPARSE), size_fit=stage.fit(scene))
    for t, frame in enumerate(shot.frame_numbers):
        assert_shows(shot, t, shown[int(frame)])


def test_a_simulation_in_an_instanced_collection_is_stepped(scene):
    thing = build("cloth")
    inner = bpy.data.collections.new("Inner")
    scene.collection.objects.unlink(thing)
    inner.objects.link(thing)
    instance = stage.add(scene, "Instance", None)
    instance.instance_type, instance.instance_collection = "COLLECTION", inner
    shot = shoot(SPARSE)
    assert stage.names(shot) == ["Instance/Thing"]
    heights = [points(shot, t)[:, 2].mean() for t in range(4)]
    assert heights[0] - heights[3] > 0.5
    assert np.diff(np.diff(heights)).max() < -0.05  # ever faster


def in_frames_of_its_own(kind: str, thing: bpy.types.Object, first: int, last: int) -> None:
    """Sets the frames in which the simulation of 'Thing' begins and ends."""
    scene = bpy.context.scene
    if kind == "nodes":
        group = thing.modifiers[0].node_group
        thing.modifiers.clear()  # the frame that it was made in is a frame of its simulation
        thing.modifiers.new("Nodes", "NODES").node_group = group
        scene.use_custom_simulation_range = True
        scene.simulation_frame_start, scene.simulation_frame_end = first, last
    else:
        cache = scene.rigidbody_world.point_cache if kind == "rigid" else thing.modifiers[0].point_cache
        cache.frame_start, cache.frame_end = first, last


@pytest.mark.parametrize(
    ("kind", "old", "new", "first", "last"),
    [
        ("rigid", 100, 200, 1, 4),
        ("cloth", 100, 200, 1, 4),
        ("soft", 100, 200, 1, 4),
        ("nodes", 100, 200, 1, 4),
        ("nodes", 200, 100, 6, 30),
        ("cloth", 200, 100, 6, 30),
        ("cloth", 104, 100, 1, 60),
    ],
)
def test_a_simulation_in_a_scene_with_time_stretching(scene, kind, old, new, first, last):
    """Simulations begin and end in frames of the stretched time."""

    def stretched() -> None:
        thing = build(kind)
        render = bpy.context.scene.render
        render.frame_map_old, render.frame_map_new = old, new
        in_frames_of_its_own(kind, thing, first, last)
        bpy.context.scene.frame_set(1)

    stretched()
    shot = shoot((1.0, 5.0, 9.0, 12.0))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    stretched()
    shown = play()
    assert np.abs(shown[12] - shown[1]).max() > 0.01
    for t, frame in enumerate(shot.frame_numbers):
        assert_shows(shot, t, shown[int(frame)])


def test_frames_that_are_simulated_to_the_disk_are_told(scene, tmp_path):
    thing = simulated.build("cloth")
    cache = thing.modifiers["Cloth"].point_cache
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    assert stage.shoot(scene, 2).warnings == ()
    cache.use_disk_cache = True
    (warning,) = stage.shoot(scene, 2).warnings
    assert "cloth 'Thing' is not baked and keeps its frames on the disk" in warning
    with bpy.context.temp_override(point_cache=cache):
        bpy.ops.ptcache.bake(bake=True)
    assert stage.shoot(scene, 2).warnings == ()
