# SPDX-License-Identifier: GPL-3.0-or-later
"""Patterns as images, for surfaces with coordinates of their own; every engine shows them."""

from __future__ import annotations

import bpy
import numpy as np

from trackshade.core.colors import linear_to_srgb

SIDE = 128  # pixels
Linear = tuple[float, float, float]


def pattern_image(pattern: str, first: Linear, second: Linear, seed: int) -> bpy.types.Image:
    """A tile that repeats: "striped", "checked", "spotted", "mottled" or "lettered"."""
    rng = np.random.default_rng(seed)
    share = _share(rng, pattern)[..., None]
    one, other = (linear_to_srgb(np.array(color)) for color in (first, second))
    pixels = np.ones((SIDE, SIDE, 4), np.float32)
    pixels[..., :3] = one + share * (other - one)
    image = bpy.data.images.new(pattern, SIDE, SIDE)
    image.pixels.foreach_set(pixels.ravel())
    image.pack()
    return image


def _share(rng: np.random.Generator, pattern: str) -> np.ndarray:
    """[SIDE, SIDE] how much of the second color, 0..1."""
    v, u = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    count = int(rng.integers(2, 5))
    if pattern == "striped":
        slope = int(rng.integers(0, 3))
        return (np.floor(2 * (count * u + slope * v)) % 2).astype(np.float64)
    if pattern == "checked":
        return ((np.floor(2 * count * u) + np.floor(2 * count * v)) % 2).astype(np.float64)
    if pattern == "spotted":
        a, b = (count * u) % 1 - 0.5, (count * v) % 1 - 0.5
        return (a * a + b * b < rng.uniform(0.05, 0.13)).astype(np.float64)
    if pattern == "mottled":
        total = sum(
            np.cos(2 * np.pi * (i * u + j * v) + rng.uniform(0, 6.28)) * rng.normal() / (1 + np.hypot(i, j))
            for i in range(-5, 6)
            for j in range(6)
        )
        return np.clip(0.5 + 1.2 * np.asarray(total), 0.0, 1.0)
    return _letters(rng, count + 1)


def _letters(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Rows of made-up letters, of strokes each."""
    share = np.zeros((SIDE, SIDE))
    cell = SIDE // rows
    for top in range(0, cell * rows, cell):
        for left in range(0, cell * rows, cell):
            height, width, bar = int(0.75 * cell), int(0.6 * cell), max(2, cell // 7)
            letter = share[top + cell // 8 : top + cell // 8 + height, left + cell // 8 : left + cell // 8 + width]
            strokes = rng.random(5) < 0.6
            for drawn, part in zip(
                strokes,
                (
                    letter[:, :bar],
                    letter[:, -bar:],
                    letter[:bar],
                    letter[-bar:],
                    letter[height // 2 : height // 2 + bar],
                ),
                strict=True,
            ):
                if drawn:
                    part[:] = 1.0
    return share
