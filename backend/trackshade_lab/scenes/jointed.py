# SPDX-License-Identifier: GPL-3.0-or-later
"""Jointed bodies of generated scenes: figures, animals, vehicles, chains and windmills.

`times` [T] are the seconds of the frames.
"""

from __future__ import annotations

import numpy as np

from trackshade.core.colors import srgb_to_linear
from trackshade_lab.scenes import shapes
from trackshade_lab.scenes.bodies import rotations, translations
from trackshade_lab.scenes.captions import SECONDARY_COLORS
from trackshade_lab.scenes.description import Body, Part
from trackshade_lab.scenes.materials import plain_material, sample_material

X, Y, Z = np.eye(3)  # joint axes
SKINS = ((0.86, 0.66, 0.52), (0.55, 0.38, 0.28), (0.75, 0.75, 0.78))


def _joint(parent: np.ndarray, at: tuple[float, float, float], axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Return the matrices [T, 4, 4] of a joint at `at` in the space of `parent` that turns about `axis`."""
    return parent @ translations(len(parent), at) @ rotations(axis, angle)


def _limb(joint: np.ndarray, radius: float, length: float, row: np.ndarray) -> Part:
    """Make a capsule that hangs down from its joint."""
    solid = shapes.capsule(radius, length - radius, 10, 4)
    return Part(solid[0] - shapes.xyz(0, 0, length / 2), solid[1], row, joint)


def _scale(parts: list[Part], scale: float) -> list[Part]:
    for part in parts:
        part.rest = (part.rest * np.float32(scale)).astype(np.float32)
        part.matrices = part.matrices.copy()
        part.matrices[:, :3, 3] *= scale
    return parts


def figure(rng: np.random.Generator, times: np.ndarray, scale: float) -> Body:
    """Make a figure of capsules that walks or waves; its origin is at the hips."""
    num_frames = len(times)
    phase = 2 * np.pi * (times * rng.uniform(0.5, 0.9) + rng.random())
    walking = rng.random() < 0.6
    swing = np.sin(phase) * rng.uniform(0.5, 0.9)
    shirt = sample_material(rng, size=0.8)
    suit = rng.random() < 0.5
    trousers = shirt.row if suit else sample_material(rng, "plain").row
    skin = plain_material(rng, SKINS[rng.integers(3)])
    root = translations(num_frames)
    root[:, 2, 3] = 0.03 * np.cos(2 * phase)
    lean = root @ rotations(Y, np.full(num_frames, rng.uniform(-0.05, 0.2)))
    torso = shapes.capsule(0.2, 0.42, 14, 5)
    parts = [Part((torso[0] + shapes.xyz(0, 0, 0.36)) * shapes.xyz(0.8, 1.15, 1.0), torso[1], shirt.row, lean)]
    head = shapes.sphere(0.17, 14, 9)
    parts.append(Part(head[0] + shapes.xyz(0, 0, 0.98), head[1], skin, lean))
    raised = 0.0 if walking else rng.uniform(1.2, 2.6)
    for side in (-1, 1):
        arm = -side * swing if walking else raised + 0.7 * np.sin(phase * 1.5 + side)
        shoulder = _joint(lean, (0.0, side * 0.3, 0.66), Y, arm)
        fore = -0.35 - 0.3 * np.abs(arm) if walking else np.full(num_frames, -0.4)
        elbow = _joint(shoulder, (0.0, 0.0, -0.32), Y, fore)
        parts += [_limb(shoulder, 0.09, 0.34, shirt.row), _limb(elbow, 0.075, 0.34, skin)]
        hip = _joint(root, (0.0, side * 0.13, 0.05), Y, side * swing if walking else np.full(num_frames, side * 0.08))
        bent = np.clip(-side * np.cos(phase), 0, 1) * 0.6 if walking else np.zeros(num_frames)
        knee = _joint(hip, (0.0, 0.0, -0.42), Y, bent)
        parts += [_limb(hip, 0.115, 0.46, trousers), _limb(knee, 0.09, 0.44, trousers)]
    name = str(rng.choice(["figure", "person", "mannequin"]))
    action = str(rng.choice(["walking", "marching"])) if walking else str(rng.choice(["waving its arms", "waving"]))
    color = shirt.color if suit else None
    words = f"{name} in {shirt.words}"
    return Body(
        _scale(parts, scale), words, 1.15 * scale, 0.88 * scale, action, color=color, walks=walking, is_fusible=True
    )


def animal(rng: np.random.Generator, times: np.ndarray, scale: float, lean: int = 1) -> Body:
    """Make an animal that trots along +x, with a head that nods and a tail that wags.

    `lean` is −1 for a neck that leans forward, 1 for one that leans back, as the clips of existing data sets have it.
    """
    num_frames = len(times)
    phase = 2 * np.pi * (times * rng.uniform(0.6, 1.0) + rng.random())
    coat = sample_material(rng, size=1.0)
    root = translations(num_frames)
    root[:, 2, 3] = 0.025 * np.cos(2 * phase)
    long, thick, leg = rng.uniform(0.55, 0.8), rng.uniform(0.2, 0.27), rng.uniform(0.4, 0.6)
    trunk = shapes.capsule(thick, long, 14, 5)
    parts = [Part(trunk[0][:, [2, 0, 1]], trunk[1], coat.row, root)]
    neck = _joint(root, (long / 2 + 0.05, 0.0, 0.12), Y, lean * (2.3 + 0.15 * np.sin(phase)))
    head = shapes.capsule(0.13, 0.16, 12, 5)
    parts += [_limb(neck, 0.1, 0.38, coat.row)]
    turned = _joint(neck, (0.0, 0.0, -0.42), Y, lean * (-0.8 + 0.1 * np.sin(phase + 1.0)))
    parts.append(Part(head[0] - shapes.xyz(0, 0, 0.1), head[1], coat.row, turned))
    tail = _joint(root, (-long / 2 - 0.12, 0.0, 0.1), X, 0.7 * np.sin(2 * phase))
    parts.append(_limb(tail @ rotations(Y, np.full(num_frames, 0.9)), 0.05, 0.4, coat.row))
    for x in (-0.5, 0.5):
        for side in (-1, 1):
            swing = 0.5 * side * np.sign(x) * np.sin(phase)
            hip = _joint(root, (x * long, side * 0.55 * thick, -0.4 * thick), Y, swing)
            knee = _joint(hip, (0.0, 0.0, -leg / 2), Y, 0.35 + 0.35 * np.sin(phase + side * np.sign(x)))
            parts += [_limb(hip, 0.08, leg / 2 + 0.04, coat.row), _limb(knee, 0.065, leg / 2 + 0.04, coat.row)]
    name = str(rng.choice(["animal", "dog", "horse"]))
    height = (leg + 0.4 * thick + 0.05) * scale
    action = str(rng.choice(["trotting", "walking"]))
    return Body(
        _scale(parts, scale),
        f"{coat.words} {name}",
        0.95 * scale,
        height,
        action,
        color=coat.color,
        walks=True,
        is_fusible=True,
    )


def vehicle(rng: np.random.Generator, num_frames: int, scale: float) -> Body:
    """Make a box on four wheels that drives along +x; `motion.drive` turns the wheels."""
    paint = sample_material(rng)
    length, wide, wheel = rng.uniform(1.3, 1.8), rng.uniform(0.65, 0.8), rng.uniform(0.19, 0.27)
    hull = shapes.box((length, wide, 0.36), 4)
    cabin = shapes.box((length * rng.uniform(0.35, 0.55), wide * 0.88, 0.32), 3)
    place = shapes.xyz(rng.uniform(-0.2, 0.2) * length, 0.0, 0.34)
    one_color = rng.random() < 0.6
    glass = paint.row if one_color else plain_material(rng, (0.25, 0.32, 0.38))
    parts = [
        Part(hull[0], hull[1], paint.row, translations(num_frames)),
        Part(cabin[0] + place, cabin[1], glass, translations(num_frames)),
    ]
    tire = sample_material(rng, str(rng.choice(["checked", "striped", "two-tone"])), size=2 * wheel).row
    tire[0:3] = srgb_to_linear(np.array(SECONDARY_COLORS["black"]))
    solid = shapes.cylinder(wheel, 0.16, 16, 2)
    wheels = [
        Part(solid[0][:, [0, 2, 1]], solid[1], tire, translations(num_frames, (x * length, y * wide, -0.2)))
        for x in (-0.32, 0.32)
        for y in (-0.5, 0.5)
    ]
    _scale(parts + wheels, scale)
    words = f"{paint.words} {rng.choice(['car', 'truck', 'cart', 'vehicle'])}"
    height = (0.2 + wheel) * scale
    action = str(rng.choice(["driving", "rolling along"]))
    color = paint.color if one_color else None
    reach = 0.6 * length * scale
    return Body(parts + wheels, words, reach, height, action, wheel * scale, wheels, color, walks=True)


def chain(rng: np.random.Generator, times: np.ndarray, scale: float) -> Body:
    """Make a chain of links that hangs and swings, or one that winds over the ground."""
    num_frames, count = len(times), int(rng.integers(4, 8))
    first, second = sample_material(rng, size=0.35), sample_material(rng, size=0.35)
    is_mixed = rng.random() < 0.35
    kind = str(rng.choice(["links", "beads", "segments"]))
    spacing = 1.7 / count
    rate, lag = rng.uniform(2.0, 3.8), rng.uniform(0.8, 1.3)
    hanging = rng.random() < 0.5
    size = rng.uniform(0.12, 0.25) if hanging else rng.uniform(0.3, 0.5)
    start = rng.uniform(0, 6.28)
    joint = translations(num_frames, (0.0, 0.0, 0.85)) if hanging else translations(num_frames, (-0.85, 0.0, 0.0))
    parts: list[Part] = []
    for n in range(count):
        angle = size * np.sin(rate * times + start - lag * n)
        joint = joint @ rotations(Y if hanging else Z, angle if n or hanging else 0.5 * angle)
        row = second.row if is_mixed and n % 2 else first.row
        parts.append(_link(kind, n, spacing, row, joint, hanging))
        joint = joint @ translations(num_frames, (0.0, 0.0, -spacing) if hanging else (spacing, 0.0, 0.0))
    _scale(parts, scale)
    if hanging:
        name, action, height = "rope" if kind == "segments" else "chain", str(rng.choice(["swinging", "swaying"])), 1.0
    else:
        name, action, height = (
            "snake" if kind == "segments" else "chain",
            str(rng.choice(["winding", "wriggling"])),
            0.16,
        )
    if kind == "beads":
        name = "string of beads"
    color = first.color if not is_mixed else None
    return Body(
        parts, f"{first.words} {name}", 1.05 * scale, height * scale, action, color=color, is_fusible=kind == "segments"
    )


def _link(kind: str, n: int, spacing: float, row: np.ndarray, joint: np.ndarray, hanging: bool) -> Part:
    """Make a link that reaches from its joint to the next, down for a hanging chain, else along +x."""
    if kind == "links":
        p, f = shapes.torus(0.42 * spacing, 0.16 * spacing, 16, 8)
        p = p * shapes.xyz(1.5, 1.0, 1.0)
        p = p if n % 2 else p[:, [0, 2, 1]]
    elif kind == "beads":
        p, f = shapes.sphere(0.52 * spacing, 14, 9)
    else:
        p, f = shapes.capsule(0.42 * spacing, 0.35 * spacing, 12, 4)
        p = p[:, [2, 0, 1]]
    p = p + shapes.xyz(spacing / 2, 0, 0)
    if hanging:
        p = np.stack([p[:, 2], p[:, 1], -p[:, 0]], 1)
    return Part(p.astype(np.float32), f, row, joint)


def windmill(rng: np.random.Generator, times: np.ndarray, scale: float) -> Body:
    """Make a post with blades that turn about its top."""
    num_frames = len(times)
    blades, post = sample_material(rng, size=0.8), sample_material(rng, "plain").row
    angle = times * rng.uniform(0.7, 1.6) * rng.choice([-1, 1]) + rng.uniform(0, 6.28)
    stand = shapes.cylinder(0.09, 1.3, 14, 6)
    hub = translations(num_frames, (0.14, 0.0, 0.55)) @ rotations(X, angle)
    parts = [Part(stand[0] - shapes.xyz(0, 0, 0.1), stand[1], post, translations(num_frames))]
    count = int(rng.integers(3, 6))
    blade = shapes.box((0.05, 0.26, 0.62), 3)
    for n in range(count):
        arm = rotations(X, np.full(num_frames, 2 * np.pi * n / count))
        parts.append(Part(blade[0] + shapes.xyz(0, 0, 0.36), blade[1], blades.row, hub @ arm))
    cap = shapes.sphere(0.12, 12, 9)
    parts.append(Part(cap[0], cap[1], post, hub))
    name, action = str(rng.choice(["windmill", "fan"])), str(rng.choice(["turning", "spinning"]))
    return Body(_scale(parts, scale), f"{blades.words} {name}", 1.15 * scale, 0.75 * scale, action)
