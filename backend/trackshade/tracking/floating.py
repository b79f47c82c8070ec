# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds what was taken to stand still at a depth that it cannot have.

What moves against the camera looks like something nearer that stands still, and gets this depth. Then it seems to float
in front of the floor that it stands on, since there the picture shows a farther surface beneath it. What hangs, or is
seen over a thin post, does so, too, but there the pictures of all frames agree with standing still.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from scipy import ndimage

from trackshade.tracking.features import correlation
from trackshade.tracking.points import PointSolve

_NEARER = 1.2  # times the least inverse depth below in the picture, from which something floats
_SMALLEST = 12  # points of a piece
_TEXTURE = 4.0  # levels: least standard deviation of a patch that says something
_LEAST_POINTS, _LEAST_FRAMES = 6, 5  # of a piece that say something, and in which most of these are followed
_BETTER = 0.04  # mean correlation by which pictures look more like the patches where following leads


def floating_pieces(
    grays: np.ndarray, solved: PointSolve, pixels: np.ndarray, alive: np.ndarray, moving: np.ndarray
) -> list[np.ndarray]:
    """Return the points of each piece that floats and that its own motion explains better than standing still.

    Args:
        grays: [T, H, W] uint8, upright.
        solved: the points.
        pixels: [T, N, 2] where following leads.
        alive: [T, N] whether that is known.
        moving: [N] which points are known to move: pieces that they are in are left out.
    """
    inverse = cv2.medianBlur(solved.shape[:, 0].reshape(solved.grid).astype(np.float32), 3)
    least = np.minimum.accumulate(inverse[::-1], axis=0)[::-1]
    below = np.concatenate([least[1:], least[-1:]])
    found: Any = ndimage.label(inverse > _NEARER * below, np.ones((3, 3), bool))
    labels, count = found
    out = []
    for label in range(1, count + 1):
        piece = np.flatnonzero(labels.ravel() == label)
        if len(piece) >= _SMALLEST and not moving[piece].any() and _gain(grays, solved, piece, pixels, alive) > _BETTER:
            out.append(piece)
    return out


def _gain(grays: np.ndarray, solved: PointSolve, piece: np.ndarray, pixels: np.ndarray, alive: np.ndarray) -> float:
    """Return how much more alike patches are where following leads, on the mean; less than 0 if this is unknown."""
    chosen = piece[solved.contrast[piece] > _TEXTURE]
    known = alive[1:, chosen] & (solved.alike[1:, chosen] > -1)
    if len(chosen) < _LEAST_POINTS or np.median(known.sum(axis=0)) < _LEAST_FRAMES:
        return -1.0
    total = 0.0
    for t, own in enumerate(known, start=1):
        some = chosen[own]
        if len(some):
            followed = correlation(grays[0], grays[t], solved.points[some] - 0.5, pixels[t, some] - 0.5, 4)
            total += float((followed - solved.alike[t, some]).sum())
    return total / known.sum()
