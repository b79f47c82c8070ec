# SPDX-License-Identifier: GPL-3.0-or-later
"""Procedural textures: functions of a point in object space, so that they move with the surface."""

from __future__ import annotations

import math

import numpy as np

from trackshade.control.compiling import inlined, kernel

# Texture numbers in packed materials.
PLAIN, STRIPES, CHECKS, NOISE, TWO_TONE, SPOTS, GRADIENT, TILES, MARBLE, GLYPHS, RINGS, ZIGZAG = range(12)
# Mean share of the second color, to which a texture fades where its cells are smaller than a pixel.
MEANS = np.array([0.0, 0.5, 0.5, 0.5, 0.5, 0.26, 0.5, 0.23, 0.34, 0.2, 0.5, 0.5])


@inlined
def _hash(i, j, k):
    n = np.uint32(i * 73856093) ^ np.uint32(j * 19349663) ^ np.uint32(k * 83492791)
    n = np.uint32((n ^ (n >> np.uint32(13))) * np.uint32(1274126177))
    return np.float64((n ^ (n >> np.uint32(16))) & np.uint32(0xFFFF)) / 65535.0


@kernel
def noise(x, y, z):
    """Return smooth value noise, 0..1, with one cell per unit."""
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    u, v, w = x - i, y - j, z - k
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    i, j, k = int(i), int(j), int(k)
    total = 0.0
    for a in range(2):
        for b in range(2):
            for c in range(2):
                weight = (u if a else 1 - u) * (v if b else 1 - v) * (w if c else 1 - w)
                total += weight * _hash(i + a, j + b, k + c)
    return total


@kernel
def _glyphs(u, v):
    """Return 1 inside invented letters: each cell holds a space or some of six strokes, selected by its hash."""
    row, column = math.floor(v / 1.7), math.floor(u)
    b, a = (v / 1.7 - row) * 1.7 / 1.3, (u - column) / 0.76
    if a > 1.0 or b > 1.0:
        return 0.0
    strokes = int(_hash(int(column), int(row), 5) * 65535.0)
    if strokes % 7 == 0:
        return 0.0
    if a < 0.24 and (strokes & 1 or not strokes & 2):
        return 1.0
    if a > 0.76 and strokes & 2:
        return 1.0
    if (b > 0.84 and strokes & 4) or (b < 0.16 and strokes & 8) or (abs(b - 0.5) < 0.08 and strokes & 16):
        return 1.0
    return 1.0 if strokes & 32 and abs(a - b) < 0.16 else 0.0


@kernel
def mix(texture, x, y, z, along, across, shift, axis):
    """Return the share of the second color, 0..1, at a point (x, y, z) in object space, in cells of the texture.

    `along` and `across` are the point's coordinates along the material's direction and a perpendicular of it, `shift`
    is the pattern's offset in cells, and `axis` the one that the face's normal is closest to: letters lie in the plane
    of the other two.
    """
    if texture == STRIPES:
        return float(math.floor(along + shift) & 1)
    if texture == CHECKS:
        return float((math.floor(x + shift) + math.floor(y + shift) + math.floor(z + shift)) & 1)
    if texture == NOISE:
        n = 0.65 * noise(x + shift, y, z) + 0.35 * noise(2.1 * x + 7.0, 2.1 * y + shift, 2.1 * z)
        return min(max((n - 0.35) * 3.3, 0.0), 1.0)
    if texture == TWO_TONE:
        return 1.0 if along > 0.0 else 0.0
    if texture == SPOTS:
        u, v, w = x + shift, y + shift, z + shift
        u, v, w = u - math.floor(u) - 0.5, v - math.floor(v) - 0.5, w - math.floor(w) - 0.5
        return 1.0 if u * u + v * v + w * w < 0.15 else 0.0
    if texture == GRADIENT:
        return min(max(0.5 + 0.6 * along, 0.0), 1.0)
    if texture == TILES:
        u, v = x + shift, y + shift
        i, j = math.floor(u), math.floor(v)
        return 1.0 if min(u - i, v - j) < 0.1 else 0.12 * _hash(int(i), int(j), 3)
    if texture == MARBLE:
        swirl = noise(x + shift, y, z) + 0.5 * noise(2.0 * x, 2.0 * y + shift, 2.0 * z)
        vein = 0.5 + 0.5 * math.sin(2.2 * along + 7.0 * swirl)
        return vein * vein * vein
    if texture == GLYPHS:
        if axis == 0:
            return _glyphs(y + shift, z + shift)
        if axis == 1:
            return _glyphs(x + shift, z + shift)
        return _glyphs(x + shift, y + shift)
    if texture == RINGS:
        # Slightly distorted rings around the direction, as in sawn wood.
        away = math.sqrt(max(x * x + y * y + z * z - along * along, 0.0))
        ring = 1.3 * away + 0.7 * noise(0.8 * x + shift, 0.8 * y, 0.8 * z)
        ring -= math.floor(ring)
        return min(1.0, 2.6 * ring) if ring < 0.7 else (1.0 - ring) / 0.3
    if texture == ZIGZAG:
        folded = across + shift
        folded = 2.0 * abs(folded - math.floor(folded) - 0.5)
        return float(math.floor(1.4 * along + shift + 1.2 * folded) & 1)
    return 0.0
