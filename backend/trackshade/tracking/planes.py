# SPDX-License-Identifier: GPL-3.0-or-later
"""Planes of the scene, which say how deep points without texture are.

Floors and walls often have little texture, and what is beside a thing is hidden by it in other frames. Depth that is
only continued from the nearest texture leads there from the thing to the floor, or away from both. So planes are found
among the points whose depth is sure (random sample consensus), and a point whose depth is not takes that of the plane
to which most sure points of its color around it belong.
"""

from __future__ import annotations

import cv2
import numpy as np

_SURE = 0.03  # largest relative standard deviation of inverse depths that are sure
_ON = 0.03  # of the inverse depth: how far points of a plane may be from it
_MOST = 5  # planes
_LEAST, _FEW = 0.05, 30  # share of the sure points that a plane needs, and their number
_TRIES, _REACH = 300, 0.3  # samples of three points, which are within this share of the width
_NEIGHBORS, _OTHERS = 6, 3  # of the 24 around a point: which have to agree with it, and which are on its plane
_CLUSTERED = 0.5  # share of a plane's points that have to be among each other: else they are on it by chance
_NEAR, _COLOR = 0.1, 14.0  # spread of what belongs together: shares of the width, and levels
_ALIKE = 3.0  # spreads of color beyond which a plane says nothing of a point
_SHARE, _RIM_SHARE = 0.5, 0.85  # of the votes, for a point to be taken to a plane, and for one at the rim of a thing
_EDGE = 3.0  # spreads of color that make a rim
_VOTERS, _CHUNK = 1500, 2000  # points that vote; points that are asked at a time
_DEVIATION = 0.02  # relative, of the depth that a plane says


def apply_planes(
    inverse_depths: np.ndarray,
    deviations: np.ndarray,
    colors: np.ndarray,
    points: np.ndarray,
    grid: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Give points whose depth is not sure that of the plane to which they belong, if there is one.

    Points at the rim of a nearer thing whose color is that of a plane are moved to it as well: their patches show the
    thing, and so have its depth.

    Args:
        inverse_depths: [N] of points on a grid, row by row.
        deviations: [N] their standard deviations by texture, relative; inf where there is none.
        colors: [N, 3] levels.
        points: [N, 2] pixels.
        grid: (rows, columns).

    Returns:
        Inverse depths and deviations, changed where a plane says them.
    """
    inverse, deviations = inverse_depths.copy(), deviations.copy()
    sure, width = deviations < _SURE, max(float(np.ptp(points[:, 0])), 1.0)
    agree = _agreeing(np.where(sure, inverse, np.nan), grid)
    rng = np.random.default_rng(0)
    found = _find_planes(points / width, inverse, np.flatnonzero(sure), rng)
    planes = [(plane, own) for plane, own in found if _clustered(own, grid) > _CLUSTERED]
    if not planes:
        return inverse, deviations
    member = np.zeros((len(points), len(planes)), np.float32)
    for number, (_, own) in enumerate(planes):
        member[own, number] = 1
    sure &= agree | member.any(axis=1)
    voters = np.sort(rng.permutation(np.flatnonzero(sure))[:_VOTERS])
    shares = _votes(points / width, colors, voters, member)
    window = np.ones((5, 5), np.uint8)
    picture = colors.reshape(*grid, 3).astype(np.float32)
    edge = (cv2.dilate(picture, window) - cv2.erode(picture, window)).max(axis=2).ravel() > _EDGE * _COLOR
    for number, (plane, _) in enumerate(planes):
        value = np.c_[np.ones(len(points)), points / width] @ plane
        unsure = ~sure & (shares[:, number] > _SHARE)
        rim = sure & ~member.any(axis=1) & edge & (shares[:, number] > _RIM_SHARE) & (inverse > value)
        chosen = (unsure | rim) & (value > 0)
        inverse[chosen], deviations[chosen] = value[chosen], _DEVIATION
    return inverse, deviations


def _find_planes(
    points: np.ndarray, inverse: np.ndarray, sure: np.ndarray, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return planes, those with the most points first.

    The inverse depth of a plane is a linear function of the pixel.

    Args:
        points: [N, 2] pixels, in widths of the picture.
        inverse: [N] inverse depths.
        sure: indices of the points that count.
        rng: where samples are drawn from.

    Returns:
        The three coefficients of each plane (constant, x, y), and the indices of its points.
    """
    planes: list[tuple[np.ndarray, np.ndarray]] = []
    least = max(_FEW, round(_LEAST * len(sure)))
    left = sure
    while len(planes) < _MOST and len(left) >= least:
        value, design = inverse[left], np.c_[np.ones(len(left)), points[left]]
        some = rng.permutation(len(left))[:_VOTERS]
        few, place, known = design[some], design[some, 1:], value[some]
        best, most = np.zeros(3), 0
        for _ in range(_TRIES):
            first = rng.integers(len(some))
            near = np.flatnonzero(np.square(place - place[first]).sum(axis=1) < _REACH**2)
            sample = np.r_[first, rng.choice(near, 2)]
            if abs(np.linalg.det(few[sample])) < 1e-6:
                continue
            plane = np.linalg.solve(few[sample], known[sample])
            count = np.count_nonzero(np.abs(few @ plane - known) < _ON * known)
            if count > most:
                best, most = plane, count
        if most * len(left) < least * len(some):
            break
        plane = best
        close = np.abs(design @ plane - value) < _ON * value
        for _ in range(3):
            plane = np.linalg.lstsq(design[close] / value[close, None], np.ones(np.count_nonzero(close)), rcond=None)[0]
            close = np.abs(design @ plane - value) < _ON * value
        planes.append((plane, left[close]))
        left = left[~close]
    return planes


def _agreeing(inverse: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Return which points have neighbors of about their inverse depth, [N] bool; NaN is no depth."""
    rows, columns = grid
    padded = np.pad(inverse.reshape(grid), 2, constant_values=np.nan)
    count = np.zeros(grid, int)
    for row in range(5):
        for column in range(5):
            other = padded[row : row + rows, column : column + columns]
            count += np.abs(other / inverse.reshape(grid) - 1) < _ON
    return count.ravel() > _NEIGHBORS  # the point itself is one more


def _clustered(own: np.ndarray, grid: tuple[int, int]) -> float:
    """Return the share of some points, given as indices, that have enough others of them around."""
    picture = np.zeros(grid, np.float32)
    picture.ravel()[own] = 1
    around = cv2.boxFilter(picture, -1, (5, 5), normalize=False, borderType=cv2.BORDER_CONSTANT).ravel()
    return float((around[own] > _OTHERS).mean())


def _votes(points: np.ndarray, colors: np.ndarray, voters: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Return the share of each plane among the voters, by how near and alike in color they are.

    Args:
        points: [N, 2] pixels, in widths of the picture.
        colors: [N, 3] levels.
        voters: [V] indices of the points that vote.
        member: [N, P] 1 for points of a plane.

    Returns:
        [N, P]; 0 where no point of a plane is alike in color.
    """
    place = (points / (np.sqrt(2) * _NEAR)).astype(np.float32)
    tone = (colors / (np.sqrt(2) * _COLOR)).astype(np.float32)
    out = np.zeros_like(member)
    for start in range(0, len(points), _CHUNK):
        part = slice(start, start + _CHUNK)
        unlike = _squares(tone[part], tone[voters])
        weight = 1 + _squares(place[part], place[voters]) + unlike
        weight = 1 / (weight * weight * weight)
        weight[voters == np.arange(len(points))[part, None]] = 0  # nobody votes for himself
        out[part] = weight @ member[voters] / np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
        out[part][(unlike < _ALIKE**2 / 2).astype(np.float32) @ member[voters] == 0] = 0
    return out


def _squares(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the squared distances between points [A, D] and [B, D], [A, B]."""
    center = one.mean(axis=0)
    one, other = one - center, other - center
    total = np.square(one).sum(axis=1)[:, None] + np.square(other).sum(axis=1) - 2 * one @ other.T
    return np.maximum(total, 0)
