# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever way a result was placed: taken out again, every value of the file is what it was."""

from __future__ import annotations

from pathlib import Path

import bpy
import pytest

from tests.blender.test_place_picture import GROUPS, own_tree
from tests.helpers.texture_stage import set_stage, shade
from tests.helpers.whole_file import differences, whole_file
from trackshade_addon.placement import place, remove
from trackshade_addon.placement.placing import PLACEMENT_MODES


@pytest.mark.once
@pytest.mark.usefixtures("baking")
@pytest.mark.parametrize(
    "lived_in", [pytest.param(False, id="bare", marks=pytest.mark.long), pytest.param(True, id="lived in")]
)
def test_every_value_is_put_back(scene: bpy.types.Scene, tmp_path: Path, lived_in: bool) -> None:
    """In a bare scene, and in one with a compositor, strips, a background image and several materials of the user's."""
    stage = set_stage(scene)
    if lived_in:
        _live_in(stage)
    folder = shade(stage, tmp_path)
    stage.frame_set(2)
    before = whole_file()
    assert len(before) > 5_000
    for way in PLACEMENT_MODES:
        if way in ("armature", "splats"):  # which this result does not have; see test_motion_armature and test_cameras
            continue
        placed = place(folder, stage, mode=way)
        assert differences(before, whole_file()), way
        remove(placed)
        left = differences(before, whole_file())
        if not GROUPS and not lived_in:  # no Blender before 5.0 removes a scene's own tree; it is switched off
            left = [line for line in left if not line.startswith("scenes[Scene].node_tree")]
        assert left == [], way


def _live_in(scene: bpy.types.Scene) -> None:
    own_tree(scene)
    scene.sequence_editor_create()
    picture = bpy.data.images.new("Reference", 8, 8)
    camera = scene.camera.data
    camera.background_images.new().image = picture
    camera.show_background_images = True
    board = bpy.data.objects["Board"]
    second = bpy.data.materials.new("Second")
    second.use_fake_user = True
    board.data.materials.append(second)
    board.data.polygons[0].material_index = 1
    board.data.uv_layers.new(name="Another")
    board.material_slots[1].link = "OBJECT"
    board.material_slots[1].material = second
    board["mine"] = 3
    scene["mine"] = "kept"
