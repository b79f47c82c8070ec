# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene's copy: it finds its images from wherever it is moved to, and the user's file and session stay."""

from __future__ import annotations

import shutil
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.helpers.place_results import make_result, new_scene, numbered, png, render
from trackshade.core.errors import OutputError
from trackshade_addon.placement import place, save_copy
from trackshade_addon.placement.scene_copy import without_preview


def user_scene(folder: Path) -> bpy.types.Scene:
    """A session with an image of the user's own."""
    scene = new_scene()
    png(folder / "own.png", np.full((4, 4, 3), 7, np.uint8))
    image = bpy.data.images.load(str(folder / "own.png"))
    image.name = "own"
    image.use_fake_user = True
    return scene


def image_paths() -> dict[str, str]:
    return {image.name: image.filepath for image in bpy.data.images}


@pytest.mark.parametrize("relative", [True, False])
def test_a_saved_file_is_left_alone_and_the_copy_moves(tmp_path: Path, relative: bool) -> None:
    project = tmp_path / "project"
    project.mkdir()
    scene = user_scene(project)
    bpy.ops.wm.save_as_mainfile(filepath=str(project / "shot.blend"))
    if relative:
        bpy.data.images["own"].filepath = "//own.png"
    bpy.context.preferences.filepaths.use_relative_paths = relative
    bpy.ops.wm.save_mainfile()
    saved = (project / "shot.blend").read_bytes()
    listed = sorted(project.iterdir())
    result = make_result(tmp_path / "results" / "Würfel", numbered(3), [1, 2, 3])
    place(result, scene, mode="both")
    assert bpy.data.images["Würfel plate"].filepath.startswith("//") == relative
    before = image_paths()

    path = save_copy(result / "scene.blend")

    assert path == result / "scene.blend"
    assert image_paths() == before
    assert Path(bpy.data.filepath) == project / "shot.blend"
    assert (project / "shot.blend").read_bytes() == saved
    assert sorted(project.iterdir()) == listed
    assert sorted(item.name for item in result.iterdir()) == ["frames", "job.json", "plate", "scene.blend"]
    save_copy(path)  # again, over the first
    assert not (result / "scene.blend1").exists()

    shutil.move(result, tmp_path / "elsewhere")
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "elsewhere" / "scene.blend"))
    assert bpy.data.images["Würfel plate"].filepath == "//plate/plate_0001.png"
    scene = bpy.data.scenes["Scene"]
    assert np.abs(render(scene, 2, tmp_path / "out.png") - 20).max() <= 1


def test_an_unsaved_session_stays_unsaved(tmp_path: Path) -> None:
    scene = user_scene(tmp_path)
    result = make_result(tmp_path / "job", numbered(2), [1, 2])
    place(result, scene)
    before = image_paths()
    save_copy(result / "scene.blend")
    assert bpy.data.filepath == ""
    assert image_paths() == before
    bpy.ops.wm.open_mainfile(filepath=str(result / "scene.blend"))
    assert bpy.data.images["job plate"].filepath == "//plate/plate_0001.png"
    assert Path(bpy.path.abspath(bpy.data.images["own"].filepath)).samefile(tmp_path / "own.png")
    assert np.abs(render(bpy.data.scenes["Scene"], 2, tmp_path / "out.png") - 20).max() <= 1


def test_the_open_file_is_never_the_copys_target(tmp_path: Path) -> None:
    user_scene(tmp_path)
    path = tmp_path / "shot.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    saved = path.read_bytes()
    with pytest.raises(OutputError, match="open file itself"):
        save_copy(path)
    assert path.read_bytes() == saved


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    user_scene(tmp_path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        save_copy(tmp_path / "file" / "scene.blend")
    assert bpy.data.filepath == ""


def test_no_preview_is_drawn_and_the_preferences_stay() -> None:
    preferences = bpy.context.preferences
    preferences.filepaths.file_preview_type, preferences.is_dirty = "CAMERA", False
    with without_preview():
        assert preferences.filepaths.file_preview_type == "NONE"
    assert (preferences.filepaths.file_preview_type, preferences.is_dirty) == ("CAMERA", False)
