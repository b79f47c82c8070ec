# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendered frame f shows picture f, also where the scene's time is stretched, in every way to place a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import gpu
import numpy as np
import pytest
from mathutils import Matrix

from tests.helpers import stage
from tests.helpers.place_results import add_camera, make_result, new_scene, numbered, render
from tests.helpers.texture_stage import FRAMES, set_stage, shade
from tests.helpers.texture_stage import SIZE as STAGE_SIZE
from tests.helpers.texture_stage import render as render_stage
from tests.helpers.whole_file import differences, whole_file
from trackshade_addon.capture import first_frame
from trackshade_addon.placement import place, remove
from trackshade_addon.placement.cameras import active_camera
from trackshade_addon.render.rendered_sequence import RenderedSequence

MAPS = [(100, 50), (100, 200), (50, 100), (24, 25), (100, 300)]
SHOWN = {0: 0, 1: 1, 2: 2, 3: 3, 5: 5, 8: 8, 11: 11, 12: 12, 13: 0}  # picture by frame; 0: none
TINY = (6, 4)


def stretch(scene: bpy.types.Scene, old: int, new: int) -> None:
    scene.render.frame_map_old, scene.render.frame_map_new = old, new


def test_workbench_shows_picture_f_in_frame_f(tmp_path: Path) -> None:
    """Like EEVEE it plays image sequences by the stretched time, and Cycles by the frame."""
    if not first_frame._has_graphics():
        pytest.skip("this machine has no graphics driver")
    scene = new_scene(TINY)
    scene.render.engine = "BLENDER_WORKBENCH"
    shading = scene.display.shading
    shading.light, shading.color_type, scene.display.render_aa = "FLAT", "TEXTURE", "OFF"
    stretch(scene, 100, 200)
    placed = place(make_result(tmp_path / "job", numbered(12, TINY), range(1, 13)), scene)
    plane = bpy.data.objects[placed.planes[0]]
    plane.display_type = "TEXTURED"
    nodes = plane.material_slots[0].material.node_tree.nodes
    nodes.active = next(node for node in nodes if node.type == "TEX_IMAGE")  # which Workbench shows
    for frame in (1, 5, 12):
        assert np.abs(render(scene, frame, tmp_path / "out.png") - 10 * frame).max() <= 1, frame


@pytest.mark.parametrize("old_new", MAPS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
@pytest.mark.parametrize("way", ["plate", "compositor", "sequencer"])
def test_it_shows_picture_f_in_frame_f(tmp_path: Path, old_new: tuple[int, int], way: str) -> None:
    scene = new_scene(TINY)
    stretch(scene, *old_new)
    place(make_result(tmp_path / "job", numbered(12, TINY), range(1, 13)), scene, mode=way)
    for frame, number in SHOWN.items():
        assert np.abs(render(scene, frame, tmp_path / "out.png") - 10 * number).max() <= 1, frame


def test_a_plate_stays_right_where_time_is_stretched_later(tmp_path: Path) -> None:
    scene = new_scene(TINY)
    for way in ("plate", "compositor"):
        stretch(scene, 100, 100)
        placed = place(make_result(tmp_path / "job", numbered(12, TINY), range(1, 13)), scene, mode=way)
        stretch(scene, 100, 50)
        for frame, number in SHOWN.items():
            assert np.abs(render(scene, frame, tmp_path / "out.png") - 10 * number).max() <= 1, (way, frame)
        remove(placed)


@pytest.mark.parametrize("old_new", [(100, 50), (100, 200), (24, 25)], ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_frames_below_zero_and_samples_apart(tmp_path: Path, old_new: tuple[int, int]) -> None:
    scene = new_scene(TINY)
    stretch(scene, *old_new)
    place(make_result(tmp_path / "job", numbered(4, TINY), [-5, -2, 1, 4]), scene)
    for frame, number in {-6: 0, -5: 1, -4: 1, -3: 2, -1: 2, 0: 3, 2: 3, 3: 4, 4: 4, 5: 0}.items():
        assert np.abs(render(scene, frame, tmp_path / "out.png") - 10 * number).max() <= 1, frame


@pytest.mark.parametrize("old_new", MAPS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_cameras_are_those_that_blender_sees_each_frame_through(tmp_path: Path, old_new: tuple[int, int]) -> None:
    scene = new_scene(TINY)
    add_camera(scene, "Second").location = (-3, -4, 2)
    for frame, name in ((-3, "Second"), (1, "Camera"), (5, "Second")):
        scene.timeline_markers.new(name, frame=frame).camera = bpy.data.objects[name]
    stretch(scene, *old_new)
    active, seen = active_camera(scene), {}
    for frame in range(-12, 13):
        scene.frame_set(frame)
        assert scene.camera is not None
        seen[frame] = scene.camera.name
    assert {frame: active(frame) for frame in seen} == seen
    cameras = [seen[frame] for frame in range(1, 13)]
    folder = make_result(tmp_path / "job", numbered(12, TINY), range(1, 13), cameras=cameras)
    place(folder, scene)
    for frame in (1, 3, 7, 12):
        assert np.abs(render(scene, frame, tmp_path / "out.png") - 10 * frame).max() <= 1, frame
    assert RenderedSequence.load(folder, scene).samples == {frame: frame - 1 for frame in range(1, 13)}


def test_a_camera_that_is_made_again_stands_where_it_stood_in_each_frame(tmp_path: Path) -> None:
    scene = new_scene(TINY)
    stretch(scene, 100, 200)
    places = np.stack([np.eye(4)] * 4)
    places[:, 0, 3] = [0.0, -1.0, -3.0, -6.0]
    folder = make_result(tmp_path / "job", numbered(4, TINY), [1, 2, 3, 4], world_to_camera=places, cameras="Lost")
    placed = place(folder, scene)
    camera = bpy.data.objects[placed.cameras[0]]
    for frame, x in ((1, 0.0), (2, 1.0), (3, 3.0), (4, 6.0)):
        scene.frame_set(frame)
        assert abs(camera.matrix_world.translation.x - x) < 1e-4


@pytest.mark.skipif(not hasattr(gpu, "init"), reason="needs bpy 5.2, which draws without a window")
@pytest.mark.parametrize("old_new", [(100, 100), *MAPS], ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_the_background_shows_picture_f_in_frame_f(tmp_path: Path, old_new: tuple[int, int]) -> None:
    if not first_frame._has_graphics():
        pytest.skip("this machine has no graphics driver")
    gpu.init()
    scene = new_scene()
    stretch(scene, *old_new)
    placed = place(make_result(tmp_path / "job", numbered(12), range(1, 13)), scene, mode="background")
    shown = {frame: through_the_camera(scene) for frame in (1, 2, 3, 5, 8, 11, 12) if scene.frame_set(frame) is None}
    for frame, level in shown.items():
        assert abs(level - 10 * frame) <= 4, shown  # the viewport draws in 8 bits of linear light
    remove(placed)
    camera = scene.camera.data
    assert len(camera.background_images) == 0
    assert camera.animation_data is None


def through_the_camera(scene: Any) -> float:
    """The level, 0..255 in sRGB, in the middle of the camera's view in a viewport."""
    area = next(area for area in bpy.context.window_manager.windows[0].screen.areas if area.type == "VIEW_3D")
    region = next(region for region in area.regions if region.type == "WINDOW")
    area.spaces.active.region_3d.view_perspective = "CAMERA"
    depsgraph = bpy.context.evaluated_depsgraph_get()
    drawn = gpu.types.GPUOffScreen(48, 32)
    try:
        matrix: Matrix = scene.camera.calc_matrix_camera(depsgraph, x=48, y=32)
        drawn.draw_view3d(
            scene, scene.view_layers[0], area.spaces.active, region, scene.camera.matrix_world.inverted(), matrix
        )
        light = np.array(drawn.texture_color.read().to_list())[16, 24, 0] / 255
    finally:
        drawn.free()
    return float(255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055))


def test_background_images_of_the_user_keep_their_animation(tmp_path: Path) -> None:
    """A background image is animated by its place in the list, which changes where one before it is removed."""
    scene = new_scene(TINY)
    stretch(scene, 100, 50)
    camera: Any = scene.camera.data
    mine = camera.background_images.new()
    mine.driver_add("alpha").driver.expression = "0.25"
    placed = place(make_result(tmp_path / "job", numbered(2, TINY), [1, 2]), scene, mode="background")
    later = camera.background_images.new()
    later.driver_add("alpha").driver.expression = "0.75"
    other = place(make_result(tmp_path / "other", numbered(2, TINY), [1, 2]), scene, mode="background")
    remove(placed)
    scene.frame_set(2)
    assert [round(item.alpha, 2) for item in camera.background_images] == [0.25, 0.75, 1.0]
    paths = [curve.data_path for curve in camera.animation_data.drivers]
    assert paths == [f"background_images[{place}].{name}" for place, name in
                     ((0, "alpha"), (1, "alpha"), (2, "image_user.frame_offset"))]  # fmt: skip
    remove(other)
    assert len(camera.animation_data.drivers) == 2


@pytest.mark.parametrize("way", ["plate", "both", "compositor", "sequencer"])
def test_taking_it_out_leaves_nothing_of_it(tmp_path: Path, way: str) -> None:
    scene = new_scene(TINY)
    stretch(scene, 24, 25)
    scene.sequence_editor_create()
    folder = make_result(tmp_path / "job", numbered(3, TINY), [1, 2, 3])
    remove(place(folder, scene, mode=way))  # what Blender itself makes once stays
    before = whole_file()
    placed = place(folder, scene, mode=way)
    scene.frame_set(2)
    scene.frame_set(1)
    remove(placed)
    assert differences(before, whole_file()) == []


@pytest.mark.usefixtures("baking")
@pytest.mark.parametrize("old_new", [(100, 50), (100, 200)], ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_a_projection_shows_picture_f_in_frame_f(scene: Any, tmp_path: Path, old_new: tuple[int, int]) -> None:
    """Each picture has a level of its own, and the board moves: the wrong points would show the baked median."""
    set_stage(scene)
    stretch(scene, *old_new)
    video = np.empty((FRAMES, STAGE_SIZE[1], STAGE_SIZE[0], 3), np.uint8)
    video[:] = (40 * np.arange(1, FRAMES + 1))[:, None, None, None]
    placed = place(shade(scene, tmp_path, video=video), scene, mode="projected")
    middle = STAGE_SIZE[1] // 2, STAGE_SIZE[0] // 2
    levels = [round(float(render_stage(scene, frame, tmp_path)[middle][0])) for frame in range(1, FRAMES + 1)]
    assert levels == pytest.approx([40, 80, 120, 160, 200], abs=2)
    remove(placed)
    assert not any("trackshade_tracks" in obj for obj in bpy.data.objects)


def test_a_shot_is_captured_at_the_time_that_renders_see(scene: Any) -> None:
    stage.add_camera(scene)
    thing = stage.add(scene, "Thing", stage.grid())
    for frame, x in ((0, 0.0), (100, 100.0)):
        thing.location.x = x
        thing.keyframe_insert("location", index=0, frame=frame)
    for curve in first_frame.curves(thing):
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"
    stretch(scene, 100, 50)
    shot = stage.shoot(scene, 3)
    assert list(shot.frame_numbers) == [1, 2, 3]
    assert shot.meshes[0].matrix_world[:, 0, 3] == pytest.approx([2.0, 4.0, 6.0], abs=1e-5)
