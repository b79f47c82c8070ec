# SPDX-License-Identifier: GPL-3.0-or-later
"""Surface points by the texel that they color: which points of flat triangles lie at each texel's center.

Texel (row i, column j) has its center at (j + 0.5, i + 0.5). Where triangles overlap, a texel has several points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trackshade.control.compiling import kernel

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
    """The texels that triangles cover.

    Attributes:
        shared: fraction of the covered texels that show more than one point.
    """

    shared: float


def find_texels(
    corners: np.ndarray,  # [F, 3, 2] float64 (x, y), texels
    size: tuple[int, int],  # (width, height)
) -> Texels:
    """Return the texels whose centers the triangles cover."""
    width, height = size
    counts = np.zeros(width * height + 1, np.int64)
    inner = np.zeros(width * height, np.uint8)
    _count(corners, width, height, counts, inner)
    covered = np.flatnonzero(counts)
    start = np.concatenate([[0], np.cumsum(counts[covered])])
    cursor = counts  # becomes, for each covered texel, where its next place goes
    cursor[covered] = start[:-1]
    triangle, weights = np.empty(start[-1], np.int32), np.empty((start[-1], 2), np.float32)
    _fill(corners, width, height, cursor, triangle, weights)
    shared = float((inner[covered] > 1).mean()) if len(covered) else 0.0
    return Texels(covered, start, triangle, weights, shared)


def draw_triangles(
    corners: np.ndarray,  # [F, 3, 2] float64 (x, y), texels
    numbers: np.ndarray,  # [F] int32
    size: tuple[int, int],  # (width, height)
) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of the last triangle that covers each texel's center, and the point's weights.

    Returns:
        [height, width] int32, -1 for none, and [height, width, 2] float64, barycentric, of the second and third corner.
    """
    width, height = size
    owner, weights = np.full((height, width), -1, np.int32), np.zeros((height, width, 2))
    _draw(corners, numbers, owner, weights)
    return owner, weights


@kernel
def _box(corners, f, axis, size):
    """Return the first and last texel whose center may lie between the corners of triangle `f`."""
    x0, x1, x2 = corners[f, 0, axis], corners[f, 1, axis], corners[f, 2, axis]
    low, high = min(x0, x1, x2), max(x0, x1, x2)
    return max(0, math.ceil(low - 0.5 - 1e-6)), min(size - 1, math.floor(high - 0.5 + 1e-6))


@kernel
def _weights(corners, f, x, y):
    """Return the barycentric weights of the second and third corner; NaN if the triangle has no area."""
    x0, y0, x1, y1 = corners[f, 0, 0], corners[f, 0, 1], corners[f, 1, 0], corners[f, 1, 1]
    x2, y2 = corners[f, 2, 0], corners[f, 2, 1]
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    second = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) / area
    third = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) / area
    return second, third


@kernel
def _count(corners, width, height, counts, inner):
    for f in range(corners.shape[0]):
        left, right = _box(corners, f, 0, width)
        top, bottom = _box(corners, f, 1, height)
        for i in range(top, bottom + 1):
            for j in range(left, right + 1):
                b, c = _weights(corners, f, j + 0.5, i + 0.5)
                if b >= 0.0 and c >= 0.0 and b + c <= 1.0:
                    counts[i * width + j] += 1
                    if b > _RIM and c > _RIM and b + c < 1.0 - _RIM and inner[i * width + j] < 2:
                        inner[i * width + j] += 1


@kernel
def _fill(corners, width, height, cursor, triangle, weights):
    for f in range(corners.shape[0]):
        left, right = _box(corners, f, 0, width)
        top, bottom = _box(corners, f, 1, height)
        for i in range(top, bottom + 1):
            for j in range(left, right + 1):
                b, c = _weights(corners, f, j + 0.5, i + 0.5)
                if b >= 0.0 and c >= 0.0 and b + c <= 1.0:
                    n = cursor[i * width + j]
                    triangle[n] = f
                    weights[n, 0], weights[n, 1] = b, c
                    cursor[i * width + j] = n + 1


@kernel
def _draw(corners, numbers, owner, weights):
    height, width = owner.shape
    for f in range(corners.shape[0]):
        left, right = _box(corners, f, 0, width)
        top, bottom = _box(corners, f, 1, height)
        for i in range(top, bottom + 1):
            for j in range(left, right + 1):
                b, c = _weights(corners, f, j + 0.5, i + 0.5)
                if b >= 0.0 and c >= 0.0 and b + c <= 1.0:
                    owner[i, j] = numbers[f]
                    weights[i, j, 0], weights[i, j, 1] = b, c
