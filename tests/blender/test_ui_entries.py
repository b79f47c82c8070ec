# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries outside the panel: results from the import menu and by drag and drop, the render menu, the shortcut, F1."""

from __future__ import annotations

import json
import re
from pathlib import Path

import bpy
import pytest
from bl_operators.wm import WM_OT_doc_view_manual

import trackshade_addon
from tests.helpers.place_results import make_result, new_scene, numbered
from trackshade_addon.placement.result_folder import find_result_folder
from trackshade_addon.registration import PROPERTIES
from trackshade_addon.ui import manual

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("named", [".", "job.json", "video.mp4", "frames", "frames/0002.png"])
def test_a_result_is_placed_by_any_of_its_files(tmp_path: Path, named: str) -> None:
    scene = new_scene()
    folder = make_result(tmp_path / "take", numbered(3), (5, 6, 7))
    (folder / "video.mp4").touch()
    scene.trackshade.place_as = "background"
    assert bpy.ops.trackshade.import_result(filepath=str(folder / named)) == {"FINISHED"}
    (background,) = scene.camera.data.background_images
    assert (background.image_user.frame_start, background.image_user.frame_duration) == (5, 3)


@pytest.mark.usefixtures("registered")
def test_a_file_that_is_no_result_is_told(tmp_path: Path) -> None:
    new_scene()
    (tmp_path / "holiday.mp4").touch()
    with pytest.raises(RuntimeError, match=rf"no result in {re.escape(str(tmp_path))}: job\.json is missing"):
        bpy.ops.trackshade.import_result(filepath=str(tmp_path / "holiday.mp4"))


def test_the_folder_of_one_camera_is_a_result_of_its_own(tmp_path: Path) -> None:
    parts = [make_result(tmp_path / "take" / name, numbered(1), (1,), cameras=name) for name in ("A", "B")]
    record = json.loads((parts[0] / "job.json").read_text())
    record["cameras"] = [{"name": part.name, "folder": part.name} for part in parts]
    (tmp_path / "take" / "job.json").write_text(json.dumps(record))
    assert find_result_folder(parts[1] / "frames" / "0001.png") == parts[1]
    assert find_result_folder(tmp_path / "take" / "sheet.png") == tmp_path / "take"
    assert find_result_folder(tmp_path / "take" / "A" / "x" / "y" / "z.png") == tmp_path / "take" / "A" / "x" / "y"


@pytest.mark.usefixtures("registered")
def test_dropped_files_are_taken_by_the_operator(tmp_path: Path) -> None:
    (handler,) = (item for item in bpy.types.FileHandler.__subclasses__() if item.__name__ == "TRACKSHADE_FH_result")
    assert handler.bl_file_extensions == ".json;.mp4"
    module, _, name = handler.bl_import_operator.partition(".")
    assert "filepath" in getattr(getattr(bpy.ops, module), name).get_rna_type().properties


def names() -> list[str]:
    """What F1 is pressed over: every operator, and every setting."""
    operators = [f"trackshade.{name}" for name in dir(bpy.ops.trackshade)]
    groups = [group for _, _, group in PROPERTIES]
    return [*operators, *(f"{group.__name__}.{name}" for group in groups for name in group.__annotations__)]


@pytest.mark.usefixtures("registered")
def test_f1_opens_an_existing_heading_for_every_button_and_setting() -> None:
    headings = {
        page.name: {text.lower().replace(" ", "-") for text in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)}
        for page in (ROOT / "addon" / "guide").glob("*.md")
    }
    folder, suffix = manual.guide()
    assert (folder, suffix) == (ROOT / "addon" / "guide", ".md")  # of a source tree
    found = {}
    for name in names():
        owner = name.startswith("trackshade.")
        url = WM_OT_doc_view_manual._lookup_rna_url(f"bpy.{'ops' if owner else 'types'}.{name}", verbose=False)
        assert str(url).startswith(f"{folder.as_uri()}/"), name
        page, _, heading = url.removeprefix(f"{folder.as_uri()}/").partition("#")
        assert page in headings, url
        assert not heading or heading in headings[page], url
        found[name] = f"{page}#{heading}"
    assert len(found) > 100
    assert found["trackshade.shade"] == "panel.md#"
    assert found["trackshade.key_add"] == "panel.md#key-pictures"
    assert found["TrackshadeSettings.prompt"] == "panel.md#look"
    assert found["TrackshadeSettings.image_format"] == "panel.md#shot"
    assert found["TrackshadeSettings.look_engine"] == found["TrackshadeSettings.footage"] == "panel.md#look"
    assert found["TrackshadeSettings.distance"] == "panel.md#placement"


def test_f1_forgets_the_guide_with_the_add_on() -> None:
    before = list(bpy.utils.manual_map())
    trackshade_addon.register()
    assert len(list(bpy.utils.manual_map())) == len(before) + 1
    trackshade_addon.unregister()
    assert list(bpy.utils.manual_map()) == before


def test_the_shortcut_is_the_add_ons_and_goes_with_it() -> None:
    keyconfig = bpy.context.window_manager.keyconfigs.addon

    def shortcuts() -> list[tuple[str, bool, bool]]:
        keymap = keyconfig.keymaps.get("Screen")
        items = [] if keymap is None else keymap.keymap_items
        return [(item.type, item.ctrl, item.shift) for item in items if item.idname == "trackshade.shade"]

    before = shortcuts()
    trackshade_addon.register()
    assert shortcuts() == [("F12", True, True)]
    trackshade_addon.unregister()
    assert shortcuts() == before == []
