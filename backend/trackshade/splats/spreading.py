# SPDX-License-Identifier: GPL-3.0-or-later
"""An even choice among points: those that are most crowded are left out.

Source: Yuksel 2015, "Sample elimination for generating Poisson disk sample sets".
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from trackshade.control.compiling import kernel

NEIGHBORS = 13  # with the point itself
REACH = 1.07  # distance in units of the wanted spacing from which on points do not crowd each other
EXPONENT = 8


def choose_evenly(
    positions: np.ndarray,  # [N, 3]
    spacing: np.ndarray,  # [N] wanted distance to the nearest points that are kept
    count: int,
) -> np.ndarray:
    """Return the ascending indices of `count` of the points."""
    if count >= len(positions):
        return np.arange(len(positions))
    if count <= 0:
        return np.zeros(0, np.int64)
    most = min(NEIGHBORS, len(positions))
    distance, neighbor = cKDTree(positions).query(positions, most)
    distance, neighbor = distance.reshape(-1, most), neighbor.reshape(-1, most)
    wanted = REACH * 0.5 * (spacing[:, None] + spacing[neighbor])
    crowding = np.maximum(1 - distance / np.maximum(wanted, 1e-12), 0) ** EXPONENT
    crowding[neighbor == np.arange(len(positions))[:, None]] = 0
    keep = np.ones(len(positions), np.bool_)
    _eliminate(crowding.sum(axis=1), crowding, neighbor.astype(np.int64), len(positions) - count, keep)
    return np.flatnonzero(keep)


@kernel
def _eliminate(weight, crowding, neighbor, count, keep):
    """Clear `keep` for the most crowded point, time after time; `heap` has the heaviest point first."""
    size = weight.shape[0]
    heap, place = np.arange(size), np.arange(size)
    for n in range(size // 2 - 1, -1, -1):
        _sink(heap, place, weight, n, size)
    for _ in range(count):
        point = heap[0]
        keep[point] = False
        size -= 1
        heap[0] = heap[size]
        place[heap[0]] = 0
        place[point] = -1
        _sink(heap, place, weight, 0, size)
        for k in range(neighbor.shape[1]):
            other = neighbor[point, k]
            if crowding[point, k] > 0.0 and place[other] >= 0:
                weight[other] -= crowding[point, k]
                _sink(heap, place, weight, place[other], size)


@kernel
def _sink(heap, place, weight, at, size):
    """Move a point down the heap until none below is heavier."""
    point = heap[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and weight[heap[child + 1]] > weight[heap[child]]:
            child += 1
        if weight[heap[child]] <= weight[point]:
            break
        heap[at] = heap[child]
        place[heap[at]] = at
        at = child
    heap[at] = point
    place[point] = at
