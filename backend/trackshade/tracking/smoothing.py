# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills in the depth of points without texture: planes through what is known around them.

Over a plane the inverse depth is a linear function of the pixel, so its second differences are zero. What is minimized
is the distance from the known inverse depths, by their precision, and second differences, less where the color changes;
both robustly, so that wrong depths are overruled and surfaces may end.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

from trackshade.tracking.joining import CUT_JUMP

_CURVATURE = 0.002  # second difference of the inverse depth from point to point that is usual, relative
_COLOR = 20.0  # levels: change of color at which neighbors say half as much of each other
_WRONG = 3.0  # standard deviations from which a known depth counts less
_ROUNDS = 6
_STEP_REACH = 2, 4  # points to each side: in which a discontinuity is looked for, and that predict a depth
_LEAST = 0.004  # standard deviation of what is known best, relative


def fill_depth(
    inverse_depths: np.ndarray,
    deviations: np.ndarray,
    colors: np.ndarray,
    grid: tuple[int, int],
    spacing: float,
) -> np.ndarray:
    """Return inverse depths and slopes of points on a grid.

    Args:
        inverse_depths: [N] what is known, row by row.
        deviations: [N] standard deviations, relative; inf where nothing is known.
        colors: [N, 3] levels.
        grid: (rows, columns).
        spacing: distance of the points, pixels.

    Returns:
        [N, 3] inverse depth, and its slopes per pixel to the right and downwards.
    """
    rows, columns = grid
    index = np.arange(rows * columns).reshape(grid)
    lines = [
        (index[:, :-2].ravel(), index[:, 1:-1].ravel(), index[:, 2:].ravel()),
        (index[:-2].ravel(), index[1:-1].ravel(), index[2:].ravel()),
    ]
    before, middle, after = (np.concatenate(part) for part in zip(*lines, strict=True))
    count = len(middle)
    places = np.arange(count)
    second = sparse.csr_matrix(
        (np.r_[np.ones(count), np.full(count, -2.0), np.ones(count)],
         (np.r_[places, places, places], np.r_[before, middle, after])),
        (count, rows * columns),
    )  # fmt: skip
    change = np.abs(colors[before] - colors[middle]).max(axis=1) + np.abs(colors[after] - colors[middle]).max(axis=1)
    alike = 1 / (1 + np.square(change / _COLOR)) + 0.01
    scale = np.maximum(inverse_depths, 1e-6)
    known = 1 / np.square(np.maximum(deviations, _LEAST) * scale)
    usual = _CURVATURE * np.minimum(scale[middle], np.median(scale) * 2)
    found = inverse_depths.copy()
    trust, flat = np.ones(rows * columns), np.ones(count)
    for _ in range(_ROUNDS):
        data = known * trust + 1e-9 / scale**2
        smooth = alike * flat / usual**2
        matrix = sparse.diags(data) + second.T @ sparse.diags(smooth) @ second
        found = np.maximum(spsolve(matrix.tocsc(), data * inverse_depths), 1e-6)
        miss = (found - inverse_depths) / (np.maximum(deviations, _LEAST) * scale)
        trust = 1 / np.square(1 + np.square(miss / _WRONG))
        flat = 1 / (1 + np.square(second @ found / (4 * usual)))
    picture = found.reshape(grid)
    return np.stack([found, *(_slopes(picture, axis).ravel() / spacing for axis in (1, 0))], axis=1)


def sharpen_steps(shape: np.ndarray, colors: np.ndarray, grid: tuple[int, int], spacing: float) -> np.ndarray:
    """Move points whose depth was interpolated between two surfaces to one of them.

    Smoothing turns a depth discontinuity into a slope over a few points. Such a point takes the weighted median of the
    depths that the tangent planes of the points around it predict for it. Their weights are the similarity of their
    colors, and points on the slope itself do not count.

    Args:
        shape: [N, 3] inverse depths and slopes of points on a grid, row by row.
        colors: [N, 3] levels.
        grid: (rows, columns).
        spacing: distance of the points, pixels.

    Returns:
        [N, 3] inverse depths and slopes.
    """
    own = shape[:, 0]
    value, weight = _predictions(shape, colors, grid, spacing, _STEP_REACH[0])
    is_step = _quantile(value, weight, 0.85) - _quantile(value, weight, 0.15) > CUT_JUMP * own
    steady = np.where(is_step[:, None], np.nan, shape)
    middle = _quantile(*_predictions(steady, colors, grid, spacing, _STEP_REACH[1]), 0.5)
    found = np.where(is_step & (middle > 0), middle, own)
    picture = found.reshape(grid)
    return np.stack([found, *(_slopes(picture, axis).ravel() / spacing for axis in (1, 0))], axis=1)


def _predictions(
    shape: np.ndarray, colors: np.ndarray, grid: tuple[int, int], spacing: float, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """Predict the inverse depth of each point from the tangent planes of the points around it.

    Args:
        shape: [N, 3] inverse depths and slopes; NaN for points that do not count.
        colors: [N, 3] levels.
        grid: (rows, columns).
        spacing: distance of the points, pixels.
        reach: rows and columns to each side.

    Returns:
        [K, N] predicted inverse depths, ascending, and the cumulative weights, as shares of their sum; NaN without any.
    """
    rows, columns = grid
    pads = (reach, reach)
    planes = np.pad(shape.reshape(rows, columns, 3), (pads, pads, (0, 0)), constant_values=np.nan)
    tones = np.pad(colors.reshape(rows, columns, 3), (pads, pads, (0, 0)), mode="edge")
    values, weights = [], []
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            part = slice(reach + down, reach + down + rows), slice(reach + right, reach + right + columns)
            plane = planes[part].reshape(-1, 3)
            values.append(plane[:, 0] - spacing * (right * plane[:, 1] + down * plane[:, 2]))
            unlike = np.square(tones[part].reshape(-1, 3) - colors).sum(axis=1)
            weights.append(np.where(np.isfinite(values[-1]), 1 / np.square(1 + unlike / (2 * _COLOR**2)), 0.0))
    value, weight = np.stack(values), np.stack(weights)
    order = np.argsort(value, axis=0)  # NaN comes last
    total = np.take_along_axis(weight, order, 0).cumsum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.take_along_axis(value, order, 0), total / total[-1]


def _quantile(value: np.ndarray, weight: np.ndarray, share: float) -> np.ndarray:
    """Return weighted quantiles, [N], of ascending values [K, N] with cumulative weights [K, N]."""
    return np.take_along_axis(value, (weight < share).sum(axis=0)[None], 0)[0]


def _slopes(picture: np.ndarray, axis: int) -> np.ndarray:
    """Return the slope along an axis from the side that changes less, so that edges of surfaces do not count."""
    step = np.diff(picture, axis=axis)
    first, last = [(0, 0), (0, 0)], [(0, 0), (0, 0)]
    first[axis], last[axis] = (1, 0), (0, 1)
    left, right = np.pad(step, first, mode="edge"), np.pad(step, last, mode="edge")
    return np.where(np.abs(left) < np.abs(right), left, right)
