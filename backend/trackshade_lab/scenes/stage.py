# SPDX-License-Identifier: GPL-3.0-or-later
"""Grounds, walls, studio backdrops and skies of generated scenes. All but skies are meshes and are tracked."""

from __future__ import annotations

import numpy as np

from trackshade.core.colors import srgb_to_linear
from trackshade_lab.scenes import shading, shapes, textures
from trackshade_lab.scenes.bodies import rotations, translations
from trackshade_lab.scenes.captions import COLORS, SECONDARY_COLORS, Color
from trackshade_lab.scenes.description import Part
from trackshade_lab.scenes.materials import plain_material, sample_color

Z = np.array([0.0, 0.0, 1.0])
GROUNDS = {
    "grey": SECONDARY_COLORS["grey"],
    "brown": (0.52, 0.40, 0.28),
    "white": (0.84, 0.84, 0.82),
    "green": (0.34, 0.50, 0.28),
    "blue": (0.40, 0.50, 0.62),
    "black": (0.16, 0.16, 0.18),
}


def build_stage(
    rng: np.random.Generator, num_frames: int, azimuth: float, floating: bool, main: np.ndarray
) -> tuple[list[Part], str]:
    """Sample ground and walls that face a camera at `azimuth` radians; none if the bodies are `floating`.

    The stage avoids the main body's linear color `main` [3].

    Returns:
        The meshes, and words such as "on a checked grey floor".
    """
    if floating:
        return [], str(rng.choice(["in the air", "in front of the sky", "against a plain background"]))
    turned = rotations(Z, np.array([azimuth + rng.choice([0.0, rng.uniform(-0.7, 0.7)])]))[0]
    kind = str(rng.choice(["open", "wall", "corner", "studio"], p=[0.4, 0.25, 0.15, 0.2]))
    if kind == "studio":
        return _studio(rng, num_frames, turned, main)
    half = rng.uniform(5.0, 9.0) if rng.random() < 0.3 else rng.uniform(12.0, 30.0)
    floor, words = _surface(rng, num_frames, 2 * half, 2 * half, turned, main)
    parts, words = [floor], f"on a {words} {rng.choice(['floor', 'ground'])}"
    if kind == "open":
        return parts, words
    distance, height = rng.uniform(1.8, 3.6), rng.uniform(2.4, 5.0)
    if kind == "wall":
        wall, name = _wall(rng, num_frames, turned, 0.0, (distance, height, half), main)
        return [*parts, wall], f"{words} in front of a {name} wall"
    # The corner opens toward the camera, so that an orbiting camera does not pass through its walls.
    sides = [
        _wall(rng, num_frames, turned, angle, (distance, height, half), main)[0] for angle in (-np.pi / 4, np.pi / 4)
    ]
    if rng.random() < 0.6:
        sides[1].material = sides[0].material
    return parts + sides, f"{words} in a {rng.choice(['corner', 'room'])}"


def add_hills(rng: np.random.Generator, stage: list[Part]) -> None:
    """Sometimes turn a flat ground without walls into hills around a flat middle."""
    if len(stage) != 1 or rng.random() > 0.3:
        return
    ground = stage[0]
    if np.ptp(ground.rest[:, 2]) > 0:  # a studio backdrop
        return
    size = float(np.ptp(ground.rest[:, 0]))
    p, ground.triangles = shapes.sheet(size, size, 81, 81)
    waves = sum(np.sin(p @ (*rng.normal(0, 0.7, 2), 0.0) + rng.uniform(0, 6.28)) for _ in range(4))
    p[:, 2] = 0.25 * np.clip(np.linalg.norm(p[:, :2], axis=1) - 2.5, 0, 3) * np.clip(waves, -1, 1.5)
    ground.rest = p


def _surface(
    rng: np.random.Generator, num_frames: int, width: float, height: float, matrix: np.ndarray, main: np.ndarray
) -> tuple[Part, str]:
    cells = int(rng.choice([1, 8, 20]))
    p, f = shapes.sheet(width, height, cells + 1, cells + 1)
    row, words = _sample_stage_material(rng, main)
    return Part(p, f, row, np.broadcast_to(matrix, (num_frames, 4, 4))), words


def _wall(
    rng: np.random.Generator,
    num_frames: int,
    turned: np.ndarray,
    angle: float,
    measures: tuple[float, float, float],
    main: np.ndarray,
) -> tuple[Part, str]:
    """Make a wall of (distance behind the origin, height, half width) metres."""
    distance, height, half = measures
    upright = (
        turned
        @ rotations(Z, np.array([angle]))[0]
        @ translations(1, (-distance, 0.0, height / 2))[0]
        @ rotations(np.array([0, 1.0, 0]), np.array([np.pi / 2]))[0]
    )
    return _surface(rng, num_frames, height, 2 * half, upright, main)


def _studio(rng: np.random.Generator, num_frames: int, turned: np.ndarray, main: np.ndarray) -> tuple[list[Part], str]:
    """Make a backdrop of one color that curves from the floor up behind the bodies."""
    name, rgb = _sample_contrasting_color(rng, GROUNDS | COLORS if rng.random() < 0.5 else GROUNDS, main)
    away, bend = rng.uniform(1.6, 3.0), rng.uniform(0.6, 1.6)
    angle = np.linspace(0.0, np.pi / 2, 9)
    curve = np.stack([-away - bend * np.sin(angle), bend * (1 - np.cos(angle))], 1)
    profile = np.concatenate([[[9.0, 0.0], [2.0, 0.0]], curve, [[curve[-1, 0], 3.0], [curve[-1, 0], 9.0]]])
    p, f = shapes.sheet(1.0, 1.0, len(profile), 7)
    p = p.reshape(len(profile), 7, 3)
    p[:, :, 1] *= 26.0
    p[:, :, 0], p[:, :, 2] = profile[:, :1], profile[:, 1:]
    row = plain_material(rng, (0.5, 0.5, 0.5))
    row[0:3] = rgb
    part = Part(p.reshape(-1, 3), f, row, np.broadcast_to(turned, (num_frames, 4, 4)))
    return [part], f"on a {name} backdrop" if rng.random() < 0.5 else f"in a {name} studio"


def _sample_contrasting_color(
    rng: np.random.Generator, table: dict[str, Color], main: np.ndarray
) -> tuple[str, np.ndarray]:
    """Sample a named color that the main body stands out from."""
    name, rgb = sample_color(rng, table)
    for _ in range(6):
        if np.abs(np.sqrt(rgb) - np.sqrt(main)).max() > 0.25:
            break
        name, rgb = sample_color(rng, table)
    return name, rgb


def _sample_stage_material(rng: np.random.Generator, main: np.ndarray) -> tuple[np.ndarray, str]:
    row = plain_material(rng, (0.5, 0.5, 0.5))
    name, rgb = _sample_contrasting_color(rng, GROUNDS if rng.random() < 0.65 else SECONDARY_COLORS | COLORS, main)
    row[0:3] = rgb
    row[3:6] = np.clip(rgb * rng.choice([0.4, 0.6, 1.7]), 0.01, 0.9)
    texture, word, cells = [
        (textures.PLAIN, "", 1.0),
        (textures.CHECKS, "checked ", 1.5),
        (textures.NOISE, "rough ", 1.6),
        (textures.TILES, "tiled ", 1.5),
        (textures.STRIPES, "striped ", 1.5),
        (textures.MARBLE, "marble ", 1.0),
        (textures.GLYPHS, "printed ", 1.8),
    ][rng.choice(7, p=[0.3, 0.16, 0.2, 0.12, 0.07, 0.1, 0.05])]
    row[shading.TEXTURE] = texture
    row[shading.SCALE] = cells * rng.uniform(0.6, 1.5)
    direction = np.array([*rng.normal(0, 1, 2), 0.0])
    row[shading.DIRECTION : shading.DIRECTION + 3] = direction / np.linalg.norm(direction)
    # The surface is at z = 0 in object space: keep it half a cell away from the texture's edges there.
    row[shading.SHIFT] = rng.integers(50) + 0.5
    if rng.random() < 0.15:
        row[shading.GLOSS], row[shading.MIRROR] = 0.2, rng.uniform(0.1, 0.35)
        word = "polished " + word
    return row, word + name


def build_sky(rng: np.random.Generator) -> np.ndarray:
    """Sample the linear colors [2, 3] of the sky below and above the horizon."""
    kind = rng.choice(["day", "evening", "plain", "any"], p=[0.4, 0.12, 0.28, 0.2])
    if kind == "day":
        sky = np.array([[0.85, 0.88, 0.92], [0.35, 0.55, 0.85]])
    elif kind == "evening":
        sky = np.array([[0.95, 0.72, 0.50], [0.36, 0.34, 0.58]])
    elif kind == "plain":
        sky = np.repeat(np.full((1, 3), rng.uniform(0.12, 0.9)) + rng.normal(0, 0.06, (1, 3)), 2, axis=0)
    else:
        sky = rng.uniform(0.15, 0.9, (2, 3))
    return srgb_to_linear(np.clip(sky + rng.normal(0, 0.03, (2, 3)) * (kind != "plain"), 0.03, 0.97))
