# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera paths of generated scenes, and the words that describe them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UP = np.array([0.0, 0.0, 1.0])
MOVES = {  # probabilities
    "orbit": 0.26,
    "dolly": 0.15,
    "truck": 0.13,
    "crane": 0.1,
    "pan": 0.1,
    "tilt": 0.04,
    "zoom": 0.08,
    "arc": 0.08,
    "handheld": 0.06,
}
UNSEEN_MOVES = ("spiral",)  # only in held-out clips


def sample_ease(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Sample a progress curve [T] from 0 to 1: linear, or with ease in, ease out or both."""
    s = np.linspace(0.0, 1.0, num_frames)
    return [s, s, s**1.6, 1 - (1 - s) ** 1.6, s * s * (3 - 2 * s)][rng.integers(5)]


def look_at(
    eye: np.ndarray,  # [T, 3] world, metres
    target: np.ndarray,  # [T, 3] world, metres
    roll: np.ndarray | float = 0.0,  # [T] radians
) -> np.ndarray:
    """Return world to camera [T, 4, 4] (x right, y down, z forward) of cameras at `eye` that look at `target`."""
    forward = target - eye
    forward = forward / np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.stack([forward[:, 1], -forward[:, 0], np.zeros(len(eye))], 1)
    right = right / np.linalg.norm(right, axis=1, keepdims=True)
    down = np.cross(forward, right)
    c, s = np.cos(np.broadcast_to(roll, len(eye)))[:, None], np.sin(np.broadcast_to(roll, len(eye)))[:, None]
    m = np.broadcast_to(np.eye(4), (len(eye), 4, 4)).copy()
    m[:, :3, :3] = np.stack([c * right + s * down, c * down - s * right, forward], axis=1)
    m[:, :3, 3] = -np.einsum("tij,tj->ti", m[:, :3, :3], eye)
    return m


@dataclass(frozen=True)
class Viewpoint:
    """Start of a camera path, and a limit of it."""

    target: np.ndarray  # [3] point that the camera looks at, world, metres
    distance: float  # from the target, metres
    azimuth: float  # direction from the target to the camera, radians
    elevation: float  # the same
    focal: float  # focal length, pixels
    min_height: float  # lowest z coordinate of the camera, metres


class _Path:
    """A camera path in the making. There is one method per move, which returns words for captions."""

    def __init__(self, rng: np.random.Generator, num_frames: int, v: Viewpoint) -> None:
        self.rng, self.s, self.v = rng, sample_ease(rng, num_frames), v
        # Per frame: distance, azimuth and elevation around the target; the point aimed at; a shift of the camera.
        self.distance = np.full(num_frames, v.distance)
        self.azimuth = np.full(num_frames, v.azimuth)
        self.elevation = np.full(num_frames, v.elevation)
        self.aim = np.broadcast_to(v.target, (num_frames, 3)).copy()
        self.shift = np.zeros((num_frames, 3))
        self.lens = np.full(num_frames, v.focal)
        self.roll = np.zeros(num_frames)
        self.side = np.array([-np.sin(v.azimuth), np.cos(v.azimuth), 0.0])
        self.sign = int(rng.choice([-1, 1]))
        self.size = float(rng.choice([0.3, 0.6, 1.0, 1.4], p=[0.25, 0.3, 0.3, 0.15]))

    def orbit(self) -> str:
        self.azimuth = self.azimuth + self.s * np.radians(self.rng.uniform(25, 60)) * self.sign * self.size
        return str(self.rng.choice(["orbits", "circles around", "moves around the scene"]))

    def arc(self) -> str:
        words = self.orbit()
        self.elevation = np.clip(self.elevation + self.s * np.radians(self.rng.uniform(-18, 25)), -0.6, 1.2)
        return words

    def dolly(self) -> str:
        is_closer = self.sign < 0
        change = self.rng.uniform(-0.4, -0.2) if is_closer else self.rng.uniform(0.25, 0.6)
        self.distance = self.distance * (1 + self.s * change * min(self.size, 1.2))
        into, out = ["moves in", "dollies in", "pushes in"], ["pulls back", "dollies out", "moves away"]
        return str(self.rng.choice(into if is_closer else out))

    def truck(self) -> str:
        self.shift = np.outer(self.s, self.side * self.sign * self.v.distance * self.rng.uniform(0.15, 0.3) * self.size)
        self.aim = self.aim + self.shift * self.rng.uniform(0.3, 1.0)
        return str(self.rng.choice(["slides sideways", "tracks sideways"]))

    def crane(self) -> str:
        angle = np.radians(self.rng.uniform(12, 32)) * self.sign * self.size
        self.elevation = np.clip(self.elevation + self.s * angle, -0.6, 1.25)
        return str(self.rng.choice(["rises", "cranes up"] if self.sign > 0 else ["sinks", "cranes down"]))

    def pan(self) -> str:
        reach = self.v.distance * self.rng.uniform(0.12, 0.26) * self.size
        self.aim = self.aim + np.outer(self.s, self.side * self.sign * reach)
        # `side` points to the right of the image.
        return str(self.rng.choice(["pans", "turns"])) + (" left" if self.sign < 0 else " right")

    def tilt(self) -> str:
        reach = self.v.distance * self.rng.uniform(0.08, 0.16) * self.size * self.sign
        self.aim = self.aim + np.outer(self.s, UP * reach)
        return "tilts up" if self.sign > 0 else "tilts down"

    def zoom(self) -> str:
        change = self.rng.uniform(0.2, 0.5) if self.sign > 0 else self.rng.uniform(-0.32, -0.18)
        self.lens = self.lens * (1 + self.s * change * min(self.size, 1.2))
        return "zooms in" if self.sign > 0 else "zooms out"

    def handheld(self) -> str:
        return str(self.rng.choice(["is handheld", "shakes"]))

    def spiral(self) -> str:
        turns = self.s * 2 * np.pi * self.rng.uniform(0.7, 1.3) * self.sign
        radius = self.s * self.v.distance * self.rng.uniform(0.15, 0.3)
        self.shift = np.outer(radius * np.cos(turns), self.side) + np.outer(radius * np.sin(turns), UP)
        return "spirals"

    def shake(self, strength: float, seconds: float) -> None:
        steps = np.linspace(0, 5.0 * seconds, len(self.s))[:, None]
        rng = self.rng
        waves = np.sin(steps * rng.uniform(0.4, 1.3, 3) + rng.uniform(0, 6.28, 3))
        waves += np.sin(steps * rng.uniform(0.4, 1.3, 3) + rng.uniform(0, 6.28, 3))
        self.shift = self.shift + waves * 0.012 * strength * self.v.distance
        self.aim = self.aim + np.roll(waves, 1, axis=1) * 0.014 * strength * self.v.distance
        self.roll = self.roll + 0.02 * strength * waves[:, 0]

    def poses(self) -> np.ndarray:
        el, az = self.elevation, self.azimuth
        away = np.stack([np.cos(az) * np.cos(el), np.sin(az) * np.cos(el), np.sin(el)], 1)
        eye = self.v.target + self.shift + self.distance[:, None] * away
        eye[:, 2] = np.maximum(eye[:, 2], self.v.min_height)
        return look_at(eye, self.aim, self.roll)


def sample_camera(
    rng: np.random.Generator, num_frames: int, seconds: float, v: Viewpoint, is_moving: bool, move: str | None = None
) -> tuple[np.ndarray, np.ndarray, str]:
    """Sample a camera path of some seconds from a viewpoint; `move` names a move that the camera makes in any case.

    Returns:
        World to camera [T, 4, 4] (OpenCV axes), focal lengths [T] in pixels, and words for captions.
    """
    path = _Path(rng, num_frames, v)
    words = ""
    if is_moving or move:
        name = move or str(rng.choice(list(MOVES), p=list(MOVES.values())))
        words = getattr(path, name)()
        second = ("orbit", "dolly", "crane", "zoom")[rng.integers(4)]
        if move is None and name in ("orbit", "dolly", "truck", "crane") and second != name and rng.random() < 0.18:
            path.size *= 0.6
            path.sign = int(rng.choice([-1, 1]))
            words += " and " + getattr(path, second)()
        if name == "handheld":
            path.shake(float(rng.choice([1.0, 2.0])), seconds)
        elif rng.random() < 0.15:
            path.shake(1.0, seconds)
            words += ", handheld"
    return path.poses(), path.lens, words
