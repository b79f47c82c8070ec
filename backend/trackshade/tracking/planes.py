# SPDX-License-Identifier: GPL-3.0-or-later
"""Planes of the scene, which give the depth of points without texture.

Floors and walls often have little texture, and other frames do not show them beside an object that hides them. Depth
that is only interpolated from the nearest texture is wrong there. So planes are fitted to the points whose depth is
reliable (random sample consensus), and every other point takes the depth of the plane to which most reliable points of
similar color around it belong.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial.distance import cdist

_RELIABLE = 0.03  # largest relative standard deviation of a reliable inverse depth
_TOLERANCE = 0.03  # largest relative distance of an inlier's inverse depth from its plane, and between alike neighbors
_MAX_PLANES = 5
_MIN_SHARE, _MIN_INLIERS = 0.05, 30  # of the reliable points that a plane needs, and their number
_SAMPLES, _SAMPLE_RADIUS = 300, 0.3  # triples of points that are tried; radius of a triple, widths of the picture
_MIN_ALIKE, _MIN_COPLANAR = 6, 3  # least number of a point's 24 neighbors that are alike, or of the same plane
_MIN_CLUSTERED = 0.5  # share of a plane's inliers that need coplanar neighbors; otherwise they are inliers by chance
_SPACE_SIGMA, _COLOR_SIGMA = 0.1, 14.0  # of the similarity of points: widths of the picture, and 8-bit levels
_MAX_COLOR = 3.0  # color sigmas: a plane is assigned only to points whose color is nearer than that to an inlier's
_ASSIGN, _ASSIGN_EDGE = 0.5, 0.85  # weighted share of inliers from which a point is assigned; one at an object's edge
_EDGE = 3.0  # color sigmas: range of colors in a neighborhood that has an edge
_MAX_COMPARED, _CHUNK = 1500, 2000  # reliable points that others are compared with; points compared at a time
_DEVIATION = 0.02  # relative standard deviation of the inverse depth that a plane gives


def apply_planes(
    inverse_depths: np.ndarray,
    deviations: np.ndarray,
    colors: np.ndarray,
    points: np.ndarray,
    grid: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Replace unreliable depths by those of planes.

    Points at the edge of a nearer object are assigned to a plane as well if their color is the plane's: their patches
    overlap the object, and have its depth.

    Args:
        inverse_depths: [N] of points on a grid, row by row.
        deviations: [N] their relative standard deviations; inf where there is no texture.
        colors: [N, 3] 8-bit levels.
        points: [N, 2] pixels.
        grid: (rows, columns).

    Returns:
        Inverse depths and deviations, changed where points were assigned to a plane.
    """
    inverse, deviations = inverse_depths.copy(), deviations.copy()
    reliable, width = deviations < _RELIABLE, max(float(np.ptp(points[:, 0])), 1.0)
    alike = _have_alike_neighbors(np.where(reliable, inverse, np.nan), grid)
    rng = np.random.default_rng(0)
    fitted = _fit_planes(points / width, inverse, np.flatnonzero(reliable), rng)
    fitted = [(plane, inliers) for plane, inliers in fitted if _clustered_share(inliers, grid) > _MIN_CLUSTERED]
    if not fitted:
        return inverse, deviations
    is_inlier = np.zeros((len(points), len(fitted)), np.float32)
    for number, (_, inliers) in enumerate(fitted):
        is_inlier[inliers, number] = 1
    on_plane = is_inlier.any(axis=1)
    reliable &= alike | on_plane
    compared = np.sort(rng.permutation(np.flatnonzero(reliable))[:_MAX_COMPARED])
    shares = _inlier_shares(points / width, colors, compared, is_inlier)
    window = np.ones((5, 5), np.uint8)
    picture = colors.reshape(*grid, 3).astype(np.float32)
    color_range = (cv2.dilate(picture, window) - cv2.erode(picture, window)).max(axis=2).ravel()
    at_edge = reliable & ~on_plane & (color_range > _EDGE * _COLOR_SIGMA)
    for number, (plane, _) in enumerate(fitted):
        value = np.c_[np.ones(len(points)), points / width] @ plane
        unreliable = ~reliable & (shares[:, number] > _ASSIGN)
        overlapping = at_edge & (shares[:, number] > _ASSIGN_EDGE) & (inverse > value)
        assigned = (unreliable | overlapping) & (value > 0)
        inverse[assigned], deviations[assigned] = value[assigned], _DEVIATION
    return inverse, deviations


def _fit_planes(
    points: np.ndarray, inverse: np.ndarray, reliable: np.ndarray, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Fit planes one after another, each to the points that are left.

    The inverse depth of a plane is a linear function of the pixel.

    Args:
        points: [N, 2] pixels, in widths of the picture.
        inverse: [N] inverse depths.
        reliable: indices of the points to fit to.
        rng: where samples are drawn from.

    Returns:
        The three coefficients of each plane (constant, x, y), and the indices of its inliers.
    """
    planes: list[tuple[np.ndarray, np.ndarray]] = []
    least = max(_MIN_INLIERS, round(_MIN_SHARE * len(reliable)))
    left = reliable
    while len(planes) < _MAX_PLANES and len(left) >= least:
        value, design = inverse[left], np.c_[np.ones(len(left)), points[left]]
        subset = rng.permutation(len(left))[:_MAX_COMPARED]
        small_design, small_value = design[subset], value[subset]
        plane, most = np.zeros(3), 0
        for _ in range(_SAMPLES):
            first = rng.integers(len(subset))
            apart = np.square(small_design[:, 1:] - small_design[first, 1:]).sum(axis=1)
            triple = np.r_[first, rng.choice(np.flatnonzero(apart < _SAMPLE_RADIUS**2), 2)]
            if abs(np.linalg.det(small_design[triple])) < 1e-6:
                continue
            candidate = np.linalg.solve(small_design[triple], small_value[triple])
            count = np.count_nonzero(np.abs(small_design @ candidate - small_value) < _TOLERANCE * small_value)
            if count > most:
                plane, most = candidate, count
        if most * len(left) < least * len(subset):
            break
        inlier = np.abs(design @ plane - value) < _TOLERANCE * value
        for _ in range(3):
            plane = np.linalg.lstsq(design[inlier] / value[inlier, None], np.ones(inlier.sum()), rcond=None)[0]
            inlier = np.abs(design @ plane - value) < _TOLERANCE * value
        planes.append((plane, left[inlier]))
        left = left[~inlier]
    return planes


def _have_alike_neighbors(inverse: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Return which points have enough neighbors of similar inverse depth, [N] bool; NaN is an unknown depth."""
    rows, columns = grid
    padded = np.pad(inverse.reshape(grid), 2, constant_values=np.nan)
    count = np.zeros(grid, int)
    for row in range(5):
        for column in range(5):
            other = padded[row : row + rows, column : column + columns]
            count += np.abs(other / inverse.reshape(grid) - 1) < _TOLERANCE
    return count.ravel() > _MIN_ALIKE  # the point itself is counted too


def _clustered_share(inliers: np.ndarray, grid: tuple[int, int]) -> float:
    """Return the share of a plane's inliers that have enough other inliers as neighbors."""
    picture = np.zeros(grid, np.float32)
    picture.ravel()[inliers] = 1
    around = cv2.boxFilter(picture, -1, (5, 5), normalize=False, borderType=cv2.BORDER_CONSTANT).ravel()
    return float((around[inliers] > _MIN_COPLANAR).mean())


def _inlier_shares(points: np.ndarray, colors: np.ndarray, compared: np.ndarray, is_inlier: np.ndarray) -> np.ndarray:
    """Return the share of each plane's inliers among reliable points, weighted by proximity and similarity of color.

    Args:
        points: [N, 2] pixels, in widths of the picture.
        colors: [N, 3] 8-bit levels.
        compared: [V] indices of the reliable points. A point is not compared with itself.
        is_inlier: [N, P] 1 for inliers of a plane.

    Returns:
        [N, P]; 0 where no inlier is of similar color.
    """
    out = np.zeros_like(is_inlier)
    for start in range(0, len(points), _CHUNK):
        part = slice(start, start + _CHUNK)
        apart = cdist(points[part], points[compared], "sqeuclidean") / (2 * _SPACE_SIGMA**2)
        unlike = cdist(colors[part], colors[compared], "sqeuclidean") / (2 * _COLOR_SIGMA**2)
        weight = 1 / (1 + apart + unlike) ** 3
        weight[compared == np.arange(len(points))[part, None]] = 0
        out[part] = weight @ is_inlier[compared] / np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
        similar = (unlike < _MAX_COLOR**2 / 2).astype(np.float32)
        out[part][similar @ is_inlier[compared] == 0] = 0
    return out
