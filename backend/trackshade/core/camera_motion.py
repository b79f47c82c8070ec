# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion of cameras and objects as text, in the grammar of Diffusion as Shader, and presets of camera moves.

A motion is a sequence of moves joined by semicolons, such as `trans 0 0 -0.5 0 30; rot y 20`. Each move ends in an
optional range of frames, counted from 0. It has no effect before the range, grows linearly within it and is held after
it. Without a range, a move takes the whole clip. As in the published code, the two frames may be given in either order,
and a range is cut to the clip. There a range of one frame is a division by zero; here the move is complete at that
frame.

Camera moves are matrices that act on points in camera space, which has x right, y down and z forward. So they move the
scene in front of the camera:

| move | positive values |
|---|---|
| `trans dx dy dz` | the scene moves right, down and away: the camera moves left, up and back |
| `rot x degrees` | the camera turns down |
| `rot y degrees` | the camera turns left |
| `rot z degrees` | the camera rolls counter-clockwise: the scene turns clockwise |
| `spiral radius` | one turn about the start, up to 10 % of the radius wide, facing a point at half the radius |

Moves are composed from left to right as matrices are multiplied: the last one acts on the points first.

Source: Gu et al. 2025 (arXiv 2501.03847) and the code published with it, whose arithmetic is followed where its
documentation contradicts it. That code picks the nearest earlier one of 49 positions of a spiral; here it is evaluated
at each frame.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from trackshade.core.errors import UsageError
from trackshade.core.geometry import Matrix
from trackshade.core.text import join_or

AXES = ("x", "y", "z")
OBJECT_DIRECTIONS: Mapping[str, tuple[int, int, int]] = {
    "up": (0, -1, 0),
    "down": (0, 1, 0),
    "left": (-1, 0, 0),
    "right": (1, 0, 0),
    "front": (0, 0, 1),
    "back": (0, 0, -1),
}
"""Directions of object moves in camera space. As published, "front" leads away from the camera."""

_CAMERA_COUNTS = {"trans": (3,), "rot": (1,), "spiral": (1,)}  # values of each word, without the range
_OBJECT_COUNTS = {**dict.fromkeys(OBJECT_DIRECTIONS, (0, 1)), "rot": (0, 1), "matrix": (12, 16)}
_USAGE = {
    "trans": "trans DX DY DZ [START END]",
    "spiral": "spiral RADIUS [START END]",
    "matrix": "matrix and 12 or 16 numbers, row by row [START END]",
    **{word: f"{word} [DISTANCE [START END]]" for word in OBJECT_DIRECTIONS},
}
_DEFAULT_DEGREES = 50.0  # of the published object motions, which take no amount
_DEFAULT_PIXELS = 50.0  # likewise, for points whose x and y are pixels of a frame …
_FOCAL = 360.0 / math.tan(math.radians(55.0) / 2)  # … of 720 pixels, whose field of view is 55 degrees by default
_SPIRAL_PULL, _SPIRAL_FLATTENED, _SPIRAL_BACK, _SPIRAL_TARGET = 0.1, 0.3, 0.5, 0.5


@dataclass(frozen=True)
class Move:
    """One move of a motion.

    Attributes:
        word: its first word, such as "trans".
        values: its numbers, without the range: scene units for translations and radii, degrees for rotations.
        axis: "x", "y" or "z" of a rotation; "" for other moves.
        span: first and last frame as written, counted from 0; None for the whole clip.
    """

    word: str
    values: tuple[float, ...] = ()
    axis: str = ""
    span: tuple[int, int] | None = None

    def __str__(self) -> str:
        words = [self.word, self.axis, *(repr(float(value)) for value in self.values), *(map(str, self.span or ()))]
        return " ".join(word for word in words if word)


def parse_camera_moves(text: str) -> tuple[Move, ...]:
    """Parse the moves of a camera motion; see `parse_camera_motion`."""
    return _parse(text, "camera", _CAMERA_COUNTS)


def parse_object_moves(text: str) -> tuple[Move, ...]:
    """Parse the moves of an object motion; see `parse_object_motion`."""
    return _parse(text, "object", _OBJECT_COUNTS)


def format_moves(moves: Sequence[Move]) -> str:
    """Return the text of moves, from which parsing returns equal ones."""
    return "; ".join(map(str, moves))


def parse_camera_motion(text: str, frames: int) -> Matrix:
    """Return the matrices of a camera motion.

    Args:
        text: `trans DX DY DZ [START END]`, `rot x|y|z DEGREES [START END]` and `spiral RADIUS [START END]`, joined by
            semicolons. Distances are in scene units. Empty moves are skipped.
        frames: number T of the clip's frames.

    Returns:
        [T, 4, 4] matrices on points in camera space; see `move_camera`.

    Raises:
        UsageError: a move cannot be read; the sentence names the word and its position.
    """
    motion = _identities(frames)
    for move in parse_camera_moves(text):
        motion = motion @ np.stack([_camera_matrix(move, share) for share in _progress(move, frames)])
    return motion


def move_camera(
    motion: ArrayLike, world_to_camera: ArrayLike, mode: Literal["override", "append"] = "append"
) -> Matrix:
    """Move a camera by a motion.

    Args:
        motion: [T, 4, 4] from `parse_camera_motion`.
        world_to_camera: [T or 1, 4, 4] or [4, 4], the camera before.
        mode: "append" moves the camera relative to where it is in each frame, "override" relative to where it is in the
            first frame, without the motion it had.

    Returns:
        [T, 4, 4] world to camera.
    """
    before = np.asarray(world_to_camera, np.float64).reshape(-1, 4, 4)
    return np.asarray(motion, np.float64) @ (before[:1] if mode == "override" else before)


def parse_object_motion(text: str, frames: int, pivot: ArrayLike, camera: ArrayLike) -> Matrix:
    """Return the matrices of an object motion.

    Directions and axes are those of camera space in the first frame, and everything is about the pivot:

    - `up`, `down`, `left`, `right`, `front` (away from the camera) or `back` `[DISTANCE [START END]]`, in scene units.
    - `rot [x|y|z] [DEGREES [START END]]`. The axis is y without one; positive angles turn z towards x.
    - `matrix` and 12 or 16 numbers, row by row, `[START END]`. Within the range, the rotation turns about one axis at
      constant speed, and location, scale and shear change linearly.

    The published words have no amount. Without one, an object turns by their 50 degrees, or moves by their 50 pixels
    of a frame that is 720 pixels wide and has their field of view of 55 degrees.

    Args:
        text: moves joined by semicolons.
        frames: number T of the clip's frames.
        pivot: [3] centroid of the object's points in the first frame, world.
        camera: [4, 4] world to camera in the first frame.

    Returns:
        [T, 4, 4] matrices on points in the world; the object's matrix is multiplied by them from the left.

    Raises:
        UsageError: a move cannot be read, or needs a distance because the pivot is behind the camera.
    """
    to_camera = np.asarray(camera, np.float64)
    center = to_camera[:3, :3] @ np.asarray(pivot, np.float64) + to_camera[:3, 3]
    motion = _identities(frames)
    for move in parse_object_moves(text):
        matrix = _object_matrices(move, center[2])
        motion = motion @ np.stack([matrix(share) for share in _progress(move, frames)])
    to_center = _translation(-center) @ to_camera
    return np.linalg.inv(to_center) @ motion @ to_center


class Preset(NamedTuple):
    """A preset of a camera move.

    Attributes:
        description: what the camera does for a positive amount.
        unit: "degrees", "distance" for a share of the distance to the pivot, or "factor" for the focal length.
        amount: default amount.
    """

    description: str
    unit: str
    amount: float


PRESETS: Mapping[str, Preset] = {
    "orbit": Preset("Circle around the pivot to the right, about the world's vertical axis.", "degrees", 30.0),
    "dolly": Preset("Move towards the pivot.", "distance", 0.3),
    "truck": Preset("Move to the right.", "distance", 0.2),
    "pan": Preset("Turn to the right about the world's vertical axis.", "degrees", 20.0),
    "tilt": Preset("Turn up.", "degrees", 10.0),
    "crane": Preset("Rise along the world's vertical axis.", "distance", 0.2),
    "zoom": Preset("Multiply the focal length.", "factor", 1.5),
    "dolly-zoom": Preset("Move towards the pivot and widen the view to keep its size.", "distance", 0.3),
}
"""Camera presets by name."""

EASINGS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda t: t,
    "ease": lambda t: t * t * (3 - 2 * t),
    "ease-in": lambda t: t * t,
    "ease-out": lambda t: t * (2 - t),
}
"""How a preset progresses over time: functions of 0 to 1."""


def camera_preset(
    name: str,
    amount: float,
    frames: int,
    distance: float,
    world_to_camera: ArrayLike,
    focal: float,
    easing: str = "ease",
) -> tuple[Matrix, np.ndarray]:
    """Return the camera path of a preset.

    The first frame has the given camera and the last one the full amount; a negative amount goes the other way.

    Args:
        name: one of `PRESETS`.
        amount: degrees, share of the distance, or factor above 0 of the focal length: the preset's `unit`.
        frames: number T of frames.
        distance: distance along the view axis at which the pivot lies, scene units.
        world_to_camera: [4, 4] of the first frame; the world has Z up.
        focal: focal length of the first frame, in any unit.
        easing: one of `EASINGS`.

    Returns:
        [T, 4, 4] world to camera, and [T] focal lengths.

    Raises:
        UsageError: there is no such preset or easing, or a value is out of its range.
    """
    _check_preset(name, amount, distance, easing)
    share = EASINGS[easing](np.linspace(0.0, 1.0, frames)) if frames > 1 else np.zeros(frames)
    start = np.asarray(world_to_camera, np.float64)
    focals = np.full(frames, float(focal))
    if name == "zoom":
        return np.tile(start, (frames, 1, 1)), focals * np.power(float(amount), share)
    if name in ("dolly", "truck", "dolly-zoom"):
        direction = np.array([1.0, 0.0, 0.0] if name == "truck" else [0.0, 0.0, 1.0])
        moved = np.stack([_translation(-direction * amount * distance * s) @ start for s in share])
        return moved, focals * (1 - amount * share) if name == "dolly-zoom" else focals
    if name == "tilt":
        return np.stack([_rotation("x", -amount * s) @ start for s in share]), focals
    camera = np.linalg.inv(start)
    if name == "crane":
        world = [_translation(np.array([0.0, 0.0, amount * distance * s])) for s in share]
    else:
        center = camera[:3, 3] + (camera[:3, 2] * distance if name == "orbit" else 0.0)
        sign = 1 if name == "orbit" else -1
        turns = [_rotation("z", sign * amount * s) for s in share]
        world = [_translation(center) @ turn @ _translation(-center) for turn in turns]
    return np.stack([start @ np.linalg.inv(matrix) for matrix in world]), focals


def _check_preset(name: str, amount: float, distance: float, easing: str) -> None:
    if name not in PRESETS:
        raise UsageError("bad-preset", f"There is no camera preset {name!r}.", f"Choose {join_or(PRESETS)}.")
    if easing not in EASINGS:
        raise UsageError("bad-preset", f"There is no easing {easing!r}.", f"Choose {join_or(EASINGS)}.")
    if not (math.isfinite(amount) and math.isfinite(distance) and distance > 0):
        raise UsageError("bad-preset", "A preset's amount must be finite, and the distance to its pivot above 0.")
    if name == "zoom" and amount <= 0:
        raise UsageError("bad-preset", f"The factor of a zoom must be above 0; it is {amount:g}.")
    if name == "dolly-zoom" and amount >= 1:
        raise UsageError("bad-preset", f"A dolly-zoom of {amount:g} reaches the pivot.", "Choose less than 1.")


class _Word(NamedTuple):
    text: str
    position: int  # 1 for the first character of the motion


def _parse(text: str, what: str, counts: Mapping[str, tuple[int, ...]]) -> tuple[Move, ...]:
    words = [_Word(match.group().lower(), match.start() + 1) for match in re.finditer(r";|[^\s;]+", text)]
    moves, current = [], list[_Word]()
    for word in [*words, _Word(";", len(text) + 1)]:
        if word.text != ";":
            current.append(word)
        elif current:
            moves.append(_parse_move(current, what, counts))
            current = []
    return tuple(moves)


def _parse_move(words: list[_Word], what: str, counts: Mapping[str, tuple[int, ...]]) -> Move:
    name, *rest = words
    if name.text not in counts:
        raise _bad(what, name, f"is no {what} move", f"Use {join_or(counts)}.")
    axis = ""
    if name.text == "rot":
        named = rest[:1] and not _is_number(rest[0].text)
        if named and rest[0].text not in AXES:
            raise _bad(what, rest[0], "is no axis", "Use x, y or z.")
        if not named and what == "camera":
            raise _bad(what, name, "has no axis", f"Write: {_usage(name.text, what)}.")
        axis, rest = (rest[0].text, rest[1:]) if named else ("y", rest)
    count = len(rest)
    plain = counts[name.text]
    ranged = tuple(number + 2 for number in plain if number)
    if count not in plain and count not in ranged:
        raise _bad(what, name, f"has {count} numbers", f"Write: {_usage(name.text, what)}.")
    span = None
    if count not in plain:
        first, last = (_frame(word, what) for word in rest[-2:])
        span, rest = (first, last), rest[:-2]
    values = tuple(_number(word, what) for word in rest)
    if name.text == "spiral" and values[0] <= 0:
        raise _bad(what, rest[0], "is no radius of a spiral", "Use a number above 0.")
    if len(values) == 16:
        if values[12:] != (0.0, 0.0, 0.0, 1.0):
            raise _bad(what, rest[12], "begins the last row of a matrix that is not 0 0 0 1")
        values = values[:12]
    return Move(name.text, values, axis, span)


def _usage(word: str, what: str) -> str:
    if word == "rot":
        return "rot x|y|z DEGREES [START END]" if what == "camera" else "rot [x|y|z] [DEGREES [START END]]"
    return _USAGE[word]


def _bad(what: str, word: _Word, problem: str, fix: str | None = None) -> UsageError:
    return UsageError(
        "bad-motion", f"{what.capitalize()} motion: '{word.text}' at character {word.position} {problem}.", fix
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(word: _Word, what: str) -> float:
    if not _is_number(word.text) or not math.isfinite(float(word.text)):
        raise _bad(what, word, "is no finite number")
    return float(word.text)


def _frame(word: _Word, what: str) -> int:
    try:
        return int(word.text)
    except ValueError:
        raise _bad(what, word, "is no frame", "Frames are whole numbers, counted from 0.") from None


def _progress(move: Move, frames: int) -> np.ndarray:
    """Return how far a move is in each frame, [T] from 0 to 1. Raise UsageError if its range is not in the clip."""
    last = frames - 1
    time = np.arange(frames, dtype=np.float64)
    if move.span is None:
        return time / max(last, 1)
    start, end = sorted(move.span)
    if start > last or end < 0:
        raise UsageError("bad-motion", f"The frames of '{move}' lie outside the clip, which has frames 0 to {last}.")
    start, end = max(start, 0), min(end, last)
    if start == end:
        return (time >= start).astype(np.float64)
    return np.clip((time - start) / (end - start), 0.0, 1.0)


def _camera_matrix(move: Move, share: float) -> Matrix:
    if move.word == "rot":
        return _rotation(move.axis, move.values[0] * share)
    return _translation(np.array(move.values) * share) if move.word == "trans" else _spiral(move.values[0], share)


def _spiral(radius: float, share: float) -> Matrix:
    """Return the matrix of a spiral, which the published code computes as a camera's pose and applies to points."""
    swing = math.sin(math.pi * share) * radius * _SPIRAL_PULL
    angle = 2 * math.pi * share
    place = np.array([swing * math.sin(angle), swing * math.cos(angle) * _SPIRAL_FLATTENED, -swing * _SPIRAL_BACK])
    forward = np.array([0.0, 0.0, radius * _SPIRAL_TARGET]) - place
    forward /= np.linalg.norm(forward)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3] = np.stack([right, np.cross(forward, right), forward, place], axis=1)
    return matrix


def _object_matrices(move: Move, depth: float) -> Callable[[float], Matrix]:
    """Return a function of the progress that gives the matrix of an object move about the origin of camera space."""
    if move.word == "rot":
        degrees = move.values[0] if move.values else _DEFAULT_DEGREES
        return lambda share: _rotation(move.axis, degrees * share)
    if move.word == "matrix":
        return _matrix_between(np.array(move.values).reshape(3, 4))
    if not move.values and depth <= 0:
        raise UsageError(
            "bad-motion",
            f"'{move.word}' needs a distance, because the object is behind the camera.",
            f"Write: {_USAGE[move.word]}.",
        )
    distance = move.values[0] if move.values else _DEFAULT_PIXELS / _FOCAL * depth
    return lambda share: _translation(np.array(OBJECT_DIRECTIONS[move.word]) * distance * share)


def _matrix_between(target: np.ndarray) -> Callable[[float], Matrix]:
    """Return a function of 0 to 1 that gives the matrix between the identity and an affine one, [3, 4]."""
    u, values, v = np.linalg.svd(target[:, :3])
    sign = np.linalg.det(u @ v)
    rotation = u @ np.diag([1.0, 1.0, sign]) @ v  # of determinant 1; a mirror image is left to the stretch
    stretch = v.T @ np.diag([1.0, 1.0, sign]) @ np.diag(values) @ v
    cosine = min(1.0, max(-1.0, (np.trace(rotation) - 1) / 2))
    angle = math.acos(cosine)
    if angle > math.pi - 1e-6:  # the axis is the eigenvector of the eigenvalue 1
        axis = np.linalg.svd(rotation - np.eye(3))[2][2]
    else:
        twice = [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
        axis = np.array(twice)
        angle = math.atan2(np.linalg.norm(axis) / 2, cosine)
        axis = axis / (np.linalg.norm(axis) or 1.0)
    cross = np.array([[0.0, -axis[2], axis[1]], [axis[2], 0.0, -axis[0]], [-axis[1], axis[0], 0.0]])

    def between(share: float) -> Matrix:
        matrix = np.eye(4)
        if share >= 1:
            matrix[:3] = target
            return matrix
        part = angle * share
        turn = np.eye(3) + math.sin(part) * cross + (1 - math.cos(part)) * cross @ cross
        matrix[:3, :3] = turn @ (np.eye(3) + share * (stretch - np.eye(3)))
        matrix[:3, 3] = share * target[:, 3]
        return matrix

    return between


def _identities(frames: int) -> Matrix:
    if frames < 1:
        raise UsageError("bad-motion", f"A motion needs at least one frame; {frames} are asked for.")
    return np.tile(np.eye(4), (frames, 1, 1))


def _rotation(axis: str, degrees: float) -> Matrix:
    """Return the right-handed rotation about an axis, [4, 4]."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    first, second = [other for other in range(3) if other != AXES.index(axis)]
    if axis == "y":
        first, second = second, first
    matrix = np.eye(4)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix


def _translation(offset: np.ndarray) -> Matrix:
    matrix = np.eye(4)
    matrix[:3, 3] = offset
    return matrix
