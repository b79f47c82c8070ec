# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns inverse depth on a lattice of pixels into triangles that are cut where the depth jumps.

Inverse depth is affine in the picture on every plane, so it is what is compared, interpolated and continued. Each side
of a cut is grown by half a pixel along its own plane: from the camera that took the picture, the two sides meet and no
slit is seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOTHING = -1  # label of pixels that have no surface
_REFINED_SHARE = 0.5  # most of the flat cells' number of triangles that is spent on cells that are not flat
_GROWTH = (0.5, 2.0)  # what the inverse depth of a pixel may be multiplied by within half a pixel
# The corners of a cell in clockwise order from the top left, as (row, column); edge k joins corner k and k + 1.
_CORNERS = ((0, 0), (0, 1), (1, 1), (1, 0))


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


EXACT = CutRule(0.05, 0.02)
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


@dataclass(frozen=True, eq=False)
class PictureMesh:
    """A mesh in the picture.

    Attributes:
        points: [V, 2] pixel coordinates.
        inverse: [V] 1 / z.
        triangles: [F, 3] indices, counter-clockwise as seen in the picture.
        labels: [F] number of the surface.
    """

    points: NDArray[np.float64]
    inverse: NDArray[np.float64]
    triangles: NDArray[np.int32]
    labels: NDArray[np.int32]

    def part(self, label: int) -> PictureMesh:
        """Return one surface."""
        chosen = self.labels == label
        used, triangles = np.unique(self.triangles[chosen], return_inverse=True)
        return PictureMesh(
            self.points[used],
            self.inverse[used],
            triangles.reshape(-1, 3).astype(np.int32),
            self.labels[chosen],
        )


def cut_edges(lattice: DepthLattice, rule: CutRule | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Decide which edges between neighboring lattice points are cut.

    Args:
        lattice: inverse depth and labels.
        rule: where the depth jumps; None to cut between labels only.

    Returns:
        [h, w - 1] of the edges along rows, and [h - 1, w] of those along columns.
    """
    across = _cut_rows(lattice.inverse, lattice.labels, lattice.x, rule)
    down = _cut_rows(lattice.inverse.T, lattice.labels.T, lattice.y, rule).T
    return across, down


def _cut_rows(inverse: np.ndarray, labels: np.ndarray, x: np.ndarray, rule: CutRule | None) -> np.ndarray:
    first, second = labels[:, :-1], labels[:, 1:]
    cut = (first != second) | (first == NOTHING)
    if rule is None:
        return cut
    jump = np.diff(inverse, axis=1)
    nearer = np.maximum(inverse[:, :-1], inverse[:, 1:])
    candidates = (np.abs(jump) > rule.ratio * nearer) & ~cut
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


def mesh_lattice(
    lattice: DepthLattice, rule: CutRule | None, stride: int, tolerance: float | None = None
) -> PictureMesh:
    """Triangulate a lattice: large cells where it is flat, single pixels and halves of them at cuts.

    Args:
        lattice: inverse depth and labels; at least 2 × 2.
        rule: where the depth jumps; None to cut between labels only.
        stride: lattice steps between the vertices of flat regions.
        tolerance: largest error of inverse depth within a large cell; worse cells get a vertex for each pixel, the
            worst first, as long as the number of triangles stays reasonable. None for no limit.
    """
    cuts = cut_edges(lattice, rule)
    columns, rows = (_lines(len(axis), stride) for axis in (lattice.x, lattice.y))
    fine = _cells_with_cuts(cuts, rows, columns)
    if tolerance is not None and stride > 1:
        fine |= _curved_cells(lattice, rows, columns, fine, tolerance, stride)
    if fine.any():  # the cells at the end that are smaller than the others have no middle
        fine[:, np.diff(columns) != stride] = True
        fine[np.diff(rows) != stride] = True
    pieces = _large_cells(fine, rows, columns, len(lattice.x), stride)
    builder = _SplitCells(lattice, cuts)
    in_fine = np.repeat(np.repeat(fine, np.diff(rows), axis=0), np.diff(columns), axis=1)
    pieces += builder.triangles(*np.nonzero(in_fine))
    ids = np.concatenate(pieces)
    used, triangles = np.unique(ids, return_inverse=True)
    points, values, labels = builder.vertices(used)
    triangles = triangles.reshape(-1, 3).astype(np.int32)
    return PictureMesh(points, values, triangles, labels[triangles[:, 0]])


def _lines(count: int, stride: int) -> np.ndarray:
    return np.unique(np.append(np.arange(0, count - 1, stride), count - 1))


def _two_triangles(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Return counter-clockwise triangles [2 n, 3] of quads whose corners go clockwise in the picture."""
    return np.concatenate([np.stack([a, d, b], axis=1), np.stack([b, d, c], axis=1)])


def _cells_with_cuts(cuts: tuple[np.ndarray, np.ndarray], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return which large cells have a cut edge in them or on their border."""
    across, down = cuts
    pixels = across[:-1] | across[1:] | down[:, :-1] | down[:, 1:]
    return np.logical_or.reduceat(np.logical_or.reduceat(pixels, rows[:-1], axis=0), columns[:-1], axis=1)


def _curved_cells(
    lattice: DepthLattice, rows: np.ndarray, columns: np.ndarray, fine: np.ndarray, tolerance: float, stride: int
) -> np.ndarray:
    """Return the large cells that deviate most from the surface between their corners."""
    corners = lattice.inverse[np.ix_(rows, columns)]
    smooth = _along(_along(corners, lattice.x, columns).T, lattice.y, rows).T
    error = np.abs(lattice.inverse - smooth)[:-1, :-1]
    worst = np.maximum.reduceat(np.maximum.reduceat(error, rows[:-1], axis=0), columns[:-1], axis=1)
    worst = np.where(fine, 0.0, worst)
    most = int(_REFINED_SHARE * fine.size / stride**2)
    if np.count_nonzero(worst > tolerance) > most:
        tolerance = float(np.partition(worst, -most - 1, axis=None)[-most - 1]) if most else np.inf
    return worst > tolerance


def _along(values: np.ndarray, x: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Interpolate [n, len(columns)] linearly to all columns [n, len(x)]."""
    cell = np.minimum(np.searchsorted(columns, np.arange(len(x)), side="right") - 1, len(columns) - 2)
    start, end = x[columns[cell]], x[columns[cell + 1]]
    t = (x - start) / (end - start)
    return values[:, cell] * (1 - t) + values[:, cell + 1] * t


def _large_cells(fine: np.ndarray, rows: np.ndarray, columns: np.ndarray, width: int, stride: int) -> list[np.ndarray]:
    """Return triangles [n, 3] of vertex numbers for the large cells.

    A cell beside small ones is a fan around its middle that has all their vertices on its border, so that no crack
    opens between them.
    """
    padded = np.pad(fine, 1)
    beside = [padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2]]  # clockwise from above
    fans = ~fine & np.logical_or.reduce(beside) & (stride > 1)
    cell_rows, cell_columns = np.nonzero(~fine & ~fans)
    top, left = rows[cell_rows] * width, columns[cell_columns]
    bottom, right = rows[cell_rows + 1] * width, columns[cell_columns + 1]
    pieces = [_two_triangles(top + left, top + right, bottom + right, bottom + left)]
    cell_rows, cell_columns = np.nonzero(fans)
    corner = rows[cell_rows] * width + columns[cell_columns]
    middle = corner + (stride // 2) * (width + 1)
    starts = (0, stride, stride * (width + 1), stride * width)
    for start, step, small in zip(starts, (1, width, -1, -width), beside, strict=True):
        is_small = small[cell_rows, cell_columns]
        for cells, count in ((corner[~is_small], 1), (corner[is_small], stride)):
            center = middle[~is_small] if count == 1 else middle[is_small]
            for k in range(count):
                first = cells + start + step * k * (stride // count)
                pieces.append(np.stack([center, first + step * (stride // count), first], axis=1))
    return pieces


class _SplitCells:
    """Triangulates single cells of the lattice, and numbers their vertices.

    A vertex is a lattice point, the middle of a cut edge on one of its two sides, or the center of a cell as one of its
    corners sees it.
    """

    def __init__(self, lattice: DepthLattice, cuts: tuple[np.ndarray, np.ndarray]) -> None:
        self.lattice, self.cuts = lattice, cuts
        self.height, self.width = lattice.inverse.shape
        self.middles_across = self.height * self.width
        self.middles_down = self.middles_across + 2 * self.height * self.width
        self.centers = self.middles_down + 2 * self.height * self.width

    def triangles(self, rows: np.ndarray, columns: np.ndarray) -> list[np.ndarray]:
        """Return triangles [n, 3] of vertex numbers for the cells whose top left points are given."""
        across, down = self.cuts
        cut = np.stack(
            [across[rows, columns], down[rows, columns + 1], across[rows + 1, columns], down[rows, columns]], axis=1
        )
        corner = np.stack([(rows + r) * self.width + columns + c for r, c in _CORNERS], axis=1)
        label = self.lattice.labels.ravel()[corner]
        number, count = self._edge_numbers(rows, columns), cut.sum(axis=1)
        pieces = []
        whole = (count <= 1) & (label[:, 0] != NOTHING)
        pieces.append(_two_triangles(*corner[whole].T))
        center = self.centers + 4 * (rows * self.width + columns)
        for k in range(4):
            after, opposite, before = (k + 1) % 4, (k + 2) % 4, (k + 3) % 4
            solid = label[:, k] != NOTHING
            alone = solid & cut[:, k] & cut[:, before]
            own = (corner[:, k], number[:, k, 0], center + k, number[:, before, 1])
            pieces.append(_two_triangles(*(item[alone] for item in own)))
            pair = solid & ~cut[:, k] & cut[:, before] & cut[:, after]
            four = (corner[:, k], corner[:, after], number[:, after, 0], number[:, before, 1])
            pieces.append(_two_triangles(*(item[pair] for item in four)))
            # Three joined corners; corner k is the one that is cut off.
            three = (count == 2) & cut[:, k] & cut[:, before] & (label[:, after] != NOTHING)
            ring = (number[:, k, 1], corner[:, after], corner[:, opposite], corner[:, before], number[:, before, 0])
            ring = [item[three] for item in ring]
            middle = (center + after)[three]
            pieces += [np.stack([middle, ring[i + 1], ring[i]], axis=1) for i in range(4)]
        return pieces

    def _edge_numbers(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the vertices [n, 4, 2] in the middles of edges, on the side of the edge's first and second corner."""
        first = self.middles_across + 2 * (rows * self.width + columns)
        third = first + 2 * self.width
        fourth = self.middles_down + 2 * (rows * self.width + columns)
        second = fourth + 2
        return np.stack(
            [
                np.stack([first, first + 1], axis=1),
                np.stack([second, second + 1], axis=1),
                np.stack([third + 1, third], axis=1),  # clockwise is against the row here, and against the column below
                np.stack([fourth + 1, fourth], axis=1),
            ],
            axis=1,
        )

    def vertices(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the pixel coordinates [n, 2], inverse depths [n] and labels [n] of vertices in ascending order."""
        bounds = np.searchsorted(numbers, [self.middles_across, self.middles_down, self.centers])
        points, across, down, centers = np.split(numbers, bounds)
        rows, columns = np.divmod(points, self.width)
        parts = [self._grown(rows, columns, 0, 0)]
        index, side = np.divmod(across - self.middles_across, 2)
        rows, columns = np.divmod(index, self.width)
        parts.append(self._grown(rows, columns + side, 1 - 2 * side, 0))
        index, side = np.divmod(down - self.middles_down, 2)
        rows, columns = np.divmod(index, self.width)
        parts.append(self._grown(rows + side, columns, 0, 1 - 2 * side))
        index, corner = np.divmod(centers - self.centers, 4)
        rows, columns = np.divmod(index, self.width)
        below, beside = np.array(_CORNERS)[corner].T
        parts.append(self._grown(rows + below, columns + beside, 1 - 2 * beside, 1 - 2 * below))
        points, values, labels = (np.concatenate(items) for items in zip(*parts, strict=True))
        return points, values, labels

    def _grown(self, rows: np.ndarray, columns: np.ndarray, right: np.ndarray | int, below: np.ndarray | int) -> tuple:
        """Return positions, inverse depths and labels half a step from lattice points, on the points' own planes."""
        x, y, inverse = self.lattice.x, self.lattice.y, self.lattice.inverse
        dx = _half_steps(x, columns, right)
        dy = _half_steps(y, rows, below)
        across, down = self.cuts
        value = inverse[rows, columns]
        change = _slope(inverse, across, x, rows, columns, right) * dx
        change += _slope(inverse.T, down.T, y, columns, rows, below) * dy
        grown = np.clip(value + change, value * _GROWTH[0], value * _GROWTH[1])
        return np.stack([x[columns] + dx, y[rows] + dy], axis=1), grown, self.lattice.labels[rows, columns]


def _half_steps(x: np.ndarray, index: np.ndarray, direction: np.ndarray | int) -> np.ndarray:
    return (x[np.clip(index + direction, 0, len(x) - 1)] - x[index]) / 2


def _slope(
    inverse: np.ndarray,
    cut: np.ndarray,
    x: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    direction: np.ndarray | int,
) -> np.ndarray:
    """Return the slope of inverse depth along rows at points: across the edge ahead if whole, else the one behind."""
    ahead, behind = columns - (np.asarray(direction) < 0), columns - (np.asarray(direction) > 0)
    slope = np.zeros(len(rows))
    for edge in (behind, ahead):
        inside = (edge >= 0) & (edge < cut.shape[1])
        edge = np.clip(edge, 0, cut.shape[1] - 1)
        joined = inside & ~cut[rows, edge]
        found = (inverse[rows, edge + 1] - inverse[rows, edge]) / (x[edge + 1] - x[edge])
        slope = np.where(joined, found, slope)
    return slope
