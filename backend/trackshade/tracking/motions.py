# SPDX-License-Identifier: GPL-3.0-or-later
"""Divides what moves into parts that each move as an affine map of the picture: limbs, bodies, heads.

Tracks are grouped by expectation maximization: each part has an affine map for each frame, fitted to its points, and
each point belongs to the part whose maps explain its whole track best, as most points around it do. Parts whose points
one map explains as well are merged (compare Jepson and Black, Mixture Models for Optical Flow Computation, 1993).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from trackshade.control.compiling import kernel

_FRAMES = 16  # that decide
_POINTS_OF_PART, _MOST_PARTS = 40, 10  # points for each part to begin with
_OUTLIER = 4.0  # px: distance from which a track only counts as wrong
_LIKE_NEIGHBORS = 0.15  # squared px that a neighbor in another part costs
_MERGED = 1.0  # squared px by which two parts' common map may explain their points worse
_STIFF = 30.0  # squared px of spread from which points say how a part turns and grows
_SMALLEST = 10  # points of a part
_ROUNDS = 12
_LEAST_KNOWN, _LEAST_SHARE = 5, 0.12  # points of a part that are known, for its map to be fitted


@dataclass(frozen=True, eq=False)
class Tracks:
    """Points of a picture on a grid, and where they were followed to.

    Attributes:
        start: [N, 2] pixels in the frame in which they were found.
        cells: [N, 2] row and column on the grid.
        pixels: [T, N, 2] where they are.
        known: [T, N] whether that is known.
    """

    start: np.ndarray
    cells: np.ndarray
    pixels: np.ndarray
    known: np.ndarray

    def take(self, chosen: np.ndarray) -> Tracks:
        """Return some of the points."""
        return Tracks(self.start[chosen], self.cells[chosen], self.pixels[:, chosen], self.known[:, chosen])


def divide(tracks: Tracks) -> np.ndarray:
    """Return the part that each point belongs to, [N], from 0."""
    count = len(tracks.start)
    number = int(np.clip(count // _POINTS_OF_PART, 1, _MOST_PARTS))
    frames = np.unique(np.linspace(0, len(tracks.pixels) - 1, _FRAMES).round().astype(int))
    known = tracks.known[frames].astype(np.float64)
    moves = tracks.pixels[frames] - tracks.start
    labels = _initial(tracks.start, moves, number)
    if number == 1:
        return labels
    for _ in range(_ROUNDS):
        costs = _costs(tracks.start, moves, known, labels)
        labels = _like_neighbors(costs, labels, tracks.cells)
        labels = _renumber(labels)
    return _merge(tracks, moves, known, labels)


def _initial(start: np.ndarray, moves: np.ndarray, number: int) -> np.ndarray:
    """Group points by how they move and where they are, [N]."""
    features = np.concatenate([moves.transpose(1, 0, 2).reshape(len(start), -1) / np.sqrt(len(moves)), 0.3 * start], 1)
    if number == 1 or len(start) <= number:
        return np.zeros(len(start), np.intp)
    cv2.setRNGSeed(0)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.1)
    _, labels, _ = cv2.kmeans(features.astype(np.float32), number, None, criteria, 2, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]
    return labels[:, 0].astype(np.intp)


def fit_maps(start: np.ndarray, moves: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit affine maps of how points move in each frame: [F, 3, 2]; `weights` [F, N]."""
    middle = start.mean(axis=0)
    design = np.c_[start - middle, np.ones(len(start))]
    sums = np.zeros((len(weights), 3, 5))
    _sum_products(design, moves, weights, sums)
    maps = np.linalg.solve(sums[..., :3] + np.diag([_STIFF, _STIFF, 1e-3]), sums[..., 3:])
    maps[:, 2] -= middle @ maps[:, :2]
    return maps


@kernel
def _sum_products(design, moves, weights, sums):
    """Add the weighted products of rows of `design` [N, 3] with themselves and with `moves` [F, N, 2]: [F, 3, 5]."""
    for f in range(weights.shape[0]):
        for n in range(weights.shape[1]):
            if weights[f, n] == 0:
                continue
            for i in range(3):
                w = weights[f, n] * design[n, i]
                for j in range(3):
                    sums[f, i, j] += w * design[n, j]
                for c in range(2):
                    sums[f, i, 3 + c] += w * moves[f, n, c]


def _misses(start: np.ndarray, moves: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Return the squared distances of tracks from where maps lead, [F, N]."""
    return np.square(np.c_[start, np.ones(len(start))] @ maps - moves).sum(axis=2)


def _costs(start: np.ndarray, moves: np.ndarray, known: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how badly each part explains each track, mean over the known frames, [N, K] squared px."""
    out = []
    total = np.maximum(known.sum(axis=0), 1e-9)
    for label in range(labels.max() + 1):
        own = labels == label
        maps = fit_maps(start[own], moves[:, own], known[:, own])
        for _ in range(2):
            weights = known[:, own] / (1 + _misses(start[own], moves[:, own], maps) / 1.5**2)
            maps = fit_maps(start[own], moves[:, own], weights)
        out.append((known * np.minimum(_misses(start, moves, maps), _OUTLIER**2)).sum(axis=0) / total)
    return np.stack(out, axis=1)


def _like_neighbors(costs: np.ndarray, labels: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Choose parts that explain points well and that their neighbors belong to, [N]."""
    rows, columns = cells.max(axis=0) + 1
    for _ in range(4):
        grid = np.zeros((rows, columns, costs.shape[1]), np.float32)
        grid[cells[:, 0], cells[:, 1], labels] = 1
        near = np.stack([cv2.boxFilter(grid[..., k], -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
                         for k in range(costs.shape[1])], axis=-1)  # fmt: skip
        same = near[cells[:, 0], cells[:, 1]] - grid[cells[:, 0], cells[:, 1]]
        other = same.sum(axis=1, keepdims=True) - same
        labels = (costs + _LIKE_NEIGHBORS * other).argmin(axis=1)
    return labels


def _renumber(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels, return_inverse=True)[1].astype(np.intp).reshape(-1)


def _merge(tracks: Tracks, moves: np.ndarray, known: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Merge neighboring parts that move together, and those that are too small."""
    total = np.maximum(known.sum(axis=0), 1e-9)

    def error(own: np.ndarray) -> float:
        maps = fit_maps(tracks.start[own], moves[:, own], known[:, own])
        miss = np.minimum(_misses(tracks.start[own], moves[:, own], maps), _OUTLIER**2)
        return float(((known[:, own] * miss).sum(axis=0) / total[own]).sum())

    while True:
        labels = _renumber(labels)
        count = labels.max() + 1
        if count == 1:
            return labels
        sizes = np.bincount(labels)
        errors = [error(labels == label) for label in range(count)]
        best, pair = np.inf, (0, 0)
        for one, other in _touching(labels, tracks.cells):
            both = (labels == one) | (labels == other)
            smaller = min(sizes[one], sizes[other])
            worse = (error(both) - errors[one] - errors[other]) / smaller
            worse -= 1e3 * (smaller < _SMALLEST)
            if worse < best:
                best, pair = worse, (one, other)
        if best > _MERGED:
            break
        labels[labels == pair[1]] = pair[0]
    return labels


def _touching(labels: np.ndarray, cells: np.ndarray) -> list[tuple[int, int]]:
    """Return the pairs of parts that have neighboring points."""
    grid = np.full(cells.max(axis=0) + 1, -1)
    grid[cells[:, 0], cells[:, 1]] = labels
    pairs = set()
    for one, other in ((grid[:-1], grid[1:]), (grid[:, :-1], grid[:, 1:])):
        a, b = one.ravel(), other.ravel()
        kept = (a >= 0) & (b >= 0) & (a != b)
        pairs |= set(zip(np.minimum(a, b)[kept].tolist(), np.maximum(a, b)[kept].tolist(), strict=True))
    return sorted(pairs)


def part_maps(tracks: Tracks, whole: np.ndarray | None = None, first: int = 0) -> np.ndarray:
    """Fit how a part moves: affine maps [T, 3, 2] of places in the first frame to places.

    Where too few of its points are known, it moves on as the whole does from the nearest frame where enough are.

    Args:
        tracks: its points.
        whole: [T, 3, 2] maps of the whole that it belongs to; None for the whole itself, which stands still then.
        first: frame in which the points were found.
    """
    moves, known = tracks.pixels - tracks.start, tracks.known.astype(np.float64)
    maps = fit_maps(tracks.start, moves, known)
    for _ in range(3):
        maps = fit_maps(tracks.start, moves, known / (1 + _misses(tracks.start, moves, maps)))
    maps[:, :2] += np.eye(2)
    enough = known.sum(axis=1) >= max(_LEAST_KNOWN, _LEAST_SHARE * len(tracks.start))
    enough[first] = True
    sure = np.flatnonzero(enough)
    for t in np.flatnonzero(~enough):
        near = sure[np.abs(sure - t).argmin()]
        maps[t] = maps[near]
        if whole is not None:
            maps[t] = compose(maps[near], compose(invert(whole[near]), whole[t]))
    return maps


def compose(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the affine maps [..., 3, 2] that apply one map and then another."""
    out = one @ other[..., :2, :]
    out[..., 2, :] += other[..., 2, :]
    return out


def invert(maps: np.ndarray) -> np.ndarray:
    """Return the inverses of affine maps [..., 3, 2]."""
    back = np.linalg.inv(maps[..., :2, :] + 1e-6 * np.eye(2))
    return np.concatenate([back, -maps[..., 2:, :] @ back], axis=-2)


def apply(maps: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return where maps [..., 3, 2] take places [N, 2]: [..., N, 2]."""
    return places @ maps[..., :2, :] + maps[..., 2:, :]
