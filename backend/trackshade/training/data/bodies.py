# SPDX-License-Identifier: GPL-3.0-or-later
"""Bodies of procedural scenes: what moves together, made of parts that may move against each other or
deform.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from trackshade.conventions import srgb_to_linear
from trackshade.training.data import shading, shapes

# sRGB, 0..1. The eight named colours of captions; greys and browns are for grounds and tyres.
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.83, 0.13, 0.12),
    "orange": (0.93, 0.50, 0.10),
    "yellow": (0.95, 0.85, 0.18),
    "green": (0.18, 0.62, 0.22),
    "blue": (0.14, 0.30, 0.82),
    "purple": (0.52, 0.20, 0.68),
    "pink": (0.94, 0.50, 0.66),
    "white": (0.92, 0.92, 0.90),
}
DARKS: dict[str, tuple[float, float, float]] = {
    "black": (0.08, 0.08, 0.09),
    "grey": (0.50, 0.50, 0.52),
    "brown": (0.45, 0.29, 0.16),
    "teal": (0.12, 0.50, 0.50),
}
TEXTURES = {  # caption adjective and how often
    "plain": (shading.PLAIN, 0.18),
    "striped": (shading.STRIPES, 0.22),
    "checked": (shading.CHECKS, 0.16),
    "mottled": (shading.NOISE, 0.16),
    "two-tone": (shading.TWO_TONE, 0.1),
    "spotted": (shading.SPOTS, 0.12),
    "shaded": (shading.GRADIENT, 0.06),
}


@dataclass
class Part:
    rest: np.ndarray  # [V, 3] f32 object space: where textures live
    triangles: np.ndarray  # [F, 3] i32
    material: np.ndarray  # [MATERIAL_SIZE] f32
    matrices: np.ndarray  # [T, 4, 4] to the body
    deformed: np.ndarray | None = None  # [T, V, 3] f32 object space, where the part deforms


@dataclass
class Body:
    parts: list[Part]
    words: str  # "red striped box"
    radius: float  # of the sphere about its origin that holds it, metres
    height: float  # of its origin above the ground it stands on
    action: str = ""  # what it does by itself, "waving its arms"
    roll: float = 0.0  # radius of wheels, 0 where it has none
    wheels: list[Part] = field(default_factory=list)


def colour(rng: np.random.Generator, table: dict[str, tuple[float, float, float]]) -> tuple[str, np.ndarray]:
    """A named colour and one variation of it, linear."""
    name = str(rng.choice(list(table)))
    rgb = np.array(table[name]) * rng.uniform(0.82, 1.08) + rng.normal(0.0, 0.03, 3)
    return name, srgb_to_linear(np.clip(rgb, 0.02, 0.97))


def material(rng: np.random.Generator, texture: str | None = None, size: float = 1.0) -> tuple[np.ndarray, str]:
    """A material row and its words ("red striped"), for a body of about `size` metres."""
    if texture is None:
        names = list(TEXTURES)
        texture = str(rng.choice(names, p=[TEXTURES[n][1] for n in names]))
    row = np.zeros(shading.MATERIAL_SIZE, np.float32)
    first, row[0:3] = colour(rng, COLOURS)
    others = {n: c for n, c in (COLOURS | DARKS).items() if n != first}
    second, row[3:6] = colour(rng, others)
    number = TEXTURES[texture][0]
    row[shading.TEXTURE] = number
    cells = {shading.TWO_TONE: 1.0, shading.GRADIENT: 1.2, shading.NOISE: 3.0, shading.SPOTS: 2.8}.get(number, 3.4)
    row[shading.SCALE] = cells * rng.uniform(0.75, 1.3) / size
    row[shading.GLOSS] = rng.choice([0.0, 0.0, 0.25, 0.7])
    direction = rng.normal(0.0, 1.0, 3) if rng.random() < 0.6 else np.eye(3)[rng.integers(3)]
    row[shading.DIRECTION : shading.DIRECTION + 3] = direction / np.linalg.norm(direction)
    row[shading.SHIFT] = rng.uniform(0.0, 50.0)
    if number == shading.PLAIN:
        return row, str(rng.choice([first, f"plain {first}"], p=[0.8, 0.2]))
    if number in (shading.TWO_TONE, shading.SPOTS) and rng.random() < 0.5:
        return row, f"{first} and {second} {texture}"
    return row, f"{first} {texture}"


def plain(rng: np.random.Generator, rgb: tuple[float, float, float]) -> np.ndarray:
    row = np.zeros(shading.MATERIAL_SIZE, np.float32)
    row[0:3] = srgb_to_linear(np.clip(np.array(rgb) + rng.normal(0, 0.02, 3), 0.02, 0.97))
    return row


def still(frames: int, offset: tuple[float, float, float] | np.ndarray = (0.0, 0.0, 0.0)) -> np.ndarray:
    m = np.broadcast_to(np.eye(4), (frames, 4, 4)).copy()
    m[:, :3, 3] = offset
    return m


def rotations(axis: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Rotation matrices `[T, 4, 4]` about an axis through the origin, angles `[T]` in radians."""
    x, y, z = np.asarray(axis, np.float64) / np.linalg.norm(axis)
    k = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    s, c = np.sin(angles)[:, None, None], np.cos(angles)[:, None, None]
    m = np.broadcast_to(np.eye(4), (len(angles), 4, 4)).copy()
    m[:, :3, :3] = np.eye(3) + s * k + (1.0 - c) * (k @ k)
    return m


def solid_body(rng: np.random.Generator, frames: int, shape: str, scale: float) -> Body:
    """One rigid solid; it may lie on any side."""
    p, f = shapes.SHAPES[shape](rng)
    tilt = rotations(rng.normal(0, 1, 3), np.array([rng.uniform(0, 2.5)]))[0, :3, :3]
    if shape not in ("cone", "cylinder") or rng.random() < 0.4:
        p = (p @ tilt.T).astype(np.float32)
    p = p * np.float32(scale)
    p[:, :2] -= (p.max(0) + p.min(0))[:2] / 2
    p[:, 2] -= (p[:, 2].max() + p[:, 2].min()) / 2
    row, words = material(rng, size=scale)
    size = {0: "small ", 1: "", 2: "large "}[int(scale > 0.75) + int(scale > 1.15)]
    noun = {
        "ball": ("ball", "sphere"),
        "box": ("box", "block"),
        "ring": ("ring", "torus"),
        "rock": ("rock", "boulder"),
    }
    name = str(rng.choice(noun.get(shape, (shape,))))
    part = Part(p, f, row, still(frames))
    return Body([part], f"{size}{words} {name}", float(np.linalg.norm(p, axis=1).max()), float(-p[:, 2].min()))


def deforming_body(rng: np.random.Generator, frames: int, scale: float) -> Body:
    """A solid or a sheet that bends, twists, waves or is squashed, and comes part of the way back."""
    s = np.linspace(0.0, 1.0, frames)
    wave = np.sin(s * rng.uniform(1.6, 4.5)) * rng.choice([-1, 1])
    how = str(rng.choice(["bend", "twist", "ripple", "squash", "flag"]))
    if how == "flag":
        p, f = shapes.sheet(1.7, 1.1, 20, 13)
        p = p[:, [0, 2, 1]]
        name, action = str(rng.choice(["flag", "cloth", "sheet"])), str(rng.choice(["waving", "rippling"]))
    else:
        name, (p, f) = [
            ("block", shapes.box((0.55, 0.55, 1.5), 9)),
            ("column", shapes.cylinder(0.34, 1.5, 20, 12)),
            ("ball", shapes.sphere(0.6, 26, 19)),
            ("ring", shapes.torus(0.5, 0.2)),
            ("bar", shapes.box((1.5, 0.5, 0.5), 9)),
        ][rng.integers(5)]
        action = {"bend": "bending", "twist": "twisting", "ripple": "rippling", "squash": "stretching"}[how]
    p = p.astype(np.float64)
    x, y, z = p.T
    q = np.broadcast_to(p, (frames, *p.shape)).copy()
    if how == "bend":
        k = wave[:, None] * rng.uniform(0.6, 1.1)
        k = np.where(np.abs(k) < 1e-3, 1e-3, k)
        q[:, :, 0] = (1 / k) - (1 / k - x) * np.cos(z * k)
        q[:, :, 2] = (1 / k - x) * np.sin(z * k)
    elif how == "twist":
        a = wave[:, None] * rng.uniform(1.0, 2.2) * (z if np.ptp(z) >= np.ptp(x) else x)
        c, d = np.cos(a), np.sin(a)
        if np.ptp(z) >= np.ptp(x):
            q[:, :, 0], q[:, :, 1] = c * x - d * y, d * x + c * y
        else:
            q[:, :, 1], q[:, :, 2] = c * y - d * z, d * y + c * z
    elif how == "squash":
        k = np.exp(wave * rng.uniform(0.35, 0.65))[:, None]
        q = np.stack([x / np.sqrt(k), y / np.sqrt(k), z * k], -1)
    else:
        axis = 1 if how == "flag" else int(rng.integers(2))
        phase = s[:, None] * rng.uniform(3.0, 7.0)
        size = 0.22 if how == "flag" else 0.14
        along = rng.uniform(4.0, 6.5) * (x if how == "flag" else z) + rng.uniform(0, 6)
        hold = (x - x.min()) / 1.0 if how == "flag" else 1.0
        q[:, :, axis] += size * np.sin(along - phase) * np.clip(hold, 0, 1)
    row, words = material(rng, size=scale)
    p, q = (p * scale).astype(np.float32), (q * scale).astype(np.float32)
    turn = rotations(np.array([0, 0, 1.0]), np.full(frames, rng.uniform(0, 6.28)))
    height = float(-q[:, :, 2].min()) + 0.02
    return Body([Part(p, f, row, turn, q)], f"{words} {name}", float(np.linalg.norm(q, axis=-1).max()), height, action)


def figure(rng: np.random.Generator, frames: int, scale: float) -> Body:
    """A figure of capsules with limbs that swing; its origin is at the hips."""
    s = np.linspace(0.0, 1.0, frames)
    phase = 2 * np.pi * (s * rng.uniform(0.4, 1.1) + rng.random())
    walking = rng.random() < 0.65
    swing = np.sin(phase) * rng.uniform(0.5, 0.9)
    shirt, words = material(rng, size=0.8)
    trousers, _ = material(rng, texture="plain")
    skin = plain(rng, ((0.86, 0.66, 0.52), (0.55, 0.38, 0.28), (0.75, 0.75, 0.78))[rng.integers(3)])
    y = np.array([0.0, 1.0, 0.0])

    def hang(root: np.ndarray, at: tuple[float, float, float], angle: np.ndarray) -> np.ndarray:
        return root @ still(frames, at) @ rotations(y, angle)

    def limb(joint: np.ndarray, radius: float, length: float, row: np.ndarray) -> Part:
        solid = shapes.capsule(radius, length - radius, 10, 4)
        return Part(solid[0] - shapes.xyz(0, 0, length / 2), solid[1], row, joint)

    root = still(frames)
    root[:, 2, 3] = 0.03 * np.cos(2 * phase)
    lean = root @ rotations(y, np.full(frames, rng.uniform(-0.05, 0.2)))
    torso = shapes.capsule(0.2, 0.42, 14, 5)
    parts = [Part((torso[0] + shapes.xyz(0, 0, 0.36)) * shapes.xyz(0.8, 1.15, 1.0), torso[1], shirt, lean)]
    head = shapes.sphere(0.17, 14, 9)
    parts.append(Part(head[0] + shapes.xyz(0, 0, 0.98), head[1], skin, lean))
    raised = 0.0 if walking else rng.uniform(1.2, 2.6)
    for side in (-1, 1):
        arm = -side * swing if walking else raised + 0.7 * np.sin(phase * 1.5 + side)
        shoulder = hang(lean, (0.0, side * 0.3, 0.66), arm)
        elbow = hang(shoulder, (0.0, 0.0, -0.32), -0.35 - 0.3 * np.abs(arm) if walking else np.full(frames, -0.4))
        parts += [limb(shoulder, 0.085, 0.34, shirt), limb(elbow, 0.07, 0.34, skin)]
        leg = side * swing if walking else np.zeros(frames) + side * 0.08
        hip = hang(root, (0.0, side * 0.13, 0.05), leg)
        knee = hang(
            hip,
            (0.0, 0.0, -0.42),
            np.clip(-side * np.cos(phase), 0, 1) * 0.6 if walking else np.zeros(frames),
        )
        parts += [limb(hip, 0.11, 0.46, trousers), limb(knee, 0.085, 0.44, trousers)]
    for part in parts:
        part.rest = (part.rest * np.float32(scale)).astype(np.float32)
        part.matrices = part.matrices.copy()
        part.matrices[:, :3, 3] *= scale
    name = str(rng.choice(["figure", "person", "mannequin"]))
    return Body(parts, f"{name} in {words}", 1.15 * scale, 0.88 * scale, "walking" if walking else "waving its arms")


def vehicle(rng: np.random.Generator, frames: int, scale: float) -> Body:
    """A box on four wheels that face +x; `roll` lets the motion turn the wheels by the way gone."""
    row, words = material(rng)
    length, wide, wheel = rng.uniform(1.3, 1.8), rng.uniform(0.65, 0.8), rng.uniform(0.17, 0.24)
    hull = shapes.box((length, wide, 0.36), 4)
    cabin = shapes.box((length * rng.uniform(0.35, 0.55), wide * 0.88, 0.32), 3)
    place = shapes.xyz(rng.uniform(-0.2, 0.2) * length, 0.0, 0.34)
    glass = row.copy() if rng.random() < 0.4 else plain(rng, (0.25, 0.32, 0.38))
    parts = [
        Part(hull[0], hull[1], row, still(frames)),
        Part(cabin[0] + place, cabin[1], glass, still(frames)),
    ]
    tyre, _ = material(rng, texture=str(rng.choice(["checked", "striped", "two-tone"])), size=2 * wheel)
    tyre[0:3] = srgb_to_linear(DARKS["black"])
    wheels = []
    for x in (-0.32, 0.32):
        for y in (-0.5, 0.5):
            p, f = shapes.cylinder(wheel, 0.14, 16, 2)
            p = p[:, [0, 2, 1]]
            wheels.append(
                Part(
                    p * np.float32(scale),
                    f,
                    tyre,
                    still(frames, np.array([x * length, y * wide, -0.2]) * scale),
                )
            )
    for part in parts:
        part.rest = (part.rest * np.float32(scale)).astype(np.float32)
    name = str(rng.choice(["car", "truck", "cart", "vehicle"]))
    return Body(
        parts + wheels,
        f"{words} {name}",
        0.6 * length * scale,
        (0.2 + wheel) * scale,
        "driving",
        wheel * scale,
        wheels,
    )
