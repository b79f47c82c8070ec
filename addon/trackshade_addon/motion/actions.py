# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the actions of rigs as motions of the motion model's skeleton."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import bpy
import numpy as np

from trackshade.motion.bone_names import require_bones
from trackshade.motion.bvh import JointMotion
from trackshade.motion.characters import NEEDED
from trackshade.motion.retargeting import RestBones
from trackshade.motion.skeleton import JOINTS, nearest_parent

from ..capture.animation import action_curves
from ..capture.restore import preserve_scene
from .armature import rest_bones
from .character import match_deforming_bones


def read_actions(
    armature: bpy.types.Object, scene: bpy.types.Scene, table: Mapping[str, str] | None = None
) -> Iterator[tuple[str, JointMotion]]:
    """Yield the name and the motion of each action that poses an armature. The scene is left as it was.

    The motion has the joints whose bones are known. Every frame of the action is evaluated, with the constraints of the
    rig, at the scene's frame rate.

    Args:
        armature: the armature.
        scene: its scene.
        table: bone for joints of the skeleton; found by the bones' names if None.

    Raises:
        ShotError: bones are missing that a figure needs.
    """
    rest = rest_bones(armature)
    table = match_deforming_bones(armature) if table is None else table
    require_bones(table, "The armature", NEEDED)
    animation = armature.animation_data or armature.animation_data_create()
    poses = [(bone, bone.matrix_basis.copy()) for bone in armature.pose.bones]
    with preserve_scene(scene) as changes:
        changes.set(armature.data, "pose_position", "POSE")
        changes.set(animation, "use_nla", False)
        changes.keep(animation, "action", *(["action_slot"] if animation.action is not None else []))
        try:
            for action, slot in _actions(armature):
                animation.action = action
                if slot is not None:
                    animation.action_slot = slot
                for bone, _ in poses:  # what the action does not move
                    bone.matrix_basis.identity()
                yield action.name, _read(armature, scene, action.frame_range, rest, table)
        finally:
            for bone, pose in poses:
                bone.matrix_basis = pose


def _actions(armature: bpy.types.Object) -> Iterator[tuple[bpy.types.Action, Any]]:
    """Yield the actions that pose bones of an armature, with the slot that does; None before Blender 4.4."""
    begins = tuple(f'pose.bones["{bpy.utils.escape_identifier(bone.name)}"]' for bone in armature.data.bones)
    for action in sorted(bpy.data.actions, key=lambda item: item.name_full):
        slots = getattr(action, "slots", (None,))
        for slot in sorted(slots, key=lambda item: item is not None and item.name_display != armature.name):
            if any(curve.data_path.startswith(begins) for curve in action_curves(action, slot)):
                yield action, slot
                break


def _read(
    armature: bpy.types.Object,
    scene: bpy.types.Scene,
    frame_range: tuple[float, float],
    rest: RestBones,
    table: Mapping[str, str],
) -> JointMotion:
    """Return the motion of the skeleton's joints in an armature's own axes."""
    names = tuple(joint for joint in JOINTS if joint in table)
    above = [nearest_parent(joint, names) for joint in names]
    parents = tuple(-1 if joint is None else names.index(joint) for joint in above)
    bones = [rest.names.index(table[joint]) for joint in names]
    heads = rest.heads[bones]
    frames = np.arange(round(frame_range[0]), round(frame_range[1]) + 1)
    turned, root = np.empty((len(frames), len(names), 3, 3)), np.empty((len(frames), 3))
    for t, frame in enumerate(frames.tolist()):
        scene.frame_set(frame)
        posed = armature.evaluated_get(scene.view_layers[0].depsgraph).pose.bones
        for joint, name in enumerate(names):
            rotation = posed[table[name]].matrix.to_quaternion().to_matrix()
            turned[t, joint] = np.array(rotation) @ rest.matrices[bones[joint]].T
        root[t] = posed[table[names[0]]].head
    rotations = turned.copy()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            rotations[:, joint] = np.swapaxes(turned[:, parent], -1, -2) @ turned[:, joint]
    return JointMotion(
        names=names,
        parents=parents,
        offsets=np.array([heads[j] - (heads[p] if p >= 0 else 0.0) for j, p in enumerate(parents)]),
        rotations=rotations,
        root=root,
        fps=scene.render.fps / scene.render.fps_base,
        ends={j: rest.tails[bones[j]] - heads[j] for j in range(len(names)) if j not in parents},
    )
