# SPDX-License-Identifier: GPL-3.0-or-later
"""Motions of generated figures, by composed curves of the joints' angles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trackshade.core.errors import UsageError
from trackshade.motion.bvh import read_bvh, resample_motion
from trackshade.motion.retargeting import RestBones, retarget
from trackshade.motion.skeleton import JOINTS, NUM_JOINTS, PARENTS, REST_TAILS, positions

from .figures import Split

NUM_FRAMES = 8  # of a clip
FPS = 8.0
MOTIONS = ("dance", "walk", "wave", "turn", "crouch", "idle")
HELD_OUT_MOTIONS = ("kick", "jumping_jack")
_SHARES = (0.45, 0.2, 0.1, 0.1, 0.1, 0.05)  # of MOTIONS

_X, _Y, _Z = 0, 1, 2


def sample_motions(
    rng: np.random.Generator,
    count: int,
    split: Split = "training",
    motion: str | None = None,
    library: MotionLibrary | None = None,
) -> np.ndarray:
    """Sample local joint rotations of clips, [N, T, J, 3, 3]; the pelvis does not turn.

    Args:
        rng: generator that determines them.
        count: number N of clips.
        split: held-out motions are of kinds that training does not have.
        motion: the kind of all clips; kinds of the split by their shares if None.
        library: motions from which a fraction of the clips is taken.
    """
    if motion is not None:
        kinds = np.full(count, motion)
    elif split == "held-out":
        kinds = rng.choice(HELD_OUT_MOTIONS, count)
    else:
        kinds = rng.choice(MOTIONS, count, p=_SHARES)
    local = _Angles(rng, kinds).rotations()
    if library is not None:
        taken = np.flatnonzero(rng.random(count) < library.fraction)
        local[taken] = library.windows[rng.integers(len(library.windows), size=len(taken))]
    return local


@dataclass(frozen=True, eq=False)
class MotionLibrary:
    """Motions from files.

    Attributes:
        windows: [M, T, J, 3, 3] local joint rotations of clips.
        fraction: fraction of sampled clips that are taken from them.
    """

    windows: np.ndarray
    fraction: float


def load_motions(folder: Path, fraction: float) -> MotionLibrary:
    """Read the BVH files of a folder, resampled to `FPS` and cut into clips that overlap by half.

    Skeletons may have any proportions, and any names of joints that `trackshade.motion.bone_names` knows.

    Args:
        folder: folder of .bvh files; folders in it are read, too.
        fraction: fraction of sampled clips that are taken from them.

    Raises:
        UsageError: there are no BVH files in the folder, or none that is as long as a clip.
        ShotError: a file is damaged, or its joints have unknown names.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".bvh")
    if not paths:
        raise UsageError("no-motions", f"There are no BVH files in {folder}.", "Give a folder of .bvh files.")
    places = positions(np.broadcast_to(np.eye(3), (NUM_JOINTS, 3, 3)))
    rest = RestBones(JOINTS, PARENTS, places, places + REST_TAILS, np.tile(np.eye(3), (NUM_JOINTS, 1, 1)))
    table, windows = {name: name for name in JOINTS}, []
    for path in paths:
        motion = resample_motion(read_bvh(path), FPS)
        turned = retarget(motion, rest, table).rotations
        local = np.tile(np.eye(3), (len(motion.rotations), NUM_JOINTS, 1, 1))
        for joint, name in enumerate(JOINTS[1:], 1):  # the pelvis does not turn
            local[:, joint] = turned.get(name, local[:, joint])
        windows += [
            local[first : first + NUM_FRAMES] for first in range(0, len(local) - NUM_FRAMES + 1, NUM_FRAMES // 2)
        ]
    if not windows:
        seconds = NUM_FRAMES / FPS
        raise UsageError("no-motions", f"No motion in {folder} lasts {seconds:g} s.", "Give longer motions.")
    return MotionLibrary(np.stack(windows), fraction)


class _Angles:
    """The angles of clips: random curves of every joint, changed by the kind of motion.

    Args:
        rng: generator that determines them.
        kinds: [N] kinds of motion.
    """

    def __init__(self, rng: np.random.Generator, kinds: np.ndarray) -> None:
        self.rng, self.kinds, self.count = rng, kinds, len(kinds)
        self.time = np.arange(NUM_FRAMES) / NUM_FRAMES
        self.cycles = rng.uniform(0.4, 1.2, (self.count, 1))  # in a clip
        self.phase = 2 * np.pi * (self.cycles * self.time + rng.random((self.count, 1)))  # [N, T]

    def curve(self, low: float, high: float) -> np.ndarray:
        """Sample curves [N, T] between two angles: two sines of the clip's rate and twice that about a mean."""
        u = self.rng.random((6, self.count, 1))
        mean, amplitude = low + (high - low) * u[0], (high - low) * 0.45 * (0.2 + 0.8 * u[1])
        turns = 2 * np.pi * self.cycles * self.time
        wave = np.sin(turns + 2 * np.pi * u[2]) + 0.4 * u[3] * np.sin(2 * turns + 2 * np.pi * u[4])
        return np.clip(mean + amplitude * wave, low, high)

    def choose(self, kind: str, other: np.ndarray, own: np.ndarray | float, share: float = 1.0) -> np.ndarray:
        """Return `own` angles in clips of a kind (in a share of them), and other ones elsewhere, [N, T]."""
        use = (self.kinds == kind) & (self.rng.random(self.count) < share)
        return np.where(use[:, None], own, other)

    def rotations(self) -> np.ndarray:
        """Return local rotations, [N, T, J, 3, 3]."""
        local = np.broadcast_to(np.eye(3), (self.count, NUM_FRAMES, NUM_JOINTS, 3, 3)).copy()
        self._turn_torso(local)
        for side, suffix in ((1.0, "_l"), (-1.0, "_r")):
            self._turn_arm(local, side, suffix)
            self._turn_leg(local, side, suffix)
        return local

    def _turn_torso(self, local: np.ndarray) -> None:
        pitch, yaw, roll = self.curve(-0.15, 0.5), self.curve(-0.5, 0.5), self.curve(-0.25, 0.25)
        sweep = 0.9 * np.sin(self.phase)
        yaw = self.choose("turn", yaw, sweep)
        for kind, factor in (("walk", 0.35), ("jumping_jack", 0.2), ("kick", 0.5), ("idle", 0.3)):
            pitch, yaw, roll = (self.choose(kind, angle, angle * factor) for angle in (pitch, yaw, roll))
        pitch = self.choose("crouch", pitch, 0.25 + 0.25 * np.sin(self.phase))
        half = _rotation(_Z, yaw / 2) @ _rotation(_X, pitch / 2) @ _rotation(_Y, roll / 2)
        local[:, :, JOINTS.index("spine")] = local[:, :, JOINTS.index("chest")] = half
        nod, look, tilt = self.curve(-0.35, 0.4), self.curve(-0.9, 0.9), self.curve(-0.2, 0.2)
        look = self.choose("turn", look, sweep * 0.6, 0.6)
        local[:, :, JOINTS.index("neck")] = _rotation(_Z, 0.4 * look) @ _rotation(_X, 0.4 * nod)
        local[:, :, JOINTS.index("head")] = _rotation(_Z, 0.6 * look) @ _rotation(_X, 0.6 * nod) @ _rotation(_Y, tilt)

    def _turn_arm(self, local: np.ndarray, side: float, suffix: str) -> None:
        lift, toward, twist, bend = (
            self.curve(0.0, 2.6), self.curve(-0.4, 2.2), self.curve(-0.8, 0.8), self.curve(0.0, 2.3)
        )  # fmt: skip
        swing = np.where(self.kinds == "idle", 0.15, 0.5)[:, None] * side * np.sin(self.phase)
        rested = self.rng.random(self.count)[:, None] < 0.5
        for kind, share in (("walk", 0.7), ("kick", 0.4), ("crouch", 0.4), ("idle", 0.8)):
            use = (self.kinds == kind) & (self.rng.random(self.count) < share)
            still = use[:, None]
            lift, toward = np.where(still, swing, lift), np.where(still, 0.0, toward)
            twist, bend = np.where(still, 0.1, twist), np.where(still, 0.4 + 0.4 * np.abs(swing), bend)
        waving = self.kinds == "wave"
        if side < 0:  # the other arm hangs, in half of the clips
            hanging = waving[:, None] & rested
            lift, bend = np.where(hanging, 0.15, lift), np.where(hanging, 0.3, bend)
        else:
            lift, toward = self.choose("wave", lift, 1.9), self.choose("wave", toward, 1.45)
            bend = self.choose("wave", bend, 0.9 + 0.7 * np.sin(2 * self.phase))
            twist = self.choose("wave", twist, 0.5 * np.sin(2 * self.phase))
        jack = 1.4 + 1.2 * np.sin(self.phase)
        lift, toward = self.choose("jumping_jack", lift, jack), self.choose("jumping_jack", toward, 1.57)
        bend = self.choose("jumping_jack", bend, 0.15)
        local[:, :, JOINTS.index("upper_arm" + suffix)] = _swing(lift, toward, side) @ _rotation(_Z, side * twist)
        local[:, :, JOINTS.index("forearm" + suffix)] = _rotation(_X, -bend)
        flex, deviation, curl = self.curve(-0.7, 0.9), self.curve(-0.4, 0.4), self.curve(0.0, 1.9)
        roll = self.curve(-1.0, 1.0)  # of the forearm, which turns the palm
        hand = _rotation(_Z, side * roll) @ _rotation(_Y, side * flex) @ _rotation(_X, deviation)
        local[:, :, JOINTS.index("hand" + suffix)] = hand
        local[:, :, JOINTS.index("fingers" + suffix)] = _rotation(_Y, side * curl)

    def _turn_leg(self, local: np.ndarray, side: float, suffix: str) -> None:
        flex, spread, bend = self.curve(-0.3, 1.2), self.curve(0.0, 0.5), self.curve(0.0, 1.5)
        phase = self.phase + (0.0 if side > 0 else np.pi)
        stride = self.rng.uniform(0.35, 0.8, (self.count, 1))
        flex = self.choose("walk", flex, 0.15 + stride * np.sin(phase))
        spread = self.choose("walk", spread, 0.04)
        bend = self.choose("walk", bend, 0.15 + 1.1 * stride * np.maximum(0, np.cos(phase)))
        for kind in ("wave", "turn", "idle"):  # standing, in most clips
            use = (self.kinds == kind) & (self.rng.random(self.count) < 0.7)
            flex, spread, bend = (np.where(use[:, None], angle * 0.2, angle) for angle in (flex, spread, bend))
        down = 0.6 + 0.6 * np.sin(self.phase)
        flex, bend = self.choose("crouch", flex, down), self.choose("crouch", bend, 1.5 * down)
        spread = self.choose("crouch", spread, 0.2)
        kick = np.maximum(0, np.sin(self.phase)) * 1.6
        kicking = side > 0
        flex = self.choose("kick", flex, kick if kicking else 0.05)
        bend = self.choose("kick", bend, 0.2 + 0.9 * np.maximum(0, np.cos(self.phase)) if kicking else 0.15)
        spread = self.choose("kick", spread, 0.05)
        apart = 0.3 + 0.3 * np.sin(self.phase)
        flex, bend = self.choose("jumping_jack", flex, 0.1), self.choose("jumping_jack", bend, 0.15)
        spread = self.choose("jumping_jack", spread, apart)
        local[:, :, JOINTS.index("thigh" + suffix)] = _rotation(_Y, -side * spread) @ _rotation(_X, -flex)
        local[:, :, JOINTS.index("shin" + suffix)] = _rotation(_X, bend)
        local[:, :, JOINTS.index("foot" + suffix)] = _rotation(_X, self.curve(-0.4, 0.3))


def _rotation(axis: int, angle: np.ndarray) -> np.ndarray:
    """Return rotations about an axis, [..., 3, 3]."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.zeros((*angle.shape, 3, 3))
    matrix[..., axis, axis] = 1
    matrix[..., first, first] = matrix[..., second, second] = np.cos(angle)
    matrix[..., second, first] = np.sin(angle)
    matrix[..., first, second] = -matrix[..., second, first]
    return matrix


def _swing(lift: np.ndarray, toward: np.ndarray, side: float) -> np.ndarray:
    """Return the rotations that lift a hanging arm, [..., 3, 3].

    Args:
        lift: angle from the hanging arm.
        toward: direction of the lift: 0 is forward, pi / 2 outward.
        side: 1 for the left arm, -1 for the right one.
    """
    x, y = -np.cos(toward), -side * np.sin(toward)  # the axis: down x (side sin, -cos, 0)
    zero = np.zeros_like(x)
    cross = np.stack(
        [np.stack([zero, zero, y], -1), np.stack([zero, zero, -x], -1), np.stack([-y, x, zero], -1)], axis=-2
    )
    sine, cosine = np.sin(lift)[..., None, None], np.cos(lift)[..., None, None]
    return np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)
