# SPDX-License-Identifier: GPL-3.0-or-later
"""Keyframes of armatures from the motion of a skeleton."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import bpy
import numpy as np
from mathutils import Matrix, Quaternion

from trackshade.core.errors import UsageError
from trackshade.motion.bone_names import match_bones
from trackshade.motion.bvh import JointMotion
from trackshade.motion.retargeting import BoneMotion, Follower, RestBones, retarget

from ..capture.animation import action_curves, time_of

_ROTATION_PATHS = {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}


def find_armature(scene: bpy.types.Scene, name: str | None = None) -> bpy.types.Object:
    """Return the armature of a scene: that of a name, else the only one.

    Raises:
        UsageError: there is none, or there are several.
    """
    found = sorted((item for item in scene.objects if item.type == "ARMATURE"), key=lambda item: item.name)
    if name is not None:
        found = [item for item in found if item.name == name]
        if not found:
            raise UsageError("no-armature", f"Scene '{scene.name}' has no armature '{name}'.", "Name another one.")
    if not found:
        raise UsageError("no-armature", f"Scene '{scene.name}' has no armature.", "Add a rig for the motion.")
    if len(found) > 1:
        names = ", ".join(item.name for item in found)
        raise UsageError("several-armatures", f"The scene has several armatures: {names}.", "Choose one of them.")
    return found[0]


def animate_armature(
    armature: bpy.types.Object,
    motion: JointMotion,
    scene: bpy.types.Scene,
    *,
    start: float | None = None,
    table: Mapping[str, str] | None = None,
    name: str = "Motion from Footage",
) -> list[str]:
    """Give an armature a new action with a motion. The action that it had is kept, and not changed.

    Args:
        armature: the armature.
        motion: the motion.
        scene: the scene, whose frame rate the motion is played at.
        start: scene frame of the motion's first frame; the scene's first one by default.
        table: bone for joints of the skeleton; found by the bones' names if None.
        name: name of the action.

    Returns:
        Sentences about what may look otherwise than expected.

    Raises:
        ShotError: the bones of the armature or of the motion are not known.
        UsageError: the armature is linked from a library.
    """
    if armature.library is not None:
        raise UsageError(
            "linked-armature", f"Armature '{armature.name}' is linked and cannot be animated.",
            "Make a library override of it.",
        )  # fmt: skip
    table = match_bones(bone.name for bone in armature.data.bones) if table is None else table
    bones = retarget(motion, rest_bones(armature), table, followers=_followers(armature, table))
    first = float(scene.frame_start if start is None else start)
    rate = scene.render.fps / scene.render.fps_base
    frames = np.array([time_of(scene, first + t * rate / motion.fps) for t in range(len(motion.rotations))])
    _new_action(armature, name)
    for bone, rotations in bones.rotations.items():
        _key_rotations(armature, bone, rotations, frames)
    for bone, locations in bones.locations.items():
        _key(armature, bone, "location", locations, frames)
    for bone in bones.still:
        _key_rotations(armature, bone, np.eye(3)[None], frames[:1])
    for bone in {*bones.rotations, *bones.still} - {*bones.locations}:  # where the earlier action has left them
        _key(armature, bone, "location", np.zeros((1, 3)), frames[:1])
    return _warnings(armature, bones, table)


def rest_bones(armature: bpy.types.Object) -> RestBones:
    """Return the rest pose of an armature, in its own space."""
    bones = list(_parents_first(armature.data.bones))
    index = {bone.name: number for number, bone in enumerate(bones)}
    return RestBones(
        names=tuple(bone.name for bone in bones),
        parents=tuple(-1 if bone.parent is None else index[bone.parent.name] for bone in bones),
        heads=np.array([tuple(bone.head_local) for bone in bones]),
        tails=np.array([tuple(bone.tail_local) for bone in bones]),
        matrices=np.array([[tuple(row) for row in bone.matrix_local.to_3x3()] for bone in bones]),
        inherits=tuple(bone.use_inherit_rotation for bone in bones),
        connected=tuple(bone.use_connect for bone in bones),
    )


def _parents_first(bones: bpy.types.ArmatureBones) -> Iterator[bpy.types.Bone]:
    waiting = [bone for bone in bones if bone.parent is None][::-1]
    while waiting:
        bone = waiting.pop()
        yield bone
        waiting += list(bone.children)[::-1]


def _followers(armature: bpy.types.Object, table: Mapping[str, str]) -> list[Follower]:
    """Return the bones that inverse kinematics of an armature aim at, as far as no joint moves them."""
    found = {}
    for bone, constraint in _constraints(armature, "IK"):
        target = constraint.subtarget
        if constraint.target == armature and target and target not in table.values():
            found[target] = Follower(target, bone.name)
        pole = constraint.pole_subtarget
        if constraint.pole_target == armature and pole and pole not in table.values():
            chain = [bone, *bone.parent_recursive][: constraint.chain_count or None]
            found[pole] = Follower(pole, chain[-1].name, at_tail=False)
    return list(found.values())


def _constraints(armature: bpy.types.Object, *kinds: str) -> Iterator[tuple[bpy.types.PoseBone, bpy.types.Constraint]]:
    """Yield the constraints of pose bones that have an effect, those of some kinds or all."""
    for bone in armature.pose.bones:
        for constraint in bone.constraints:
            if constraint.enabled and constraint.influence > 0 and (not kinds or constraint.type in kinds):
                yield bone, constraint


def _warnings(armature: bpy.types.Object, bones: BoneMotion, table: Mapping[str, str]) -> list[str]:
    constrained = {
        bone.name for bone, item in _constraints(armature) if item.type != "IK" and bone.name in bones.rotations
    }
    missing = [joint for joint in ("spine", "chest", "neck", "head") if joint not in table]
    warnings = []
    if constrained:
        warnings.append(f"Constraints may change the motion of the bones {', '.join(sorted(constrained))}.")
    if missing:
        warnings.append(f"No bones are known for {', '.join(missing)}: they stay at rest.")
    return warnings


def _new_action(armature: bpy.types.Object, name: str) -> None:
    """Give an armature a new, empty action; the one that it had stays in the file."""
    animation = armature.animation_data or armature.animation_data_create()
    if animation.action is not None and not animation.action.use_fake_user and animation.action.users <= 1:
        animation.action.use_fake_user = True
    action = bpy.data.actions.new(name)
    animation.action = action
    if hasattr(action, "slots"):  # Blender 4.4 and later
        animation.action_slot = action.slots.new("OBJECT", armature.name)


def _key_rotations(
    armature: bpy.types.Object,
    bone: str,
    rotations: np.ndarray,  # [T, 3, 3]
    frames: np.ndarray,  # [T]
) -> None:
    """Keyframe rotations of a bone in the mode that it has."""
    mode = armature.pose.bones[bone].rotation_mode
    quaternions = [Matrix(rotation.tolist()).to_quaternion() for rotation in rotations]
    for before, after in pairwise(quaternions):
        after.make_compatible(before)
    if mode == "QUATERNION":
        values = [tuple(quaternion) for quaternion in quaternions]
    elif mode == "AXIS_ANGLE":
        values = [_axis_angle(quaternion) for quaternion in quaternions]
    else:
        eulers = [quaternions[0].to_euler(mode)]
        for quaternion in quaternions[1:]:
            eulers.append(quaternion.to_euler(mode, eulers[-1]))
        values = [tuple(euler) for euler in eulers]
    _key(armature, bone, _ROTATION_PATHS.get(mode, "rotation_euler"), np.array(values), frames)


def _axis_angle(quaternion: Quaternion) -> tuple[float, float, float, float]:
    axis, angle = quaternion.to_axis_angle()
    return angle, *axis


def _key(
    armature: bpy.types.Object,
    bone: str,
    path: str,
    values: np.ndarray,  # [T, n]
    frames: np.ndarray,  # [T] ascending
) -> None:
    """Add keyframes of a property of a bone to the armature's action, which has none of it yet."""
    pose = armature.pose.bones[bone]
    setattr(pose, path, values[0].tolist())
    pose.keyframe_insert(path, frame=frames[0], group=bone)
    animation = armature.animation_data
    full = f'pose.bones["{bpy.utils.escape_identifier(bone)}"].{path}'
    for curve in action_curves(animation.action, getattr(animation, "action_slot", None)):
        if curve.data_path == full:
            points = curve.keyframe_points
            points.add(len(frames) - 1)
            points.foreach_set("co", np.column_stack([frames, values[:, curve.array_index]]).ravel())
            for point in points:
                point.interpolation = "LINEAR"
            curve.update()
