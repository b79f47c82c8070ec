# SPDX-License-Identifier: GPL-3.0-or-later
"""Shots through several cameras: capture, the list and the orbit, jobs, and where their results are placed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.helpers import stage
from tests.helpers.place_results import make_result, new_scene, numbered, render
from trackshade.client import PrivateBackend
from trackshade.core.errors import OutputError, ShotError, UsageError
from trackshade.core.images import write_png
from trackshade.splats.frame import SplatFrame
from trackshade.splats.usd import write_splat_usd
from trackshade_addon import commands
from trackshade_addon.capture import Capture
from trackshade_addon.capture.orbit import RIG_KEY, Orbit, add_orbit, remove_orbit
from trackshade_addon.capture.request import ShotRequest
from trackshade_addon.jobs.composer import capture_scene
from trackshade_addon.placement import place, remove_result
from trackshade_addon.placement.result_folder import read_result


def run_through(request: ShotRequest, scene: bpy.types.Scene, **options):
    steps = capture_scene(request, scene, **options)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def beside(scene: bpy.types.Scene, name: str, location: tuple[float, float, float]) -> bpy.types.Object:
    """Another camera that looks at the origin."""
    data = bpy.data.cameras.new(name)
    camera = bpy.data.objects.new(name, data)
    scene.collection.objects.link(camera)
    camera.location = location
    x, y, z = location
    camera.rotation_euler = (math.atan2(math.hypot(x, y), z), 0, math.atan2(x, -y))
    return camera


def moving_grid(scene: bpy.types.Scene) -> bpy.types.Object:
    thing = stage.add(scene, "Thing", stage.grid())
    stage.key(thing, "location", {1: (0, 0, 0), 3: (0.4, 0, 0.1)})
    return thing


@pytest.mark.smoke
def test_each_camera_is_captured_as_if_it_were_alone(scene) -> None:
    first = stage.add_camera(scene)
    other = beside(scene, "Other", (4, -8, 2))
    stage.key(other, "location", {1: (4, -8, 2), 3: (5, -7, 2)})
    stage.key(other.data, "lens", {1: 35.0, 3: 50.0})
    moving_grid(scene)
    fit = stage.fit(scene)
    with Capture(scene, frame_map=stage.frames(3), size_fit=fit, camera=first, more_cameras=[other]) as capture:
        while capture.done < capture.total:
            capture.step()
    shot = capture.shot()
    assert [camera.name for camera in shot.cameras] == [first.name, "Other"]
    scene.camera = other
    alone = stage.shoot(scene)
    for name in ("world_to_camera", "intrinsics", "clip", "orthographic"):
        np.testing.assert_array_equal(getattr(shot.cameras[1], name), getattr(alone.camera, name))
    assert shot.cameras[1].sources == alone.camera.sources


def test_what_is_wrong_with_the_cameras_is_said(scene) -> None:
    stage.add_camera(scene).name = "First"
    other = beside(scene, "Other", (4, -8, 2))
    moving_grid(scene)
    frames = (1.0, 3.0, 1.0)
    for more, error, message in (
        (("Other", "Other"), UsageError, "named twice"),
        (("First",), UsageError, "named twice"),
        (("Thing",), ShotError, "no camera named 'Thing'"),
        (("Nobody",), ShotError, "no camera named 'Nobody'"),
    ):
        request = ShotRequest(camera="First", more_cameras=more, frames=frames, first_frame="none")
        with pytest.raises(error, match=message):
            run_through(request, scene)
    hidden = bpy.data.collections.new("Hidden")
    scene.collection.children.link(hidden)
    scene.collection.objects.unlink(other)
    hidden.objects.link(other)
    scene.view_layers[0].layer_collection.children["Hidden"].exclude = True
    request = ShotRequest(camera="First", more_cameras=("Other",), frames=frames, first_frame="none")
    with pytest.raises(ShotError, match="not in view layer"):
        run_through(request, scene)


def test_an_orbit_goes_around_what_the_camera_looks_at(scene) -> None:
    camera = beside(scene, "Camera", (0, -8, 3))
    scene.camera = camera
    bpy.ops.mesh.primitive_uv_sphere_add(radius=1)
    bpy.context.view_layer.update()
    before = {item.name for item in bpy.data.objects}, {item.name for item in bpy.data.cameras}
    made = add_orbit(scene, camera, Orbit(5, arc=120))
    bpy.context.view_layer.update()
    pivot = np.array(made[0].parent.location)
    assert np.linalg.norm(pivot) < 1.2
    radius, height = np.linalg.norm(np.array(camera.matrix_world.translation) - pivot), camera.location.z
    assert len(made) == 4
    azimuths = []
    for other in made:
        place_, axis = np.array(other.matrix_world.translation), -np.array(other.matrix_world)[:3, 2]
        assert np.linalg.norm(place_ - pivot) == pytest.approx(radius, rel=1e-5)
        assert place_[2] == pytest.approx(height, abs=1e-5)
        np.testing.assert_allclose(axis, (pivot - place_) / radius, atol=1e-5)
        azimuths.append(round(math.degrees(math.atan2(place_[0] - pivot[0], pivot[1] - place_[1]))))
    assert azimuths == [-60, -30, 30, 60]
    made = add_orbit(scene, camera, Orbit(4, elevation=45))  # replaces the other
    bpy.context.view_layer.update()
    heights = [float(other.matrix_world.translation[2] - pivot[2]) for other in made]
    np.testing.assert_allclose(heights, radius * math.sin(math.radians(45)), rtol=1e-4)
    made[0].parent.location.x += 1
    assert remove_orbit(scene)
    assert not remove_orbit(scene)
    assert ({item.name for item in bpy.data.objects}, {item.name for item in bpy.data.cameras}) == before
    assert not any(RIG_KEY in item for item in bpy.data.collections)
    camera.rotation_euler = (0, 0, 0)
    bpy.context.view_layer.update()
    with pytest.raises(ShotError, match="straight up or down"):
        add_orbit(scene, camera, Orbit(4))
    for wrong in ({"count": 1}, {"count": 5, "arc": 0}, {"count": 5, "elevation": 90}):
        with pytest.raises(UsageError):
            Orbit(**wrong)


@pytest.mark.usefixtures("registered")
def test_the_list_is_what_a_job_gets(scene) -> None:
    camera = beside(scene, "Camera", (0, -8, 3))
    scene.camera = camera
    moving_grid(scene)
    bpy.context.view_layer.update()
    own = scene.trackshade
    assert own.shot_request("Layer").more_cameras == ()
    assert own.shot_request("Layer").camera is None
    beside(scene, "Left", (-4, -8, 3)).select_set(True)
    beside(scene, "Right", (4, -8, 3))
    bpy.ops.trackshade.cameras_add()
    assert own.shot_request("Layer").more_cameras == ("Left",)
    scene.objects["Left"].select_set(False)
    bpy.ops.trackshade.cameras_add()  # all of them
    own.cameras[0].enabled = False
    key = own.keys.add()
    key.frame, key.path, key.camera = 2, "/tmp/right.png", scene.objects["Right"]
    request = own.shot_request("Layer")
    assert (request.camera, request.more_cameras) == ("Camera", ("Right",))
    assert (request.keys, request.camera_keys) == ((), (("Right", 2.0, "/tmp/right.png"),))
    assert request.through_one_camera().more_cameras == ()
    settings = own.shade_settings()
    own.cameras.clear()
    own.keys.clear()
    own.apply_job(request, settings)
    assert own.shot_request("Layer") == ShotRequest(**{**vars(request)})
    own.orbit_count, own.orbit_arc = 3, math.radians(90)
    bpy.ops.trackshade.orbit_add()
    assert own.shot_request("Layer").more_cameras == ("Right", "Camera -45°", "Camera +45°")
    bpy.ops.trackshade.orbit_remove()
    assert own.shot_request("Layer").more_cameras == ("Right",)
    own.active_camera = 0
    bpy.ops.trackshade.camera_remove()
    assert own.shot_request("Layer").more_cameras == ()


def of_two_cameras(folder: Path) -> Path:
    """A result whose first camera sees grays of 10, 20, 30, and whose second one sees 110, 120, 130."""
    for name, offset in (("Camera", 0), ("Other", 100)):
        frames = (numbered(3).astype(int) + offset).astype(np.uint8)
        make_result(folder / name, frames, [1, 2, 3], cameras=name)
    record = json.loads((folder / "Camera" / "job.json").read_text())
    record["cameras"] = [{"name": name, "folder": name} for name in ("Camera", "Other")]
    (folder / "job.json").write_text(json.dumps(record))
    return folder


@pytest.mark.smoke
@pytest.mark.usefixtures("registered")
def test_each_camera_sees_its_own_plate_alone(tmp_path: Path) -> None:
    scene = new_scene()
    first = scene.camera
    first.location, first.rotation_euler = (0, -4, 0), (math.pi / 2, 0, 0)
    other = beside(scene, "Other", (0, 4, 0))  # they look at each other, so that each would see the other's plate
    other.data.clip_start = 1.0  # which is large
    before = set(bpy.data.objects), set(bpy.data.node_groups)
    folder = of_two_cameras(tmp_path / "job")
    assert read_result(folder / "Other").name == "job Other"
    placed = place(folder, scene, mode="plate")
    assert placed.cameras == ("Camera", "Other")
    for camera, offset in ((first, 0), (other, 100)):
        scene.camera = camera
        for frame in (1, 3):
            seen = render(scene, frame, tmp_path / "seen.png")
            np.testing.assert_allclose(seen, 10 * frame + offset, atol=1)
    again = place(folder, scene, mode="plate")
    assert len(again.planes) == 2
    place(folder, scene, mode="image")  # one of them
    remove_result(scene, folder)
    assert (set(bpy.data.objects), set(bpy.data.node_groups)) == before


@pytest.mark.usefixtures("registered")
def test_splats_of_a_result_are_placed_and_removed(tmp_path: Path) -> None:
    scene = new_scene()
    folder = of_two_cameras(tmp_path / "job")
    with pytest.raises(OutputError, match="has no splats"):
        place(folder, scene, mode="splats")
    count, rng = 50, np.random.default_rng(1)
    frame = SplatFrame(
        number=1,
        position=rng.random((count, 3), np.float32),
        rotation=np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        size=np.full((count, 3), 0.01, np.float32),
        color=rng.random((count, 3), np.float32),
        exists=np.ones(count, bool),
    )
    if bpy.app.version >= (5, 3, 0):
        bpy.utils.expose_bundled_modules()
    pytest.importorskip("pxr.UsdVol")
    write_splat_usd(folder / "splats.usdc", [replace(frame, number=number) for number in (1.0, 2.0, 3.0)], 24.0)
    before = set(bpy.data.objects)
    placed = place(folder, scene, mode="splats")
    assert (placed.frames, placed.folder) == ((1, 3), folder)
    assert len(set(bpy.data.objects) - before) >= 1
    remove_result(scene, folder)
    assert set(bpy.data.objects) == before


def test_another_blender_renders_the_same_first_frames(demo: bpy.types.Scene) -> None:
    """So that this one is not blocked; with the unsaved state of the scene."""
    beside(demo, "Other", (4, -8, 3))
    demo.objects["Other"].data.lens = 30
    bpy.context.view_layer.update()
    request = ShotRequest("Camera", (1.0, 3.0, 2.0), more_cameras=("Other",))
    here, there = (run_through(request, demo, in_process=value) for value in (True, False))
    assert set(here.keys) == set(there.keys) == {1}
    np.testing.assert_array_equal(here.first_frame, there.first_frame)
    np.testing.assert_array_equal(here.keys[1], there.keys[1])
    assert here.keys[1].any()
    assert there.input_render is None
    steps = capture_scene(request, demo, in_process=False)
    while next(steps).state != "rendering":
        pass
    steps.close()  # ends the other process


@pytest.mark.parametrize(
    ("size", "frames", "words"), [((100, 100), (3.0,), "another shape"), ((144, 96), (3.0, 3.0), "Two pictures")]
)
def test_key_pictures_are_checked_before_the_capture(
    demo: bpy.types.Scene, tmp_path: Path, size, frames, words
) -> None:
    write_png(tmp_path / "key.png", np.full((*size[::-1], 3), 99, np.uint8))
    keys = tuple((frame, str(tmp_path / "key.png")) for frame in frames)
    steps = capture_scene(ShotRequest("Camera", (1.0, 3.0, 1.0), keys=keys), demo)
    with pytest.raises(ShotError, match=words):
        assert all(progress.state == "planning" for progress in steps)


def test_what_cameras_of_markers_see_is_rendered(demo: bpy.types.Scene) -> None:
    beside(demo, "Other", (4, -8, 3))
    for name, frame in (("Camera", 1), ("Other", 3)):
        demo.timeline_markers.new(name, frame=frame).camera = demo.objects[name]
    bpy.context.view_layer.update()
    cut = run_through(ShotRequest(frames=(1.0, 4.0, 1.0)), demo)
    assert set(cut.keys) == {2}
    demo.timeline_markers.clear()
    alone = run_through(ShotRequest("Other", (3.0, 4.0, 1.0)), demo)
    np.testing.assert_array_equal(cut.keys[2], alone.first_frame)
    assert "switched at frame 3" in cut.shot.source["frame_map"]["statement"]


@pytest.mark.long
@pytest.mark.usefixtures("baking")
def test_a_command_shades_through_several_cameras(
    served: PrivateBackend, demo: bpy.types.Scene, tmp_path: Path
) -> None:
    path = tmp_path / "demo.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    out = tmp_path / "out"
    arguments = [f"--endpoint={served.info.endpoint}", f"--out={out}", "--frames=1-3", "--light=none"]
    assert commands.main("trackshade", ["render", str(path), "--orbit=3::60", *arguments]) == 0
    record = json.loads((out / "job.json").read_text())
    assert [item["folder"] for item in record["cameras"]] == ["Camera", "Camera_-30", "Camera_30"]
    assert [key["source"] for key in record["propagation"]["key_pictures"]] == ["first frame"] * 3
    bpy.ops.wm.open_mainfile(filepath=str(out / "scene.blend"))
    plates = [item for item in bpy.context.scene.objects if "plate" in item.name]
    assert {item.parent.name for item in plates} == {"Camera", "Camera -30°", "Camera +30°"}
    scene = bpy.context.scene
    baked = place(out, scene, mode="baked")  # from the frames of all cameras
    names = {entry["name"] for entry in json.loads((out / "texture" / "texture.json").read_text())["meshes"]}
    assert "Floor" in names
    assert all(baked.folder.name in scene.objects[name].material_slots[0].material.name for name in names)
    remove_result(scene, out)
    assert not any(baked.folder.name in item.name for item in bpy.data.materials)
    assert commands.main("trackshade", ["render", str(path), "--orbit=3", "--cameras=A,B", *arguments, "--force"]) == 2
    assert commands.main("trackshade", ["render", str(path), "--cameras=A", *arguments, "--force"]) == 2
