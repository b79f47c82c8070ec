# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells what moves by itself from what only the camera moves.

A point moves if following it leads away from where the solved camera would show it, and the picture there looks more
like the point's patch. Points without texture do as most points around them.
"""

from __future__ import annotations

import cv2
import numpy as np

from trackshade.tracking.features import correlation

_APART = 2.5  # px between the two places of a point for the question to be asked
_BETTER = 0.12  # correlation by which the followed place has to look better
_FRAMES = 10  # the first frames that ask the question decide
_TEXTURE = 4.0  # levels: least standard deviation of a patch that decides
_NEIGHBORHOOD = 5  # points along a side of the square in which most decide
_SMALLEST = 12  # points of a moving part
_MOST_PARTS = 12


def find_moving(
    grays: np.ndarray,
    points: np.ndarray,
    contrast: np.ndarray,
    static: tuple[np.ndarray, np.ndarray],
    followed: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Return how much better each point is explained by its own motion, [N]; NaN where this cannot be told.

    Args:
        grays: [T, H, W] uint8.
        points: [N, 2] pixels of the first frame.
        contrast: [N] standard deviations of their patches, levels.
        static: [T, N, 2] where the camera shows them if they stand still, and [T, N] correlations there.
        followed: [T, N, 2] where following leads, and [T, N] whether it is known.
    """
    asked = np.zeros(len(points), int)
    total = np.zeros(len(points))
    textured = contrast > _TEXTURE
    for t in range(1, len(grays)):
        apart = np.linalg.norm(followed[0][t] - static[0][t], axis=1) > _APART
        chosen = np.flatnonzero(textured & followed[1][t] & apart & (asked < _FRAMES) & (static[1][t] > -1))
        if len(chosen):
            alike = correlation(grays[0], grays[t], points[chosen] - 0.5, followed[0][t, chosen] - 0.5, 4)
            # A patch that looks alike nowhere, since it is hidden or turned, says nothing.
            chosen, alike = chosen[alike > 0.5], alike[alike > 0.5]
            total[chosen] += alike - static[1][t, chosen]
            asked[chosen] += 1
    rested = textured & (asked < 2)
    return np.where(asked >= 2, total / np.maximum(asked, 1), np.where(rested, 0.0, np.nan))


def group_moving(evidence: np.ndarray, shape: tuple[int, int]) -> list[np.ndarray]:
    """Return the points of each moving part, the largest part first.

    Args:
        evidence: [N] see `find_moving`; of points on a grid, row by row.
        shape: (rows, columns) of the grid.
    """
    known = np.isfinite(evidence).reshape(shape).astype(np.float32)
    moves = (np.nan_to_num(evidence) > _BETTER).reshape(shape).astype(np.float32)
    window = (_NEIGHBORHOOD, _NEIGHBORHOOD)
    share = cv2.blur(moves, window) / np.maximum(cv2.blur(known, window), 1e-6)
    is_moving = (share > 0.5).astype(np.uint8)
    count, labels, areas, _ = cv2.connectedComponentsWithStats(is_moving, connectivity=8)
    order = sorted(range(1, count), key=lambda label: -areas[label, cv2.CC_STAT_AREA])
    large = [label for label in order if areas[label, cv2.CC_STAT_AREA] >= _SMALLEST]
    return [np.flatnonzero(labels.ravel() == label) for label in large[:_MOST_PARTS]]
