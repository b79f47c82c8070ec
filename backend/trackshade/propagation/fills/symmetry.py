# SPDX-License-Identifier: GPL-3.0-or-later
"""Symmetry of bodies: colors of hidden sides from mirror images and turns that agree with what is known.

Candidates are mirror images in planes and turns about axes through the middle of the body, along the axes of the object
and the principal axes of its surface. One is used if it maps the shape onto itself, and if the colors of known
points that it maps onto known points agree. Without any such pair of points the shape must decide, and only
mirror images are believed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from trackshade.control.compiling import kernel
from trackshade.propagation.fills.push_pull import average_points

MIN_EXPLAINED = 0.7  # fraction of the variance of known colors that the symmetry explains
FLAT = 0.05  # mean difference of colors, relative to their mean, up to which they agree anyway
SHAPE = 0.015  # distance of mapped points from the surface, relative to its size
MIN_SHAPE = 0.97  # fraction of the points that must be so near
MIN_SHARE = 0.8  # the same for mirror images by which much of the known colors agrees
LARGE_OVERLAP = 0.3  # fraction of the known points that this takes
MIN_OVERLAP = 0.03  # fraction of the known points that must map onto known points to judge the colors
MIN_COSINE = 0.7  # of the angle between the normals of a mapped point and of the one that it takes
_TESTED, _FEW = 2000, 200  # points
_CELLS = 64  # along the longest side of the grid in which points are searched, at most
_TURNS = (2, 3, 4, 5, 6, 8, 12)


@dataclass(frozen=True, eq=False)
class Symmetry:
    """A map x -> matrix @ x + offset of the body onto itself.

    Attributes:
        matrix: [3, 3] float64, orthogonal.
        offset: [3] float64.
        explained: fraction of the variance of known colors that it explains; 0 where no known point maps onto another.
    """

    matrix: np.ndarray
    offset: np.ndarray
    explained: float


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """Points of a mesh with their colors.

    Attributes:
        positions: [N, 3] float32, object space.
        normals: [N, 3] float32, unit vectors.
        colors: [N, 3] float32, linear.
    """

    positions: np.ndarray
    normals: np.ndarray
    colors: np.ndarray


def fill_symmetric(
    color: np.ndarray,  # [h, w, 3] float32, of mean about 1; filled in place
    known: np.ndarray,  # [h, w] bool
    inside: np.ndarray,  # [h, w] bool
    positions: np.ndarray,  # [h, w, 3] float32, object space
    normals: np.ndarray | None,  # [h, w, 3] float32
    others: SurfacePoints | None = None,
) -> np.ndarray:
    """Fill unknown texels from the symmetries of the body; return those that are filled, [h, w] bool.

    `others` are known points of the same mesh that are not on this canvas.
    """
    points = positions[inside].astype(np.float64)
    directions = None if normals is None else normals[inside].astype(np.float64)
    has = known[inside]
    values = color[inside]
    if others is not None:
        points = np.concatenate([points, others.positions])
        directions = None if directions is None else np.concatenate([directions, others.normals])
        has = np.concatenate([has, np.ones(len(others.positions), bool)])
        values = np.concatenate([values, others.colors])
    out = np.zeros_like(known)
    size = float(np.ptp(points, axis=0).max())
    if has.sum() < 50 or size == 0:
        return out
    symmetries = find_symmetries(points, directions, values, has)
    if not symmetries:
        return out
    # A mapped point takes known texels as near as texels are to each other.
    some = points[:: max(1, len(points) // 2000)]
    step = float(np.median(KDTree(some).query(some, k=2)[0][:, 1]))
    spacing = 2 * step * float(np.sqrt(len(some) / len(points)))
    surface = NearPoints(points[has], None if directions is None else directions[has], spacing)
    source = values[has]
    filled = np.zeros(len(points), bool)
    for symmetry in symmetries:
        left = np.flatnonzero(~has & ~filled)
        if not len(left):
            break
        turned = None if directions is None else directions[left] @ symmetry.matrix.T
        distance, index = surface.nearest(points[left] @ symmetry.matrix.T + symmetry.offset, turned, 8)
        found = np.isfinite(distance).any(axis=1)
        # The nearest one counts most, so that details stay sharp.
        weight = 1 / np.maximum(distance[found], 0.05 * spacing) ** 2
        near = index[found]
        values[left[found]] = np.einsum("nk,nkc->nc", weight / weight.sum(axis=1, keepdims=True), source[near])
        filled[left[found]] = True
    color[inside] = values[: inside.sum()]
    out[inside] = filled[: inside.sum()]
    return out


def find_symmetries(
    points: np.ndarray,  # [N, 3] float64
    normals: np.ndarray | None,  # [N, 3] float64
    colors: np.ndarray,  # [N, 3] float32
    known: np.ndarray,  # [N] bool
) -> list[Symmetry]:
    """Find the symmetries of a body that agree with its known colors, the best first."""
    size = float(np.ptp(points, axis=0).max())
    rng = np.random.default_rng(0)
    pick = rng.permutation(len(points))[:_TESTED]
    pick_known = rng.permutation(np.flatnonzero(known))[:_TESTED]
    some = rng.permutation(len(points))[: 20 * _TESTED]
    whole = NearPoints(points[some], None if normals is None else normals[some], SHAPE * size)
    seen = NearPoints(points[known], None if normals is None else normals[known], SHAPE * size)
    values = colors[known]
    variance = float(values.astype(np.float64).var(axis=0).sum())
    mean = float(np.abs(values).mean())
    found = []
    # A few points decide most cases.
    tested, tested_known = (
        [(points[few], None if normals is None else normals[few], colors[few]) for few in (chosen[:_FEW], chosen)]
        for chosen in (pick, pick_known)
    )
    for matrix, center in _candidates(points, size):
        offset = center - matrix @ center
        share = 0.0
        for places, directions, _ in tested:
            turned = None if directions is None else directions @ matrix.T
            share = _share_found(whole.nearest(places @ matrix.T + offset, turned, 4)[0])
            if not MIN_SHARE - 0.05 <= share < 0.99:
                break
        if share < MIN_SHARE:
            continue
        is_mirror = np.linalg.det(matrix) < 0
        overlap = explained = error = 0.0
        for places, directions, own in tested_known:
            turned = None if directions is None else directions @ matrix.T
            distance, index = seen.nearest(places @ matrix.T + offset, turned, 4)
            best = np.arange(len(index)), distance.argmin(axis=1)
            hit = np.isfinite(distance[best])
            overlap = float(hit.mean())
            if hit.any():
                error = float(np.square(values[index[best][hit]] - own[hit]).sum(axis=1).mean())
                explained = 1 - error / max(2 * variance, 1e-12)
            is_other = explained < MIN_EXPLAINED - 0.3 and np.sqrt(error / 3) > 2 * FLAT * mean
            if not hit.any() or (is_other and hit.sum() >= _FEW / 5):
                break
        if overlap < MIN_OVERLAP:
            if is_mirror and share >= MIN_SHAPE:
                found.append(Symmetry(matrix, offset, 0.0))
            continue
        # Details may break the symmetry of a shape whose colors show it.
        if share < MIN_SHAPE and not (is_mirror and overlap >= LARGE_OVERLAP):
            continue
        if explained >= MIN_EXPLAINED or np.sqrt(error / 3) <= FLAT * mean:
            found.append(Symmetry(matrix, offset, max(explained, 1e-6)))
    # Of nearly equals, bodies rather have mirror images than turns.
    return sorted(found, key=lambda symmetry: 0.1 * np.linalg.det(symmetry.matrix) - symmetry.explained)


def _candidates(points: np.ndarray, size: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return orthogonal matrices and the points that they leave in place: mirror images first, then turns."""
    centers, _ = average_points(points, np.zeros((len(points), 1), np.float32), 4000)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    principal = np.linalg.svd(centers - centers.mean(axis=0), full_matrices=False)[2]
    axes = [*np.eye(3), *(axis for axis in principal if np.abs(axis).max() < 0.999)]
    mirrors, turns = [], []
    for axis in axes:
        center = middle if np.abs(axis).max() == 1 else centers.mean(axis=0)
        mirrors.append((np.eye(3) - 2 * np.outer(axis, axis), center))
        if np.abs(center - np.zeros(3)).max() > 1e-3 * size and abs(center @ axis) > 1e-3 * size:
            mirrors.append((np.eye(3) - 2 * np.outer(axis, axis), np.zeros(3)))  # through the object's origin
        for count in _TURNS:
            for number in range(1, count):
                if np.gcd(number, count) == 1:
                    turns.append((_turn(axis, 2 * np.pi * number / count), center))
    return mirrors + turns


def _turn(axis: np.ndarray, angle: float) -> np.ndarray:
    """Return the matrix of a turn about an axis, by Rodrigues' formula, [3, 3]."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


class NearPoints:
    """Points of a surface, searched by position in a grid; those whose normals point elsewhere are left out.

    Args:
        points: [N, 3] float64.
        normals: [N, 3] float64 unit vectors, or None.
        limit: distance up to which points are near.
    """

    def __init__(self, points: np.ndarray, normals: np.ndarray | None, limit: float) -> None:
        self._low = points.min(axis=0) if len(points) else np.zeros(3)
        extent = points.max(axis=0) - self._low if len(points) else np.zeros(3)
        self._limit, self._cell = limit, max(limit, float(extent.max()) / _CELLS) or 1.0
        self._shape = np.floor(extent / self._cell).astype(np.int64) + 1
        cells = np.ravel_multi_index(tuple(((points - self._low) // self._cell).astype(np.int64).T), tuple(self._shape))
        self._order = np.argsort(cells, kind="stable")
        self._start = np.concatenate([[0], np.cumsum(np.bincount(cells, minlength=int(self._shape.prod())))])
        self._points = points[self._order]
        self._normals = None if normals is None else normals[self._order]

    def nearest(self, points: np.ndarray, normals: np.ndarray | None, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the distances and indices of the nearest points, [N, count].

        Distances are inf beyond the limit, where indices are 0, and of points that are turned away.
        """
        distance, index = np.full((len(points), count), np.inf), np.zeros((len(points), count), np.int64)
        none = np.zeros((0, 3))
        both = normals is not None and self._normals is not None
        _find_nearest(
            self._points, self._normals if both else none, self._order, self._start, self._low, self._cell,
            self._shape, points, normals if both else none, self._limit, distance, index,
        )  # fmt: skip
        return distance, index


@kernel
def _share_found(distance):
    """Return the share of rows [N, K] in which a distance is finite."""
    count = 0
    for n in range(distance.shape[0]):
        for k in range(distance.shape[1]):
            if distance[n, k] < np.inf:
                count += 1
                break
    return count / distance.shape[0]


@kernel
def _find_nearest(
    points, normals, order, start, low, cell, shape, asked, directions, limit, distance, index
):  # fmt: skip
    count = distance.shape[1]
    at, lowest, highest = np.zeros(count, np.int64), np.zeros(3, np.int64), np.zeros(3, np.int64)
    for n in range(asked.shape[0]):
        x, y, z = asked[n, 0], asked[n, 1], asked[n, 2]
        is_near = True
        for axis in range(3):
            place = (asked[n, axis] - low[axis]) / cell
            if not -1.0 <= place <= shape[axis] + 1.0:
                is_near = False
                break
            middle = math.floor(place)
            lowest[axis], highest[axis] = max(middle - 1, 0), min(middle + 1, shape[axis] - 1)
        if not is_near:
            continue
        found = 0
        nearest = distance[n]
        for a in range(lowest[0], highest[0] + 1):
            for b in range(lowest[1], highest[1] + 1):
                row = (a * shape[1] + b) * shape[2]
                for k in range(start[row + lowest[2]], start[row + highest[2] + 1]):
                    dx, dy, dz = points[k, 0] - x, points[k, 1] - y, points[k, 2] - z
                    away = math.sqrt(dx * dx + dy * dy + dz * dz)
                    if not (away < limit and away < nearest[count - 1]):
                        continue
                    rank = min(found, count - 1)
                    while rank > 0 and nearest[rank - 1] > away:
                        nearest[rank], at[rank] = nearest[rank - 1], at[rank - 1]
                        rank -= 1
                    nearest[rank], at[rank] = away, k
                    found = min(found + 1, count)
        for rank in range(found):
            k = at[rank]
            index[n, rank] = order[k]
            if normals.shape[0] > 0:
                cosine = 0.0
                for axis in range(3):
                    cosine += normals[k, axis] * directions[n, axis]
                if not cosine >= MIN_COSINE:
                    nearest[rank] = np.inf
