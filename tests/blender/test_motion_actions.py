# SPDX-License-Identifier: GPL-3.0-or-later
"""Actions of rigs as motion files: the joints move as the evaluated rig moves them."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from tests.blender.test_motion_armature import FPS, FRAMES, directions, gesture, make_rig
from trackshade.core.errors import ShotError, UsageError
from trackshade.motion.bvh import read_bvh
from trackshade_addon import commands
from trackshade_addon.motion.actions import read_actions
from trackshade_addon.motion.armature import animate_armature
from trackshade_addon.placement import save_copy

CHILDREN = {"upper_arm": "forearm", "forearm": "hand", "thigh": "shin", "shin": "foot"}


@pytest.mark.parametrize("turn", [Matrix.Identity(3), Matrix.Rotation(np.pi / 2, 3, "X")])
def test_joints_move_as_the_rig_does(scene: bpy.types.Scene, turn: Matrix) -> None:
    rig = make_rig(scene, 0.3, turn)
    scene.render.fps = int(FPS)
    animate_armature(rig, gesture(), scene, name="Gesture")
    rig.animation_data.action = None
    head = rig.pose.bones["head"]
    head.matrix_basis = Matrix.Rotation(0.4, 4, "X")  # not keyed
    ((name, motion),) = read_actions(rig, scene)
    assert (name, len(motion.rotations), motion.fps) == ("Gesture", FRAMES, FPS)
    np.testing.assert_allclose(np.array(head.matrix_basis), np.array(Matrix.Rotation(0.4, 4, "X")), atol=1e-6)
    assert rig.animation_data.action is None
    rig.animation_data.action = bpy.data.actions["Gesture"]
    if hasattr(rig.animation_data, "action_slot"):
        rig.animation_data.action_slot = rig.animation_data.action.slots[0]
    places = motion.positions()
    for t in range(FRAMES):
        true = directions(rig, scene, scene.frame_start + t)
        for joint, child in ((f"{a}_{side}", f"{b}_{side}") for a, b in CHILDREN.items() for side in "lr"):
            if joint not in true:
                continue
            along = places[t, motion.names.index(child)] - places[t, motion.names.index(joint)]
            np.testing.assert_allclose(along / np.linalg.norm(along), true[joint], atol=1e-4)


def test_actions_are_written_from_the_command_line(
    scene: bpy.types.Scene, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    motions = pytest.importorskip("trackshade_lab.motion.motions")
    rig = make_rig(scene)
    scene.render.fps = int(FPS)
    animate_armature(rig, gesture(), scene, name="wave: 1")
    animate_armature(rig, gesture(), scene, name="wave; 1")
    lamp = bpy.data.objects.new("Lamp", None)
    scene.collection.objects.link(lamp)
    lamp.keyframe_insert("location", frame=1)  # an action that poses no rig
    save_copy(tmp_path / "hero.blend")
    out = tmp_path / "motions"
    command = ["actions", str(tmp_path / "hero.blend"), "--out", str(out), "--json"]
    assert commands.main("trackshade", command) == 0
    assert json.loads(capfd.readouterr().out.splitlines()[-1])["actions"] == ["wave_1", "wave_1-2"]
    assert read_bvh(out / "wave_1.bvh").names[0] == "pelvis"
    with pytest.raises(UsageError, match="No motion"):  # the files are read, but too short for a clip
        motions.load_motions(out, 0.5)
    assert commands.main("trackshade", command) == 3


def test_rigs_without_actions_or_known_bones_are_a_sentence(
    scene: bpy.types.Scene, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rig = make_rig(scene)
    rig.data.bones["head"].name = "Lump"
    with pytest.raises(ShotError):
        next(read_actions(rig, scene))
    rig.data.bones["Lump"].name = "head"
    save_copy(tmp_path / "still.blend")
    assert commands.main("trackshade", ["actions", str(tmp_path / "still.blend"), "--out", str(tmp_path / "a")]) == 2
    assert "No action of the file poses" in capfd.readouterr().err
    assert not (tmp_path / "a").exists()
