# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns inverse depth on a lattice of pixels into triangles that are cut where the depth jumps.

Each side of a cut is grown along its own plane, up to where the other side begins: from the camera that took the
picture, the two sides meet and no slit is seen.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackshade.lifting.cuts import (
    CORNERS,
    NOTHING,
    CutRule,
    DepthLattice,
    Edges,
    around,
    corners,
    nearest_surface,
    nearness,
    split_edges,
)

_REFINED_SHARE = 0.5  # most of the flat cells' number of triangles that is spent on cells that are not flat
_GROWTH = (0.5, 2.0)  # what the inverse depth of a pixel may be multiplied by beside it


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


def mesh_lattice(
    lattice: DepthLattice, rule: CutRule | None, stride: int, tolerance: float | None = None
) -> PictureMesh:
    """Triangulate a lattice: large cells where it is flat, single pixels and parts of them at cuts and creases.

    Args:
        lattice: inverse depth and labels; at least 2 × 2.
        rule: where the depth jumps; None to cut between labels only.
        stride: lattice steps between the vertices of flat regions.
        tolerance: largest error of inverse depth within a cell. Creases get vertices where they
            are. Worse cells get a vertex for each pixel, the worst first, as long as the number of triangles stays
            reasonable. None for no limit.
    """
    edges = split_edges(lattice, rule, tolerance)
    columns, rows = (_lines(len(axis), stride) for axis in (lattice.x, lattice.y))
    fine = _split_cells(edges, rows, columns)
    if tolerance is not None and stride > 1:
        fine |= _curved_cells(lattice, rows, columns, fine, tolerance, stride)
    if fine.any():  # the cells at the end that are smaller than the others have no middle
        fine[:, np.diff(columns) != stride] = True
        fine[np.diff(rows) != stride] = True
    pieces = _large_cells(fine, rows, columns, len(lattice.x), stride)
    builder = _SplitCells(lattice, edges)
    in_fine = np.repeat(np.repeat(fine, np.diff(rows), axis=0), np.diff(columns), axis=1)
    pieces += builder.triangles(*np.nonzero(in_fine))
    ids = np.concatenate(pieces)
    used, triangles = np.unique(ids, return_inverse=True)
    points, values, labels = builder.vertices(used)
    triangles = triangles.reshape(-1, 3).astype(np.int32)
    triangles = triangles[labels[triangles[:, 0]] != NOTHING]
    return PictureMesh(points, values, triangles, labels[triangles[:, 0]])


def _lines(count: int, stride: int) -> np.ndarray:
    return np.unique(np.append(np.arange(0, count - 1, stride), count - 1))


def _two_triangles(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Return counter-clockwise triangles [2 n, 3] of quads whose corners go clockwise in the picture."""
    return np.concatenate([np.stack([a, d, b], axis=1), np.stack([b, d, c], axis=1)])


def _split_cells(edges: tuple[Edges, Edges], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return which large cells have a split edge in them or on their border."""
    across, down = (one.split for one in edges)
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

    A vertex is a lattice point, the place where an edge is split on one of its two sides, which are one vertex where it
    is a crease, or the middle of a cell's split edges as one of its corners sees it.
    """

    def __init__(self, lattice: DepthLattice, edges: tuple[Edges, Edges]) -> None:
        self.lattice, (self.across, self.down) = lattice, edges
        self.splits = self.across.split, self.down.split
        self.height, self.width = lattice.inverse.shape
        self.points = np.arange(self.height * self.width).reshape(self.height, self.width)
        self.on_rows = self.height * self.width
        self.on_columns = self.on_rows + 2 * self.height * self.width
        self.centers = self.on_columns + 2 * self.height * self.width

    def triangles(self, rows: np.ndarray, columns: np.ndarray) -> list[np.ndarray]:
        """Return triangles [n, 3] of vertex numbers for the cells whose top left points are given."""
        split = around(rows, columns, *self.splits)
        crease = around(rows, columns, self.across.crease, self.down.crease)
        corner = corners(rows, columns, self.points)
        number, count = self._edge_numbers(rows, columns, crease), split.sum(axis=1)
        bent = (count == 1) & crease.any(axis=1)
        pieces = [_two_triangles(*corner[(count <= 1) & ~bent].T)]
        center = self.centers + 4 * (rows * self.width + columns)
        for k in range(4):
            after, opposite, before = (k + 1) % 4, (k + 2) % 4, (k + 3) % 4

            def fan(chosen: np.ndarray, *ring: np.ndarray) -> None:
                """Add triangles between the first vertex and all others, which go around it clockwise."""
                first, *others = (item[chosen] for item in ring)
                pieces.extend(np.stack([first, b, a], axis=1) for a, b in itertools.pairwise(others))

            # What follows corner k on its edge, and what comes before it on the edge before.
            one, two = number[:, k, 0], number[:, before, 1]
            fan(bent & crease[:, k], one, corner[:, after], corner[:, opposite], corner[:, before], corner[:, k])
            alone, pair = split[:, k] & split[:, before], ~split[:, k] & split[:, before] & split[:, after]
            end = number[:, after, 0]
            fan(alone & (count == 2), corner[:, k], one, two)
            fan(alone & (count > 2), center + k, two, corner[:, k], one)
            fan(pair & (count == 2), corner[:, k], corner[:, after], end, two)
            fan(pair & (count == 3), center + k, two, corner[:, k], corner[:, after], end)
            # Three joined corners; corner k is the one that is cut off.
            ends = number[:, before, 0], number[:, k, 1]
            fan(alone & (count == 2), corner[:, opposite], corner[:, before], *ends, corner[:, after])
        return pieces

    def _edge_numbers(self, rows: np.ndarray, columns: np.ndarray, crease: np.ndarray) -> np.ndarray:
        """Return the vertices [n, 4, 2] on edges, on the side of the edge's first and second corner."""
        first = self.on_rows + 2 * (rows * self.width + columns)
        fourth = self.on_columns + 2 * (rows * self.width + columns)
        number = np.stack([first, fourth + 2, first + 2 * self.width, fourth], axis=1)[..., None]
        # Clockwise is against the row on the lower edge, and against the column on the left one.
        side = np.array([[0, 1], [0, 1], [1, 0], [1, 0]])
        return number + np.where(crease[..., None], 0, side)

    def vertices(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the pixel coordinates [n, 2], inverse depths [n] and labels [n] of vertices in ascending order."""
        bounds = np.searchsorted(numbers, [self.on_rows, self.on_columns, self.centers])
        points, across, down, centers = np.split(numbers, bounds)
        rows, columns = np.divmod(points, self.width)
        parts = [self._seen_from(rows, columns, rows * 0.0, columns * 0.0)]
        index, side = np.divmod(across - self.on_rows, 2)
        rows, columns = np.divmod(index, self.width)
        parts.append(self._seen_from(rows, columns + side, rows * 0.0, self.across.place[rows, columns] - side))
        index, side = np.divmod(down - self.on_columns, 2)
        rows, columns = np.divmod(index, self.width)
        parts.append(self._seen_from(rows + side, columns, self.down.place[rows, columns] - side, columns * 0.0))
        index, corner = np.divmod(centers - self.centers, 4)
        rows, columns = np.divmod(index, self.width)
        below, beside = np.array(CORNERS)[corner].T
        y, x = self._middles(rows, columns)
        parts.append(self._seen_from(rows + below, columns + beside, y - below, x - beside))
        points, values, labels = (np.concatenate(items) for items in zip(*parts, strict=True))
        return points, values, labels

    def _middles(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where cells with three or four split edges have their center, as fractions of rows and columns.

        It lies on the line that bounds the nearest surface; the others end there.
        """
        cut, split = around(rows, columns, self.across.cut, self.down.cut), around(rows, columns, *self.splits)
        bounding = np.where(cut.sum(axis=1, keepdims=True) == 2, cut, split)
        bounding = nearest_surface(bounding, corners(rows, columns, nearness(self.lattice)))
        x = around(rows, columns, self.across.place, self.down.place)
        y = x.copy()
        x[:, 1], x[:, 3], y[:, 0], y[:, 2] = 1.0, 0.0, 0.0, 1.0
        return (y * bounding).sum(axis=1) / 2, (x * bounding).sum(axis=1) / 2

    def _seen_from(self, rows: np.ndarray, columns: np.ndarray, below: np.ndarray, right: np.ndarray) -> tuple:
        """Return positions, inverse depths and labels beside lattice points, on the points' own planes.

        Args:
            rows: [n] of the points.
            columns: [n] of the points.
            below: [n] steps of the lattice from the points, negative for above them.
            right: [n] steps of the lattice from the points, negative for on their left.
        """
        x, y, inverse = self.lattice.x, self.lattice.y, self.lattice.inverse
        dx, dy = _steps(x, columns, right), _steps(y, rows, below)
        value = inverse[rows, columns]
        change = _slope(inverse, self.splits[0], x, rows, columns, right) * dx
        change += _slope(inverse.T, self.splits[1].T, y, columns, rows, below) * dy
        grown = np.clip(value + change, value * _GROWTH[0], value * _GROWTH[1])
        return np.stack([x[columns] + dx, y[rows] + dy], axis=1), grown, self.lattice.labels[rows, columns]


def _steps(x: np.ndarray, index: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the pixels from lattice coordinates to others that are less than a step away."""
    other = np.clip(index + np.sign(steps).astype(int), 0, len(x) - 1)
    return (x[other] - x[index]) * np.abs(steps)


def _slope(
    inverse: np.ndarray, split: np.ndarray, x: np.ndarray, rows: np.ndarray, columns: np.ndarray, direction: np.ndarray
) -> np.ndarray:
    """Return the slope of inverse depth along rows at points: across the edge ahead if whole, else the one behind."""
    ahead, behind = columns - (direction < 0), columns - (direction > 0)
    slope = np.zeros(len(rows))
    for edge in (behind, ahead):
        inside = (edge >= 0) & (edge < split.shape[1])
        edge = np.clip(edge, 0, split.shape[1] - 1)
        joined = inside & ~split[rows, edge]
        found = (inverse[rows, edge + 1] - inverse[rows, edge]) / (x[edge + 1] - x[edge])
        slope = np.where(joined, found, slope)
    return slope
