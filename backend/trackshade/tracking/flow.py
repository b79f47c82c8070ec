# SPDX-License-Identifier: GPL-3.0-or-later
"""Follows points by dense optical flow from frame to frame, which needs no camera: for what moves by itself.

Dense inverse search (Kroeger et al., Fast Optical Flow using Dense Inverse Search, 2016) in both directions; a point
is lost where the way back does not lead to where it came from. The result drifts, so that a point is then registered to
its patch in the first frame wherever this still looks alike.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from trackshade.tracking.features import correlation

_HEIGHT = 240  # px: of the pictures that flow is computed in
_MISS, _MISS_SHARE = 0.7, 0.05  # px, and of the flow: most that the way back may miss the start
_WINDOW = (13, 13)
_ALIKE, _BACK, _DRIFT = 0.8, 0.6, 4.0  # of a registered point: correlation, way back, and change of place, px
_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 25, 0.01)


def dense_flow(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the optical flow from a gray picture to another, [H, W, 2] float32 pixels."""
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    method.setFinestScale(0)
    method.setPatchSize(8)
    method.setPatchStride(4)
    method.setGradientDescentIterations(15)
    return method.calc(one, other, None)  # type: ignore[call-overload]


def follow_by_flow(
    grays: np.ndarray, points: np.ndarray, threads: int, step: Callable[[float], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Follow points of the first frame.

    Args:
        grays: [T, H, W] uint8.
        points: [N, 2] pixels of the first frame.
        threads: number of threads.
        step: called with the fraction that is done.

    Returns:
        [T, N, 2] pixels, the last known ones where a point is lost, and [T, N] whether it is not lost.
    """
    count, height, width = grays.shape
    scale = min(1.0, _HEIGHT / height)
    size = max(16, round(width * scale)), max(16, round(height * scale))
    small = [cv2.resize(gray, size, interpolation=cv2.INTER_AREA) for gray in grays]
    ratio = np.array(size) / (width, height)
    place = points * ratio
    pixels, alive = np.repeat(points[None], count, axis=0), np.ones((count, len(points)), bool)
    pairs = [(t, t + 1) for t in range(count - 1)]

    def both(pair: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        return dense_flow(small[pair[0]], small[pair[1]]), dense_flow(small[pair[1]], small[pair[0]])

    with ThreadPoolExecutor(threads) as pool:
        for t, (forward, backward) in enumerate(pool.map(both, pairs)):
            move = _at(forward, place)
            target = place + move
            miss = np.linalg.norm(move + _at(backward, target), axis=1)
            inside = ((target >= 0) & (target < size)).all(axis=1)
            good = alive[t] & inside & (miss < _MISS + _MISS_SHARE * np.linalg.norm(move, axis=1))
            place = np.where(good[:, None], target, place)
            alive[t + 1], pixels[t + 1] = good, place / ratio
            step((t + 1) / (count - 1))
    return pixels, alive


def anchor(grays: np.ndarray, points: np.ndarray, pixels: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Register followed points to their patches in the first frame where these still look alike; returns [T, N, 2]."""
    out = pixels.copy()
    start = (points - 0.5).astype(np.float32)
    flags = cv2.OPTFLOW_USE_INITIAL_FLOW
    for t in range(1, len(grays)):
        chosen = np.flatnonzero(alive[t])
        if not len(chosen):
            continue
        begin, guess = start[chosen], (pixels[t, chosen] - 0.5).astype(np.float32)
        there, good, _ = cv2.calcOpticalFlowPyrLK(
            grays[0], grays[t], begin, guess.copy(), None, None, _WINDOW, 1, _CRITERIA, flags
        )  # type: ignore[call-overload]
        back, _, _ = cv2.calcOpticalFlowPyrLK(
            grays[t], grays[0], there, begin.copy(), None, None, _WINDOW, 1, _CRITERIA, flags
        )  # type: ignore[call-overload]
        kept = (good[:, 0] > 0) & (np.abs(back - begin).max(axis=1) < _BACK)
        kept &= (np.abs(there - guess).max(axis=1) < _DRIFT) & (correlation(grays[0], grays[t], begin, there) > _ALIKE)
        out[t, chosen[kept]] = there[kept] + 0.5
    return out


def _at(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return a flow field's values at points [N, 2], bilinear."""
    x, y = (np.ascontiguousarray(points[:, axis] - 0.5, np.float32) for axis in (0, 1))
    rows = -(-len(x) // 4096)
    x, y = (np.resize(line, (rows, 4096)) for line in (x, y))  # OpenCV takes no row of more than 32,767 pixels
    found = cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found.reshape(-1, 2)[: len(points)].astype(np.float64)
