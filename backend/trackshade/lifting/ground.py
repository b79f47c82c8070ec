# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the ground in depth: which way is down, and how high the camera stands."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_POINTS = 4000
_TRIALS = 400
_TOLERANCE = 0.02  # of the inverse depth
_STEEPEST = math.cos(math.radians(40))  # between the ground's normal and the camera's downward axis
_LEAST_SHARE = 0.12  # of all pixels


def find_ground(inverse: NDArray[np.float64], rays: NDArray[np.float64]) -> tuple[NDArray[np.float64], float] | None:
    """Find the plane that the camera stands on.

    Args:
        inverse: [n] 1 / z of pixels; 0 in the sky.
        rays: [n, 3] through them, with z = 1.

    Returns:
        The direction down in camera axes [3], and the camera's height in the unit of depth; None without a plane that
        is seen in enough pixels and lies below the camera.
    """
    known = np.flatnonzero(inverse > 0)
    if len(known) < 100:
        return None
    rng = np.random.default_rng(0)
    chosen = rng.choice(known, min(_POINTS, len(known)), replace=False)
    share = len(known) / len(inverse)
    values, design = inverse[chosen], rays[chosen]
    # On the plane with normal n at distance d below the camera, n . ray / d = 1 / z.
    corners = rng.integers(0, len(chosen), (_TRIALS, 3))
    matrices = design[corners]
    solvable = np.abs(np.linalg.det(matrices)) > 1e-5
    if not solvable.any():
        return None
    planes = np.linalg.solve(matrices[solvable], values[corners[solvable]][..., None])[..., 0]
    length = np.linalg.norm(planes, axis=1)
    planes = planes[(length > 0) & (planes[:, 1] > _STEEPEST * length)]
    if not len(planes):
        return None
    fits = np.abs(planes @ design.T - values) < _TOLERANCE * values
    counts = fits.sum(axis=1)
    best = int(counts.argmax())
    if counts[best] * share < _LEAST_SHARE * len(chosen):
        return None
    # Among planes that are seen about as much, such as a table and a floor, the lowest.
    plane = planes[best]
    for _ in range(3):
        inliers = np.abs(design @ plane - values) < _TOLERANCE * values
        weights = 1 / values[inliers]
        plane = np.linalg.lstsq(design[inliers] * weights[:, None], values[inliers] * weights, rcond=None)[0]
    length = float(np.linalg.norm(plane))
    if not length or plane[1] < _STEEPEST * length:
        return None
    return plane / length, 1 / length


def level_of_ground(inverse: NDArray[np.float64], down: NDArray[np.float64]) -> float | None:
    """Return the camera's height above the lowest points.

    Args:
        inverse: [n] 1 / z of pixels; 0 in the sky.
        down: [n] downward component of the rays through them, with z = 1.

    Returns:
        The height in the unit of depth; None if nothing is below the camera.
    """
    below = (inverse > 0) & (down > 0.02)
    if np.count_nonzero(below) < 0.02 * len(inverse):
        return None
    return float(np.quantile(down[below] / inverse[below], 0.95))
