# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths of bodies and of cameras over a clip, and their words. Arrays have one entry per frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mathutils import Matrix, Quaternion, Vector

UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Path:
    """Places [T, 3] and turns: an angle [T] about `axis`, after a first turn about Z."""

    places: np.ndarray
    axis: np.ndarray
    angles: np.ndarray
    first: float
    words: str

    def quaternions(self) -> np.ndarray:
        """[T, 4] w, x, y, z."""
        start = Quaternion((0.0, 0.0, 1.0), self.first)
        return np.array([tuple(Quaternion(Vector(self.axis), angle) @ start) for angle in self.angles])


def ease(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Progress [T] from 0 to 1: steady, speeding up, slowing down, or both."""
    s = np.linspace(0.0, 1.0, frames)
    return [s, s, s**1.6, 1 - (1 - s) ** 1.6, s * s * (3 - 2 * s)][rng.integers(5)]


def heading(angle: float) -> np.ndarray:
    return np.array([np.cos(angle), np.sin(angle), 0.0])


def rest(start: np.ndarray, frames: int, turn: float) -> Path:
    return Path(np.tile(start, (frames, 1)), UP, np.zeros(frames), turn, "")


def walk(rng: np.random.Generator, start: np.ndarray, frames: int, span: float) -> tuple[Path, np.ndarray]:
    """Forwards along a gentle curve, and the metres gone [T]."""
    way = ease(rng, frames) * span * rng.uniform(0.8, 1.5)
    first, bend = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.8) * rng.choice([-1, 1]) / span
    course = first + bend * way
    offset = np.stack([np.sin(course) - np.sin(first), np.cos(first) - np.cos(course), 0 * way], axis=1) / bend
    return Path(start + offset - 0.4 * offset[-1], UP, course - first, first, ""), way


def spin(rng: np.random.Generator, start: np.ndarray, frames: int, radius: float) -> Path:
    """Turning in place."""
    angle = ease(rng, frames) * np.radians(rng.uniform(45, 190)) * rng.choice([-1, 1])
    axis = UP
    if rng.random() < 0.3:
        axis = UP + rng.normal(0, 0.5, 3)
        start = np.array([start[0], start[1], max(start[2], 1.02 * radius)])  # clear of the ground
    words = str(rng.choice(["spinning in place", "turning on the spot", "rotating slowly"]))
    return Path(np.tile(start, (frames, 1)), axis / np.linalg.norm(axis), angle, rng.uniform(0, 6.28), words)


def move(rng: np.random.Generator, start: np.ndarray, frames: int, height: float, radius: float) -> Path:
    """About a metre, in one of several ways; the origin stands `height` above the ground."""
    s, turn = ease(rng, frames), rng.uniform(0, 2 * np.pi)
    way, span = heading(rng.uniform(0, 2 * np.pi)), 1.1 * rng.uniform(0.7, 1.35)
    line, still = start + np.outer(s - 0.35, way * span), np.zeros(frames)
    how = str(
        rng.choice(
            ["slide", "turn", "tumble", "hop", "circle", "sway", "lift", "spin"],
            p=[0.14, 0.16, 0.2, 0.15, 0.12, 0.08, 0.07, 0.08],
        )
    )
    if how == "slide":
        return Path(line, UP, still, turn, str(rng.choice(["sliding", "moving", "gliding"])))
    if how == "turn":
        angle = s * np.radians(rng.uniform(40, 130)) * rng.choice([-1, 1])
        return Path(line, UP, angle, turn, str(rng.choice(["sliding and turning", "turning as it moves"])))
    if how == "tumble":
        axis = np.cross(UP, way) + rng.normal(0, 0.2, 3)
        angle = np.clip(s * span / max(height, 0.15) * rng.uniform(0.7, 1.0), 0, 3.6)
        lift = np.abs(np.sin(2 * angle)) * (radius - height) * 0.8
        words = str(rng.choice(["tumbling", "rolling"]))
        return Path(line + np.outer(lift, UP), axis / np.linalg.norm(axis), angle, turn, words)
    if how == "hop":
        hops = np.abs(np.sin(np.linspace(0, 1, frames) * np.pi * rng.uniform(1.0, 2.0) + rng.uniform(0, 0.8)))
        places = start + np.outer(s - 0.35, way * span * 0.7) + np.outer(hops * rng.uniform(0.4, 0.9), UP)
        return Path(places, UP, still, turn, str(rng.choice(["bouncing", "hopping"])))
    if how == "circle":
        angle = s * np.radians(rng.uniform(60, 160)) * rng.choice([-1, 1])
        ring = rng.uniform(0.45, 0.9) * np.stack([np.cos(turn + angle), np.sin(turn + angle), 0 * angle], axis=1)
        words = str(rng.choice(["circling", "moving in a circle"]))
        return Path(start + ring - 0.5 * ring[0], UP, angle, turn, words)
    if how == "sway":
        angle = np.sin(np.linspace(0, 1, frames) * rng.uniform(3, 6) + rng.uniform(0, 6)) * rng.uniform(0.3, 0.6)
        pivot = height * UP
        places = [start + np.array(Matrix.Rotation(a, 3, Vector(way)) @ Vector(pivot)) - pivot for a in angle]
        return Path(np.array(places), way, angle, turn, str(rng.choice(["rocking", "swaying"])))
    if how == "lift":
        words = str(rng.choice(["rising", "floating up"]))
        return Path(start + np.outer(s * rng.uniform(0.6, 1.0), UP), UP, s * rng.uniform(-0.8, 0.8), turn, words)
    return spin(rng, start, frames, radius)
