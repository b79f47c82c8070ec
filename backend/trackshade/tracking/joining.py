# SPDX-License-Identifier: GPL-3.0-or-later
"""Joins points on a grid to triangles, and finds where neighbors lie on different surfaces."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Joined = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Returns for pairs of points, given as indices [N] and [N], whether they are joined, [N] bool."""
CUT_JUMP = 0.05  # of the inverse depth: most that neighbors may differ from what the slope of either predicts
CUT_STEP = 0.35  # and most that they may differ at all


def cut_edges(pixels: np.ndarray, inverse: np.ndarray, slopes: np.ndarray) -> Joined:
    """Return a function that tells whether two points lie on different surfaces.

    Args:
        pixels: [N, 2] places in the first frame.
        inverse: [N] inverse depths.
        slopes: [N, 2] their change for each pixel to the right and downwards.
    """

    def cut(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        apart = pixels[b] - pixels[a]
        change = inverse[b] - inverse[a]
        typical = np.minimum(inverse[a], inverse[b])
        surprise = np.minimum(
            np.abs(change - (slopes[a] * apart).sum(axis=1)), np.abs(change - (slopes[b] * apart).sum(axis=1))
        )
        return (surprise > CUT_JUMP * typical) | (np.abs(change) > CUT_STEP * typical)

    return cut


def grid_triangles(grid: tuple[int, ...], joined: Joined) -> np.ndarray:
    """Return the triangles of a grid all of whose edges are joined, [F, 3] int32; the picture's y points downwards."""
    rows, columns = grid
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1].ravel(), index[:-1, 1:].ravel(), index[1:, :-1].ravel(), index[1:, 1:].ravel()
    ab, ac, bd, cd, bc, ad = joined(a, b), joined(a, c), joined(b, d), joined(c, d), joined(b, c), joined(a, d)
    # Each cell is split along a diagonal that is joined, if there is one.
    first = bc
    parts = [
        np.stack([a, c, b], axis=1)[first & ab & ac],
        np.stack([b, c, d], axis=1)[first & bd & cd],
        np.stack([a, c, d], axis=1)[~first & ad & ac & cd],
        np.stack([a, d, b], axis=1)[~first & ad & ab & bd],
    ]
    return np.concatenate(parts).astype(np.int32)
