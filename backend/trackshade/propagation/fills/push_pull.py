# SPDX-License-Identifier: GPL-3.0-or-later
"""Smooth fills: push-pull on an image, and its counterpart for points in space.

Push-pull (Gortler et al. 1996, "The lumigraph", section 3.4) averages known texels over larger and larger squares, and
interpolates the averages back into the unknown, from the smallest square that has a known texel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import find_objects, label
from scipy.spatial import KDTree

from trackshade.control.compiling import kernel

NEIGHBORS = 12  # known points that an unknown point averages
_POINTS = 20000  # known points that are kept for the search
EIGHT = np.ones((3, 3), bool)  # neighbors of a texel, diagonal ones included


def push_pull(
    color: np.ndarray,  # [h, w, C] float32
    known: np.ndarray,  # [h, w] bool
) -> np.ndarray:
    """Return the colors with unknown ones filled smoothly, [h, w, C] float32; all zero if none is known."""
    values = np.where(known[..., None], color, np.float32(0)).astype(np.float32)
    return _level(values, known.astype(np.float32))


def push_pull_charts(
    color: np.ndarray,  # [h, w, C] float32
    known: np.ndarray,  # [h, w] bool
    inside: np.ndarray,  # [h, w] bool
) -> np.ndarray:
    """Fill each connected part of `inside` from its own known texels, or from all where it has none.

    Returns:
        The colors [h, w, C] float32. Texels outside are as in `color`.
    """
    known = known & inside
    out = color.astype(np.float32, copy=True)
    charts, count = connected_parts(inside)
    if count == 1 and inside.mean() > 0.5:
        out[inside] = push_pull(color, known)[inside]
        return out
    rest = np.zeros_like(inside)
    for number, box in enumerate(find_objects(charts), 1):
        chart = charts[box] == number
        has = known[box] & chart
        if not has.any():
            rest[box] |= chart
        elif not has[chart].all():
            out[box][chart] = push_pull(color[box], has)[chart]
    if rest.any():
        out[rest] = push_pull(color, known)[rest]
    return out


def connected_parts(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the number of the connected part of each texel, [h, w] int32 from 1, 0 outside, and how many there are."""
    numbers = np.empty(mask.shape, np.int32)
    return numbers, int(label(mask, EIGHT, output=numbers))  # pyright: ignore[reportArgumentType]


def fill_points(
    points: np.ndarray,  # [N, D] float
    colors: np.ndarray,  # [N, C] float32
    known: np.ndarray,  # [N] bool
) -> np.ndarray:
    """Return the colors with unknown ones interpolated from the nearest known points, [N, C] float32.

    Known points are first averaged in cells, so that the cost does not grow with their density. A point takes the mean
    of the nearest cells, weighted by the inverse square of their distances.
    """
    out = colors.astype(np.float32, copy=True)
    if known.all() or not known.any():
        return out
    centers, means = average_points(points[known], colors[known], _POINTS)
    tree = KDTree(centers)
    near = min(NEIGHBORS, len(centers))
    ranks: Any = range(1, near + 1)
    distance, index = tree.query(points[~known], k=ranks)
    weight = 1 / np.maximum(distance, 1e-6 * max(float(distance.max()), 1e-12)) ** 2
    weight /= weight.sum(axis=1, keepdims=True)
    out[~known] = np.einsum("nk,nkc->nc", weight, means[index])
    return out


def average_points(points: np.ndarray, colors: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Average points and their colors in the cells of a grid that has about `most` occupied cells on a surface."""
    low = points.min(axis=0)
    size = float((points.max(axis=0) - low).max())
    if len(points) <= most or size == 0:
        return points, colors
    cell = np.floor((points - low) / (size / np.sqrt(most / 2))).astype(np.int64)
    _, group = np.unique(np.ravel_multi_index(tuple(cell.T), tuple(cell.max(axis=0) + 1)), return_inverse=True)
    count = np.bincount(group)
    mean = [
        np.stack([np.bincount(group, column) for column in values.T.astype(np.float64)], axis=1) / count[:, None]
        for values in (points, colors)
    ]
    return mean[0], mean[1].astype(np.float32)


def _level(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    if max(weight.shape) < 2 or weight.all():
        return values
    half = tuple(-(-side // 2) for side in weight.shape)
    coarse, coarse_weight = np.empty((*half, values.shape[2]), np.float32), np.empty(half, np.float32)
    _pull(values, weight, coarse, coarse_weight)
    out = values.copy()
    _push(_level(coarse, coarse_weight), weight, out)
    return out


@kernel
def _pull(values, weight, out, out_weight):
    height, width, channels = values.shape
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            total = np.float32(0.0)
            out[i, j] = 0.0
            for a in range(2 * i, min(height, 2 * i + 2)):
                for b in range(2 * j, min(width, 2 * j + 2)):
                    total += weight[a, b]
                    for k in range(channels):
                        out[i, j, k] += weight[a, b] * values[a, b, k]
            if total > 0.0:
                out[i, j] /= total
            out_weight[i, j] = min(total, np.float32(1.0))


@kernel
def _push(coarse, weight, out):
    """Interpolate the coarser level bilinearly into unknown texels."""
    height, width, channels = out.shape
    for i in range(height):
        y = 0.5 * i - 0.25
        top = max(0, int(np.floor(y)))
        below = min(top + 1, coarse.shape[0] - 1)
        r = min(max(y - top, 0.0), 1.0)
        for j in range(width):
            if weight[i, j] > 0.0:
                continue
            x = 0.5 * j - 0.25
            left = max(0, int(np.floor(x)))
            right = min(left + 1, coarse.shape[1] - 1)
            s = min(max(x - left, 0.0), 1.0)
            for k in range(channels):
                up = coarse[top, left, k] * (1.0 - s) + coarse[top, right, k] * s
                down = coarse[below, left, k] * (1.0 - s) + coarse[below, right, k] * s
                out[i, j, k] = up * (1.0 - r) + down * r
