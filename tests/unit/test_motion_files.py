# SPDX-License-Identifier: GPL-3.0-or-later
"""BVH files there and back, and what is wrong with damaged ones; bones by their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackshade.core.errors import ShotError, UsageError
from trackshade.motion.bone_names import match_bones, read_bone_table
from trackshade.motion.bvh import JointMotion, axis_rotations, euler_zxy, read_bvh, resample_motion, write_bvh
from trackshade.motion.retargeting import motion_of_rotations
from trackshade.motion.skeleton import JOINTS

SMALL = """HIERARCHY
ROOT Hips
{
    OFFSET 0 0 0
    CHANNELS 6 Zposition Xposition Yposition Yrotation Zrotation Xrotation
    JOINT Spine One
    {
        OFFSET 0 2 0
        CHANNELS 3 Xrotation Yrotation Zrotation
        End Site
        {
            OFFSET 0 1 0
        }
    }
}
MOTION
Frames: 2
Frame Time: 0.0333333
3 1 2  90 0 0  0 0 0
3 1 2  0 90 0  0 0 90
"""


def random_rotations(seed: int, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    angles = rng.uniform(-np.pi, np.pi, (*shape, 3)).reshape(-1, 3)
    turns = [axis_rotations(axis, angles[:, axis]) for axis in range(3)]
    return (turns[0] @ turns[1] @ turns[2]).reshape(*shape, 3, 3)


def test_channels_in_any_order_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_text(SMALL)
    motion = read_bvh(tmp_path / "a.bvh")
    assert motion.names == ("Hips", "Spine One")
    assert motion.parents == (-1, 0)
    assert motion.fps == pytest.approx(30, rel=1e-4)
    np.testing.assert_allclose(motion.root, [[1, 2, 3], [1, 2, 3]])
    np.testing.assert_allclose(motion.positions()[0, 1], [1, 4, 3], atol=1e-9)  # turned about its own axis
    np.testing.assert_allclose(motion.positions()[1, 1], [-1, 2, 3], atol=1e-9)  # from up to -X
    end = motion.positions()[1, 1] + motion.global_rotations()[1, 1] @ motion.ends[1]
    np.testing.assert_allclose(end, [-1, 1, 3], atol=1e-9)


@given(seed=st.integers(0, 1000), count=st.integers(1, 5))
@settings(max_examples=15)
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, seed: int, count: int) -> None:
    path = tmp_path_factory.mktemp("bvh") / "motion.bvh"
    motion = motion_of_rotations(random_rotations(seed, count, len(JOINTS)), 8.0)
    write_bvh(path, motion)
    again = read_bvh(path)
    assert {*again.names} == {*JOINTS}
    order = [again.names.index(name) for name in JOINTS]
    np.testing.assert_allclose(again.positions()[:, order], motion.positions(), atol=1e-4)
    np.testing.assert_allclose(again.rotations[:, order], motion.rotations, atol=1e-4)
    assert again.fps == pytest.approx(8.0, rel=1e-5)


def test_angles_do_not_jump() -> None:
    turns = axis_rotations(2, np.linspace(0, 4 * np.pi, 60))
    assert np.abs(np.diff(euler_zxy(turns), axis=0)).max() < 0.3


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("OFFSET 0 2 0", "OFFSET 0 2", "line 8: 3 numbers"),
        ("OFFSET 0 2 0", "OFFSET 0 two 0", "line 8: there is something else than numbers"),
        ("CHANNELS 3 Xrotation", "CHANNELS 2 Xrotation", "line 9: the number of channels"),
        ("3 Xrotation Yrotation", "3 Xrotation Wrotation", "line 9: the channel 'wrotation'"),
        ("JOINT Spine One\n    {", "JOINT Spine One\n", "line 8: a { is missing"),
        ("3 1 2  0 90 0  0 0 90\n", "3 1 2  0 90 0  0 0\n", "line 20: 9 numbers"),
        ("3 1 2  0 90 0  0 0 90\n", "3 1 2  0 90 0  0 0 nan\n", "line 20: a number is not finite"),
        ("3 1 2  0 90 0  0 0 90\n", "", "1 of 2 frames"),
        ("Frames: 2", "Frames: 1", "line 20: there are more than 1 frames"),
        ("Frame Time: 0.0333333", "Frame Time: 0", "line 18: the frame time"),
        ("MOTION\n", "", "is not expected here"),
        ("HIERARCHY", "<html>", "line 1: '<html>'"),
    ],
)
def test_damage_is_named_by_its_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in SMALL
    (tmp_path / "a.bvh").write_text(SMALL.replace(old, new, 1))
    with pytest.raises(ShotError) as caught:
        read_bvh(tmp_path / "a.bvh")
    assert words in str(caught.value)
    assert caught.value.code == "bad-bvh"


@given(cut=st.integers(0, len(SMALL) - 3), junk=st.text(max_size=5))
@settings(max_examples=60)
def test_any_damage_is_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, cut: int, junk: str) -> None:
    path = tmp_path_factory.mktemp("bvh") / "a.bvh"
    path.write_text(SMALL[:cut] + junk, encoding="utf-8")
    with pytest.raises(ShotError):
        read_bvh(path)


def test_a_motion_at_another_rate_goes_through_the_same_poses() -> None:
    turns = np.stack([axis_rotations(1, np.linspace(0, 2.0, 9)), axis_rotations(0, np.linspace(0, -1.0, 9))], axis=1)
    root = np.linspace(0, 1, 9)[:, None] * [1.0, 0, 0]
    motion = JointMotion(("a", "b"), (-1, 0), np.zeros((2, 3)), turns, root, 8.0)
    finer = resample_motion(motion, 24.0)
    assert len(finer.rotations) == 25
    np.testing.assert_allclose(finer.rotations[::3], turns, atol=1e-7)
    np.testing.assert_allclose(finer.rotations[1, 0], axis_rotations(1, np.array([2.0 / 24]))[0], atol=1e-7)
    np.testing.assert_allclose(finer.root[::3], root, atol=1e-9)


MIXAMO = [
    f"mixamorig:{name}"
    for name in (
        *("Hips", "Spine", "Spine1", "Spine2", "Neck", "Head"),
        *(f"{side}{part}" for side in ("Left", "Right")
          for part in ("Shoulder", "Arm", "ForeArm", "Hand", "HandMiddle1", "UpLeg", "Leg", "Foot", "ToeBase")),
    )
]  # fmt: skip
CMU = [
    *("Hips", "LHipJoint", "RHipJoint", "LowerBack", "Spine", "Spine1", "Neck", "Neck1", "Head"),
    *(f"{side}{part}" for side in ("Left", "Right")
      for part in ("UpLeg", "Leg", "Foot", "ToeBase", "Shoulder", "Arm", "ForeArm", "Hand", "FingerBase")),
]  # fmt: skip
RIGIFY = [
    *("spine", *(f"spine.{number:03d}" for number in range(1, 7))),
    *(f"{part}.{side}" for side in "LR" for part in
      ("shoulder", "upper_arm", "forearm", "hand", "f_middle.01", "thigh", "shin", "foot", "toe")),
]  # fmt: skip
UNREAL = [
    *("root", "pelvis", "spine_01", "spine_02", "spine_03", "neck_01", "head"),
    *(f"{part}_{side}" for side in "lr" for part in
      ("clavicle", "upperarm", "lowerarm", "hand", "middle_01", "thigh", "calf", "foot", "ball")),
]  # fmt: skip
ROBOT = [
    *("Bone", "Body", "Hips", "Abdomen", "Torso", "Neck", "Head"),
    *(f"{part}.{side}" for side in "LR" for part in
      ("Shoulder", "UpperArm", "LowerArm", "Palm2", "Middle1", "Palm1", "UpperLeg", "LowerLeg", "Foot", "PoleTarget")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "some"),
    [
        (MIXAMO, {"shin_l": "mixamorig:LeftLeg", "thigh_l": "mixamorig:LeftUpLeg", "chest": "mixamorig:Spine2"}),
        (CMU, {"spine": "LowerBack", "chest": "Spine1", "forearm_r": "RightForeArm", "pelvis": "Hips"}),
        (RIGIFY, {"pelvis": "spine", "chest": "spine.003", "head": "spine.006", "upper_arm_r": "upper_arm.R"}),
        (UNREAL, {"shin_r": "calf_r", "forearm_l": "lowerarm_l", "chest": "spine_03"}),
        (ROBOT, {"pelvis": "Body", "chest": "Torso", "hand_l": "Palm2.L", "shin_l": "LowerLeg.L"}),
        (JOINTS, {name: name for name in JOINTS}),
    ],
)
def test_known_rigs_are_matched_completely(names: list[str], some: dict[str, str]) -> None:
    found = match_bones(names)
    assert {*found} == {*JOINTS}
    assert len({*found.values()}) == len(found)
    assert some.items() <= found.items()


def test_a_table_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"head": "Skull", "neck": ""}')
    (tmp_path / "a.toml").write_text('head = "Skull"\n')
    assert read_bone_table(tmp_path / "a.json") == read_bone_table(tmp_path / "a.toml") == {"head": "Skull"}
    for text, words in (("[1]", "no table"), ('{"skull": "Head"}', "'skull'"), ("{", "cannot be read")):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(UsageError, match=words):
            read_bone_table(tmp_path / "a.json")
