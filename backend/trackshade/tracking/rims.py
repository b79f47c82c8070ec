# SPDX-License-Identifier: GPL-3.0-or-later
"""The rims of surfaces between tracked points: small squares in the cells that a rim crosses.

A cell has tracked points at its corners, of which some belong to the nearer surface. It is divided into squares, and
each square belongs to the surface whose points around it have the more similar colors. So the rim follows the picture
to a fraction of the distance of the points, and the surface behind shows through the other squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from trackshade.tracking.joining import cut_edges
from trackshade.tracking.points import PointSolve

_PARTS = 3  # squares along a side of a cell
_REACH = 2  # cells around one whose points' colors are compared
_COLOR = 14.0  # levels: spread of the colors of one surface
_BLUR = 0.8  # px
_MOST = 0.1  # of the inverse depth: most that it changes from a point to the rim beside it


@dataclass(frozen=True, eq=False)
class Rim:
    """Squares of a surface beside its points.

    Attributes:
        pixels: [A, 2] added vertices in the first frame.
        owners: [A, 4] indices of the points at the corners of their cells that belong to the surface; -1 for none.
        triangles: [F, 3] indices of added vertices; counter-clockwise seen from the camera.
    """

    pixels: np.ndarray
    owners: np.ndarray
    triangles: np.ndarray

    def inverse(self, solved: PointSolve) -> np.ndarray:
        """Return the inverse depths of the vertices: of the planes of their owners, [A]."""
        near = self.owners >= 0
        apart = self.pixels[:, None] - solved.points[self.owners]
        shape = solved.shape[self.owners]
        values = shape[..., 0] + np.clip(
            (shape[..., 1:] * apart).sum(axis=-1), -0.1 * shape[..., 0], 0.1 * shape[..., 0]
        )
        distance = np.square(apart).sum(axis=-1)
        weight = near / (distance + 1.0)
        return (values * weight).sum(axis=1) / weight.sum(axis=1)


def static_rim(solved: PointSolve, moving: np.ndarray, is_front: np.ndarray, image: np.ndarray) -> Rim:
    """Return the rims of what stands still in front of something else.

    Args:
        solved: the points.
        moving: [N] which of them move by themselves.
        is_front: [N] which of them have a surface behind them.
        image: [H, W, 3] uint8, the first frame.
    """
    cells = _cells(solved.grid)
    cut = cut_edges(solved.points, solved.shape[:, 0], solved.shape[:, 1:])
    still = ~moving[cells].any(axis=1)
    crossed = np.zeros(len(cells), bool)
    for one, other in ((0, 1), (0, 2), (1, 3), (2, 3), (1, 2), (0, 3)):
        crossed |= cut(cells[:, one], cells[:, other])
    cells = cells[still & crossed]
    if not len(cells):
        return _nothing()
    # The corners are split where the inverse depth, in order, jumps most.
    inverse = solved.shape[cells, 0]
    order = np.sort(inverse, axis=1)
    jump = order[:, 1:] / order[:, :-1]
    best = jump.argmax(axis=1)[:, None]
    middle = np.sqrt(np.take_along_axis(order, best, 1) * np.take_along_axis(order, best + 1, 1))
    around = _around(cells, solved.grid)
    kind = np.where(moving[around], 0, np.where(solved.shape[around, 0] > middle, 1, -1))
    near = (inverse > middle) & is_front[cells]
    used = near.any(axis=1)
    return _squares(solved, cells[used], near[used], around[used], kind[used], image)


def _nothing() -> Rim:
    return Rim(np.zeros((0, 2)), np.zeros((0, 4), np.intp), np.zeros((0, 3), np.int32))


def _cells(grid: tuple[int, int]) -> np.ndarray:
    """Return the corners of all cells, [C, 4]: upper left and right, lower left and right."""
    index = np.arange(grid[0] * grid[1]).reshape(grid)
    return np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]], axis=-1).reshape(-1, 4)


def _around(cells: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Return the points around cells, [C, K]; at the border some are repeated."""
    row, column = cells[:, 0] // grid[1], cells[:, 0] % grid[1]
    offsets = np.arange(-_REACH + 1, _REACH + 1)
    rows = np.clip(row[:, None, None] + offsets[:, None], 0, grid[0] - 1)
    columns = np.clip(column[:, None, None] + offsets, 0, grid[1] - 1)
    return (rows * grid[1] + columns).reshape(len(cells), -1)


def _squares(
    solved: PointSolve, cells: np.ndarray, near: np.ndarray, around: np.ndarray, kind: np.ndarray, image: np.ndarray
) -> Rim:
    """Divide cells, and keep the squares that belong to the surface.

    Args:
        solved: the points.
        cells: [C, 4] corners.
        near: [C, 4] which corners belong to the surface.
        around: [C, K] points whose colors are compared.
        kind: [C, K] 1 for those of the surface, -1 for those of others, 0 for those that do not count.
        image: [H, W, 3] uint8, the first frame.
    """
    height, width = image.shape[:2]
    smooth = cv2.GaussianBlur(image, (0, 0), _BLUR).astype(np.float32)

    def color(pixels: np.ndarray) -> np.ndarray:
        x, y = np.clip(pixels.astype(int), 0, (width - 1, height - 1)).reshape(-1, 2).T
        return smooth[y, x].reshape(*pixels.shape[:-1], 3)

    corner = solved.points[cells[:, 0]]
    step = float(solved.points[1, 0] - solved.points[0, 0])
    middles = (np.stack(np.meshgrid(np.arange(_PARTS), np.arange(_PARTS)), axis=-1).reshape(-1, 2) + 0.5) / _PARTS
    centers = corner[:, None] + step * middles  # [C, S, 2]
    places = solved.points[around]
    change = np.square(color(centers)[:, :, None] - color(places)[:, None]).sum(axis=-1) / (2 * _COLOR**2)
    distance = np.square(centers[:, :, None] - places[:, None]).sum(axis=-1) / (2 * step**2)
    cost = change + distance  # [C, S, K]
    own = np.where(kind[:, None] > 0, cost, np.inf).min(axis=-1)
    other = np.where(kind[:, None] < 0, cost, np.inf).min(axis=-1)
    chosen = own < other
    side = _PARTS + 1
    lattice = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2) / _PARTS
    pixels = (corner[:, None] + step * lattice).reshape(-1, 2)
    owners = np.repeat(np.where(near, cells, -1), side * side, axis=0)
    cell, square = np.nonzero(chosen)
    first = cell * side * side + square // _PARTS * side + square % _PARTS
    a, b, c, d = first, first + 1, first + side, first + side + 1
    faces = np.concatenate([np.stack([a, c, b], axis=1), np.stack([b, c, d], axis=1)])
    used, faces = np.unique(faces, return_inverse=True)
    return Rim(pixels[used], owners[used], faces.reshape(-1, 3).astype(np.int32))
