# SPDX-License-Identifier: GPL-3.0-or-later
"""Rigid and deforming bodies of generated scenes.

`times` [T] are the seconds of the frames: what a body does by itself has a rate, so a longer clip shows more of it
rather than a slower version of it.
"""

from __future__ import annotations

import numpy as np

from trackshade_lab.scenes import shapes
from trackshade_lab.scenes.description import Body, Part
from trackshade_lab.scenes.materials import sample_material


def translations(num_frames: int, offset: tuple[float, float, float] | np.ndarray = (0.0, 0.0, 0.0)) -> np.ndarray:
    """Return the same translation matrix for every frame, [T, 4, 4]."""
    m = np.broadcast_to(np.eye(4), (num_frames, 4, 4)).copy()
    m[:, :3, 3] = offset
    return m


def rotations(axis: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Return rotation matrices [T, 4, 4] about an axis through the origin, by `angles` [T] in radians."""
    x, y, z = np.asarray(axis, np.float64) / np.linalg.norm(axis)
    k = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    s, c = np.sin(angles)[:, None, None], np.cos(angles)[:, None, None]
    m = np.broadcast_to(np.eye(4), (len(angles), 4, 4)).copy()
    m[:, :3, :3] = np.eye(3) + s * k + (1.0 - c) * (k @ k)
    return m


NOUNS = {
    "box": ("box", "block", "cube"),
    "ball": ("ball", "sphere"),
    "ring": ("ring", "torus"),
    "rock": ("rock", "boulder"),
}


def solid_body(rng: np.random.Generator, num_frames: int, shape: str, scale: float, texture: str | None = None) -> Body:
    """Make a rigid solid of about `scale` metres, lying on any side."""
    p, f = shapes.SHAPES[shape](rng)
    tilt = rotations(rng.normal(0, 1, 3), np.array([rng.uniform(0, 2.5)]))[0, :3, :3]
    if shape in ("ball", "egg", "blob", "rock", "torus knot") or rng.random() < 0.3:
        p = (p @ tilt.T).astype(np.float32)
    p = p * np.float32(scale)
    p[:, :2] -= (p.max(0) + p.min(0))[:2] / 2
    p[:, 2] -= (p[:, 2].max() + p[:, 2].min()) / 2
    surface = sample_material(rng, texture, size=scale)
    size = {0: "small ", 1: "", 2: "large "}[int(scale > 0.75) + int(scale > 1.15)]
    name = str(rng.choice(NOUNS.get(shape, (shape,))))
    part = Part(p, f, surface.row, translations(num_frames))
    reach = float(np.linalg.norm(p, axis=1).max())
    return Body([part], f"{size}{surface.words} {name}", reach, float(-p[:, 2].min()), color=surface.color)


def deforming_body(rng: np.random.Generator, times: np.ndarray, scale: float) -> Body:
    """Make a solid or a sheet that bends, twists, waves or is squashed, and comes part of the way back."""
    num_frames = len(times)
    wave = np.sin(times * rng.uniform(1.2, 2.6) + rng.choice([0.0, rng.uniform(-0.5, 0.5)])) * rng.choice([-1, 1])
    kind = str(
        rng.choice(["bend", "twist", "ripple", "squash", "flag", "cloth"], p=[0.2, 0.17, 0.15, 0.18, 0.15, 0.15])
    )
    if kind in ("flag", "cloth"):
        p, f = shapes.sheet(rng.uniform(1.5, 1.9), rng.uniform(1.0, 1.5), 24, 18)
        if kind == "flag":
            p = p[:, [0, 2, 1]]
        name = str(rng.choice(["flag", "banner"] if kind == "flag" else ["cloth", "sheet", "carpet"]))
        action = str(rng.choice(["waving", "rippling", "fluttering"]))
    else:
        name, (p, f) = [
            ("block", shapes.box((0.6, 0.6, 1.5), 9)),
            ("column", shapes.cylinder(0.36, 1.5, 20, 12)),
            ("ball", shapes.sphere(0.6, 26, 19)),
            ("ring", shapes.torus(0.5, 0.2)),
            ("bar", shapes.box((1.5, 0.5, 0.5), 9)),
        ][rng.integers(5)]
        action = {"bend": "bending", "twist": "twisting", "ripple": "rippling", "squash": "stretching"}[kind]
    p = p.astype(np.float64)
    if kind in ("flag", "cloth", "ripple"):
        q = _waves(rng, times, p, kind)
    else:
        q = {"bend": _bend, "twist": _twist, "squash": _squash}[kind](rng, wave, p)
    surface = sample_material(rng, size=scale)
    p, q = (p * scale).astype(np.float32), (q * scale).astype(np.float32)
    turn = rotations(np.array([0, 0, 1.0]), np.full(num_frames, rng.uniform(0, 6.28)))
    height = float(-q[:, :, 2].min()) + (0.02 if kind != "cloth" else rng.uniform(0.05, 0.5))
    reach = float(np.linalg.norm(q, axis=-1).max())
    part = Part(p, f, surface.row, turn, q)
    return Body([part], f"{surface.words} {name}", reach, height, action, color=surface.color)


# The functions below deform vertices `p` [V, 3] to [T, V, 3]; `wave` [T] is the amount in each frame, -1..1.


def _bend(rng: np.random.Generator, wave: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Bend about y."""
    x, _, z = p.T
    k = wave[:, None] * rng.uniform(0.6, 1.1)
    k = np.where(np.abs(k) < 1e-3, 1e-3, k)
    q = np.broadcast_to(p, (len(wave), *p.shape)).copy()
    q[:, :, 0] = (1 / k) - (1 / k - x) * np.cos(z * k)
    q[:, :, 2] = (1 / k - x) * np.sin(z * k)
    return q


def _twist(rng: np.random.Generator, wave: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Twist about the longer of x and z."""
    x, y, z = p.T
    upright = np.ptp(z) >= np.ptp(x)
    a = wave[:, None] * rng.uniform(1.0, 2.2) * (z if upright else x)
    c, d = np.cos(a), np.sin(a)
    q = np.broadcast_to(p, (len(wave), *p.shape)).copy()
    if upright:
        q[:, :, 0], q[:, :, 1] = c * x - d * y, d * x + c * y
    else:
        q[:, :, 1], q[:, :, 2] = c * y - d * z, d * y + c * z
    return q


def _squash(rng: np.random.Generator, wave: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Stretch along z with constant volume; the lowest point stays on the ground."""
    x, y, z = p.T
    k = np.exp(wave * rng.uniform(0.35, 0.6))[:, None]
    return np.stack([x / np.sqrt(k), y / np.sqrt(k), (z - z.min()) * k + z.min()], -1)


def _waves(rng: np.random.Generator, times: np.ndarray, p: np.ndarray, kind: str) -> np.ndarray:
    """Add waves that travel through a flag from its pole, over a cloth, or up a solid."""
    x, y, z = p.T
    q = np.broadcast_to(p, (len(times), *p.shape)).copy()
    phase = times[:, None] * rng.uniform(2.2, 4.5)
    if kind == "cloth":
        across = rng.uniform(0, 6.28)
        first = rng.uniform(3.0, 5.0) * (x * np.cos(across) + y * np.sin(across))
        second = rng.uniform(2.0, 4.0) * (y * np.cos(across) - x * np.sin(across))
        q[:, :, 2] += 0.13 * np.sin(first - phase) + 0.08 * np.sin(second + 0.7 * phase + 1.0)
        if rng.random() < 0.5:  # hangs over something in its middle
            q[:, :, 2] -= 0.55 * (x * x + y * y) * rng.uniform(0.5, 1.0)
        return q
    axis = 1 if kind == "flag" else int(rng.integers(2))
    size = 0.2 if kind == "flag" else 0.13
    along = rng.uniform(3.5, 5.5) * (x if kind == "flag" else z) + rng.uniform(0, 6)
    hold = np.clip(x - x.min(), 0, 1) if kind == "flag" else 1.0
    q[:, :, axis] += size * np.sin(along - phase) * hold
    return q
