# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands still as surfaces in layers: continued behind what is in front of it, and beyond the picture.

Tracked points lie on a grid in the first frame. Where neighbors lie on different surfaces, the surface is cut, and
the farther one is continued along its own slope beneath the nearer one and beneath what moves, until it meets itself.
At the picture's border, surfaces are continued as well, since a camera that moves sees more. So a point of the
background has a color or a fill in every frame, and nothing is stretched across a cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from trackshade.tracking.joining import CUT_STEP, Joined, cut_edges, grid_triangles
from trackshade.tracking.points import PointSolve

_REACH = 0.75  # of the picture's longer side: how far surfaces continue beyond the border
_RINGS = 9  # rows and columns of points beyond each side
_BAND = (3, 9)  # points from the border inwards whose change gives its slope
_MARGIN_RANGE = (0.3, 3.5)  # of the inverse depth at the border: how far it changes beyond it
_MOST_BEYOND = 1.0  # change of the inverse depth between neighbors there, relative, from which they are cut
_IN_FRONT = 0.97  # of a point's inverse depth: a surface behind it has less
_SLOW = 0.93  # by which a slope lessens from point to point behind a surface
_FAR_RANGE = (0.4, 2.0)  # of the inverse depth at a cut: how far it changes behind it
_MORE = 2  # points behind a surface beyond those that come into view
_SMALLEST = 8  # points of a surface in front of another
_SMOOTH = 30  # rounds of smoothing behind surfaces


@dataclass(frozen=True, eq=False)
class Layers:
    """Vertices that are added to the points, and the triangles of the background and of what is in front of it.

    Attributes:
        pixels: [A, 2] places of the added vertices in the first frame, pixels; some are outside the picture.
        inverse: [A] their inverse depths.
        back: [F, 3] indices of points, and then of added vertices: what nothing continues behind, and what continues
            behind the rest; counter-clockwise seen from the first camera.
        front: [F, 3] the same of what is in front.
        is_front: [N] whether a surface continues behind a point.
    """

    pixels: np.ndarray
    inverse: np.ndarray
    back: np.ndarray
    front: np.ndarray
    is_front: np.ndarray


@dataclass(frozen=True, eq=False)
class _Grid:
    """Points of a grid that reaches beyond the picture; arrays are [rows, columns, ...].

    Attributes:
        pixels: places in the first frame.
        inverse: inverse depths.
        slopes: their change for each pixel to the right and downwards.
        known: whether there is a surface that stands still and whose depth can be relied on.
        numbers: indices of vertices: of the points, and then of the added ones.
    """

    pixels: np.ndarray
    inverse: np.ndarray
    slopes: np.ndarray
    known: np.ndarray
    numbers: np.ndarray


def build_layers(solved: PointSolve, moving: np.ndarray, behind: np.ndarray, size: tuple[int, int]) -> Layers:
    """Continue what stands still behind what is in front of it, and beyond the picture.

    Args:
        solved: the points.
        moving: [N] which of them move by themselves.
        behind: [N] inverse depths of what stands still there.
        size: (width, height) of the picture, pixels.
    """
    grid = _beyond(solved, moving, behind, size)
    flat = _Grid(*(getattr(grid, name).reshape(-1, *getattr(grid, name).shape[2:]) for name in grid.__annotations__))
    cut = _cut_beyond(flat, len(solved.points))
    shape = grid.known.shape
    centers = -np.einsum("tji,tj->ti", solved.solution.rotations, solved.solution.translations)
    parallax = solved.solution.focal * float(np.linalg.norm(centers, axis=1).max())
    continued = _behind(grid, cut, parallax)
    continued = np.where(np.isfinite(continued) & ~grid.known, grid.inverse, continued)
    hidden = np.isfinite(continued)
    known = grid.known & ~_is_small(grid.known & hidden)
    shown, hidden = known.ravel(), hidden.ravel()
    seen = grid_triangles(shape, lambda a, b: shown[a] & shown[b] & ~cut(a, b))
    is_front = hidden[seen].any(axis=1)
    count = len(solved.points) + int((grid.numbers >= len(solved.points)).sum())
    numbers = flat.numbers.copy()
    numbers[hidden] = count + np.arange(int(hidden.sum()))
    far = np.where(hidden, continued.ravel(), flat.inverse)
    there = hidden | shown
    under = grid_triangles(shape, lambda a, b: there[a] & there[b] & ((hidden[a] & hidden[b]) | _near(far[a], far[b])))
    under = under[hidden[under].any(axis=1)]
    added = flat.numbers >= len(solved.points)
    return Layers(
        np.concatenate([flat.pixels[added], flat.pixels[hidden]]),
        np.concatenate([flat.inverse[added], far[hidden]]),
        np.concatenate([flat.numbers[seen[~is_front]], numbers[under]]).astype(np.int32),
        flat.numbers[seen[is_front]].astype(np.int32),
        (hidden & shown)[~added],
    )


def _is_small(front: np.ndarray) -> np.ndarray:
    """Return which points lie in pieces too small to be more than errors of depth, [rows, columns]."""
    found: Any = ndimage.label(front, np.ones((3, 3), bool))
    labels, count = found
    sizes = ndimage.sum_labels(front, labels, np.arange(count + 1))
    return front & (sizes < _SMALLEST)[labels]


def _cut_beyond(flat: _Grid, count: int) -> Joined:
    """Return a function that tells whether two points lie on different surfaces: cut less beyond the picture."""
    inner = cut_edges(flat.pixels, flat.inverse, flat.slopes)

    def cut(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        one, other = flat.inverse[a], flat.inverse[b]
        is_outside = (flat.numbers[a] >= count) | (flat.numbers[b] >= count)
        return np.where(is_outside, np.abs(one - other) > _MOST_BEYOND * np.minimum(one, other), inner(a, b))

    return cut


def _near(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(one - other) <= CUT_STEP * np.minimum(one, other)


def _beyond(solved: PointSolve, moving: np.ndarray, behind: np.ndarray, size: tuple[int, int]) -> _Grid:
    """Return the points with rings of others around them, on continued surfaces."""
    rows, columns = solved.grid
    # Beside what moves, depth is that of neither.
    doubtful: Any = ndimage.binary_dilation(moving.reshape(solved.grid), np.ones((3, 3), bool))
    known = ~doubtful
    inverse = solved.shape[:, 0].reshape(solved.grid).astype(np.float64)
    inverse[doubtful] = behind.reshape(solved.grid)[doubtful]
    step = float(solved.points[1, 0] - solved.points[0, 0])
    reach = max(_REACH * max(size), 2 * step * _RINGS)
    # Steps that grow: the first one is the grid's.
    ratio = float(np.clip((reach / step / _RINGS) ** (2 / _RINGS), 1.01, 3.0))
    away = np.cumsum(step * ratio ** np.arange(_RINGS))
    x = solved.points[:columns, 0]
    y = solved.points[::columns, 1]
    inverse = _continued(_continued(inverse, step, away).T, step, away).T
    x, y = (np.concatenate([axis[0] - away[::-1], axis, axis[-1] + away]) for axis in (x, y))
    inner = np.s_[_RINGS : _RINGS + rows, _RINGS : _RINGS + columns]
    slopes = np.stack(np.gradient(inverse, y, x)[::-1], axis=-1)
    slopes[inner] = solved.shape[:, 1:].reshape(rows, columns, 2)
    all_known = np.ones(inverse.shape, bool)
    all_known[inner] = known
    numbers = np.full(inverse.shape, -1)
    numbers[inner] = np.arange(rows * columns).reshape(rows, columns)
    outside = numbers < 0
    numbers[outside] = rows * columns + np.arange(int(outside.sum()))
    return _Grid(np.stack(np.meshgrid(x, y), axis=-1), inverse, slopes, all_known, numbers)


def _continued(inverse: np.ndarray, step: float, away: np.ndarray) -> np.ndarray:
    """Return inverse depths [h, w] with columns before the first one and after the last one."""
    sides = []
    for towards in (1, -1):
        line = inverse[:, ::towards]
        inner = [k for k in range(*_BAND) if k < line.shape[1]]
        edge = ndimage.median_filter(line[:, 0], 5, mode="nearest")
        if inner:
            slope = np.median([(line[:, 0] - line[:, k]) / (k * step) for k in inner], axis=0)
            slope = ndimage.gaussian_filter1d(ndimage.median_filter(slope, 9, mode="nearest"), 2, mode="nearest")
        else:
            slope = np.zeros(len(line))
        values = edge[:, None] + slope[:, None] * away
        low, high = _MARGIN_RANGE
        sides.append(np.clip(values, low * edge[:, None], high * edge[:, None]))
    return np.concatenate([sides[0][:, ::-1], inverse, sides[1]], axis=1)


def _behind(grid: _Grid, cut: Joined, parallax: float) -> np.ndarray:
    """Return the inverse depths of surfaces behind others, [rows, columns]; NaN where nothing is hidden.

    Args:
        grid: the points.
        cut: tells whether two points lie on different surfaces.
        parallax: pixels by which the cameras move a point of inverse depth 1. It decides how much of what is behind a
            surface comes into view.
    """
    rows, columns = grid.known.shape
    index = np.arange(rows * columns).reshape(rows, columns)
    slopes = np.stack([ndimage.median_filter(grid.slopes[..., k], 3) for k in (0, 1)], axis=-1)
    own = np.where(grid.known, grid.inverse, np.nan)
    hidden, steep = np.full(own.shape, np.nan), np.zeros_like(slopes)
    start = np.full(own.shape, np.nan)  # inverse depth at the cut that a surface continues from
    reach = np.full(own.shape, np.inf)  # pixels that it continues from here
    steps = []
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        to = np.s_[max(dy, 0) : rows + min(dy, 0), max(dx, 0) : columns + min(dx, 0)]
        source = np.s_[max(-dy, 0) : rows + min(-dy, 0), max(-dx, 0) : columns + min(-dx, 0)]
        apart = grid.pixels[to] - grid.pixels[source]
        is_cut = cut(index[source].ravel(), index[to].ravel()).reshape(apart.shape[:2])
        steps.append((to, source, apart, np.linalg.norm(apart, axis=-1), is_cut))
    while True:
        total, weight = np.zeros(own.shape), np.zeros(own.shape)
        slope_total, start_total, reach_most = np.zeros_like(slopes), np.zeros(own.shape), np.zeros(own.shape)
        for to, source, apart, step, is_cut in steps:
            still = grid.known[to]
            for values, lean, origin, left, open_ in (
                (own[source], slopes[source], own[source], None, ~still | (is_cut & (own[source] < own[to]))),
                (hidden[source], steep[source], start[source], reach[source], np.isfinite(hidden[source])),
            ):
                value = values + (lean * apart).sum(axis=-1)
                value = np.clip(value, _FAR_RANGE[0] * origin, _FAR_RANGE[1] * origin)
                with np.errstate(invalid="ignore"):
                    new_reach = parallax * (own[to] - value) + _MORE * step
                    if left is not None:  # it continues, unless it comes from behind what moves
                        new_reach = np.where(np.isfinite(left), left - step, new_reach)
                    new_reach = np.where(still, new_reach, np.inf)
                    fits = open_ & np.isfinite(value) & np.isnan(hidden[to]) & (new_reach > 0)
                    fits &= ~still | (value < own[to] * _IN_FRONT)
                total[to][fits] += value[fits]
                weight[to][fits] += 1
                slope_total[to][fits] += _SLOW * lean[fits]
                start_total[to][fits] += origin[fits]
                reach_most[to][fits] = np.maximum(reach_most[to][fits], new_reach[fits])
        new = weight > 0
        if not new.any():
            return _smooth(hidden, own)
        hidden[new] = total[new] / weight[new]
        steep[new] = slope_total[new] / weight[new][:, None]
        start[new] = start_total[new] / weight[new]
        reach[new] = reach_most[new]


def _smooth(hidden: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return hidden surfaces without the seams where two continuations meet; they stay behind what hides them."""
    inside = np.isfinite(hidden)
    values = hidden.copy()
    limit = np.where(np.isfinite(own), own * _IN_FRONT, np.inf)
    for _ in range(_SMOOTH):
        total, weight = np.zeros(own.shape), np.zeros(own.shape)
        for axis in (0, 1):
            for shift in (1, -1):
                other = np.roll(np.where(inside, values, own), shift, axis)
                with np.errstate(invalid="ignore"):
                    fits = inside & (np.abs(other - values) <= CUT_STEP * np.minimum(other, values))
                total[fits] += other[fits]
                weight[fits] += 1
        moved = (values + total) / (1 + weight)
        values = np.where(inside, np.minimum(moved, limit), values)
    return values
