# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion on armatures: bones point where the joints do, whatever the rest pose, and the user's action is kept."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Matrix, Vector

from trackshade.core.errors import ShotError, UsageError
from trackshade.motion.bone_names import match_bones
from trackshade.motion.bvh import JointMotion, axis_rotations, read_bvh, write_bvh
from trackshade.motion.retargeting import motion_of_rotations
from trackshade.motion.skeleton import JOINTS
from trackshade_addon import commands
from trackshade_addon.capture.animation import action_curves
from trackshade_addon.motion.armature import animate_armature, find_armature, rest_bones
from trackshade_addon.placement import save_copy

FRAMES, FPS = 5, 8.0
# The same body in Unreal's names: arms of a T-pose, Z up, facing -Y.
PARTS = {
    "pelvis": (None, (0, 0, 1.0), (0, 0, 1.15)),
    "spine_01": ("pelvis", (0, 0, 1.15), (0, 0, 1.35)),
    "spine_02": ("spine_01", (0, 0, 1.35), (0, 0, 1.55)),
    "neck_01": ("spine_02", (0, 0, 1.55), (0, 0, 1.65)),
    "head": ("neck_01", (0, 0, 1.65), (0, 0, 1.9)),
    "clavicle_l": ("spine_02", (0.05, 0, 1.5), (0.2, 0, 1.5)),
    "upperarm_l": ("clavicle_l", (0.2, 0, 1.5), (0.5, 0, 1.5)),
    "lowerarm_l": ("upperarm_l", (0.5, 0, 1.5), (0.75, 0, 1.5)),
    "hand_l": ("lowerarm_l", (0.75, 0, 1.5), (0.85, 0, 1.5)),
    "thigh_l": ("pelvis", (0.1, 0, 1.0), (0.1, 0, 0.5)),
    "calf_l": ("thigh_l", (0.1, 0, 0.5), (0.1, 0, 0.1)),
    "foot_l": ("calf_l", (0.1, 0, 0.1), (0.1, -0.2, 0.02)),
}
LIMBS = {
    "upper_arm_l": "upperarm_l", "forearm_l": "lowerarm_l", "upper_arm_r": "upperarm_r", "thigh_r": "thigh_r",
    "shin_r": "calf_r",
}  # fmt: skip


def make_rig(scene: bpy.types.Scene, roll: float = 0.0, turn: Matrix | None = None) -> bpy.types.Object:
    """Build the body; `roll` turns its bones about themselves, and `turn` the whole body at rest."""
    data = bpy.data.armatures.new("Rig")
    rig = bpy.data.objects.new("Rig", data)
    scene.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    turn = turn or Matrix.Identity(3)
    for side in ("l", "r"):
        for name, (parent, head, tail) in PARTS.items():
            own, above = name, parent
            mirror = Vector((1, 1, 1))
            if side == "r":
                if not name.endswith("_l"):
                    continue
                own = name.removesuffix("l") + "r"
                above = parent.removesuffix("l") + "r" if parent is not None and parent.endswith("_l") else parent
                mirror = Vector((-1, 1, 1))
            bone = data.edit_bones.new(own)
            bone.head, bone.tail = turn @ (Vector(head) * mirror), turn @ (Vector(tail) * mirror)
            bone.roll = roll
            if above is not None:
                bone.parent = data.edit_bones[above]
    bpy.ops.object.mode_set(mode="OBJECT")
    return rig


def gesture() -> JointMotion:
    """The left arm is raised sideways with a bent elbow, the right one to the front, and the right knee is lifted."""
    rotations = np.tile(np.eye(3), (FRAMES, len(JOINTS), 1, 1))
    angles = np.linspace(0, 1, FRAMES)
    for joint, axis, size in (
        *(("upper_arm_l", 1, -1.4), ("forearm_l", 0, -0.9), ("upper_arm_r", 0, -1.2), ("chest", 2, 0.3)),
        *(("thigh_r", 0, -1.3), ("shin_r", 0, 1.1)),
    ):
        rotations[:, JOINTS.index(joint)] = axis_rotations(axis, size * angles)
    return motion_of_rotations(rotations, FPS)


def directions(rig: bpy.types.Object, scene: bpy.types.Scene, frame: float) -> dict[str, np.ndarray]:
    """Where limbs of an evaluated rig point, in its own space."""
    scene.frame_set(int(frame), subframe=frame % 1)
    posed = rig.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones
    return {joint: np.array((posed[bone].tail - posed[bone].head).normalized()) for joint, bone in LIMBS.items()}


@pytest.mark.parametrize(
    ("roll", "turn"),
    [
        (0.0, Matrix.Identity(3)),
        (0.8, Matrix.Identity(3)),
        (0.3, Matrix.Rotation(np.pi / 2, 3, "X")),  # Y up
        (0.0, Matrix.Rotation(np.pi, 3, "Z")),  # facing +Y
    ],
)
@pytest.mark.parametrize("mode", ["QUATERNION", "XYZ", "AXIS_ANGLE"])
def test_limbs_point_where_the_joints_do(scene: bpy.types.Scene, roll: float, turn: Matrix, mode: str) -> None:
    rig, motion = make_rig(scene, roll, turn), gesture()
    for bone in rig.pose.bones:
        bone.rotation_mode = mode
    assert animate_armature(rig, motion, scene, start=10) == []
    space = np.array(turn)
    turned = motion.global_rotations()
    for t in (0, 2, FRAMES - 1):
        found = directions(rig, scene, 10 + t * scene.render.fps / FPS)
        for joint, direction in found.items():
            wanted = space @ turned[t, JOINTS.index(joint)] @ [0, 0, -1.0]
            np.testing.assert_allclose(direction, wanted, atol=2e-3, err_msg=f"{joint} in frame {t}")


def test_the_feet_stay_on_the_floor(scene: bpy.types.Scene) -> None:
    rotations = np.tile(np.eye(3), (2, len(JOINTS), 1, 1))
    for side in "lr":  # a crouch
        rotations[1, JOINTS.index(f"thigh_{side}")] = axis_rotations(0, np.array([-0.9]))[0]
        rotations[1, JOINTS.index(f"shin_{side}")] = axis_rotations(0, np.array([1.8]))[0]
        rotations[1, JOINTS.index(f"foot_{side}")] = axis_rotations(0, np.array([-0.9]))[0]
    rig = make_rig(scene)
    animate_armature(rig, motion_of_rotations(rotations, 1.0), scene, start=0)
    scene.frame_set(scene.render.fps)
    posed = rig.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones
    assert posed["foot_l"].head.z == pytest.approx(0.1, abs=0.02)
    assert posed["pelvis"].head.z < 0.75


def test_the_users_action_is_kept(scene: bpy.types.Scene) -> None:
    rig = make_rig(scene)
    bone = rig.pose.bones["upperarm_l"]
    bone.rotation_mode = "XYZ"
    for frame, angle in ((1, 0.0), (9, 1.0)):
        bone.rotation_euler.x = angle
        bone.keyframe_insert("rotation_euler", frame=frame)
    own = rig.animation_data.action
    slot = getattr(rig.animation_data, "action_slot", None)
    before = [[tuple(point.co) for point in curve.keyframe_points] for curve in action_curves(own, slot)]
    animate_armature(rig, gesture(), scene)
    assert rig.animation_data.action != own
    assert own.use_fake_user
    assert [[tuple(point.co) for point in curve.keyframe_points] for curve in action_curves(own, slot)] == before
    first = rig.animation_data.action
    animate_armature(rig, gesture(), scene)
    assert rig.animation_data.action != first
    assert first.use_fake_user


def test_targets_of_inverse_kinematics_follow(scene: bpy.types.Scene) -> None:
    """The robot's way: feet are targets beside the legs, whose shins have inverse kinematics."""
    rig = make_rig(scene)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    for side in "lr":
        rig.data.edit_bones[f"foot_{side}"].parent = None
    hand = rig.data.edit_bones.new("hand_target")
    hand.head, hand.tail = (0.75, 0, 1.5), (0.75, 0, 1.6)
    bpy.ops.object.mode_set(mode="OBJECT")
    for bone, target in (("calf_l", "foot_l"), ("calf_r", "foot_r"), ("lowerarm_l", "hand_target")):
        constraint = rig.pose.bones[bone].constraints.new("IK")
        constraint.target, constraint.subtarget, constraint.chain_count = rig, target, 2
    motion = gesture()
    animate_armature(rig, motion, scene, start=0)
    found = directions(rig, scene, (FRAMES - 1) * scene.render.fps / FPS)
    for joint, direction in found.items():
        wanted = motion.global_rotations()[-1, JOINTS.index(joint)] @ [0, 0, -1.0]
        np.testing.assert_allclose(direction, wanted, atol=0.03, err_msg=joint)


def test_what_cannot_be_animated_is_a_sentence(scene: bpy.types.Scene) -> None:
    with pytest.raises(UsageError, match="no armature"):
        find_armature(scene)
    rig = make_rig(scene)
    other = make_rig(scene)
    with pytest.raises(UsageError, match=r"Rig, Rig\.001"):
        find_armature(scene)
    assert find_armature(scene, "Rig.001") == other
    with pytest.raises(ShotError, match="no bone 'Tail'"):
        animate_armature(rig, gesture(), scene, table={**table_of(rig), "head": "Tail"})
    rig.data.bones["thigh_l"].name = "Part"
    with pytest.raises(ShotError, match="thigh_l"):
        animate_armature(rig, gesture(), scene)
    assert rig.animation_data is None
    animate_armature(rig, gesture(), scene, table={**table_of(rig), "thigh_l": "Part"})


def table_of(rig: bpy.types.Object) -> dict[str, str]:
    """The bones of a rig by their names."""
    return match_bones(rest_bones(rig).names)


def test_a_motion_file_animates_a_scene_from_the_command_line(
    scene: bpy.types.Scene, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_rig(scene)
    save_copy(tmp_path / "rig.blend")
    write_bvh(tmp_path / "wave.bvh", gesture())
    arguments = ["animate", str(tmp_path / "wave.bvh"), str(tmp_path / "rig.blend"), "--out", str(tmp_path / "a.blend")]
    assert commands.main("trackshade", arguments) == 0
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"))
    rig, opened = bpy.data.objects["Rig"], bpy.context.scene
    last = opened.frame_start + (FRAMES - 1) * opened.render.fps / FPS
    wanted = read_bvh(tmp_path / "wave.bvh").global_rotations()[-1, JOINTS.index("forearm_l")] @ [0, 0, -1.0]
    np.testing.assert_allclose(directions(rig, opened, last)["forearm_l"], wanted, atol=2e-3)
    (tmp_path / "bones.json").write_text('{"elbow": "calf_l"}')
    assert commands.main("trackshade", [*arguments, "--force", "--bones", str(tmp_path / "bones.json")]) == 2
    assert "elbow" in capfd.readouterr().err
