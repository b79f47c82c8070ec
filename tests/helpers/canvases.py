# SPDX-License-Identifier: GPL-3.0-or-later
"""Procedural surface maps in linear light, with holes, shadow rims and decals, for tests and benchmarks of fills."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial import KDTree

Texture = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def noise(y: np.ndarray, x: np.ndarray, cell: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Smooth random values of about 0..1, which change over `cell` texels along rows and columns."""
    shape = (int(y.max() / cell[0]) + 4, int(x.max() / cell[1]) + 4)
    values = rng.random(shape)
    i, j = y / cell[0], x / cell[1]
    a, b = np.floor(i).astype(int), np.floor(j).astype(int)
    r, s = (part * part * (3 - 2 * part) for part in (i - a, j - b))
    top = values[a, b] * (1 - s) + values[a, b + 1] * s
    return top * (1 - r) + (values[a + 1, b] * (1 - s) + values[a + 1, b + 1] * s) * r


def mix(first: tuple[float, ...], second: tuple[float, ...], share: np.ndarray) -> np.ndarray:
    """Blend two colors, [h, w, 3]."""
    return np.array(first) * (1 - share[..., None]) + np.array(second) * share[..., None]


def checker(y: np.ndarray, x: np.ndarray, rng: np.random.Generator, period: float = 37.3) -> np.ndarray:
    """A checkerboard; `period` is the side of a square."""
    return mix((0.75, 0.7, 0.6), (0.12, 0.14, 0.2), (np.floor(y / period) + np.floor(x / period)) % 2)


def checker_turned(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A checkerboard turned by 20 degrees."""
    c, s = np.cos(0.35), np.sin(0.35)
    return checker(c * y + s * x + 1000, c * x - s * y + 1000, rng, 22.7)


def tiles(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Square tiles with grout and a fine grain."""
    side, grout = 48.6, 3.5
    joint = (np.minimum(y % side, x % side) < grout).astype(float)
    grain = 1 + 0.1 * (noise(y, x, (2, 2), rng) - 0.5)
    return mix((0.5, 0.36, 0.25), (0.2, 0.2, 0.2), joint) * grain[..., None]


def bricks(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Running bond; every brick has its own color."""
    high, wide, mortar = 21.4, 58.2, 3
    row = np.floor(y / high).astype(int)
    along = x + wide / 2 * (row % 2) + wide
    number = np.floor(along / wide).astype(int)
    joint = ((y % high < mortar) | (along % wide < mortar)).astype(float)
    tint = 1 + 0.5 * (rng.random((row.max() + 1, number.max() + 1, 1))[row, number] - 0.5)
    warm = 0.25 * (rng.random((row.max() + 1, number.max() + 1))[row, number] - 0.5)
    base = np.array([0.42, 0.16, 0.1]) * tint * (1 + warm[..., None] * np.array([1, 0, -1]))
    base = base * (1 + 0.25 * (noise(y, x, (3, 5), rng) - 0.5))[..., None]
    return base * (1 - joint[..., None]) + np.array([0.5, 0.48, 0.45]) * joint[..., None]


def wood(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grain along the rows."""
    bend = y + 14 * noise(y, x, (60, 240), rng)
    rings = 0.5 + 0.5 * np.sin(bend * 0.35 + 3 * noise(bend, x, (12, 160), rng))
    fiber = noise(y, x, (1.6, 30), rng)
    return mix((0.42, 0.22, 0.1), (0.22, 0.1, 0.04), 0.7 * rings + 0.3 * fiber)


def voronoi(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cells of random grays with dark borders."""
    count = int(y.max() * x.max() / 1200)
    seeds = rng.random((count, 2)) * [y.max(), x.max()]
    distance, index = KDTree(seeds).query(np.stack([y, x], axis=-1), k=2)
    distance, index = np.asarray(distance), np.asarray(index)
    tone = 0.15 + 0.6 * rng.random(count)[index[..., 0]]
    border = np.clip(1.5 - (distance[..., 1] - distance[..., 0]) / 3, 0, 1)
    return mix((1, 0.9, 0.75), (0.05, 0.05, 0.05), border) * tone[..., None]


def marble(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bright stone with dark veins."""
    field = sum(noise(y, x, (80 / 2**k, 80 / 2**k), rng) / 2**k for k in range(5))
    veins = np.exp(-np.abs(np.sin(0.02 * (x + 0.6 * y) + 5 * field)) * 6)
    return mix((0.8, 0.78, 0.75), (0.25, 0.27, 0.3), 0.8 * veins + 0.15 * noise(y, x, (20, 20), rng))


def gravel(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grain of a few texels around one color."""
    return np.array([0.3, 0.28, 0.25]) * (0.5 + noise(y, x, (3, 3), rng))[..., None]


TEXTURES: dict[str, Texture] = {
    function.__name__: function for function in (checker, checker_turned, tiles, bricks, wood, voronoi, marble, gravel)
}
REPEATING = ("checker", "checker_turned", "tiles", "bricks")


def render(name: str, size: int, seed: int = 0, samples: int = 3) -> np.ndarray:
    """A texture without holes, [size, size, 3] float32, averaged over samples × samples points per texel."""
    at = (np.arange(size * samples) + 0.5) / samples
    y, x = np.meshgrid(at, at, indexing="ij")
    fine = TEXTURES[name](y, x, np.random.default_rng(seed))
    return fine.reshape(size, samples, size, samples, 3).mean(axis=(1, 3)).astype(np.float32)


def holes(size: int, seed: int = 0, share: float = 0.3) -> np.ndarray:
    """Unknown texels, [size, size] bool: soft blobs, and a strip along one side that no camera saw."""
    field = gaussian_filter(np.random.default_rng(seed + 100).standard_normal((size, size)), size / 14, mode="nearest")
    out = field > np.quantile(field, 1 - share * 0.8)
    out[:, : int(size * share * 0.25)] = True
    return out


def ring(size: int, center: tuple[float, float], radius: float, width: float) -> np.ndarray:
    """Strength 0..1 of a soft ring, the rim of a shadow, [size, size]."""
    y, x = np.mgrid[:size, :size] + 0.5
    return np.exp(-(((np.hypot((y - center[0]) * 1.4, x - center[1]) - radius) / width) ** 2))


def gain(size: int, strength: float, seed: int = 0) -> np.ndarray:
    """A slow error of the light, factors around 1, [size, size]."""
    coarse = np.random.default_rng(seed + 7).standard_normal((4, 4))
    return np.exp(strength * np.asarray(zoom(coarse, size / 4, order=1, grid_mode=True, mode="nearest")))


def body(size: int, lopsided: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A painted ellipsoid, and what a view from one side and the front shows of it.

    Its paint is the same on both sides (y and -y), with stripes along x and a round spot on either side; if `lopsided`,
    the far side has another color.

    Returns:
        Colors, known texels, positions and normals, [size, 2 size, ...].
    """
    latitude, longitude = np.meshgrid(
        (np.arange(size) + 0.5) / size * np.pi, (np.arange(2 * size) + 0.5) / size * np.pi, indexing="ij"
    )
    unit = np.stack(
        [np.sin(latitude) * np.cos(longitude), np.sin(latitude) * np.sin(longitude), np.cos(latitude)], axis=-1
    )
    radii = np.array([2.0, 1.0, 0.8])
    normals = unit / radii
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    x, side, z = unit[..., 0], np.abs(unit[..., 1]), unit[..., 2]
    color = mix((0.6, 0.1, 0.08), (0.7, 0.65, 0.5), (np.sin(14 * x) > 0.3).astype(float))
    spot = (np.hypot(x - 0.3, z - 0.1) < 0.35) & (side > 0.5)
    color = np.where(spot[..., None], [0.05, 0.2, 0.5], color)
    if lopsided:
        color = np.where((unit[..., 1:2] < 0), color[..., ::-1], color)
    view = np.array([0.5, 0.8, 0.33])
    known = normals @ view > 0.15
    return color.astype(np.float32), known, (unit * radii).astype(np.float32), normals.astype(np.float32)
