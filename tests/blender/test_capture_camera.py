# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras: each captured point must land on the pixel where Blender puts it."""

from __future__ import annotations

import itertools

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mathutils import Euler, Vector

from tests.helpers import stage
from trackshade.core import geometry
from trackshade.core.errors import ShotError
from trackshade.core.fitting import SizeFit
from trackshade.shot import Shot
from trackshade_addon.capture import plan_scene
from trackshade_addon.capture.animation import curves

pytestmark = pytest.mark.smoke


def pixels(shot: Shot, t: int, mesh: int = 0) -> np.ndarray:
    """[V, 2] pixels of a track's vertices in the model's image."""
    world = shot.world_positions(mesh, t).astype(np.float64)
    matrix = shot.camera.world_to_camera[t]
    camera = world @ matrix[:3, :3].T + matrix[:3, 3]
    return geometry.project(camera, shot.camera.intrinsics[t], bool(shot.camera.orthographic[t]))


def blender_pixels(scene, camera: bpy.types.Object, points: np.ndarray, fit: SizeFit) -> np.ndarray:
    """[V, 2] the same from Blender's own function; it gives shares of the render's frame, from below."""
    views = np.array([world_to_camera_view(scene, camera, Vector(point))[:2] for point in points])
    source = views * (1, -1) + (0, 1)
    return source * fit.source * fit.scale + fit.offset


def check(scene, camera: bpy.types.Object, fit: SizeFit) -> None:
    shot = stage.capture(scene, frame_map=stage.frames(1), size_fit=fit)
    scene.frame_set(1)
    expected = blender_pixels(scene, camera, shot.world_positions(0, 0), fit)
    np.testing.assert_allclose(pixels(shot, 0), expected, atol=2e-3)


LENSES = list(itertools.product(("PERSP", "ORTHO"), ("AUTO", "HORIZONTAL", "VERTICAL"), ((96, 64), (50, 80))))


@pytest.mark.parametrize(("kind", "sensor_fit", "size"), LENSES)
@pytest.mark.parametrize("aspect", [(1.0, 1.0), (1.5, 1.0), (1.0, 2.0)])
@pytest.mark.parametrize("mode", ["pad", "crop"])
def test_points_land_where_blender_puts_them(scene, kind, sensor_fit, size, aspect, mode):
    camera = stage.add_camera(scene, (0.3, -6, 0.4))
    camera.rotation_euler.x += 0.1
    camera.scale = (2, 0.5, 3)  # which Blender ignores
    data = camera.data
    data.type, data.sensor_fit, data.shift_x, data.shift_y = kind, sensor_fit, 0.13, -0.21
    data.lens, data.sensor_width, data.sensor_height, data.ortho_scale = 40.0, 30.0, 20.0, 3.0
    scene.render.resolution_x, scene.render.resolution_y = size
    scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = aspect
    stage.add(scene, "Thing", stage.grid())
    check(scene, camera, stage.fit(scene, (72, 48), mode))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lens=st.floats(5, 200),
    shift=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    turn=st.tuples(st.floats(-0.4, 0.4), st.floats(-3, 3), st.floats(-0.4, 0.4)),
    size=st.tuples(st.integers(4, 400), st.integers(4, 400)),
)
def test_any_perspective_camera(scene, lens, shift, turn, size):
    if not scene.objects:
        stage.add_camera(scene)
        stage.add(scene, "Thing", stage.grid(cells=2))
        bpy.ops.mesh.primitive_cube_add(size=100)  # around all of it, so that every camera sees something
    camera = scene.camera
    camera.data.lens = lens
    camera.data.shift_x, camera.data.shift_y = shift
    camera.rotation_euler = Euler((np.pi / 2 + turn[0], turn[1], turn[2]))
    scene.render.resolution_x, scene.render.resolution_y = size
    fit = stage.fit(scene)
    shot = stage.capture(scene, frame_map=stage.frames(1), size_fit=fit)
    scene.frame_set(1)
    thing = shot.meshes.index(stage.track(shot, "Thing"))
    expected = blender_pixels(scene, camera, shot.world_positions(thing, 0), fit)
    np.testing.assert_allclose(pixels(shot, 0, thing), expected, rtol=1e-4, atol=1e-2)


def test_animated_settings_are_those_of_each_frame(scene):
    camera = stage.add_camera(scene)
    stage.add(scene, "Thing", stage.grid())
    stage.key(camera.data, "lens", {1: 20.0, 3: 80.0})
    stage.key(camera.data, "shift_x", {1: 0.0, 3: 0.3})
    stage.key(camera.data, "clip_end", {1: 100.0, 3: 300.0})
    stage.key(camera, "location", {1: (0, -6, 0), 3: (1, -9, 1)})
    shot = stage.shoot(scene)
    for t in range(3):
        scene.frame_set(1 + t)
        expected = blender_pixels(scene, camera, shot.world_positions(0, t), stage.fit(scene))
        np.testing.assert_allclose(pixels(shot, t), expected, atol=2e-3)
        assert shot.camera.clip[t, 1] == pytest.approx(camera.data.clip_end)
    assert len(set(shot.camera.intrinsics[:, 0, 0])) == 3


def test_sub_frames_are_between_the_frames(scene):
    stage.add_camera(scene)
    obj = stage.add(scene, "Thing", stage.grid())
    stage.key(obj, "location", {0: (0, 0, 0), 2: (0, 0, 1)})
    for curve in curves(obj):
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"
    shot = stage.capture(scene, frame_map=stage.frames(5, start=-0.5, step=0.5), size_fit=stage.fit(scene))
    assert shot.frame_numbers.tolist() == [-0.5, 0.0, 0.5, 1.0, 1.5]
    np.testing.assert_allclose(shot.meshes[0].matrix_world[:, 2, 3], [0, 0, 0.25, 0.5, 0.75], atol=1e-6)


def switching(scene) -> tuple[bpy.types.Object, bpy.types.Object]:
    """Two cameras, which markers at frames 1 and 3 choose."""
    first = stage.add_camera(scene)
    second = stage.add(scene, "Second", bpy.data.cameras.new("Second"))
    second.location, second.rotation_euler, second.data.type = (0, -5, 1), first.rotation_euler, "ORTHO"
    for frame, camera in ((1, first), (3, second)):
        scene.timeline_markers.new(f"Marker {frame}", frame=frame).camera = camera
    stage.add(scene, "Thing", stage.grid())
    return first, second


def test_markers_switch_the_camera(scene):
    first, second = switching(scene)
    scene.camera = second
    shot = stage.shoot(scene, 4)
    assert shot.camera.sources == ("Camera", "Camera", "Second", "Second")
    assert shot.camera.orthographic.tolist() == [False, False, True, True]
    assert scene.camera == second
    for t, camera in enumerate((first, first, second, second)):
        scene.frame_set(1 + t)
        expected = blender_pixels(scene, camera, shot.world_positions(0, t), stage.fit(scene))
        np.testing.assert_allclose(pixels(shot, t), expected, atol=2e-3)


def test_a_named_camera_is_kept_whatever_markers_say(scene):
    _, second = switching(scene)
    shot = stage.shoot(scene, 4, camera=second)
    assert set(shot.camera.sources) == {"Second"}
    assert [marker.camera.name for marker in scene.timeline_markers] == ["Camera", "Second"]


def test_a_camera_outside_the_view_layer_is_evaluated(scene):
    camera = stage.add_camera(scene)
    stage.add(scene, "Thing", stage.grid())
    hidden = bpy.data.collections.new("Hidden")
    scene.collection.children.link(hidden)
    scene.collection.objects.unlink(camera)
    hidden.objects.link(camera)
    scene.view_layers[0].layer_collection.children["Hidden"].exclude = True
    stage.key(camera, "location", {1: (0, -6, 0), 3: (0, -8, 0)})
    other = stage.add_camera(scene)
    shot = stage.shoot(scene, 3, camera=camera)
    np.testing.assert_allclose(shot.camera.world_to_camera[[0, 2], 2, 3], [6, 8], atol=1e-5)
    assert scene.camera == other


def test_parented_cameras_and_lights_are_tracked_as_objects(scene):
    camera = stage.add_camera(scene)
    stage.add(scene, "Thing", stage.grid())
    crane = stage.add(scene, "Crane", None)
    stage.key(crane, "location", {1: (0, 0, 0), 3: (0, 0, 2)})
    camera.parent = crane
    stage.add(scene, "Lamp", bpy.data.lights.new("Lamp", "POINT")).parent = crane
    shot = stage.shoot(scene)
    kinds = {item.name: item.kind for item in shot.objects}
    assert kinds == {"Camera": "CAMERA", "Thing": "MESH", "Crane": "EMPTY", "Lamp": "LIGHT"}
    for item in shot.objects:
        rise = item.matrix_world[2, 2, 3] - item.matrix_world[0, 2, 3]
        assert rise == pytest.approx(0 if item.name == "Thing" else 2)


def test_no_camera(scene):
    stage.add(scene, "Thing", stage.grid())
    with pytest.raises(ShotError, match="has no camera") as caught:
        stage.shoot(scene)
    assert (caught.value.code, caught.value.exit_code) == ("no-camera", 3)


def test_a_lamp_is_no_camera(scene):
    stage.add(scene, "Thing", stage.grid())
    scene.camera = stage.add(scene, "Lamp", bpy.data.lights.new("Lamp", "POINT"))
    with pytest.raises(ShotError, match=r"'Lamp'.*no camera") as caught:
        stage.shoot(scene)
    assert caught.value.code == "no-camera"


def test_a_panoramic_camera_is_refused_by_name(scene):
    stage.add_camera(scene).data.type = "PANO"
    stage.add(scene, "Thing", stage.grid())
    with pytest.raises(ShotError, match="'Camera' is panoramic") as caught:
        stage.shoot(scene)
    assert caught.value.code == "panoramic-camera"


def test_a_camera_scaled_to_nothing(scene):
    stage.add_camera(scene).scale = (0, 0, 0)
    stage.add(scene, "Thing", stage.grid())
    with pytest.raises(ShotError, match="'Camera' is scaled to nothing") as caught:
        stage.shoot(scene)
    assert caught.value.code == "bad-camera"


def test_a_camera_that_looks_away_sees_nothing(scene):
    camera = stage.add_camera(scene)
    stage.add(scene, "Thing", stage.grid())
    camera.rotation_euler.x = -np.pi / 2
    with pytest.raises(ShotError, match="'Camera' sees no surface") as caught:
        stage.shoot(scene)
    assert caught.value.code == "nothing-visible"


def test_a_surface_larger_than_the_frame_is_seen(scene):
    stage.add_camera(scene, (0, -0.1, 0))
    obj = stage.add(scene, "Wall", stage.grid(cells=1))
    obj.scale = (100, 100, 100)
    assert stage.names(stage.shoot(scene)) == ["Wall"]


def test_a_plan_follows_the_scene(scene):
    scene.frame_start, scene.frame_end, scene.frame_step = 10, 60, 2
    scene.render.fps, scene.render.fps_base = 30, 1.001
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 1001, 500, 50
    scene.render.pixel_aspect_y = 2.0
    frames, size = plan_scene(scene)
    assert frames.frame_numbers == tuple(range(10, 61, 2))
    assert frames.fps == pytest.approx(30 / 1.001 / 2)
    assert (size.source, size.pixel_aspect, size.size) == ((500, 250), (1.0, 2.0), (500, 250))
    assert size.is_identity
    frames, _ = plan_scene(scene, start=1, end=5, step=0.25)
    assert frames.frame_numbers[:3] == (1.0, 1.25, 1.5)
    frames, _ = plan_scene(scene, start=5, end=5)
    assert frames.frame_numbers == (5.0,)


def test_a_region_is_the_size_of_its_render(scene, tmp_path):
    """With rounded bounds, and the camera of the whole frame."""
    camera = stage.add_camera(scene, (0, -4, 0))
    stage.add(scene, "Wall", stage.grid())
    render = scene.render
    render.engine, render.resolution_x, render.resolution_y = "CYCLES", 101, 67
    scene.cycles.samples, scene.cycles.use_denoising = 1, False
    whole = stage.capture(scene, frame_map=stage.frames(1), size_fit=plan_scene(scene)[1])
    render.use_border = render.use_crop_to_border = True
    render.border_min_x, render.border_max_x, render.border_min_y, render.border_max_y = 0.21, 0.64, 0.33, 0.91
    frames, size = plan_scene(scene, 1, 1)
    part = stage.capture(scene, frame_map=frames, size_fit=size)
    render.filepath = str(tmp_path / "part.png")
    bpy.ops.render.render(write_still=True)
    assert part.size == tuple(bpy.data.images.load(render.filepath).size)
    left, top, _, _ = size.frame_in_model()
    assert np.allclose(part.camera.intrinsics[0] - whole.camera.intrinsics[0], [[0, 0, left], [0, 0, top], [0, 0, 0]])
    assert camera == scene.camera
    render.border_max_y = 0.335  # less than a pixel
    with pytest.raises(ShotError, match="no area"):
        plan_scene(scene)


@pytest.mark.parametrize(("start", "end", "step", "code"), [(5, 4, 1, "bad-range"), (1, 5, 0, "bad-step")])
def test_a_range_that_cannot_be_taken_is_refused(scene, start, end, step, code):
    with pytest.raises(ShotError) as caught:
        plan_scene(scene, start, end, step)
    assert caught.value.code == code


def test_a_transform_that_is_not_finite_is_named(scene):
    stage.add_camera(scene)
    stage.add(scene, "Thing", stage.grid())
    stage.add(scene, "Lost", stage.triangle()).location.x = float("nan")
    with pytest.raises(ShotError, match="'Lost' is not finite at frame 1") as caught:
        stage.shoot(scene)
    assert caught.value.code == "not-finite"
