# SPDX-License-Identifier: GPL-3.0-or-later
"""A plate fills its camera's frame, whatever the camera is and does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mathutils import Vector

from tests.helpers.place_results import levels, make_result, new_scene, numbered, render
from tests.helpers.stage import EEVEE, use_engine
from trackshade.core.fitting import SizeFit, fit_size
from trackshade.core.geometry import intrinsics, orthographic_intrinsics, project, world_to_camera
from trackshade_addon.placement import place

PICTURE = (12, 8)
KEYS = (1, 5, 10)  # frames at which the animated settings have keys; looked at between them too
LOOKS = (1, 3, 5, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results") / "job"


def values(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high)


cameras = st.fixed_dictionaries({
    "type": st.sampled_from(["PERSP", "ORTHO"]),
    "sensor_fit": st.sampled_from(["AUTO", "HORIZONTAL", "VERTICAL"]),
    "sensor_width": values(4, 70),
    "sensor_height": values(4, 70),
    "lens": st.tuples(*[values(8, 300)] * 3),
    "ortho_scale": st.tuples(*[values(0.05, 500)] * 3),
    "shift_x": st.tuples(*[values(-2, 2)] * 3),
    "shift_y": st.tuples(*[values(-2, 2)] * 3),
    "clip_start": st.tuples(*[values(0.01, 2)] * 3),
})  # fmt: skip
frames_of = st.fixed_dictionaries({
    "size": st.tuples(st.integers(16, 4096), st.integers(16, 4096)),
    "pixel_aspect": st.tuples(st.sampled_from([1.0, 1.4587, 2.0]), st.sampled_from([1.0, 1.0667, 1.5])),
    "mode": st.sampled_from(["pad", "crop"]),
})  # fmt: skip
poses = st.fixed_dictionaries({
    "location": st.tuples(*[values(-20, 20)] * 3),
    "rotation_euler": st.tuples(*[values(-3, 3)] * 3),
    "scale": st.tuples(*[values(0.1, 5)] * 3),
})  # fmt: skip


def build(camera: dict[str, Any], frame: dict[str, Any], pose: dict[str, Any]) -> tuple[bpy.types.Scene, SizeFit]:
    """A scene with an animated camera, and how the pictures lie over its frame."""
    scene = new_scene(frame["size"])
    scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = frame["pixel_aspect"]
    data = scene.camera.data
    for name in ("type", "sensor_fit", "sensor_width", "sensor_height"):
        setattr(data, name, camera[name])
    for name in ("lens", "ortho_scale", "shift_x", "shift_y", "clip_start"):
        for key, value in zip(KEYS, camera[name], strict=True):
            setattr(data, name, value)
            data.keyframe_insert(name, frame=key)
    for name, value in pose.items():
        setattr(scene.camera, name, value)
    bpy.context.view_layer.update()
    # Blender stores the pixel aspect as float32.
    aspect = (scene.render.pixel_aspect_x, scene.render.pixel_aspect_y)
    return scene, fit_size(frame["size"], aspect, [PICTURE], frame["mode"])


def camera_matrix(data: bpy.types.Camera, fit: SizeFit) -> np.ndarray:
    """[3, 3] intrinsics of the scene's frame, as capture takes them."""
    frame = {
        "sensor_fit": data.sensor_fit,
        "shift_x": data.shift_x,
        "shift_y": data.shift_y,
        "size": fit.source,
        "pixel_aspect": fit.pixel_aspect,
    }
    if data.type == "ORTHO":
        return orthographic_intrinsics(ortho_scale=data.ortho_scale, **frame)
    sensor = {"sensor_width": data.sensor_width, "sensor_height": data.sensor_height}
    return intrinsics(lens=data.lens, **sensor, **frame)


def corners(plane: bpy.types.Object) -> np.ndarray:
    """[4, 3] world places of the plane's corners, from the lower left one on, counter-clockwise."""
    graph = bpy.context.evaluated_depsgraph_get()
    evaluated = plane.evaluated_get(graph)
    matrix = np.array(evaluated.matrix_world)
    local = np.array([vertex.co for vertex in evaluated.data.vertices])[:4]
    return local @ matrix[:3, :3].T + matrix[:3, 3]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(camera=cameras, frame=frames_of, pose=poses)
def test_the_corners_lie_on_the_frames_corners(
    folder: Path, camera: dict[str, Any], frame: dict[str, Any], pose: dict[str, Any]
) -> None:
    scene, fit = build(camera, frame, pose)
    matrix = world_to_camera(np.array(scene.camera.matrix_world))
    seen = []
    for number in range(1, 11):
        scene.frame_set(number)
        seen.append(fit.apply(camera_matrix(scene.camera.data, fit)))
    make_result(
        folder,
        numbered(10, PICTURE),
        range(1, 11),
        fit=fit,
        world_to_camera=matrix,
        nearest=1000.0,
        intrinsics=np.array(seen),
    )
    plane = bpy.data.objects[place(folder, scene).planes[0]]
    assert all(curve.driver.is_simple_expression and curve.driver.is_valid for curve in plane.animation_data.drivers)
    left, top, right, bottom = covered(fit)
    wanted = np.array([(left, bottom), (right, bottom), (right, top), (left, top)])
    for number in LOOKS:
        scene.frame_set(number)
        matrix = world_to_camera(np.array(scene.camera.matrix_world))
        places = corners(plane) @ matrix[:3, :3].T + matrix[:3, 3]
        data = scene.camera.data
        assert (places[:, 2] > data.clip_start).all()
        pixels = project(places, camera_matrix(data, fit), data.type == "ORTHO")
        assert np.abs(pixels - wanted).max() < 0.25
        assert (np.abs(pixels - wanted) / fit.source).max() < 2e-3


def covered(fit: SizeFit) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the part of the scene's frame that has pictures, source pixels."""
    (sx, sy), (ox, oy) = fit.scale, fit.offset
    left, top = max(0.0, -ox / sx), max(0.0, -oy / sy)
    return left, top, min(fit.source[0], (fit.size[0] - ox) / sx), min(fit.source[1], (fit.size[1] - oy) / sy)


@pytest.mark.parametrize("kind", ["PERSP", "ORTHO"])
@pytest.mark.parametrize("sensor_fit", ["AUTO", "HORIZONTAL", "VERTICAL"])
@pytest.mark.parametrize("size", [(120, 80), (80, 120)])
def test_blenders_own_projection_agrees(folder: Path, kind: str, sensor_fit: str, size: tuple[int, int]) -> None:
    scene = new_scene(size)
    scene.render.pixel_aspect_x = 1.5
    data = scene.camera.data
    data.type, data.sensor_fit, data.shift_x, data.shift_y = kind, sensor_fit, 0.3, -0.2
    make_result(folder, numbered(1, PICTURE), [1], fit=fit_size(size, (1.5, 1.0), [PICTURE]))
    plane = bpy.data.objects[place(folder, scene).planes[0]]
    scene.frame_set(1)
    views = [world_to_camera_view(scene, scene.camera, Vector(corner))[:2] for corner in corners(plane)]
    assert np.allclose(views, [(0, 0), (1, 0), (1, 1), (0, 1)], atol=1e-4)


@pytest.mark.parametrize("mode", ["pad", "crop"])
@pytest.mark.parametrize("source", [(96, 40), (40, 96), (90, 60)])
def test_the_picture_lies_where_the_model_saw_it(
    folder: Path, tmp_path: Path, mode: str, source: tuple[int, int]
) -> None:
    """Each pixel of the render shows the picture's color at the place that the size fit gives; outside, the scene."""
    size = (48, 32)
    x, y = np.meshgrid((np.arange(size[0]) + 0.5) / size[0], (np.arange(size[1]) + 0.5) / size[1])
    picture = np.rint(np.stack([40 + 200 * x, 40 + 200 * y, np.full_like(x, 128)], axis=-1)).astype(np.uint8)
    scene = new_scene(source)
    scene.render.pixel_aspect_y = 1.25
    fit = fit_size(source, (1.0, 1.25), [size], mode)
    make_result(folder, picture[None], [1], fit=fit)
    place(folder, scene)
    out = render(scene, 1, tmp_path / "out.png")
    column, row = np.meshgrid(np.arange(source[0]) + 0.5, np.arange(source[1]) + 0.5)
    model_x = (column * fit.scale[0] + fit.offset[0]) / size[0]
    model_y = (row * fit.scale[1] + fit.offset[1]) / size[1]
    inside = (model_x > 0) & (model_x < 1) & (model_y > 0) & (model_y < 1)
    assert inside.all() == (mode == "pad")
    # A ramp is reproduced by linear interpolation, up to rounding and to the last half pixel of the picture's edge.
    ramp = (np.abs(model_x - 0.5) < 0.5 - 0.5 / size[0]) & (np.abs(model_y - 0.5) < 0.5 - 0.5 / size[1])
    wanted = np.stack([40 + 200 * model_x, 40 + 200 * model_y, np.full_like(model_x, 128)], axis=-1)
    # Filtered in linear light, so steps of sRGB come out a little brighter.
    assert np.abs(out - wanted)[ramp].max() < 2.0
    assert (out[~inside] == 0).all()
    assert (out[inside][:, 2] >= 126).all()


def test_a_wide_pixel_filter_sees_nothing_beside_the_plate(folder: Path, tmp_path: Path) -> None:
    scene = new_scene((30, 20))
    scene.cycles.pixel_filter_type, scene.cycles.filter_width, scene.cycles.samples = "GAUSSIAN", 4.0, 64
    make_result(folder, numbered(1, (30, 20)) + 90, [1])
    place(folder, scene)
    assert np.abs(render(scene, 1, tmp_path / "out.png") - 100).max() <= 1


def test_a_camera_whose_parents_scale_and_turn(folder: Path) -> None:
    scene = new_scene(PICTURE)
    parent = bpy.data.objects.new("Parent", None)
    scene.collection.objects.link(parent)
    parent.scale, parent.rotation_euler, parent.location = (2.0, 0.5, 3.0), (0.3, 0.7, 0.1), (5, -3, 2)
    scene.camera.parent = parent
    make_result(folder, numbered(1, PICTURE), [1])
    plane = bpy.data.objects[place(folder, scene).planes[0]]
    scene.frame_set(1)
    matrix = world_to_camera(np.array(scene.camera.matrix_world))
    places = corners(plane) @ matrix[:3, :3].T + matrix[:3, 3]
    fit = fit_size(PICTURE, (1.0, 1.0), [PICTURE])
    pixels = project(places, camera_matrix(scene.camera.data, fit), False)
    assert np.allclose(pixels, [(0, 8), (12, 8), (12, 0), (0, 0)], atol=1e-3)


def test_the_plate_fills_the_frame_at_any_distance(folder: Path) -> None:
    scene = new_scene(PICTURE)
    make_result(folder, numbered(1, PICTURE), [1])
    plane = bpy.data.objects[place(folder, scene, distance=7.0).planes[0]]
    for distance in (7.0, 3.0, 0.001):  # the last is in front of the near clipping distance
        plane["distance"] = distance
        plane.update_tag()
        scene.frame_set(1)
        views = [world_to_camera_view(scene, scene.camera, Vector(corner)) for corner in corners(plane)]
        assert np.allclose([view[:2] for view in views], [(0, 0), (1, 0), (1, 1), (0, 1)], atol=1e-4)
        assert views[0][2] == pytest.approx(max(distance, 0.101), rel=1e-3)


def test_far_from_the_origin_the_plate_keeps_still(folder: Path) -> None:
    """At 100 km float32 knows places to 8 mm: too coarse for a plate at the near clipping distance."""
    scene = new_scene((1920, 1080))
    scene.camera.location = (100_000.0, -70_000.0, 300.0)
    bpy.context.view_layer.update()
    matrix = world_to_camera(np.array(scene.camera.matrix_world))
    fit = fit_size((1920, 1080), (1.0, 1.0), [PICTURE])
    k = fit.apply(camera_matrix(scene.camera.data, fit))
    make_result(folder, numbered(1, PICTURE), [1], fit=fit, world_to_camera=matrix, nearest=2000.0, intrinsics=k)
    plane = bpy.data.objects[place(folder, scene).planes[0]]
    scene.frame_set(1)
    places = corners(plane) @ matrix[:3, :3].T + matrix[:3, 3]
    left, top, right, bottom = covered(fit)
    wanted = np.array([(left, bottom), (right, bottom), (right, top), (left, top)])
    assert np.abs(project(places, camera_matrix(scene.camera.data, fit), False) - wanted).max() < 0.5
    assert 0.2 < places[0, 2] < 1000


@pytest.mark.once
def test_the_result_of_a_scene_shows_up_in_eevee_too(folder: Path, tmp_path: Path) -> None:
    scene = new_scene(PICTURE)
    use_engine(scene, EEVEE)
    make_result(folder, numbered(2, PICTURE) + 80, [1, 2])
    place(folder, scene)
    scene.frame_set(2)
    scene.render.filepath = str(tmp_path / "eevee.png")
    try:
        bpy.ops.render.render(write_still=True)
    except RuntimeError as error:
        pytest.skip(f"no GPU and no software rasteriser here: {error}")
    assert np.abs(levels(tmp_path / "eevee.png") - 100).max() <= 1
