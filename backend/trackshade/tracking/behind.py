# SPDX-License-Identifier: GPL-3.0-or-later
"""The surface behind what moves: from what stands still around it, and from corners that other frames show there.

What is hidden in the first frame is seen in others, since the thing moves or the camera does. So the depth there is
that of corners which were found in any frame and stand still, and leads smoothly between these and what is around.
What is in front of this surface and joined to what moves is a part of it that rests.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from scipy import ndimage

from trackshade.tracking.bundle import Observations, depths_from_motion, host_rays
from trackshade.tracking.camera import CameraSolve
from trackshade.tracking.points import PointSolve

_IN_FRONT = 1.06  # times the inverse depth of the surface behind, from which something is in front of it
_FAR = 0.5  # times that, down to which a corner's inverse depth counts
_SEEN = 4  # frames that a corner has to be seen in
_ALIKE = 0.5  # median correlation of a point whose depth is known
_TOGETHER = 7  # points: pieces of what moves that are as near belong together
_GROWING = 5  # rounds of adding what is joined
_ACROSS = 0.05  # weight of what is above, and of what is below: floors and walls are alike to the left and right
_ROUNDS = 300  # of smoothing


def behind_figures(
    solved: PointSolve, camera: CameraSolve, moving: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the depth of what stands still behind what moves.

    Args:
        solved: the points.
        camera: the camera, and the corners that it was solved from.
        moving: [N] which points move by themselves.

    Returns:
        [N] inverse depths of what stands still, those of the points themselves away from what moves; [N] which points
        move, or are in front of this and joined to those; and [N] which points are around and between them, where
        these depths are not their own.
    """
    grid, inverse = solved.grid, solved.shape[:, 0].reshape(solved.grid)
    figure, found, doubtful = moving.reshape(grid), inverse, np.zeros(grid, bool)
    if not moving.any():
        return found.ravel(), moving, doubtful.ravel()
    corners = _corners(solved, camera)
    for _ in range(_GROWING):
        around = _around(figure)
        if around.all():
            break
        doubtful = around
        found = _filled(solved, doubtful, figure, corners)
        front = doubtful & (inverse > _IN_FRONT * found)
        labeled: Any = ndimage.label(front | figure, np.ones((3, 3), bool))
        pieces = labeled[0]
        grown = figure | (front & np.isin(pieces, np.unique(pieces[figure])))
        if (grown == figure).all():
            break
        figure = grown
    return found.ravel(), figure.ravel(), doubtful.ravel()


def _corners(solved: PointSolve, camera: CameraSolve) -> np.ndarray:
    """Return corners of all frames that stand still as the first frame would show them: [M, 3] x, y, inverse depth."""
    features = camera.features
    features = features.take(np.flatnonzero(camera.static & (features.seen.sum(axis=0) >= _SEEN)))
    seen, solution = Observations.of(features), replace(solved.solution, inverse_depths=np.ones(len(features.hosts)))
    inverse, _ = depths_from_motion(features, seen, solution)
    ahead = host_rays(features, solution) / np.maximum(inverse, 1e-9)[:, None] - solution.translations[features.hosts]
    place = np.einsum("nji,nj->ni", solution.rotations[features.hosts], ahead)
    place = place[place[:, 2] > 1e-9]
    return np.c_[solution.focal * place[:, :2] / place[:, 2:] + solution.center, 1 / place[:, 2]]


def _filled(solved: PointSolve, doubtful: np.ndarray, figure: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return inverse depths of what stands still, [rows, columns], where those of some points are doubtful."""
    grid, inverse = solved.grid, solved.shape[:, 0].reshape(solved.grid)
    smooth = _membrane(inverse, doubtful)
    step = float(solved.points[1, 0] - solved.points[0, 0])
    known = np.where(doubtful, np.nan, inverse)
    alike = np.median(np.where(solved.alike > -1, solved.alike, 0.0)[1:], axis=0).reshape(grid)
    own = doubtful & ~figure & (alike > _ALIKE) & (np.abs(inverse / smooth - 1) < _IN_FRONT - 1)
    known[own] = inverse[own]
    column, row = np.round((corners[:, :2] - solved.points[0]) / step).astype(int).T
    inside = (column >= 0) & (column < grid[1]) & (row >= 0) & (row < grid[0])
    column, row, value = column[inside], row[inside], corners[inside, 2]
    usual = smooth[row, column]
    fits = doubtful[row, column] & (value < _IN_FRONT * usual) & (value > _FAR * usual)
    for r, c in set(zip(row[fits].tolist(), column[fits].tolist(), strict=True)):
        known[r, c] = np.median(value[fits & (row == r) & (column == c)])
    unknown = np.isnan(known)
    return _membrane(np.where(unknown, smooth, known), unknown)


def _around(figure: np.ndarray) -> np.ndarray:
    """Return the points in and between the pieces of what moves, and beside them, [rows, columns]."""
    near = cv2.dilate(figure.astype(np.uint8), np.ones((5, 5), np.uint8))
    _, clusters = cv2.connectedComponents(cv2.dilate(near, np.ones((_TOGETHER, _TOGETHER), np.uint8)))
    for cluster in range(1, clusters.max() + 1):
        place = np.argwhere((near > 0) & (clusters == cluster))[:, ::-1].astype(np.int32)
        cv2.fillConvexPoly(near, cv2.convexHull(place), (1,))
    return near > 0


def _membrane(inverse: np.ndarray, doubtful: np.ndarray) -> np.ndarray:
    """Return inverse depths that lead smoothly through what is doubtful."""
    nearest: Any = ndimage.distance_transform_edt(doubtful, return_distances=False, return_indices=True)
    found = inverse[tuple(nearest)]
    kernel = np.array([[0, _ACROSS, 0], [0.5 - _ACROSS, 0, 0.5 - _ACROSS], [0, _ACROSS, 0]])
    for _ in range(_ROUNDS):
        found = np.where(doubtful, cv2.filter2D(found, -1, kernel, borderType=cv2.BORDER_REPLICATE), found)
    return found
