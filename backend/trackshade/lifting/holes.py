# SPDX-License-Identifier: GPL-3.0-or-later
"""Continues the background's depth behind objects by the planes that surround them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_RING = 9  # lattice points around a hole whose planes are continued
_PLANES = 3  # most planes of a hole
_TRIALS = 60
_TOLERANCE = 0.02  # of the inverse depth: what lies on a plane
_LEAST_SHARE = 0.15  # of the ring that a plane must explain
_EXPLAINED = 0.4  # share of the ring that the planes must explain together
_RIM = 2  # lattice points around a hole that may show the object, where its mask is not exact
_MOST_POINTS = 2000  # of the ring


def continue_behind(
    inverse: NDArray[np.float64], hole: NDArray[np.bool_], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fill holes in inverse depth.

    The nearest of the surrounding planes that lie behind the object is what is seen of floor and walls that meet; what
    no plane explains is interpolated from the border.

    Args:
        inverse: [h, w] 1 / z, in the holes that of the objects; 0 in the sky.
        hole: [h, w] where objects stand.
        x: [w] columns of the lattice.
        y: [h] rows of the lattice.

    Returns:
        [h, w] with the holes filled; 0 where the sky is behind them.
    """
    result = inverse.copy()
    close = cv2.dilate(hole.astype(np.uint8), np.ones((2 * _RIM + 1, 2 * _RIM + 1), np.uint8)) > 0
    count, parts, boxes, _ = cv2.connectedComponentsWithStats(hole.astype(np.uint8), connectivity=8)
    for index in range(1, count):
        left, top, width, height, _ = boxes[index]
        rows = slice(max(0, top - _RING), top + height + _RING)
        columns = slice(max(0, left - _RING), left + width + _RING)
        part = parts[rows, columns] == index
        near = cv2.dilate(part.astype(np.uint8), np.ones((2 * _RING + 1, 2 * _RING + 1), np.uint8)) > 0
        ring = near & ~close[rows, columns]
        if ring.any():
            result[rows, columns][part] = _fill(inverse[rows, columns], part, ring, x[columns], y[rows])
    return result


def _fill(inverse: np.ndarray, part: np.ndarray, ring: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the inverse depth of one hole's points."""
    grid = np.stack([*np.broadcast_arrays((x - x[0]) / np.ptp(x), (y[:, None] - y[0]) / np.ptp(y))], axis=-1)
    points, values = grid[ring], inverse[ring]
    rng = np.random.default_rng(0)
    if len(values) > _MOST_POINTS:
        chosen = rng.choice(len(values), _MOST_POINTS, replace=False)
        points, values = points[chosen], values[chosen]
    planes, explained = _planes(points, values, rng)
    smooth = _interpolated(inverse, ring, part)
    if not planes:
        return smooth
    predicted = np.array([grid[part] @ plane[:2] + plane[2] for plane in planes])
    possible = predicted < inverse[part]
    nearest = np.maximum(np.where(possible, predicted, 0.0).max(axis=0), 0.0)
    return np.where(possible.any(axis=0) & (explained > _EXPLAINED), nearest, smooth)


def _planes(points: np.ndarray, values: np.ndarray, rng: np.random.Generator) -> tuple[list[np.ndarray], float]:
    """Return planes (slopes and offset of inverse depth) of the ring, and the share of it that they explain."""
    left = np.arange(len(values))
    planes: list[np.ndarray] = []
    least = max(6, int(_LEAST_SHARE * len(values)))
    design = np.column_stack([points, np.ones(len(points))])
    tolerance = _TOLERANCE * np.maximum(values, 0.05 * values.max() if values.max() > 0 else 1.0)
    while len(planes) < _PLANES and len(left) >= least:
        corners = left[rng.integers(0, len(left), (_TRIALS, 3))]
        matrices = design[corners]
        solvable = np.abs(np.linalg.det(matrices)) > 1e-4
        if not solvable.any():
            break
        found = np.linalg.solve(matrices[solvable], values[corners[solvable]][..., None])[..., 0]
        fits = np.abs(found @ design[left].T - values[left]) < tolerance[left]
        best = int(fits.sum(axis=1).argmax())
        if fits[best].sum() < least:
            break
        inliers, plane = left[fits[best]], found[best]
        for share in (1.0, 0.25, 0.05):  # points of a neighboring plane near the crease would tilt it
            near = np.abs(design[inliers] @ plane - values[inliers]) < share * tolerance[inliers]
            if np.count_nonzero(near) < max(6, len(inliers) // 2):
                break
            plane = np.linalg.lstsq(design[inliers[near]], values[inliers[near]], rcond=None)[0]
        planes.append(plane)
        left = left[np.abs(design[left] @ plane - values[left]) >= tolerance[left]]
    return planes, 1 - len(left) / len(values)


def _interpolated(inverse: np.ndarray, known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return values for the wanted points by averages over ever larger windows of the known ones."""
    values, weights = np.where(known, inverse, 0.0), known.astype(np.float64)
    result = np.zeros_like(inverse)
    left = wanted.copy()
    size = 3
    while left.any():
        total, weight = (cv2.boxFilter(item, -1, (size, size), normalize=False, borderType=cv2.BORDER_CONSTANT)
                         for item in (values, weights))  # fmt: skip
        ready = left & (weight > 0.5)
        result[ready] = total[ready] / weight[ready]
        left &= ~ready
        size = 2 * size + 1
    return result[wanted]
