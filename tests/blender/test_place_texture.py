# SPDX-License-Identifier: GPL-3.0-or-later
"""A result on the surfaces that it shows: whose pixels they wear, under which camera, and how all of it comes off."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.helpers.stage import EEVEE, use_engine
from tests.helpers.texture_stage import (
    FRAMES,
    SIZE,
    alike,
    look_from_the_side,
    painted,
    render,
    set_stage,
    shade,
    state,
)
from trackshade.core.errors import ShotError, UsageError
from trackshade.core.fitting import fit_frames
from trackshade_addon.placement import place, remove, remove_textures, save_copy
from trackshade_addon.placement.materials import KEY, override_materials, restore_materials
from trackshade_addon.placement.projection import PROJECTION_ATTRIBUTE
from trackshade_addon.placement.uv_maps import UV_MAP, can_hold_texture, choose_uv_maps

pytestmark = pytest.mark.usefixtures("baking")

STEADY, SWIMS = (6, 4, 18), (252, 255, 205)  # the ends of the heat map's scale


@pytest.fixture
def stage(scene: bpy.types.Scene) -> bpy.types.Scene:
    return set_stage(scene)


@pytest.mark.parametrize(
    ("way", "engine"),
    [("baked", "CYCLES"), ("projected", "CYCLES"), pytest.param("projected", "EEVEE", marks=pytest.mark.long)],
)
def test_the_surface_wears_what_the_camera_saw(stage: bpy.types.Scene, tmp_path: Path, way: str, engine: str) -> None:
    folder = shade(stage, tmp_path)
    if engine == "EEVEE":
        use_engine(stage, EEVEE)
    before = state(stage)
    front = render(stage, 3, tmp_path)
    truth_camera = stage.camera
    look_from_the_side(stage)
    side = render(stage, 3, tmp_path)
    stage.camera, other = truth_camera, stage.camera
    placed = place(folder, stage, mode=way)
    assert placed.warnings == ()
    board = stage.objects["Board"]
    assert board.material_slots[0].material.name != "Paint"
    assert board.data.materials[0].name == "Paint"  # the mesh keeps its own
    assert alike(render(stage, 3, tmp_path), front)
    stage.camera = other
    assert alike(render(stage, 3, tmp_path), side)
    bpy.data.objects.remove(other)
    remove(placed)
    assert state(stage) == before


def test_the_projection_sticks_to_the_surface_between_samples_and_under_other_motion(
    stage: bpy.types.Scene, tmp_path: Path
) -> None:
    sparse = fit_frames(1, FRAMES, 2, 24.0, (3,))
    folder = shade(stage, tmp_path, sparse)
    truth = {frame: render(stage, frame, tmp_path) for frame in (2, 4)}
    board = stage.objects["Board"]
    animation = board.animation_data.action
    board.animation_data.action = None
    board.rotation_euler = (1.2, 0.3, -0.5)
    elsewhere = render(stage, 3, tmp_path)
    board.animation_data.action = animation
    place(folder, stage, mode="projected")
    for frame, picture in truth.items():  # frames that were never shaded
        assert alike(render(stage, frame, tmp_path), picture), frame
    board.animation_data.action = None
    board.rotation_euler = (1.2, 0.3, -0.5)
    assert alike(render(stage, 3, tmp_path), elsewhere)


def test_each_frame_is_projected_by_itself(stage: bpy.types.Scene, tmp_path: Path) -> None:
    """What flickers in the result flickers on the surface, and its median is what is baked."""
    video = np.empty((FRAMES, SIZE[1], SIZE[0], 3), np.uint8)
    video[:] = np.array([40, 200, 100, 100, 100])[:, None, None, None]
    folder = shade(stage, tmp_path, video=video)
    place(folder, stage, mode="projected")
    middle = (SIZE[1] // 2, SIZE[0] // 2)
    assert [round(float(render(stage, frame, tmp_path)[middle][0])) for frame in (1, 2, 3)] == [40, 200, 100]
    place(folder, stage, mode="baked")
    assert [round(float(render(stage, frame, tmp_path)[middle][0])) for frame in (1, 2)] == [100, 100]


def test_the_heat_map_is_bright_where_the_shading_swims(stage: bpy.types.Scene, tmp_path: Path) -> None:
    """The right half of the picture flickers; the board's left and right are dark and bright, through any camera."""
    before = state(stage)
    video = np.full((FRAMES, SIZE[1], SIZE[0], 3), 100, np.uint8)
    video[::2, :, SIZE[0] // 2 :] = 180
    placed = place(shade(stage, tmp_path, video=video), stage, mode="heat")
    look_from_the_side(stage)
    picture = render(stage, 1, tmp_path)
    dark, bright = (picture[SIZE[1] // 2, SIZE[0] // 2 + x] for x in (-12, 12))
    assert np.abs(dark - STEADY).max() <= 1
    assert np.abs(bright - SWIMS).max() <= 1
    stage.camera, other = stage.objects["Camera"], stage.camera
    bpy.data.objects.remove(other)
    remove(placed)
    assert state(stage) == before


@pytest.mark.parametrize("view", ["AgX", "Standard"])
def test_colors_arrive_as_they_are(stage: bpy.types.Scene, tmp_path: Path, view: str) -> None:
    stage.view_settings.view_transform, stage.view_settings.exposure = view, 0.5
    video = np.empty((FRAMES, SIZE[1], SIZE[0], 3), np.uint8)
    video[:] = (120, 90, 60)
    place(shade(stage, tmp_path, video=video), stage, mode="baked")
    shown = render(stage, 1, tmp_path)[SIZE[1] // 2, SIZE[0] // 2]
    assert np.abs(shown - (120, 90, 60)).max() <= 2


def test_what_is_hidden_from_the_shot_s_camera_does_not_wear_what_hides_it(
    stage: bpy.types.Scene, tmp_path: Path
) -> None:
    bpy.ops.mesh.primitive_cube_add(size=0.5, location=(0, -1.5, 0))
    bpy.context.object.name = "Before"
    red = painted("Red")
    shine = next(node for node in red.node_tree.nodes if node.type == "EMISSION")
    red.node_tree.links.remove(shine.inputs["Color"].links[0])
    shine.inputs["Color"].default_value = (1, 0, 0, 1)
    bpy.context.object.data.materials.append(red)
    folder = shade(stage, tmp_path)
    look_from_the_side(stage)
    for way in ("baked", "projected"):
        place(folder, stage, mode=way)
        stage.objects["Before"].hide_render = True
        picture = render(stage, 3, tmp_path)
        stage.objects["Before"].hide_render = False
        red_pixels = (picture[..., 0] > 200) & (picture[..., 1] < 60)
        assert not red_pixels.any(), way


def test_what_lies_before_the_frame_wears_the_bake(scene: bpy.types.Scene, tmp_path: Path) -> None:
    set_stage(scene)
    bpy.data.objects.remove(scene.objects["Board"])
    bpy.ops.mesh.primitive_plane_add(size=10, location=(0, 0, -1))
    bpy.context.object.data.materials.append(painted("Ground"))
    scene.camera.location, scene.camera.rotation_euler = (0, -5, 2), (1.13, 0, 0)
    folder = shade(scene, tmp_path)  # which sees the ground from four metres on
    other = bpy.data.objects.new("Other", bpy.data.cameras.new("Other"))
    scene.collection.objects.link(other)
    other.location = (0, -3, 2)  # and this one, looking down, what is nearer
    seen = {}
    for way in ("baked", "projected"):
        placed = place(folder, scene, mode=way)
        shot_camera, scene.camera = scene.camera, other
        seen[way] = render(scene, 3, tmp_path)
        scene.camera = shot_camera
        remove(placed)
    assert seen["baked"].max() > 50
    assert np.abs(seen["projected"] - seen["baked"]).max() <= 2


def test_it_survives_the_file_and_comes_off_in_the_opened_one(stage: bpy.types.Scene, tmp_path: Path) -> None:
    folder = shade(stage, tmp_path)
    board = stage.objects["Board"]
    own = painted("On the object")
    board.material_slots[0].link, board.material_slots[0].material = "OBJECT", own  # which nothing else uses
    front = render(stage, 3, tmp_path)
    before = state(stage)
    place(folder, stage, mode="projected")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "s.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "s.blend"))
    opened = bpy.context.scene
    assert opened.objects["Board"].material_slots[0].material.name.startswith("result")
    assert remove_textures(opened, uv_maps=True) == 1
    assert state(opened) == before
    assert np.array_equal(render(opened, 3, tmp_path), front)


def test_a_copy_of_the_scene_finds_the_tracks_where_it_is_moved_to(stage: bpy.types.Scene, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    folder = shade(stage, home)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "own.blend"))
    place(folder, stage, mode="projected")
    shown = render(stage, 3, tmp_path)
    save_copy(folder / "scene.blend")
    home.rename(tmp_path / "moved")
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "moved" / "result" / "scene.blend"))
    assert np.array_equal(render(bpy.context.scene, 3, tmp_path), shown)


def test_instances_of_one_mesh_wear_their_own_and_slots_come_back(stage: bpy.types.Scene, tmp_path: Path) -> None:
    board = stage.objects["Board"]
    board.data.materials.clear()
    board.scale = (0.5, 0.5, 0.5)
    twin = board.copy()
    twin.name = "Twin"
    stage.collection.objects.link(twin)
    board.location, twin.location = (-0.7, 0, 0), (0.7, 0, 0)
    twin.scale = (-0.5, 0.5, 0.5)  # mirrored
    before = state(stage)
    video = np.empty((FRAMES, SIZE[1], SIZE[0], 3), np.uint8)
    video[:, :, : SIZE[0] // 2], video[:, :, SIZE[0] // 2 :] = 60, 180
    folder = shade(stage, tmp_path, video=video)
    placed = place(folder, stage, mode="baked")
    picture = render(stage, 1, tmp_path)
    assert [round(float(picture[40, x, 0])) for x in (35, 85)] == [60, 180]
    remove(placed)
    assert state(stage) == before


def test_meshes_get_a_map_of_their_own_where_theirs_holds_no_texture(stage: bpy.types.Scene, tmp_path: Path) -> None:
    board = stage.objects["Board"]
    layer = board.data.uv_layers[0]
    for change in ("mirrored", "udim", "none"):
        if change == "none":
            board.data.uv_layers.remove(layer)
        else:
            uv = np.empty(2 * len(board.data.loops), np.float32)
            layer.uv.foreach_get("vector", uv)
            uv[0::2] = np.abs(uv[0::2] - 0.5) if change == "mirrored" else uv[0::2] + 1
            layer.uv.foreach_set("vector", uv)
            assert not can_hold_texture(board.data, layer)
        names = [item.name for item in board.data.uv_layers]
        folder = tmp_path / change
        folder.mkdir()
        result = shade(stage, folder)
        before = state(stage)
        front = render(stage, 3, folder)
        placed = place(result, stage, mode="baked")
        assert placed.warnings == (), change
        assert [item.name for item in board.data.uv_layers] == [*names, UV_MAP]
        assert [item.name for item in board.data.uv_layers if item.active_render] == (names or [UV_MAP])
        assert alike(render(stage, 3, folder), front), change
        remove(placed)
        assert state(stage) == before, change


def test_an_unwrapped_map_holds_a_texture_and_leaves_no_trace(scene: bpy.types.Scene) -> None:
    bpy.ops.mesh.primitive_monkey_add()
    head = bpy.context.object
    while head.data.uv_layers:
        head.data.uv_layers.remove(head.data.uv_layers[0])
    scenes, objects, meshes = len(bpy.data.scenes), len(bpy.data.objects), len(bpy.data.meshes)
    assert choose_uv_maps({"Suzanne": head}) == ({"Suzanne": UV_MAP}, {})
    assert can_hold_texture(head.data, head.data.uv_layers[UV_MAP])
    assert (len(bpy.data.scenes), len(bpy.data.objects), len(bpy.data.meshes)) == (scenes, objects, meshes)
    assert bpy.context.view_layer.objects.active == head
    assert head.mode == "OBJECT"


def test_other_vertices_in_the_viewport_show_the_baked_texture_there(stage: bpy.types.Scene, tmp_path: Path) -> None:
    division = stage.objects["Board"].modifiers.new("Division", "SUBSURF")
    division.levels, division.render_levels = 0, 1
    folder = shade(stage, tmp_path)
    front = render(stage, 2, tmp_path)
    (warning,) = place(folder, stage, mode="projected").warnings
    assert "'Board' has 169 vertices in the viewport and 625 in the tracks" in warning
    shown = stage.objects["Board"].evaluated_get(bpy.context.evaluated_depsgraph_get())
    values = np.empty(3 * len(shown.data.vertices), np.float32)
    shown.data.attributes[PROJECTION_ATTRIBUTE].data.foreach_get("vector", values)
    assert not values.any()
    assert alike(render(stage, 2, tmp_path), front)


def test_what_cannot_be_textured_is_said(stage: bpy.types.Scene, tmp_path: Path) -> None:
    text = bpy.data.objects.new("Words", bpy.data.curves.new("Words", "FONT"))
    text.data.body, text.rotation_euler = "Hello", (np.pi / 2, 0, 0)
    stage.collection.objects.link(text)
    folder = shade(stage, tmp_path)
    (warning,) = place(folder, stage, mode="baked").warnings
    assert warning == "'Words' is no mesh, and was given no texture."
    remove_textures(stage)
    bpy.data.objects.remove(stage.objects["Board"])
    with pytest.raises(ShotError, match="has none of the meshes"):
        place(folder, stage, mode="baked")
    with pytest.raises(UsageError, match="cannot be placed as 'painted'"):
        place(folder, stage, mode="painted")


def test_a_result_without_its_shot_is_refused_in_words(stage: bpy.types.Scene, tmp_path: Path) -> None:
    folder = shade(stage, tmp_path)
    (folder / "tracks.shot").unlink()
    before = state(stage)
    with pytest.raises(ShotError, match="does not hold its shot"):
        place(folder, stage, mode="baked")
    assert state(stage) == before


def test_several_slots_of_both_kinds_come_back_as_they_were(scene: bpy.types.Scene) -> None:
    bpy.ops.mesh.primitive_cube_add()
    cube = bpy.context.object
    for name in ("A", "B", "C"):
        cube.data.materials.append(bpy.data.materials.new(name))
    cube.data.materials.append(None)
    cube.material_slots[1].link, cube.material_slots[1].material = "OBJECT", bpy.data.materials.new("Own")
    cube.material_slots[2].link = "OBJECT"
    before = [(slot.link, slot.material) for slot in cube.material_slots]
    for number in range(2):
        override_materials(cube, bpy.data.materials.new(f"Result {number}"), "folder")
    assert {slot.material.name for slot in cube.material_slots} == {"Result 1"}
    restore_materials(cube)
    assert [(slot.link, slot.material) for slot in cube.material_slots] == before
    assert KEY not in cube


@pytest.mark.parametrize("way", ["baked", "projected"])
def test_a_board_that_is_built_wears_what_each_of_its_topologies_showed(
    stage: bpy.types.Scene, tmp_path: Path, way: str
) -> None:
    board = stage.objects["Board"]
    build = board.modifiers.new("Build", "BUILD")
    build.frame_start, build.frame_duration = -3, 8
    board.modifiers.move(1, 0)
    folder = shade(stage, tmp_path)
    pictures = {frame: render(stage, frame, tmp_path) for frame in (1, 4)}
    placed = place(folder, stage, mode=way)
    assert any("The topology of 'Board' changes from frame 2 on" in warning for warning in placed.warnings)
    for frame, picture in pictures.items():
        assert alike(render(stage, frame, tmp_path), picture)
