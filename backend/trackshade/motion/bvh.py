# SPDX-License-Identifier: GPL-3.0-or-later
"""Skeletal motion as BVH files: a hierarchy of joints, and the channels of each frame."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trackshade.core.atomic_files import atomic_file, writing
from trackshade.core.errors import ShotError

MAX_JOINTS, MAX_BYTES = 2000, 1 << 30
_POSITIONS = ("xposition", "yposition", "zposition")
_ROTATIONS = ("xrotation", "yrotation", "zrotation")
_FIX = "Export the file again, or choose another one."


@dataclass(frozen=True, eq=False)
class JointMotion:
    """The motion of a skeleton.

    Attributes:
        names: names of the J joints; parents come before their children.
        parents: [J] index of each joint's parent, -1 for a root.
        offsets: [J, 3] rest position of each joint relative to its parent, in axes that all joints share at rest.
        rotations: [T, J, 3, 3] rotation of each joint relative to its parent; the identity is the rest pose.
        root: [T, 3] position of the first joint.
        fps: frames per second.
        ends: where bones without a child joint end, relative to their joint, by the joint's index.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    rotations: np.ndarray
    root: np.ndarray
    fps: float
    ends: dict[int, np.ndarray] = field(default_factory=dict)

    def rest_positions(self) -> np.ndarray:
        """Return where the joints are at rest, [J, 3], relative to the first joint."""
        places = np.zeros((len(self.names), 3))
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                places[joint] = places[parent] + self.offsets[joint]
        return places

    def global_rotations(self) -> np.ndarray:
        """Return how the joints are turned from the rest pose, [T, J, 3, 3], in the skeleton's axes."""
        turned = np.array(self.rotations, np.float64)
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                turned[:, joint] = turned[:, parent] @ turned[:, joint]
        return turned

    def positions(self) -> np.ndarray:
        """Return where the joints are, [T, J, 3]."""
        turned = self.global_rotations()
        places = np.zeros((len(turned), len(self.names), 3))
        for joint, parent in enumerate(self.parents):
            if parent < 0:
                places[:, joint] = self.root
            else:
                places[:, joint] = places[:, parent] + turned[:, parent] @ self.offsets[joint]
        return places


@dataclass
class _Joint:
    name: str
    parent: int
    offset: np.ndarray | None = None
    channels: tuple[str, ...] = ()


class _Lines:
    """The lines of a file, with their numbers, for sentences about what is wrong in them."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.number = path, 0
        self._lines = text.splitlines()

    def __iter__(self) -> Iterator[list[str]]:
        while self.number < len(self._lines):
            self.number += 1
            words = self._lines[self.number - 1].split()
            if words:
                yield words

    def bad(self, what: str) -> ShotError:
        return ShotError("bad-bvh", f"{self.path.name}, line {self.number}: {what}.", _FIX)

    def numbers(self, words: list[str], count: int) -> np.ndarray:
        """Return so many finite numbers. Raise ShotError."""
        if len(words) != count:
            raise self.bad(f"{count} numbers are expected, not {len(words)}")
        try:
            values = np.array([float(word) for word in words])
        except ValueError:
            raise self.bad("there is something else than numbers") from None
        if not np.isfinite(values).all():
            raise self.bad("a number is not finite")
        return values


def read_bvh(path: Path) -> JointMotion:
    """Read a BVH file; channels may stand in any order. Positions of joints other than the first are left out.

    Raises:
        ShotError: the file is missing, or damaged, which names the line.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ShotError("bad-bvh", f"{path.name} is too large for a motion file.", _FIX)
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError as error:
        raise ShotError("missing-file", f"There is no file {path}.", "Check the path.") from error
    except OSError as error:
        raise ShotError("bad-bvh", f"{path.name} cannot be read: {error.strerror or error}.", _FIX) from error
    lines = _Lines(path, text)
    joints, ends = _read_hierarchy(lines)
    values, fps = _read_frames(lines, sum(len(joint.channels) for joint in joints))
    rotations = np.tile(np.eye(3), (len(values), len(joints), 1, 1))
    root = np.zeros((len(values), 3))
    column = 0
    for index, joint in enumerate(joints):
        for name in joint.channels:
            if name in _ROTATIONS:
                turn = axis_rotations(_ROTATIONS.index(name), np.radians(values[:, column]))
                rotations[:, index] = rotations[:, index] @ turn
            elif index == 0:
                root[:, _POSITIONS.index(name)] = values[:, column]
            column += 1
    offsets = np.array([np.zeros(3) if joint.offset is None else joint.offset for joint in joints])
    names, parents = tuple(joint.name for joint in joints), tuple(joint.parent for joint in joints)
    return JointMotion(names, parents, offsets, rotations, root, fps, ends)


def _read_hierarchy(lines: _Lines) -> tuple[list[_Joint], dict[int, np.ndarray]]:
    """Read up to the word MOTION; return the joints and the ends of bones."""
    joints: list[_Joint] = []
    ends: dict[int, np.ndarray] = {}
    open_joints: list[int] = []  # -1 for the end of a bone
    waits_for_brace = False
    for words in lines:
        word = words[0].upper()
        if waits_for_brace != (word == "{"):
            raise lines.bad("a { is missing" if waits_for_brace else "there is a { without a joint")
        if word == "{":
            waits_for_brace = False
        elif word in ("ROOT", "JOINT", "END"):
            if open_joints and open_joints[-1] < 0:
                raise lines.bad("the end of a bone holds a joint")
            if word != "ROOT" and not open_joints:
                raise lines.bad(f"{word} stands outside of a ROOT")
            if len(joints) >= MAX_JOINTS:
                raise lines.bad(f"there are more than {MAX_JOINTS} joints")
            if word == "END":
                open_joints.append(-1)
            else:
                name = " ".join(words[1:]) or f"joint {len(joints)}"
                joints.append(_Joint(name, open_joints[-1] if open_joints else -1))
                open_joints.append(len(joints) - 1)
            waits_for_brace = True
        elif word == "OFFSET" and open_joints:
            place = lines.numbers(words[1:], 3)
            if open_joints[-1] >= 0:
                joints[open_joints[-1]].offset = place
            else:
                ends[open_joints[-2]] = place
        elif word == "CHANNELS" and open_joints and open_joints[-1] >= 0:
            joints[open_joints[-1]].channels = _channels(lines, words[1:])
        elif word == "}" and open_joints:
            open_joints.pop()
        elif word == "MOTION" and not open_joints:
            if not joints:
                raise lines.bad("there are no joints before MOTION")
            return joints, ends
        elif word != "HIERARCHY" or joints:
            raise lines.bad(f"'{words[0][:40]}' is not expected here")
    raise lines.bad("the file ends before its MOTION")


def _channels(lines: _Lines, words: list[str]) -> tuple[str, ...]:
    names = tuple(word.lower() for word in words[1:])
    if not words or words[0] != str(len(names)):
        raise lines.bad("the number of channels is not that of their names")
    unknown = [name for name in names if name not in (*_POSITIONS, *_ROTATIONS)]
    if unknown or len(set(names)) < len(names):
        raise lines.bad(f"the channel {unknown[0]!r} is unknown" if unknown else "a channel stands twice")
    return names


def _read_frames(lines: _Lines, columns: int) -> tuple[np.ndarray, float]:
    """Read what follows the word MOTION; return the channels of all frames [T, columns], and the frame rate."""
    count, seconds = None, None
    rows: list[np.ndarray] = []
    for words in lines:
        if words[0].lower() == "frames:":
            count = int(lines.numbers(words[1:], 1)[0])
        elif [word.lower() for word in words[:2]] == ["frame", "time:"]:
            seconds = float(lines.numbers(words[2:], 1)[0])
            if seconds <= 0:
                raise lines.bad("the frame time is not above 0")
        elif count is None or seconds is None:
            raise lines.bad("'Frames:' and 'Frame Time:' are expected before the frames")
        elif len(rows) == count:
            raise lines.bad(f"there are more than {count} frames")
        else:
            rows.append(lines.numbers(words, columns))
    if not rows or seconds is None or len(rows) != count:
        raise lines.bad(f"the file ends after {len(rows)} of {count or 0} frames")
    return np.array(rows).reshape(len(rows), columns), 1.0 / seconds


def axis_rotations(axis: int, angles: np.ndarray) -> np.ndarray:
    """Return rotations about a coordinate axis (0 to 2) by angles [T], radians: [T, 3, 3]."""
    out = np.tile(np.eye(3), (len(angles), 1, 1))
    one, other = (axis + 1) % 3, (axis + 2) % 3
    out[:, one, one] = out[:, other, other] = np.cos(angles)
    out[:, other, one] = np.sin(angles)
    out[:, one, other] = -out[:, other, one]
    return out


def write_bvh(path: Path, motion: JointMotion) -> None:
    """Write a BVH file, whole or not at all: the first joint has six channels, the others three (Z, X, Y).

    Raises:
        OutputError: it cannot be written.
    """
    order = _depth_first(motion.parents)
    channels = [motion.root]
    for joint in order:
        channels.append(np.degrees(euler_zxy(motion.rotations[:, joint])))
    rows = np.concatenate(channels, axis=1)
    lines = ["HIERARCHY", *_hierarchy_lines(motion), "MOTION", f"Frames: {len(rows)}"]
    lines.append(f"Frame Time: {1.0 / motion.fps:.8f}")
    lines += [" ".join(f"{value:.6f}" for value in row) for row in rows]
    with writing("The motion", path), atomic_file(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def euler_zxy(rotations: np.ndarray) -> np.ndarray:
    """Return the angles [..., 3] about Z, X and Y, radians, whose product Z X Y is a rotation [..., 3, 3].

    Sudden jumps by full turns are removed along the first axis.
    """
    x = np.arcsin(np.clip(rotations[..., 2, 1], -1.0, 1.0))
    is_locked = np.abs(rotations[..., 2, 1]) > 1 - 1e-9  # Z and Y turn about the same axis
    z = np.arctan2(-rotations[..., 0, 1], rotations[..., 1, 1])
    y = np.arctan2(-rotations[..., 2, 0], rotations[..., 2, 2])
    z = np.where(is_locked, np.arctan2(rotations[..., 1, 0], rotations[..., 0, 0]), z)
    return np.unwrap(np.stack([z, x, np.where(is_locked, 0.0, y)], axis=-1), axis=0)


def _depth_first(parents: tuple[int, ...]) -> list[int]:
    """Return the joints in the order in which the hierarchy names them."""
    children: dict[int, list[int]] = {}
    for joint, parent in enumerate(parents):
        children.setdefault(parent, []).append(joint)
    order: list[int] = []
    waiting = children.get(-1, [])[::-1]
    while waiting:
        joint = waiting.pop()
        order.append(joint)
        waiting += children.get(joint, [])[::-1]
    return order


def _hierarchy_lines(motion: JointMotion) -> list[str]:
    children: dict[int, list[int]] = {}
    for joint, parent in enumerate(motion.parents):
        children.setdefault(parent, []).append(joint)

    def offset(values: np.ndarray) -> str:
        return "OFFSET " + " ".join(f"{value:.6f}" for value in values)

    def block(joint: int, depth: int) -> list[str]:
        indent, is_root = "\t" * depth, motion.parents[joint] < 0
        channels = "3 Zrotation Xrotation Yrotation"
        if joint == 0:
            channels = "6 Xposition Yposition Zposition" + channels[1:]
        lines = [f"{indent}{'ROOT' if is_root else 'JOINT'} {motion.names[joint]}", indent + "{"]
        lines += [f"{indent}\t{offset(motion.offsets[joint])}", f"{indent}\tCHANNELS {channels}"]
        for child in children.get(joint, ()):
            lines += block(child, depth + 1)
        if joint not in children:
            end = motion.ends.get(joint, np.zeros(3))
            lines += [f"{indent}\tEnd Site", indent + "\t{", f"{indent}\t\t{offset(end)}", indent + "\t}"]
        return [*lines, indent + "}"]

    return [line for joint in children.get(-1, ()) for line in block(joint, 0)]


def resample_motion(motion: JointMotion, fps: float) -> JointMotion:
    """Return a motion at another frame rate; rotations between two frames are interpolated along the shortest way."""
    if math.isclose(fps, motion.fps):
        return motion
    last = len(motion.rotations) - 1
    count = max(1, round(last / motion.fps * fps) + 1)
    times = np.minimum(np.arange(count) * motion.fps / fps, last)
    before = np.minimum(times.astype(int), max(0, last - 1))
    after = np.minimum(before + 1, last)
    share = times - before
    step = np.swapaxes(motion.rotations[before], -1, -2) @ motion.rotations[after]
    rotations = motion.rotations[before] @ scale_rotations(step, share[:, None])
    root = motion.root[before] + share[:, None] * (motion.root[after] - motion.root[before])
    return JointMotion(motion.names, motion.parents, motion.offsets, rotations, root, fps, motion.ends)


def scale_rotations(rotations: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return rotations [..., 3, 3] about the same axes, by a share [...] of their angles."""
    cosine = np.clip((np.trace(rotations, axis1=-2, axis2=-1) - 1) / 2, -1, 1)
    angle = np.arccos(cosine)
    axis = np.stack([
        rotations[..., 2, 1] - rotations[..., 1, 2],
        rotations[..., 0, 2] - rotations[..., 2, 0],
        rotations[..., 1, 0] - rotations[..., 0, 1],
    ], axis=-1)  # fmt: skip
    length = np.linalg.norm(axis, axis=-1, keepdims=True)
    # A half turn has no unique axis there: its matrix has it.
    column = np.argmax(np.diagonal(rotations, axis1=-2, axis2=-1), axis=-1)
    half = np.take_along_axis(rotations + np.eye(3), column[..., None, None], axis=-1)[..., 0]
    half = half / np.maximum(np.linalg.norm(half, axis=-1, keepdims=True), 1e-12)
    axis = np.where((length < 1e-7) & (angle[..., None] > 1), half, axis / np.maximum(length, 1e-12))
    turned = np.broadcast_to(share, angle.shape) * angle
    cross = np.zeros(rotations.shape)
    cross[..., 2, 1], cross[..., 0, 2], cross[..., 1, 0] = axis[..., 0], axis[..., 1], axis[..., 2]
    cross -= np.swapaxes(cross, -1, -2)
    sine, rest = np.sin(turned)[..., None, None], 1 - np.cos(turned)[..., None, None]
    return np.eye(3) + sine * cross + rest * cross @ cross
