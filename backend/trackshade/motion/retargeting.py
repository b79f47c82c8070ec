# SPDX-License-Identifier: GPL-3.0-or-later
"""Transfers the motion of one skeleton to the bones of another one, whose rest pose and proportions may differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trackshade.core.errors import ShotError
from trackshade.motion.bone_names import match_bones, require_bones
from trackshade.motion.bvh import JointMotion
from trackshade.motion.skeleton import JOINTS, PARENTS, REST_OFFSETS, REST_TAILS, nearest_parent, positions

LIMBS = ("upper_arm", "forearm", "hand", "fingers", "thigh", "shin")  # whose rest directions may differ between rigs
_PAIRS = ("upper_arm", "thigh", "forearm", "shin")
_STRAIGHT = np.cos(np.radians(25))  # an axis of a body that is nearer to a coordinate axis is taken to be that axis


@dataclass(frozen=True, eq=False)
class RestBones:
    """The rest pose of a rig.

    Attributes:
        names: names of the B bones; parents come before their children.
        parents: [B] index of each bone's parent, -1 without.
        heads: [B, 3] in the space of the rig.
        tails: [B, 3].
        matrices: [B, 3, 3] orientation of each bone at rest; its columns are the bone's axes.
        inherits: [B] whether a bone turns with its parent.
        connected: [B] whether a bone's head is fixed to its parent's tail.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    heads: np.ndarray
    tails: np.ndarray
    matrices: np.ndarray
    inherits: tuple[bool, ...] = ()
    connected: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Follower:
    """A bone that inverse kinematics aim at: its head follows a point of another bone.

    Attributes:
        bone: the bone.
        of: the bone that it follows.
        at_tail: whether it follows that bone's tail, else it keeps its place relative to it.
    """

    bone: str
    of: str
    at_tail: bool = True


@dataclass(frozen=True, eq=False)
class BoneMotion:
    """Transforms of bones relative to their rest pose and their parents, as a rig stores them.

    Attributes:
        rotations: [T, 3, 3] by bone.
        locations: [T, 3] by bone, for bones that move; in the bone's own axes.
        still: names of other bones above these, which have to stay at rest.
    """

    rotations: dict[str, np.ndarray]
    locations: dict[str, np.ndarray]
    still: tuple[str, ...] = ()


def motion_of_rotations(
    rotations: np.ndarray,  # [T, J, 3, 3] local
    fps: float,
) -> JointMotion:
    """Return the motion of joint rotations of `trackshade.motion.skeleton`, whose lower foot stands on the floor."""
    rotations = np.asarray(rotations, np.float64)
    places = positions(rotations)
    turned = JointMotion(JOINTS, PARENTS, REST_OFFSETS, rotations, places[:, 0], fps).global_rotations()
    feet = [JOINTS.index(name) for name in ("foot_l", "foot_r")]

    def lowest(places: np.ndarray, turned: np.ndarray) -> np.ndarray:
        toes = [places[:, foot] + turned[:, foot] @ REST_TAILS[foot] for foot in feet]
        return np.min([*(places[:, foot, 2] for foot in feet), *(toe[:, 2] for toe in toes)], axis=0)

    rest = np.tile(np.eye(3), (1, len(JOINTS), 1, 1))
    root = places[:, 0].copy()
    root[:, 2] += lowest(positions(rest), rest) - lowest(places, turned)
    parents = {*PARENTS}
    ends = {joint: REST_TAILS[joint] for joint in range(len(JOINTS)) if joint not in parents}
    return JointMotion(JOINTS, PARENTS, REST_OFFSETS, rotations, root, fps, ends)


def retarget(
    motion: JointMotion,
    rest: RestBones,
    table: Mapping[str, str],
    source_table: Mapping[str, str] | None = None,
    followers: Sequence[Follower] = (),
) -> BoneMotion:
    """Transfer a motion to the bones of a rig.

    Bones take the orientation in space that the joints have, limbs also where their rest directions differ, so that a
    rig in T-pose and one with hanging arms make the same gesture. The hips move as the source's do, by the ratio of the
    lengths of the legs.

    Args:
        motion: the motion, of the skeleton of the motion model or of any motion file.
        rest: the rig.
        table: bone of the rig for joints of `trackshade.motion.skeleton`.
        source_table: joint of the motion for the same; found by names if None.
        followers: bones that inverse kinematics of the rig aim at.

    Raises:
        ShotError: the motion or the rig has no bones with known names, or lacks a bone that the table names.
    """
    source_table = match_bones(motion.names) if source_table is None else source_table
    require_bones(source_table, "The motion")
    require_bones(table, "The armature")
    for bone in table.values():
        if bone not in rest.names:
            raise ShotError("unknown-bones", f"The armature has no bone '{bone}'.", "Correct the table of bones.")
    source = {joint: motion.names.index(name) for joint, name in source_table.items()}
    target = {joint: rest.names.index(name) for joint, name in table.items() if joint in source}
    places = motion.rest_positions()
    change = body_axes({joint: rest.heads[bone] for joint, bone in target.items()})
    change = change @ body_axes({joint: places[index] for joint, index in source.items()}).T
    turned = motion.global_rotations()
    wanted: dict[int, np.ndarray] = {}
    for joint, bone in target.items():
        space = change @ turned[:, source[joint]] @ change.T
        if joint.rpartition("_")[0] in LIMBS:
            own = limb_direction(joint, target, rest.heads, rest.tails[bone] - rest.heads[bone])
            given = change @ limb_direction(joint, source, places, _end(motion, source[joint]))
            space = space @ shortest_rotation(own, given)
        wanted[bone] = space @ rest.matrices[bone]
    scale = _leg(target, rest.heads) / _leg(source, places)
    hips = (motion.root - motion.root[0] + _lift(motion)) @ change.T * scale
    return _pose(rest, wanted, target, hips, followers)


def _lift(motion: JointMotion) -> np.ndarray:
    """Return how far the first frame's hips are from where the rest pose has them, for the skeleton of the model."""
    return motion.root[0] - REST_OFFSETS[0] if motion.names == JOINTS else np.zeros(3)


def _pose(
    rest: RestBones,
    wanted: Mapping[int, np.ndarray],  # [T, 3, 3] orientations in the rig's space by bone
    target: Mapping[str, int],
    hips: np.ndarray,  # [T, 3] how the hips move, in the rig's space
    followers: Sequence[Follower],
) -> BoneMotion:
    """Return the transforms with which the bones have orientations, parents first."""
    count = len(hips)
    joints = {bone: joint for joint, bone in target.items()}
    leaders = {rest.names.index(item.bone): item for item in followers if item.bone in rest.names}
    turned: dict[int, np.ndarray] = {}
    heads: dict[int, np.ndarray] = {}
    rotations: dict[str, np.ndarray] = {}
    locations: dict[str, np.ndarray] = {}
    for bone in _order(rest, target, leaders):
        parent = rest.parents[bone]
        inherits = parent >= 0 and (not rest.inherits or rest.inherits[bone])
        frame = rest.matrices[bone] if not inherits else turned[parent] @ rest.matrices[parent].T @ rest.matrices[bone]
        frame = np.broadcast_to(frame, (count, 3, 3))
        head = np.broadcast_to(rest.heads[bone], (count, 3))
        if parent >= 0:
            moved = turned[parent] @ rest.matrices[parent].T
            head = heads[parent] + _apply(moved, rest.heads[bone] - rest.heads[parent])
        place = None
        if bone in wanted:
            rotations[rest.names[bone]] = np.swapaxes(frame, 1, 2) @ wanted[bone]
            joint = joints[bone]
            above = nearest_parent(joint, target)
            leader = None if above is None else target[above]
            if joint == "pelvis" and np.abs(hips).max() > 1e-9:
                place = rest.heads[bone] + hips
            elif leader is not None and not _is_below(rest, bone, leader):
                place = heads[leader] + _apply(
                    turned[leader] @ rest.matrices[leader].T, rest.heads[bone] - rest.heads[leader]
                )
        elif bone in leaders:
            leader = rest.names.index(leaders[bone].of)
            point = (rest.tails[leader] if leaders[bone].at_tail else rest.heads[bone]) - rest.heads[leader]
            place = heads[leader] + _apply(turned[leader] @ rest.matrices[leader].T, point)
        if place is not None and not (rest.connected and rest.connected[bone]):
            locations[rest.names[bone]] = _apply(np.swapaxes(frame, 1, 2), place - head)
            head = place
        turned[bone] = wanted.get(bone, frame)
        heads[bone] = head
    moving = {rest.names.index(name) for name in (*rotations, *locations)}
    above = {parent for bone in moving for parent in _ancestors(rest, bone)}
    return BoneMotion(rotations, locations, tuple(rest.names[bone] for bone in sorted(above - moving)))


def _order(rest: RestBones, target: Mapping[str, int], leaders: Mapping[int, Follower]) -> list[int]:
    """Return the bones, each after its parent and after the bone whose place decides its own.

    Raises:
        ShotError: they depend on each other.
    """
    needs: dict[int, set[int]] = {bone: {rest.parents[bone]} - {-1} for bone in range(len(rest.names))}
    for joint, bone in target.items():
        above = nearest_parent(joint, target)
        if above is not None and not _is_below(rest, bone, target[above]):
            needs[bone].add(target[above])
    for bone, item in leaders.items():
        if item.of in rest.names:
            needs[bone].add(rest.names.index(item.of))
    order: list[int] = []
    done: set[int] = set()
    while len(order) < len(needs):
        ready = [bone for bone in needs if bone not in done and needs[bone] <= done]
        if not ready:
            name = rest.names[next(bone for bone in needs if bone not in done)]
            raise ShotError(
                "tangled-bones", f"The place of bone '{name}' depends on itself.", "Correct the table of bones."
            )
        order += ready
        done.update(ready)
    return order


def _is_below(rest: RestBones, bone: int, above: int) -> bool:
    return bone == above or above in _ancestors(rest, bone)


def _ancestors(rest: RestBones, bone: int) -> list[int]:
    """Return the bones above a bone, the nearest one first."""
    above = []
    while rest.parents[bone] >= 0:
        bone = rest.parents[bone]
        above.append(bone)
    return above


def _apply(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return matrices [T, 3, 3] times vectors [3] or [T, 3]."""
    return (matrices @ np.broadcast_to(vectors, (len(matrices), 3))[..., None])[..., 0]


def body_axes(places: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the axes of a body at rest, [3, 3]: its columns point to its left, to its back and upwards."""
    left = np.sum([places[f"{part}_l"] - places[f"{part}_r"] for part in _PAIRS
                   if f"{part}_l" in places and f"{part}_r" in places], axis=0)  # fmt: skip
    upper = [places[name] for name in ("chest", "neck", "head", "upper_arm_l", "upper_arm_r") if name in places]
    lower = [places[name] for name in ("shin_l", "shin_r", "foot_l", "foot_r", "thigh_l", "thigh_r") if name in places]
    up = _straightened(np.mean(upper, axis=0) - np.mean(lower, axis=0))
    left = _straightened(left - up * (left @ up))
    left = left - up * (left @ up)
    left /= np.linalg.norm(left)
    return np.stack([left, np.cross(up, left), up], axis=1)


def _straightened(vector: np.ndarray) -> np.ndarray:
    """Return the unit vector of a direction, which is a coordinate axis if it nearly is one."""
    length = np.linalg.norm(vector)
    if length < 1e-9:
        raise ShotError("flat-skeleton", "The joints of the skeleton lie in one place.", "Correct the table of bones.")
    unit = vector / length
    axis = int(np.abs(unit).argmax())
    return np.sign(unit[axis]) * np.eye(3)[axis] if abs(unit[axis]) > _STRAIGHT else unit


def limb_direction(joint: str, found: Mapping[str, int], places: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    """Return the vector from a joint to the next one of its limb at rest, or the fallback if there is none."""
    index = JOINTS.index(joint)
    for child, parent in enumerate(PARENTS):
        if parent == index and JOINTS[child] in found:
            vector = places[found[JOINTS[child]]] - places[found[joint]]
            if np.linalg.norm(vector) > 1e-9:
                return vector
    return fallback


def _end(motion: JointMotion, joint: int) -> np.ndarray:
    """Return the vector from a joint of a motion to its bone's end, or to its first child."""
    if joint in motion.ends:
        return motion.ends[joint]
    children = [child for child, parent in enumerate(motion.parents) if parent == joint]
    return motion.offsets[children[0]] if children else np.zeros(3)


def shortest_rotation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the rotation by the least angle that turns a direction into another one; none for vectors of no length."""
    lengths = np.linalg.norm(one), np.linalg.norm(other)
    if min(lengths) < 1e-9:
        return np.eye(3)
    one, other = one / lengths[0], other / lengths[1]
    cross, cosine = np.cross(one, other), float(one @ other)
    if cosine < -1 + 1e-9:  # any axis that is perpendicular
        axis = np.cross(one, np.eye(3)[int(np.abs(one).argmin())])
        axis /= np.linalg.norm(axis)
        return 2 * np.outer(axis, axis) - np.eye(3)
    skew = np.array([[0, -cross[2], cross[1]], [cross[2], 0, -cross[0]], [-cross[1], cross[0], 0]])
    return np.eye(3) + skew + skew @ skew / (1 + cosine)


def _leg(found: Mapping[str, int], places: np.ndarray) -> float:
    """Return how long the legs are at rest; the height of the trunk where feet are not known."""
    for end in ("foot", "shin"):
        lengths = [
            np.linalg.norm(places[found[f"thigh_{side}"]] - places[found[f"{end}_{side}"]])
            for side in "lr"
            if f"thigh_{side}" in found and f"{end}_{side}" in found
        ]
        if lengths and max(lengths) > 1e-9:
            return float(np.mean(lengths)) * (2.0 if end == "shin" else 1.0)
    return 1.0
