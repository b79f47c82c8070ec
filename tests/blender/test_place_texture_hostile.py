# SPDX-License-Identifier: GPL-3.0-or-later
"""Results on surfaces where something is in the way: linked data, meshes in edit mode, older results, moved files."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.helpers.stage import key
from tests.helpers.texture_stage import FRAMES, SIZE, render, set_stage, shade, state
from trackshade.core.errors import OutputError, ShotError
from trackshade_addon.placement import place, remove, remove_textures
from trackshade_addon.placement.materials import restore_materials
from trackshade_addon.placement.projection import PROJECTION_ATTRIBUTE, detach_tracks
from trackshade_addon.placement.uv_maps import UV_MAP

pytestmark = [pytest.mark.usefixtures("baking"), pytest.mark.once]


@pytest.fixture
def stage(scene: bpy.types.Scene) -> bpy.types.Scene:
    return set_stage(scene)


def grey(level: int) -> np.ndarray:
    return np.full((FRAMES, SIZE[1], SIZE[0], 3), level, np.uint8)


def shown(scene: bpy.types.Scene, folder: Path) -> float:
    """The level in the middle of the first frame."""
    return float(render(scene, 1, folder)[SIZE[1] // 2, SIZE[0] // 2].mean())


def library(folder: Path, block: bpy.types.ID) -> bpy.types.ID:
    """The block, linked from a file of its own."""
    bpy.data.libraries.write(str(folder / "library.blend"), {block}, fake_user=True)
    kind = "meshes" if isinstance(block, bpy.types.Mesh) else "objects"
    with bpy.data.libraries.load(str(folder / "library.blend"), link=True) as (there, here):
        setattr(here, kind, getattr(there, kind))
    return next(item for item in getattr(here, kind) if item.name == block.name)


def behind(scene: bpy.types.Scene, name: str, mesh: bpy.types.Mesh) -> bpy.types.Object:
    """One more object, behind the board and larger."""
    obj = bpy.data.objects.new(name, mesh)
    obj.location, obj.rotation_euler, obj.scale = (0, 1.5, 0), (np.pi / 2, 0, 0), (2, 2, 2)
    scene.collection.objects.link(obj)
    return obj


def bare(mesh: bpy.types.Mesh) -> bpy.types.Mesh:
    """A copy without UV maps and slots."""
    copy = mesh.copy()
    while copy.uv_layers:
        copy.uv_layers.remove(copy.uv_layers[0])
    copy.materials.clear()
    return copy


def edit(obj: bpy.types.Object, mode: str) -> None:
    bpy.context.view_layer.objects.active = obj
    bpy.ops.object.mode_set(mode=mode)


def test_what_is_in_edit_mode_is_left_alone_and_named(stage: bpy.types.Scene, tmp_path: Path) -> None:
    board = stage.objects["Board"]
    behind(stage, "Wall", bare(board.data))
    folder = shade(stage, tmp_path, video=grey(90))
    before = state(stage)
    edit(board, "EDIT")
    placed = place(folder, stage, mode="projected")
    assert placed.warnings == ("'Board' is in Edit Mode, and was given no texture.",)
    assert board.mode == "EDIT"
    remove_textures(stage, uv_maps=True)
    stage.objects["Wall"].hide_render = True
    with pytest.raises(ShotError, match=r"'Board' is in Edit Mode.*'Wall' is not shown in renders any more"):
        place(folder, stage, mode="baked")
    edit(board, "OBJECT")
    assert state(stage) == before


def test_materials_are_put_back_in_edit_mode(stage: bpy.types.Scene, tmp_path: Path) -> None:
    board = stage.objects["Board"]
    board.data.uv_layers.remove(board.data.uv_layers[0])
    folder = shade(stage, tmp_path, video=grey(90))
    before = state(stage)
    place(folder, stage, mode="projected")
    assert UV_MAP in board.data.uv_layers
    edit(board, "EDIT")
    assert remove_textures(stage, uv_maps=True) == 1
    edit(board, "OBJECT")
    assert state(stage) == before


@pytest.mark.parametrize("way", ["baked", "projected"])
def test_a_newer_result_takes_the_place_of_an_older_one(stage: bpy.types.Scene, tmp_path: Path, way: str) -> None:
    folders = []
    for name, level in (("a", 60), ("b", 180)):
        (tmp_path / name).mkdir()
        folders.append(shade(stage, tmp_path / name, video=grey(level)))
    before = state(stage)
    place(folders[0], stage, mode="projected")
    placed = place(folders[1], stage, mode=way)
    assert shown(stage, tmp_path) == pytest.approx(180, abs=1)
    remove(placed)
    assert state(stage) == before


def test_a_duplicate_goes_on_wearing_the_projection(stage: bpy.types.Scene, tmp_path: Path) -> None:
    place(shade(stage, tmp_path, video=grey(90)), stage, mode="projected")
    board = stage.objects["Board"]
    twin = board.copy()
    twin.name = "Twin"
    stage.collection.objects.link(twin)
    detach_tracks(board)
    restore_materials(board)
    bpy.data.objects.remove(board)
    values = np.empty(3 * len(twin.data.vertices), np.float32)
    seen = twin.evaluated_get(bpy.context.evaluated_depsgraph_get())
    seen.data.attributes[PROJECTION_ATTRIBUTE].data.foreach_get("vector", values)
    assert values.any()
    assert shown(stage, tmp_path) == pytest.approx(90, abs=1)
    assert remove_textures(stage, uv_maps=True) == 1
    assert not [item for item in bpy.data.objects if "tracks" in item.name]


@pytest.mark.parametrize("way", ["baked", "projected"])
def test_a_linked_mesh_is_not_touched(stage: bpy.types.Scene, tmp_path: Path, way: str) -> None:
    board = stage.objects["Board"]
    board.data = library(tmp_path, board.data)
    folder = shade(stage, tmp_path, video=grey(90))
    before = state(stage)
    placed = place(folder, stage, mode=way)
    assert placed.warnings == ()
    assert shown(stage, tmp_path) == pytest.approx(90, abs=1)
    assert board.data.materials[0].name == "Paint"
    remove(placed)
    assert state(stage) == before


def test_an_override_wears_a_result(stage: bpy.types.Scene, tmp_path: Path) -> None:
    board = stage.objects["Board"]
    linked = library(tmp_path, board)
    bpy.data.objects.remove(board)
    stage.collection.objects.link(linked)
    linked.override_create(remap_local_usages=True)
    folder = shade(stage, tmp_path, video=grey(90))
    before = state(stage)
    placed = place(folder, stage, mode="projected")
    assert placed.warnings == ()
    assert shown(stage, tmp_path) == pytest.approx(90, abs=1)
    remove(placed)
    assert state(stage) == before


def test_who_can_have_no_map_is_named_and_the_others_are_placed(stage: bpy.types.Scene, tmp_path: Path) -> None:
    board = stage.objects["Board"]
    behind(stage, "Linked", library(tmp_path, bare(board.data)))
    full = behind(stage, "Full", board.data.copy()).data
    while len(full.uv_layers) < 8:
        full.uv_layers.new()
    for layer in full.uv_layers:
        layer.uv.foreach_set("vector", np.full(2 * len(full.loops), 0.5, np.float32))
    folder = shade(stage, tmp_path, video=grey(90))
    before = state(stage)
    placed = place(folder, stage, mode="projected")
    assert placed.warnings == (
        "'Full' has as many UV maps as Blender takes, none of which can hold a texture, and was given no texture.",
        "'Linked' has a mesh from another file, without a UV map, and was given no texture.",
    )
    assert shown(stage, tmp_path) == pytest.approx(90, abs=1)
    remove(placed)
    assert state(stage) == before


def test_a_bake_that_fails_leaves_no_map_behind(stage: bpy.types.Scene, tmp_path: Path) -> None:
    board = stage.objects["Board"]
    board.data.uv_layers.remove(board.data.uv_layers[0])
    folder = shade(stage, tmp_path, video=grey(90))
    before = state(stage)
    (folder / "frames" / "0002.png").write_bytes(b"no picture")
    with pytest.raises(OutputError, match=r"0002\.png cannot be read"):
        place(folder, stage, mode="baked")
    assert state(stage) == before


def test_the_map_stays_while_another_scene_s_object_wears_it(stage: bpy.types.Scene, tmp_path: Path) -> None:
    board = stage.objects["Board"]
    board.data.uv_layers.remove(board.data.uv_layers[0])
    place(shade(stage, tmp_path, video=grey(90)), stage, mode="baked")
    other = bpy.data.scenes.new("Other")
    twin = board.copy()  # of the same mesh
    other.collection.objects.link(twin)
    remove_textures(stage, uv_maps=True)
    assert UV_MAP in board.data.uv_layers
    remove_textures(other, uv_maps=True)
    assert UV_MAP not in board.data.uv_layers


def test_file_and_result_may_be_moved_together(stage: bpy.types.Scene, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    folder = shade(stage, home, video=grey(90))
    bpy.ops.wm.save_as_mainfile(filepath=str(home / "own.blend"))
    place(folder, stage, mode="projected")
    bpy.ops.wm.save_mainfile()
    home.rename(tmp_path / "moved")
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "moved" / "own.blend"))
    opened = bpy.context.scene
    files = [image.filepath for image in bpy.data.images if image.type == "IMAGE"]
    files += [item.modifiers[0].filepath for item in opened.objects if "tracks" in item.name]
    assert len(files) == 4
    assert all(Path(bpy.path.abspath(name)).is_file() for name in files)
    assert shown(opened, tmp_path) == pytest.approx(90, abs=1)


def test_meshes_that_are_never_shown_together_all_get_maps(stage: bpy.types.Scene, tmp_path: Path) -> None:
    board = stage.objects["Board"]
    wall = behind(stage, "Wall", bare(board.data))
    board.data.uv_layers.remove(board.data.uv_layers[0])
    key(board, "hide_render", {1: False, 4: True})
    key(wall, "hide_render", {1: True, 4: False})
    folder = shade(stage, tmp_path, video=grey(90))
    before = state(stage)
    placed = place(folder, stage, mode="projected")
    assert placed.warnings == ()
    for frame in (1, 5):
        assert render(stage, frame, tmp_path)[SIZE[1] // 2, SIZE[0] // 2].mean() == pytest.approx(90, abs=1)
    remove(placed)
    assert state(stage) == before


def test_a_tracking_video_is_laid_on_like_a_result(stage: bpy.types.Scene, tmp_path: Path) -> None:
    """As Render Control leaves it."""
    folder = shade(stage, tmp_path, video=grey(90), output="tracking")
    assert place(folder, stage, mode="projected").warnings == ()
    assert shown(stage, tmp_path) == pytest.approx(90, abs=1)


def test_a_folder_that_cannot_take_the_frames_leaves_the_scene_as_it_was(
    stage: bpy.types.Scene, tmp_path: Path
) -> None:
    """A file stands where the depths have to be, so it fails after the bake."""
    board = stage.objects["Board"]
    board.data.uv_layers.remove(board.data.uv_layers[0])
    folder = shade(stage, tmp_path, video=grey(90))
    before = state(stage)
    (folder / "reach").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        place(folder, stage, mode="projected")
    assert state(stage) == before
