# SPDX-License-Identifier: GPL-3.0-or-later
"""What procedural scenes stand on: grounds and walls, tracked like everything else."""

from __future__ import annotations

import numpy as np

from trackshade.training.data import shading, shapes
from trackshade.training.data.bodies import COLOURS, DARKS, Part, colour, material, still
from trackshade.training.data.motion import rotations


def build_stage(rng: np.random.Generator, frames: int, azimuth: float, floating: bool) -> tuple[list[Part], str]:
    """Ground and wall as geometry, coarse or fine, and their words; `azimuth` of the camera, which the wall faces."""
    if floating:
        return [], str(rng.choice(["in the air", "in front of an empty sky", "against a plain background"]))

    def surface(width: float, height: float, matrix: np.ndarray) -> tuple[Part, str]:
        cells = int(rng.choice([1, 8, 20, 36]))
        p, f = shapes.sheet(width, height, cells + 1, cells + 1)
        row, words = _floor_material(rng)
        return Part(p, f, row, np.broadcast_to(matrix, (frames, 4, 4))), words

    half = rng.uniform(5.0, 14.0)
    turned = rotations(np.array([0, 0, 1.0]), np.array([azimuth + rng.choice([0.0, rng.uniform(-0.8, 0.8)])]))[0]
    floor, words = surface(2 * half, 2 * half, turned)
    preposition = str(rng.choice(["on", "over", "above"], p=[0.8, 0.15, 0.05]))
    parts, words = [floor], f"{preposition} a {words} {rng.choice(['floor', 'ground'])}"
    if rng.random() < 0.35:
        away = rng.uniform(1.8, 3.5)
        upright = turned @ still(1, (-away, 0.0, 1.6))[0] @ rotations(np.array([0, 1.0, 0]), np.array([np.pi / 2]))[0]
        wall, colour_ = surface(3.4, 2 * half, upright)
        parts.append(wall)
        words += f" in front of a {colour_} wall"
    return parts, words


def _floor_material(rng: np.random.Generator) -> tuple[np.ndarray, str]:
    row, _ = material(rng, "plain")
    table = (
        DARKS | COLOURS
        if rng.random() < 0.4
        else {
            "grey": DARKS["grey"],
            "brown": DARKS["brown"],
            "white": COLOURS["white"],
            "green": (0.30, 0.48, 0.25),
            "blue": (0.38, 0.48, 0.60),
        }
    )
    name, rgb = colour(rng, table)
    row[0:3] = rgb
    row[3:6] = np.clip(rgb * rng.choice([0.45, 0.6, 1.5]), 0.01, 0.9)
    texture, word = [
        (shading.PLAIN, ""),
        (shading.CHECKS, "checked "),
        (shading.NOISE, "rough "),
        (shading.TILES, "tiled "),
        (shading.STRIPES, "striped "),
    ][rng.choice(5, p=[0.3, 0.2, 0.2, 0.2, 0.1])]
    row[shading.TEXTURE], row[shading.GLOSS] = texture, 0.0
    row[shading.SCALE] = rng.uniform(1.0, 2.4)
    direction = np.array([*rng.normal(0, 1, 2), 0.0])
    row[shading.DIRECTION : shading.DIRECTION + 3] = direction / np.linalg.norm(direction)
    # The surface is at z = 0 of its own space: half a cell away from the texture's jumps there.
    row[shading.SHIFT] = np.floor(row[shading.SHIFT]) + 0.5
    return row, word + name
