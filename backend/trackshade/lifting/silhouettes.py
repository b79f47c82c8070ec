# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws smooth lines through the edges of a lattice that they are known to cross."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.sparse import csgraph

MARGIN = 0.04  # of an edge: how near to its ends it may be crossed
_FIRST_ROUNDS, _FIRST_STEP = 5, 0.7  # of smoothing, which gives the lines their directions
_STIFFNESS = 10.0  # of a line's angles, in relation to its squared distances from the middles of edges


def straighten(
    start: NDArray[np.float64], along: NDArray[np.float64], beside: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return where lines cross edges, so that they turn little, and stay near the middles of the edges.

    Both count by their squares, which is a linear system with a narrow band.

    Args:
        start: [n, 2] where each edge begins, in steps of the lattice.
        along: [n, 2] to its end.
        beside: [n, 2] numbers of the edges that the line crosses before and after; -1 for none.

    Returns:
        [n] fractions of the edges; never one of their ends.
    """
    t = np.full(len(start), 0.5)
    inner = np.flatnonzero((beside >= 0).all(axis=1))
    if not len(inner):
        return t
    before, after = beside[inner].T
    for _ in range(_FIRST_ROUNDS):
        place = start + t[:, None] * along
        normal = _normals(place[after] - place[before])
        away = ((place[inner] - place[before]) * normal).sum(axis=1) / (along[inner] * normal).sum(axis=1)
        t[inner] = np.clip(t[inner] - _FIRST_STEP * away, MARGIN, 1 - MARGIN)
    place = start + t[:, None] * along
    normal = _normals(place[after] - place[before])
    one, two = (np.linalg.norm(place[inner] - place[other], axis=1) for other in (before, after))
    # The angle at each place is `turn @ t + rest`.
    scale = (one + two) / (one * two)
    entries, rest = [], np.zeros(len(inner))
    for edge, weight in ((inner, scale), (before, -1 / one), (after, -1 / two)):
        entries.append(weight * (normal * along[edge]).sum(axis=1))
        rest += weight * (normal * start[edge]).sum(axis=1)
    columns, rows = np.concatenate([inner, before, after]), np.tile(np.arange(len(inner)), 3)
    turn = sparse.csr_array((np.concatenate(entries), (rows, columns)), (len(inner), len(start)))
    pull = np.ones(len(start))
    pull[inner] = 1e-3 + (one + two) / 2 * (normal * along[inner]).sum(axis=1) ** 2
    return np.clip(_solve(turn, rest, pull), MARGIN, 1 - MARGIN)


def _normals(chords: np.ndarray) -> np.ndarray:
    """Return unit normals [m, 2] of chords [m, 2]."""
    return np.stack([-chords[:, 1], chords[:, 0]], axis=1) / np.linalg.norm(chords, axis=1, keepdims=True)


def _solve(turn: sparse.csr_array, rest: np.ndarray, pull: np.ndarray) -> np.ndarray:
    """Return the [n] that minimize stiffness · |turn t + rest|² + Σ pull (t - 1/2)²."""
    connected = abs(turn)
    order = csgraph.reverse_cuthill_mckee(sparse.csr_matrix(connected.T @ connected), symmetric_mode=True)
    turn, pull = turn[:, order], pull[order]
    matrix = sparse.triu(_STIFFNESS * (turn.T @ turn)).tocoo()
    offset = matrix.col - matrix.row
    bands = np.zeros((int(offset.max()) + 1, len(pull)))
    bands[-1 - offset, matrix.col] = matrix.data
    bands[-1] += pull
    result = np.empty(len(pull))
    result[order] = linalg.solveh_banded(bands, pull * 0.5 - _STIFFNESS * (turn.T @ rest))
    return result
