# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides where the surfaces on a lattice of pixels end, and where between two pixels.

Inverse depth is affine in the picture on every plane, so it is what is compared. Between two pixels that show different
surfaces the depth does not say where the nearer one ends; silhouettes are lines, however, which are drawn through the
edges of the lattice that they cross. Where two planes meet, both say where.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackshade.lifting.silhouettes import MARGIN, straighten

NOTHING = -1  # label of pixels that have no surface
# The corners of a cell in clockwise order from the top left, as (row, column); edge k joins corner k and k + 1.
CORNERS = ((0, 0), (0, 1), (1, 1), (1, 0))
_FLAT = 0.2  # of the difference of two planes' slopes: how much each of them may bend beside their crease


@dataclass(frozen=True)
class CutRule:
    """Where the surface between two neighboring pixels is cut.

    Attributes:
        ratio: least relative jump of inverse depth.
        plane: least relative deviation from what the plane of either side predicts; None for any: soft depth of
            networks has ramps instead of jumps, which look like planes.
    """

    ratio: float
    plane: float | None


EXACT = CutRule(0.03, 0.02)
SOFT = CutRule(0.03, None)


@dataclass(frozen=True, eq=False)
class DepthLattice:
    """Inverse depth and surfaces at the points of a lattice.

    Attributes:
        x: [w] ascending pixel coordinates of the columns.
        y: [h] ascending pixel coordinates of the rows.
        inverse: [h, w] 1 / z of the camera's axes.
        labels: [h, w] number of the surface that a pixel shows, or `NOTHING`; different surfaces are never joined.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    inverse: NDArray[np.float64]
    labels: NDArray[np.int32]

    def transposed(self) -> DepthLattice:
        """Return the lattice with rows and columns exchanged."""
        return DepthLattice(self.y, self.x, self.inverse.T, self.labels.T)


@dataclass(frozen=True, eq=False)
class Edges:
    """The edges between neighboring lattice points of a row, or of a column.

    Attributes:
        cut: whether the points show different surfaces, or surfaces at different depth.
        crease: whether two planes meet between the points; never where the edge is cut.
        place: where the edge is cut or creased, as a fraction of its length.
    """

    cut: NDArray[np.bool_]
    crease: NDArray[np.bool_]
    place: NDArray[np.float64]

    @property
    def split(self) -> NDArray[np.bool_]:
        """Whether the edge has a vertex between its points."""
        return self.cut | self.crease


def split_edges(lattice: DepthLattice, rule: CutRule | None, tolerance: float | None) -> tuple[Edges, Edges]:
    """Decide which edges are cut or creased, and where.

    Args:
        lattice: inverse depth and labels.
        rule: where the depth jumps; None to cut between labels only.
        tolerance: least error of inverse depth for which a crease gets vertices; None for no creases.

    Returns:
        The edges along rows [h, w - 1], and those along columns [h - 1, w].
    """
    cut_across, cut_down = cut_edges(lattice, rule)
    places_across, places_down = _silhouettes(cut_across, cut_down, nearness(lattice))
    across = _with_creases(lattice, cut_across, places_across, tolerance)
    down = _with_creases(lattice.transposed(), cut_down.T, places_down.T, tolerance)
    return across, Edges(down.cut.T, down.crease.T, down.place.T)


def cut_edges(lattice: DepthLattice, rule: CutRule | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which edges along rows [h, w - 1] and along columns [h - 1, w] are cut; see `split_edges`."""
    across = _cut_rows(lattice, rule)
    return across, _cut_rows(lattice.transposed(), rule).T


def _cut_rows(lattice: DepthLattice, rule: CutRule | None) -> np.ndarray:
    inverse, labels, x = lattice.inverse, lattice.labels, lattice.x
    cut = labels[:, :-1] != labels[:, 1:]
    if rule is None:
        return cut
    jump = np.diff(inverse, axis=1)
    nearer = np.maximum(inverse[:, :-1], inverse[:, 1:])
    candidates = (np.abs(jump) > rule.ratio * nearer) & ~cut & (labels[:, 1:] != NOTHING)
    if rule.plane is not None and candidates.any():
        rows, columns = np.nonzero(candidates)
        slope = jump / np.diff(x)
        deviation = (
            np.minimum(_deviation(slope, cut, rows, columns, -1), _deviation(slope, cut, rows, columns, 1))
            * np.diff(x)[columns]
        )
        candidates[rows, columns] = deviation > rule.plane * nearer[rows, columns]
    return cut | candidates


def _deviation(slope: np.ndarray, cut: np.ndarray, rows: np.ndarray, columns: np.ndarray, side: int) -> np.ndarray:
    """Return how much slopes differ from those of a side's next two edges; infinite where that side is no plane.

    Both must agree: a single blended pixel on an edge would otherwise look like the plane that it is not.
    """
    last = slope.shape[1] - 1
    one, two = columns + side, columns + 2 * side
    inside = (two >= 0) & (two <= last)
    one, two = np.clip(one, 0, last), np.clip(two, 0, last)
    joined = inside & ~cut[rows, one] & ~cut[rows, two]
    here, near, far = slope[rows, columns], slope[rows, one], slope[rows, two]
    return np.where(joined, np.maximum(np.abs(here - near), np.abs(near - far)), np.inf)


def _with_creases(lattice: DepthLattice, cut: np.ndarray, place: np.ndarray, tolerance: float | None) -> Edges:
    """Find where two planes meet on edges along rows: where the lines through both sides' pixels cross."""
    crease = np.zeros_like(cut)
    if tolerance is None or cut.shape[1] < 5:
        return Edges(cut, crease, place)
    step = np.diff(lattice.x)
    slope = np.diff(lattice.inverse, axis=1) / step
    whole = ~cut & (lattice.labels[:, 1:] != NOTHING)
    before, after = slope[:, 1:-3], slope[:, 3:-1]  # beside the edges 2, 3, ...
    bend = after - before
    straight = np.maximum(np.abs(before - slope[:, :-4]), np.abs(after - slope[:, 4:])) < _FLAT * np.abs(bend)
    joined = whole[:, :-4] & whole[:, 1:-3] & whole[:, 2:-2] & whole[:, 3:-1] & whole[:, 4:]
    rows, columns = np.nonzero(straight & joined & (np.abs(bend) * step[2:-2] > 4 * tolerance))
    one, two = slope[rows, columns + 1], slope[rows, columns + 3]
    columns += 2
    found = (slope[rows, columns] - two) / (one - two)
    error = np.abs(found * (1 - found) * (two - one)) * step[columns]
    inside = (found > MARGIN) & (found < 1 - MARGIN) & (error > tolerance)
    crease[rows[inside], columns[inside]] = True
    place[rows[inside], columns[inside]] = found[inside]
    return Edges(cut, crease, place)


def _silhouettes(across: np.ndarray, down: np.ndarray, inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where silhouettes cross cut edges, as fractions of these."""
    row, column = np.nonzero(across)
    lower, right = np.nonzero(down)
    start = np.concatenate([np.column_stack([column, row]), np.column_stack([right, lower])])
    along = np.repeat([[1, 0], [0, 1]], [len(row), len(lower)], axis=0)
    found = straighten(start.astype(np.float64), along.astype(np.float64), _neighbors(across, down, inverse))
    places = np.full(across.shape, 0.5), np.full(down.shape, 0.5)
    places[0][row, column], places[1][lower, right] = found[: len(row)], found[len(row) :]
    return places


def _neighbors(across: np.ndarray, down: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Return the two neighbors [n, 2] of each cut edge on its silhouette, -1 for none; first those along rows."""
    count, count_down = np.count_nonzero(across), np.count_nonzero(down)
    ids = np.full(across.shape, -1), np.full(down.shape, -1)
    ids[0][across], ids[1][down] = np.arange(count), np.arange(count, count + count_down)
    number = across[:-1].astype(np.int8) + across[1:] + down[:, :-1] + down[:, 1:]
    rows, columns = np.nonzero(number > 1)
    numbers = around(rows, columns, *ids)
    chosen = nearest_surface(numbers >= 0, corners(rows, columns, inverse))
    sides = np.argsort(~chosen, axis=1, kind="stable")[:, :2]
    pair = np.take_along_axis(numbers, sides, axis=1)
    beside = np.full((count + count_down, 2), -1)
    for one, two in ((0, 1), (1, 0)):
        # A cell lies before the edges on its right and its lower side.
        beside[pair[:, one], np.isin(sides[:, one], (0, 3)).astype(int)] = pair[:, two]
    return beside


def around(rows: np.ndarray, columns: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Return values of the four edges [n, 4] of cells, clockwise from the upper one."""
    return np.stack(
        [across[rows, columns], down[rows, columns + 1], across[rows + 1, columns], down[rows, columns]], axis=1
    )


def corners(rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return values of the four points [n, 4] of cells, clockwise from the upper left one."""
    return np.stack([values[rows + row, columns + column] for row, column in CORNERS], axis=1)


def nearness(lattice: DepthLattice) -> np.ndarray:
    """Return the inverse depth [h, w], smallest where there is no surface."""
    return np.where(lattice.labels == NOTHING, -np.inf, lattice.inverse)


def nearest_surface(split: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Return which two split edges [n, 4] bound the nearest surface of cells that have at least two.

    Args:
        split: [n, 4] of the edges.
        inverse: [n, 4] inverse depth of the corners.
    """
    k = np.arange(len(split)), inverse.argmax(axis=1)
    steps = [(k[1] + step) % 4 for step in (0, 1, 3, 2)]
    forwards = np.where(split[k], steps[0], steps[1])
    backwards = np.where(split[k[0], steps[2]], steps[2], steps[3])
    found = np.zeros_like(split)
    found[k[0], forwards] = found[k[0], backwards] = True
    return np.where(split.sum(axis=1, keepdims=True) == 2, split, found)
