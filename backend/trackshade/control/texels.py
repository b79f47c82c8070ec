# SPDX-License-Identifier: GPL-3.0-or-later
"""Surface points by the texel that they color: which points of a mesh its texture coordinates map to each texel.

Texel (row i, column j) of a texture of S × S has its center at u = (j + 0.5) / S, v = 1 - (i + 0.5) / S. Where
coordinates overlap, a texel has several points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trackshade.control.compiling import inlined, kernel

_RIM = 1e-5  # barycentric: nearer to an edge than this, a point may belong to both triangles of the edge


@dataclass(frozen=True, eq=False)
class TargetPoints:
    """Points on triangles, grouped by the target that they color, such as a texel or a pixel.

    Attributes:
        target: [N] int64, ascending, flat indices of the targets.
        start: [N + 1] int64: the points of target n are start[n] to start[n + 1].
        triangle: [P] int32.
        weights: [P, 2] float32, barycentric, of the triangle's second and third vertex.
    """

    target: np.ndarray
    start: np.ndarray
    triangle: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, eq=False)
class Texels(TargetPoints):
    """The texels of a square texture that a mesh covers.

    Attributes:
        size: texels along a side.
        shared: fraction of the covered texels that show more than one point of the mesh.
    """

    size: int
    shared: float


def find_texels(
    uv: np.ndarray,  # [F, 3, 2] float32 texture coordinates
    size: int,
) -> Texels:
    """Return the texels whose centers the triangles cover, in a texture of `size` × `size`."""
    uv = np.ascontiguousarray(uv, np.float32)
    counts = np.zeros(size * size + 1, np.int64)
    inner = np.zeros(size * size, np.uint8)
    _count(uv, size, counts, inner)
    covered = np.flatnonzero(counts)
    start = np.concatenate([[0], np.cumsum(counts[covered])])
    cursor = counts  # becomes, for each covered texel, where its next place goes
    cursor[covered] = start[:-1]
    triangle, weights = np.empty(start[-1], np.int32), np.empty((start[-1], 2), np.float32)
    _fill(uv, size, cursor, triangle, weights)
    shared = float((inner[covered] > 1).mean()) if len(covered) else 0.0
    return Texels(covered, start, triangle, weights, size, shared)


@inlined
def _corners(uv, f, size):
    x0, y0 = uv[f, 0, 0] * size, (1.0 - uv[f, 0, 1]) * size
    x1, y1 = uv[f, 1, 0] * size, (1.0 - uv[f, 1, 1]) * size
    x2, y2 = uv[f, 2, 0] * size, (1.0 - uv[f, 2, 1]) * size
    return x0, y0, x1, y1, x2, y2


@kernel
def _box(x0, x1, x2, size):
    """Return the first and last texel whose center may lie between."""
    low, high = min(x0, x1, x2), max(x0, x1, x2)
    return max(0, math.ceil(low - 0.5 - 1e-6)), min(size - 1, math.floor(high - 0.5 + 1e-6))


@kernel
def _weights(x0, y0, x1, y1, x2, y2, x, y):
    """Return the barycentric weights of the second and third corner; NaN if the triangle has no area."""
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    second = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) / area
    third = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) / area
    return second, third


@kernel
def _count(uv, size, counts, inner):
    for f in range(uv.shape[0]):
        x0, y0, x1, y1, x2, y2 = _corners(uv, f, size)
        left, right = _box(x0, x1, x2, size)
        top, bottom = _box(y0, y1, y2, size)
        for i in range(top, bottom + 1):
            for j in range(left, right + 1):
                b, c = _weights(x0, y0, x1, y1, x2, y2, j + 0.5, i + 0.5)
                if b >= 0.0 and c >= 0.0 and b + c <= 1.0:
                    counts[i * size + j] += 1
                    if b > _RIM and c > _RIM and b + c < 1.0 - _RIM and inner[i * size + j] < 2:
                        inner[i * size + j] += 1


@kernel
def _fill(uv, size, cursor, triangle, weights):
    for f in range(uv.shape[0]):
        x0, y0, x1, y1, x2, y2 = _corners(uv, f, size)
        left, right = _box(x0, x1, x2, size)
        top, bottom = _box(y0, y1, y2, size)
        for i in range(top, bottom + 1):
            for j in range(left, right + 1):
                b, c = _weights(x0, y0, x1, y1, x2, y2, j + 0.5, i + 0.5)
                if b >= 0.0 and c >= 0.0 and b + c <= 1.0:
                    n = cursor[i * size + j]
                    triangle[n] = f
                    weights[n, 0], weights[n, 1] = b, c
                    cursor[i * size + j] = n + 1
