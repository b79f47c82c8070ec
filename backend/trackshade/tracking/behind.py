# SPDX-License-Identifier: GPL-3.0-or-later
"""The surface behind what moves: from what stands still around it, and from corners that other frames show there.

What is hidden in the first frame is seen in others, since the thing moves or the camera does. So the depth there is that
of corners which were found in any frame and stand still, and of planes between these and what is around.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from scipy import ndimage

from trackshade.tracking.bundle import Observations, depths_from_motion, host_rays, residuals
from trackshade.tracking.camera import CameraSolve
from trackshade.tracking.points import PointSolve
from trackshade.tracking.smoothing import fill_depth

_IN_FRONT = 1.06  # times the inverse depth of the surface behind, from which something is in front of it
_FAR = 0.5  # of it, up to which a corner's depth counts
_MISS = 1.0  # px: most that a corner may be from where the camera shows it, median
_PARALLAX = 2.0  # px of it that a corner's depth needs
_DEVIATION = 0.01  # of inverse depths that are known, relative
_TOGETHER = 7  # points: pieces of what moves that are as near belong together
_GROWING = 5  # rounds of adding what is joined
_GUESS = 0.1  # of those that are only led through
_ACROSS = 0.05  # weight of what is above and below: floors and walls are alike to the left and to the right
_ROUNDS = 300  # of the first, smooth surface


def behind_figures(solved: PointSolve, camera: CameraSolve, moving: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the depth of what stands still behind what moves.

    Args:
        solved: the points.
        camera: the camera, and the corners that it was solved from.
        moving: [N] which points move by themselves.

    Returns:
        [N] inverse depths of what stands still, those of the points themselves away from what moves; and [N] which
        points are in front of this and joined to what moves, so that they are parts of it that rest.
    """
    grid, inverse = solved.grid, solved.shape[:, 0].reshape(solved.grid)
    figure = moving.reshape(grid)
    found, doubtful = inverse, np.zeros(grid, bool)
    corners = _corners(solved, camera) if moving.any() else np.zeros((0, 3))
    for _ in range(_GROWING if moving.any() else 0):
        around = _around(figure)
        if around.all():
            break
        doubtful = around
        found = _filled(solved, doubtful, figure, corners)
        front = doubtful & (inverse > _IN_FRONT * found)
        pieces: Any = ndimage.label(front | figure, np.ones((3, 3), bool))[0]
        joined = np.isin(pieces, np.unique(pieces[figure]))
        grown = figure | (joined & front)
        if (grown == figure).all():
            break
        figure = grown
    return found.ravel(), figure.ravel(), doubtful.ravel()


def _filled(solved: PointSolve, doubtful: np.ndarray, figure: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return inverse depths of what stands still, [rows, columns], where some is doubtful."""
    grid, inverse = solved.grid, solved.shape[:, 0].reshape(solved.grid)
    smooth = _membrane(inverse, doubtful)
    step = float(solved.points[1, 0] - solved.points[0, 0])
    known = np.where(doubtful, np.nan, inverse)
    good = np.median(np.where(solved.alike > -1, solved.alike, 0.0)[1:], axis=0).reshape(grid) > 0.5
    own = doubtful & ~figure & good & (np.abs(inverse / smooth - 1) < _IN_FRONT - 1)
    known[own] = inverse[own]
    column, row = np.round((corners[:, :2] - solved.points[0]) / step).astype(int).T
    inside = (column >= 0) & (column < grid[1]) & (row >= 0) & (row < grid[0])
    column, row, value = column[inside], row[inside], corners[inside, 2]
    fits = doubtful[row, column] & (value < _IN_FRONT * smooth[row, column]) & (value > _FAR * smooth[row, column])
    for r, c in set(zip(row[fits].tolist(), column[fits].tolist(), strict=True)):
        known[r, c] = np.median(value[fits & (row == r) & (column == c)])
    return _membrane(np.where(np.isfinite(known), known, smooth), ~np.isfinite(known))


def _around(moving: np.ndarray) -> np.ndarray:
    """Return the points in and between the pieces of what moves, and beside them, [rows, columns]."""
    near = cv2.dilate(moving.astype(np.uint8), np.ones((5, 5), np.uint8))
    _, clusters = cv2.connectedComponents(cv2.dilate(near, np.ones((_TOGETHER, _TOGETHER), np.uint8)))
    for cluster in range(1, clusters.max() + 1):
        place = np.argwhere(near & (clusters == cluster))[:, ::-1].astype(np.int32)
        cv2.fillConvexPoly(near, cv2.convexHull(place), (1,))
    return near > 0
    contours, _ = cv2.findContours(near, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for contour in contours:
        cv2.fillConvexPoly(near, cv2.convexHull(contour), (1,))
    return near > 0


def _membrane(inverse: np.ndarray, doubtful: np.ndarray) -> np.ndarray:
    """Return inverse depths that lead smoothly through what is doubtful."""
    nearest: Any = ndimage.distance_transform_edt(doubtful, return_distances=False, return_indices=True)
    found = inverse[tuple(nearest)]
    kernel = np.array([[0, _ACROSS, 0], [0.5 - _ACROSS, 0, 0.5 - _ACROSS], [0, _ACROSS, 0]])
    for _ in range(_ROUNDS):
        found = np.where(doubtful, cv2.filter2D(found, -1, kernel, borderType=cv2.BORDER_REPLICATE), found)
    return found


def _corners(solved: PointSolve, camera: CameraSolve) -> np.ndarray:
    """Return the corners of all frames that stand still, as the first frame would show them: [M, 3] x, y, inverse depth."""
    features = camera.features
    chosen = np.flatnonzero(camera.static & (features.seen.sum(axis=0) >= 4))
    features = features.take(chosen)
    seen = Observations.of(features)
    return _placed(solved, features, seen)


def _placed(solved: PointSolve, features: Any, seen: Observations) -> np.ndarray:
    from dataclasses import replace

    solution = replace(solved.solution, inverse_depths=np.ones(len(features.hosts)))
    rho, deviations = depths_from_motion(features, seen, solution)
    solution = replace(solution, inverse_depths=np.maximum(rho, 1e-9))
    ahead = host_rays(features, solution) / solution.inverse_depths[:, None] - solution.translations[features.hosts]
    world = np.einsum("nji,nj->ni", solution.rotations[features.hosts], ahead)
    depth = np.maximum(world[:, 2], 1e-9)
    pixels = solution.focal * world[:, :2] / depth[:, None] + solution.center
    return np.c_[pixels, 1 / depth][world[:, 2] > 1e-9]
