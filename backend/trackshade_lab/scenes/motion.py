# SPDX-License-Identifier: GPL-3.0-or-later
"""Motions of bodies over a clip, and the words that describe them.

Matrices [T, 4, 4] go from a body's space to the world, metres.
"""

from __future__ import annotations

import numpy as np

from trackshade_lab.scenes.bodies import rotations
from trackshade_lab.scenes.cameras import UP, sample_ease
from trackshade_lab.scenes.description import Body


def _heading(angle: float) -> np.ndarray:
    """Return the horizontal unit vector [3] at an angle from x, radians."""
    return np.array([np.cos(angle), np.sin(angle), 0.0])


def place(rotation: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Return matrices that rotate about the body's origin and then move it onto `path` [T, 3]."""
    m = rotation.copy()
    m[:, :3, 3] = path
    return m


def stay(start: np.ndarray, num_frames: int, turn: float = 0.0) -> np.ndarray:
    """Return matrices of a body that stays at `start` [3], turned about z by `turn` radians."""
    return place(rotations(UP, np.full(num_frames, turn)), np.broadcast_to(start, (num_frames, 3)))


def spin(rng: np.random.Generator, body: Body, start: np.ndarray, num_frames: int) -> tuple[np.ndarray, str]:
    """Sample a turn in place, mostly about z; return matrices and words."""
    angle = sample_ease(rng, num_frames) * np.radians(rng.uniform(45, 190)) * rng.choice([-1, 1])
    axis = UP
    if rng.random() < 0.3:
        axis = UP + rng.normal(0, 0.5, 3)
        start = np.array([start[0], start[1], max(start[2], 1.02 * body.radius)])  # clear of the ground
    words = str(rng.choice(["spinning in place", "turning on the spot", "rotating slowly"]))
    return place(rotations(axis, angle), np.broadcast_to(start, (num_frames, 3))), words


def drive(rng: np.random.Generator, body: Body, start: np.ndarray, num_frames: int, span: float) -> np.ndarray:
    """Sample a drive of about `span` metres along a gentle curve; return matrices. Wheels turn accordingly."""
    s = sample_ease(rng, num_frames)
    distance = s * span * rng.uniform(0.8, 1.6) * rng.choice([1, 1, 1, -1])
    bend = rng.uniform(-0.7, 0.7) / span
    first = rng.uniform(0, 2 * np.pi)
    angle = first + bend * distance
    if abs(bend) < 1e-3:
        offset = np.outer(distance, _heading(first))
    else:
        offset = np.stack([np.sin(angle) - np.sin(first), np.cos(first) - np.cos(angle), 0 * distance], 1) / bend
    for wheel in body.wheels:
        wheel.matrices = wheel.matrices[:1] @ rotations(np.array([0.0, 1.0, 0.0]), distance / body.wheel_radius)
    # Centered on the path, so that the body neither starts nor ends far from `start`.
    return place(rotations(UP, angle), start + offset - 0.4 * offset[-1])


def move(
    rng: np.random.Generator, body: Body, start: np.ndarray, num_frames: int, span: float, floating: bool
) -> tuple[np.ndarray, str]:
    """Sample a motion of about `span` metres that begins near `start` [3]; return matrices and words."""
    s = sample_ease(rng, num_frames)
    direction = _heading(rng.uniform(0, 2 * np.pi))
    if floating:
        direction = direction + UP * rng.uniform(-0.7, 0.7)
    span *= rng.uniform(0.7, 1.35)
    kind = str(
        rng.choice(
            ["slide", "tumble", "hop", "circle", "spin", "sway", "lift", "slide turning"],
            p=[0.2, 0.2, 0.15, 0.12, 0.08, 0.08, 0.07, 0.1],
        )
    )
    turn = rng.uniform(0, 2 * np.pi)
    still_turn = rotations(UP, np.full(num_frames, turn))
    line = start + np.outer(s - 0.35, direction * span)
    if kind == "slide":
        return place(still_turn, line), str(rng.choice(["sliding", "moving", "gliding"]))
    if kind == "slide turning":
        angle = turn + s * np.radians(rng.uniform(40, 130)) * rng.choice([-1, 1])
        return place(rotations(UP, angle), line), str(rng.choice(["sliding and turning", "turning as it moves"]))
    if kind == "tumble":
        axis = np.cross(UP, direction) + rng.normal(0, 0.2, 3)
        angle = s * span / max(body.height, 0.15) * rng.uniform(0.7, 1.0)
        roll = rotations(axis, np.clip(angle, 0, 3.6)) @ still_turn
        lift = np.abs(np.sin(2 * angle)) * (body.radius - body.height) * 0.8
        return place(roll, line + np.outer(lift, UP)), str(rng.choice(["tumbling", "rolling"]))
    if kind == "hop":
        hops = np.abs(np.sin(np.linspace(0, 1, num_frames) * np.pi * rng.uniform(1.0, 2.0) + rng.uniform(0, 0.8)))
        path = start + np.outer(s - 0.35, direction * span * 0.7) + np.outer(hops * rng.uniform(0.4, 0.9), UP)
        return place(still_turn, path), str(rng.choice(["bouncing", "hopping"]))
    if kind == "circle":
        radius = rng.uniform(0.45, 0.9)
        angle = turn + s * np.radians(rng.uniform(60, 160)) * rng.choice([-1, 1])
        ring = np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1) * radius
        return place(rotations(UP, angle), start + ring - 0.5 * ring[0]), str(
            rng.choice(["circling", "moving in a circle"])
        )
    if kind == "spin":
        return spin(rng, body, start, num_frames)
    if kind == "sway":
        angle = np.sin(np.linspace(0, 1, num_frames) * rng.uniform(3, 6) + rng.uniform(0, 6)) * rng.uniform(0.3, 0.6)
        sway = rotations(direction * [1, 1, 0.0], angle) @ still_turn
        pivot = np.array([0.0, 0.0, body.height])
        return place(sway, start + (sway[:, :3, :3] @ pivot - pivot)), str(rng.choice(["rocking", "swaying"]))
    path = start + np.outer(s, UP * rng.choice([1.0, 1.0, 0.6]) * span) * rng.uniform(0.6, 1.0)
    return place(rotations(UP, turn + s * rng.uniform(-0.8, 0.8)), path), str(rng.choice(["rising", "floating up"]))
