# SPDX-License-Identifier: GPL-3.0-or-later
"""Follows points by dense optical flow from frame to frame, which needs no camera: for what moves by itself.

Dense inverse search (Kroeger et al., Fast Optical Flow using Dense Inverse Search, 2016) in both directions; a point
is lost where the way back does not lead to where it came from. The result drifts, so that a point is then registered to
its patch in the first frame wherever this still looks alike.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from trackshade.control.compiling import inlined, kernel
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


@dataclass(frozen=True, eq=False)
class Flows:
    """Optical flow between consecutive frames, in smaller pictures.

    Attributes:
        ratio: [2] size of the smaller pictures relative to the frames.
        forward: [T - 1, h, w, 2] float32, from each frame to the next, pixels of the smaller pictures.
        backward: [T - 1, h, w, 2] float32, from each next frame back.
    """

    ratio: np.ndarray
    forward: np.ndarray
    backward: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the smaller pictures."""
        return self.forward.shape[2], self.forward.shape[1]

    def follow(self, points: np.ndarray, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Follow points to all frames, backward in time as well.

        Args:
            points: [N, 2] pixels of the smaller pictures, in frame `start`.
            start: the frame.

        Returns:
            [T, N, 2] pixels of the smaller pictures, the last known ones where a point is lost, and [T, N] whether it
            is not lost: a point is lost where the way back does not lead to where it came from.
        """
        count = len(self.forward) + 1
        pixels, alive = np.repeat(points[None].astype(np.float64), count, axis=0), np.ones((count, len(points)), bool)
        for t in range(start, count - 1):
            pixels[t + 1], alive[t + 1] = self._step(self.forward[t], self.backward[t], pixels[t], alive[t])
        for t in range(start, 0, -1):
            pixels[t - 1], alive[t - 1] = self._step(self.backward[t - 1], self.forward[t - 1], pixels[t], alive[t])
        return pixels, alive

    def _step(
        self, there: np.ndarray, back: np.ndarray, place: np.ndarray, alive: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        move = read_field(there, place)
        target = place + move
        miss = np.linalg.norm(move + read_field(back, target), axis=1)
        inside = ((target >= 0) & (target < self.size)).all(axis=1)
        good = alive & inside & (miss < _MISS + _MISS_SHARE * np.linalg.norm(move, axis=1))
        return np.where(good[:, None], target, place), good


def small_size(width: int, height: int) -> tuple[int, int]:
    """Return the (width, height) of the pictures that flow is computed in."""
    scale = min(1.0, _HEIGHT / height)
    return max(16, round(width * scale)), max(16, round(height * scale))


def compute_flows(grays: np.ndarray, threads: int, step: Callable[[float], None]) -> Flows:
    """Compute the optical flow between consecutive frames, in both directions.

    Args:
        grays: [T, H, W] uint8.
        threads: number of threads.
        step: called with the fraction that is done.
    """
    count, height, width = grays.shape
    size = small_size(width, height)
    small = [cv2.resize(gray, size, interpolation=cv2.INTER_AREA) for gray in grays]
    fields = np.zeros((2, count - 1, size[1], size[0], 2), np.float32)

    def both(t: int) -> tuple[np.ndarray, np.ndarray]:
        return dense_flow(small[t], small[t + 1]), dense_flow(small[t + 1], small[t])

    with ThreadPoolExecutor(threads) as pool:
        for t, (forward, backward) in enumerate(pool.map(both, range(count - 1))):
            fields[0, t], fields[1, t] = forward, backward
            step((t + 1) / (count - 1))
    return Flows(np.array(size) / (width, height), fields[0], fields[1])


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


def largest_channel(
    values: np.ndarray,  # [..., 3]
) -> np.ndarray:
    """Return the largest of three channels, [...]; numpy's `max` is slow over an axis that is short."""
    return np.maximum(np.maximum(values[..., 0], values[..., 1]), values[..., 2])


def read_field(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the values of a field [h, w, C] at points [N, 2] in pixels, bilinear: [N, C] float64."""
    out = np.empty((len(points), field.shape[2]))
    _read_field(np.ascontiguousarray(field, np.float32), np.ascontiguousarray(points, np.float64), out)
    return out


@inlined
def read_pixel(field, x, y, out):
    """Write the values of a field [h, w, C] at a place in pixels to `out` [C], bilinear."""
    height, width = field.shape[:2]
    x, y = min(max(x - 0.5, 0.0), width - 1.0), min(max(y - 0.5, 0.0), height - 1.0)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    u, v = x - left, y - top
    for c in range(field.shape[2]):
        upper = (1 - u) * field[top, left, c] + u * field[top, right, c]
        lower = (1 - u) * field[bottom, left, c] + u * field[bottom, right, c]
        out[c] = (1 - v) * upper + v * lower


@kernel
def _read_field(field, points, out):
    for n in range(points.shape[0]):
        read_pixel(field, points[n, 0], points[n, 1], out[n])
