# SPDX-License-Identifier: GPL-3.0-or-later
"""Rigged characters as plain arrays: a skinned mesh in colors, posed by joint rotations of the motion model.

The space is that of `trackshade.motion.skeleton`: Z is up, the character faces -Y, has its left side at +X, and stands
on the floor. Poses are those that `trackshade.motion.retargeting` gives the same rig.
"""

from __future__ import annotations

import functools
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trackshade.core.atomic_files import atomic_file, writing
from trackshade.core.errors import ShotError
from trackshade.motion.bone_names import require_bones
from trackshade.motion.framing import LANDMARKS
from trackshade.motion.retargeting import LIMBS, RestBones, body_axes, limb_direction, shortest_rotation
from trackshade.motion.skeleton import JOINTS, NUM_JOINTS, REST_TAILS, nearest_parent, orientations

HEIGHT = 1.8  # of every character in the skeleton's rest pose, metres
MAX_VERTICES = MAX_TRIANGLES = 1 << 20
NEEDED = (
    "pelvis",
    "head",
    *(f"{part}_{side}" for part in ("upper_arm", "forearm", "hand", "thigh", "shin", "foot") for side in "lr"),
)
"""Joints whose bones a character must have; for the others the skeleton's next joint above stands in."""
POINTS = (*LANDMARKS, "fingers_l", "fingers_r")
"""Points of a character that are known in every pose."""

_FORMAT = 1
_FILE_FIX = "Write it again with 'trackshade character'."
# Joint that an end of the body belongs to, and the direction in which it is the farthest part of that joint's surface.
_ENDS = {
    "fingertip_l": ("fingers_l", (0.0, 0.0, -1.0)),
    "fingertip_r": ("fingers_r", (0.0, 0.0, -1.0)),
    "toe_l": ("foot_l", (0.0, -1.0, 0.0)),
    "toe_r": ("foot_r", (0.0, -1.0, 0.0)),
}
_END_SHARE = 0.1  # of the vertices, whose mean is an end
_HEAD_TOP = 0.65  # where the landmark is between the head's joint and the crown
_FEET = [POINTS.index(f"{name}_{side}") for name in ("foot", "toe", "shin") for side in "lr"]
_HIPS = [JOINTS.index(f"thigh_{side}") for side in "lr"]


@dataclass(frozen=True, eq=False)
class Character:
    """A skinned mesh of V vertices and F triangles, and the rest pose of its J joints.

    Attributes:
        name: what it is called.
        vertices: [V, 3] in the rest pose of its own rig, metres.
        weights: [V, J] shares of the joints; each row sums to 1.
        triangles: [F, 3] vertices of each triangle.
        colors: [F, 3] uint8 sRGB.
        materials: [F] number of the material of each triangle.
        heads: [J, 3] places of the joints in that rest pose; of a joint without a bone, of the next one above.
        turns: [J, 3, 3] rotations from that rest pose to the skeleton's.
        parents: [J] the next joint above that has a bone, -1 for the root. Parents come before their children.
        points: [P, 3] places of `POINTS` in that rest pose.
        carriers: [P] joint that each of them is fixed to.
        clearance: [] height above the floor of the lowest point of the feet, metres.
    """

    name: str
    vertices: np.ndarray
    weights: np.ndarray
    triangles: np.ndarray
    colors: np.ndarray
    materials: np.ndarray
    heads: np.ndarray
    turns: np.ndarray
    parents: np.ndarray
    points: np.ndarray
    carriers: np.ndarray
    clearance: np.ndarray

    def transforms(
        self,
        local: np.ndarray,  # [..., J, 3, 3]
    ) -> np.ndarray:
        """Return what moves each joint's part from the rest pose of the rig to a pose on the floor, [..., J, 3, 4].

        The middle between the hips has x = y = 0.
        """
        turned = orientations(local) @ self.turns
        places = np.zeros((*local.shape[:-2], 3))
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                arm = self.heads[joint] - self.heads[parent]
                places[..., joint, :] = places[..., parent, :] + turned[..., parent, :, :] @ arm
        moved = places - (turned @ self.heads[..., None])[..., 0]
        result = np.concatenate([turned, moved[..., None]], axis=-1)
        feet = self.place_points(result)[..., _FEET, 2].min(axis=-1)
        hips = places[..., _HIPS, :2].mean(axis=-2)
        result[..., :2, 3] -= hips[..., None, :]
        result[..., 2, 3] += (self.clearance - feet)[..., None]
        return result

    def place_points(
        self,
        transforms: np.ndarray,  # [..., J, 3, 4]
    ) -> np.ndarray:
        """Return `POINTS` in a pose, [..., P, 3]."""
        moved = transforms[..., self.carriers, :, :]
        return (moved[..., :3] @ self.points[..., None])[..., 0] + moved[..., 3]

    def place_vertices(
        self,
        transforms: np.ndarray,  # [..., J, 3, 4]
    ) -> np.ndarray:
        """Return the vertices in a pose by linear blend skinning, [..., V, 3]."""
        poses = np.moveaxis(transforms.reshape(-1, NUM_JOINTS, 3, 4), 0, 2)  # [J, 3, T, 4]
        moved = self._basis @ poses.transpose(0, 3, 1, 2).reshape(self._basis.shape[1], -1).astype(np.float32)
        vertices = np.moveaxis(moved.reshape(len(moved), 3, -1), -1, 0)
        return vertices.reshape(*transforms.shape[:-3], len(moved), 3)

    @functools.cached_property
    def _basis(self) -> np.ndarray:
        """The vertices' share of each number of the transforms, [V, 4 J]."""
        points = np.concatenate([self.vertices, np.ones((len(self.vertices), 1))], axis=1)
        return (self.weights[:, :, None] * points[:, None]).reshape(len(points), -1).astype(np.float32)

    @functools.cached_property
    def triangle_joints(self) -> np.ndarray:
        """The joint that moves each triangle most, [F]."""
        return self.weights[self.triangles].sum(axis=1).argmax(axis=1)

    @functools.cached_property
    def own_parts(self) -> np.ndarray:
        """The joints whose surface is about each landmark, [L, J]: 2 for its own, 1 for the next one above, else 0."""
        own = np.zeros((len(LANDMARKS), NUM_JOINTS), np.int8)
        for landmark, joint in enumerate(self.carriers[: len(LANDMARKS)]):
            own[landmark, max(0, self.parents[joint])] = 1
            own[landmark, joint] = 2
        return own

    def save(self, path: Path) -> None:
        """Write an .npz file, whole or not at all. Raise OutputError."""
        arrays = {name: getattr(self, name) for name in _SHAPES}
        arrays["weights"] = self.weights.astype(np.float16)
        with writing("The character", path), atomic_file(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, format=_FORMAT, name=np.array(self.name), **arrays)


# Shape and type of each array of a file; letters are numbers that are the same in all of them.
_SHAPES: Mapping[str, tuple[str, str]] = {
    "vertices": ("V3", "f4"),
    "weights": ("VJ", "f2"),
    "triangles": ("F3", "i4"),
    "colors": ("F3", "u1"),
    "materials": ("F", "i2"),
    "heads": ("J3", "f4"),
    "turns": ("J33", "f4"),
    "parents": ("J", "i2"),
    "points": ("P3", "f4"),
    "carriers": ("P", "i2"),
    "clearance": ("", "f4"),
}


def load_character(path: Path) -> Character:
    """Read a character's file.

    Raises:
        ShotError: it is missing, damaged, or no character.
    """
    try:
        if not zipfile.is_zipfile(path):
            path.open("rb").close()
            raise ValueError("it is no archive")
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except FileNotFoundError as error:
        raise ShotError("missing-file", f"There is no file {path}.", "Check the path.") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ShotError("bad-character", f"The character {path.name} cannot be read: {error}.", _FILE_FIX) from error
    problem = _find_problem(arrays)
    if problem:
        raise ShotError("bad-character", f"{path.name} is no character of this version: {problem}.", _FILE_FIX)
    values = {name: arrays[name] for name in _SHAPES}
    weights = values["weights"].astype(np.float32)
    values["weights"] = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-6)
    return Character(name=str(arrays["name"]), **values)


def _find_problem(arrays: Mapping[str, np.ndarray]) -> str:
    """Return why arrays are no character, or ""."""
    missing = sorted({"format", "name", *_SHAPES} - {*arrays})
    if missing:
        return f"'{missing[0]}' is missing"
    if arrays["format"].shape or arrays["format"] != _FORMAT:
        return "its format is another one"
    sizes = {"J": NUM_JOINTS, "P": len(POINTS), "3": 3}
    for name, (shape, kind) in _SHAPES.items():
        array = arrays[name]
        sizes |= {letter: size for letter, size in zip(shape, array.shape, strict=False) if letter not in sizes}
        if array.dtype != kind or array.shape != tuple(sizes.get(letter, -1) for letter in shape):
            return f"'{name}' has another shape or type"
        if kind.startswith("f") and not np.isfinite(array).all():
            return f"'{name}' is not finite"
    limits = {
        "triangles": (0, sizes["V"]),
        "materials": (0, 1 << 15),
        "carriers": (0, NUM_JOINTS),
        "parents": (-1, NUM_JOINTS),
    }
    for name, (low, high) in limits.items():
        if arrays[name].size and (arrays[name].min() < low or arrays[name].max() >= high):
            return f"'{name}' names what it does not have"
    if not sizes["F"] or sizes["V"] > MAX_VERTICES or sizes["F"] > MAX_TRIANGLES:
        return "it has no triangles, or too many"
    if (arrays["parents"] >= np.arange(NUM_JOINTS)).any() or (arrays["parents"][1:] < 0).any():
        return "'parents' has no order"
    return ""


def make_character(
    name: str,
    rest: RestBones,
    table: Mapping[str, str],
    vertices: np.ndarray,  # [V, 3] in the space of the rig
    weights: np.ndarray,  # [V, B]
    triangles: np.ndarray,  # [F, 3]
    colors: np.ndarray,  # [F, 3] sRGB 0..255
    materials: np.ndarray,  # [F]
) -> Character:
    """Make a character of a rig in its rest pose.

    Args:
        name: what it is called.
        rest: the rig.
        table: bone of the rig for joints of the skeleton.
        vertices: vertices of its meshes.
        weights: weights of the bones; those of bones that are no joints count for the next joint above.
        triangles: vertices of each triangle.
        colors: their colors.
        materials: number of each triangle's material.

    Raises:
        ShotError: bones are missing that a character needs, or it has no surface.
    """
    require_bones(table, "The armature", NEEDED)
    absent = [bone for bone in table.values() if bone not in rest.names]
    if absent:
        raise ShotError("unknown-bones", f"The armature has no bone '{absent[0]}'.", "Correct the table of bones.")
    if not len(triangles):
        raise ShotError(
            "no-skin", "The armature moves no mesh that renders show.", "Bind a mesh to the armature, or show it."
        )
    bones = {joint: rest.names.index(bone) for joint, bone in table.items()}
    axes = body_axes({joint: rest.heads[bone] for joint, bone in bones.items()})
    shares = np.zeros((len(vertices), NUM_JOINTS))
    for bone, joint in enumerate(_bone_joints(rest, bones)):
        shares[:, joint] += weights[:, bone]
    shares[shares.sum(axis=1) <= 0, 0] = 1.0
    shares /= shares.sum(axis=1, keepdims=True)

    above = [nearest_parent(joint, bones) for joint in JOINTS]  # only the root has none
    parents = np.array([-1 if joint is None else JOINTS.index(joint) for joint in above], np.int16)
    bone_heads, tails = rest.heads @ axes, rest.tails @ axes
    heads, turns = np.zeros((NUM_JOINTS, 3)), np.tile(np.eye(3), (NUM_JOINTS, 1, 1))
    for joint, label in enumerate(JOINTS):
        if label in bones:
            bone = bones[label]
            heads[joint] = bone_heads[bone]
            if label.rpartition("_")[0] in LIMBS:
                along = limb_direction(label, bones, bone_heads, tails[bone] - bone_heads[bone])
                turns[joint] = shortest_rotation(along, REST_TAILS[joint])
        else:
            heads[joint], turns[joint] = heads[parents[joint]], turns[parents[joint]]
    made = Character(
        name=name, vertices=vertices @ axes, weights=shares, triangles=triangles, colors=colors, materials=materials,
        heads=heads, turns=turns, parents=parents, points=np.zeros((len(POINTS), 3)),
        carriers=np.zeros(len(POINTS), np.int16), clearance=np.zeros(()),
    )  # fmt: skip
    points, carriers = _find_points(made, bones)
    return _standing(replace(made, points=points, carriers=carriers))


def _bone_joints(rest: RestBones, bones: Mapping[str, int]) -> list[int]:
    """Return the joint that moves each bone: its own, that of the next bone above, or the nearest one."""
    joints = {bone: JOINTS.index(joint) for joint, bone in bones.items()}
    result = []
    for bone, parent in enumerate(rest.parents):
        if bone in joints:
            result.append(joints[bone])
        else:
            result.append(result[parent] if parent >= 0 else -1)
    for bone, joint in enumerate(result):
        if joint < 0 <= rest.parents[bone]:
            middle = (rest.heads[bone] + rest.tails[bone]) / 2
            nearest = min(joints, key=lambda other: _distance(middle, rest.heads[other], rest.tails[other]))
            result[bone] = joints[nearest]
    return [max(0, joint) for joint in result]


def _distance(point: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """Return the distance of a point from a segment."""
    along = end - start
    share = np.clip((point - start) @ along / max(1e-12, along @ along), 0, 1)
    return float(np.linalg.norm(point - start - share * along))


def _find_points(character: Character, bones: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return places [P, 3] of `POINTS` in the rig's rest pose, and the joints [P] that they are fixed to."""
    places, carriers = np.zeros((len(POINTS), 3)), np.zeros(len(POINTS), np.int16)
    owner = character.weights.argmax(axis=1)

    def carrier(joint: str) -> int:
        index = JOINTS.index(joint)
        return index if joint in bones else int(character.parents[index])

    def surface(joint: int) -> np.ndarray:
        """Return the vertices that a joint moves most, relative to it, turned to the skeleton's rest pose."""
        own = character.vertices[owner == joint] - character.heads[joint]
        return own @ character.turns[joint].T

    for index, name in enumerate(POINTS):
        joint = carrier(_ENDS[name][0] if name in _ENDS else "head" if name == "head_top" else name)
        places[index], carriers[index] = character.heads[joint], joint
        parts = surface(joint)
        if name == "head_top" and len(parts):
            crown = np.quantile(parts[:, 2], 1 - _END_SHARE / 10)
            middle = (parts[:, :2].min(axis=0) + parts[:, :2].max(axis=0)) / 2
            places[index] += np.append(middle, _HEAD_TOP * max(crown, 0.0))
        elif name in _ENDS and len(parts):
            reach = parts @ np.array(_ENDS[name][1])
            end = parts[reach >= np.quantile(reach, 1 - _END_SHARE)].mean(axis=0)
            places[index] += character.turns[joint].T @ end
        elif name in _ENDS:
            places[index] += character.turns[joint].T @ REST_TAILS[joint] * _scale(character)
    shoulders = [POINTS.index(f"upper_arm_{side}") for side in "lr"]
    if "neck" not in bones:
        places[POINTS.index("neck")] = places[shoulders].mean(axis=0)
    for side in "lr":
        if f"fingers_{side}" not in bones:
            pair = [POINTS.index(f"{name}_{side}") for name in ("hand", "fingertip")]
            places[POINTS.index(f"fingers_{side}")] = places[pair].mean(axis=0)
    return places, carriers


def _scale(character: Character) -> float:
    """Return how long the thighs are, as a share of the skeleton's."""
    return float(np.linalg.norm(character.heads[JOINTS.index("shin_l")] - character.heads[_HIPS[0]])) / 0.43


def _standing(character: Character) -> Character:
    """Return a character of the height of all, whose rest pose stands on the floor."""
    placed = character.transforms(np.tile(np.eye(3), (NUM_JOINTS, 1, 1)))
    heights = character.place_vertices(placed)[:, 2]
    size = HEIGHT / max(1e-9, float(np.ptp(heights)))
    values = {name: np.asarray(getattr(character, name)) for name in _SHAPES}
    values["clearance"] = (character.place_points(placed)[_FEET, 2].min() - heights.min()) * size
    for name in ("vertices", "heads", "points"):
        values[name] = values[name] * size
    return Character(name=character.name, **{key: value.astype(_SHAPES[key][1]) for key, value in values.items()})
