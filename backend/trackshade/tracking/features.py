# SPDX-License-Identifier: GPL-3.0-or-later
"""Follows corners through a clip: what the camera is solved from.

Each corner belongs to the frame in which it was found, its host, and is followed from frame to frame by the pyramidal
Lucas-Kanade method. In every frame it is then registered to the patch around it in its host, so that it does not drift;
it ends where the patch no longer looks alike. Every few frames new corners are found where there are none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from trackshade.control.compiling import kernel

KEY_STEP = 6  # frames from one search for corners to the next
_QUALITY, _DISTANCE = 0.008, 9  # of corners: the least strength relative to the best one, and their distance, px
_WINDOW = (15, 15)
_ROUND_TRIP = 0.7  # px: most that a corner followed back may miss its start
_DRIFT = 2.0  # px: most that registering may move a corner
_ALIKE = 0.82  # least correlation of a corner's patch with that in its host
_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.01)


@dataclass(frozen=True, eq=False)
class Features:
    """Corners and where they were followed to.

    Attributes:
        hosts: [N] frame in which each was found.
        pixels: [T, N, 2] float64 positions, pixels.
        seen: [T, N] whether it was followed to that frame; True in its host.
    """

    hosts: np.ndarray
    pixels: np.ndarray
    seen: np.ndarray

    def take(self, chosen: np.ndarray) -> Features:
        """Return some of the features."""
        return Features(self.hosts[chosen], self.pixels[:, chosen], self.seen[:, chosen])


def follow_features(grays: np.ndarray, most: int, step: Callable[[float], None]) -> Features:
    """Find corners and follow them to the end of the clip.

    Args:
        grays: [T, H, W] uint8.
        most: number of corners to have in a frame.
        step: called with the fraction that is done.
    """
    count = len(grays)
    hosts: list[np.ndarray] = []
    tracks: list[np.ndarray] = []  # [N, 2] of each frame, NaN where a corner is not seen
    host = np.zeros(0, np.intp)
    found = np.zeros((0, 2), np.float32)  # where each corner is in its host
    now = np.zeros((0, 2), np.float32)  # where it is in the present frame, NaN once lost
    for t in range(count):
        if t:
            now = _follow(grays[t - 1], grays[t], now)
            now = _register(grays, host, found, t, now)
        if t % KEY_STEP == 0 and t < count - 1:
            fresh = _find_corners(grays[t], now, most)
            host = np.r_[host, np.full(len(fresh), t)]
            found, now = np.r_[found, fresh], np.r_[now, fresh]
        hosts.append(host)
        tracks.append(now.copy())
        step((t + 1) / count)
    pixels = np.full((count, len(host), 2), np.nan)
    for t, track in enumerate(tracks):
        pixels[t, : len(track)] = track + 0.5  # OpenCV's pixels have their centers at whole numbers
    seen = np.isfinite(pixels).all(axis=2)
    long = seen.sum(axis=0) >= min(3, count)
    return Features(host[long], np.where(seen[..., None], pixels, 0)[:, long], seen[:, long])


def _find_corners(gray: np.ndarray, present: np.ndarray, most: int) -> np.ndarray:
    """Return corners that are not near those that are present, [N, 2] float32 in OpenCV's coordinates."""
    alive = present[np.isfinite(present[:, 0])]
    wanted = most - len(alive)
    if wanted < 10:
        return np.zeros((0, 2), np.float32)
    mask = np.full(gray.shape, 255, np.uint8)
    for x, y in alive:
        cv2.circle(mask, (round(float(x)), round(float(y))), _DISTANCE, (0,), -1)
    mask[:5], mask[-5:], mask[:, :5], mask[:, -5:] = 0, 0, 0, 0
    corners = cv2.goodFeaturesToTrack(gray, wanted, _QUALITY, _DISTANCE, mask=mask, blockSize=7)
    return np.zeros((0, 2), np.float32) if corners is None else corners.reshape(-1, 2)


def _follow(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return where points are in the next frame, NaN where the way back does not lead to the start."""
    out = np.full_like(points, np.nan)
    alive = np.flatnonzero(np.isfinite(points[:, 0]))
    if not len(alive):
        return out
    start = np.ascontiguousarray(points[alive])
    there, good, _ = cv2.calcOpticalFlowPyrLK(before, after, start, None, None, None, _WINDOW, 4, _CRITERIA)  # type: ignore[call-overload]
    back, also, _ = cv2.calcOpticalFlowPyrLK(
        after, before, there, start.copy(), None, None, _WINDOW, 1, _CRITERIA, cv2.OPTFLOW_USE_INITIAL_FLOW
    )  # type: ignore[call-overload]
    close = np.abs(back - start).max(axis=1) < _ROUND_TRIP
    kept = (good[:, 0] > 0) & (also[:, 0] > 0) & close
    out[alive[kept]] = there[kept]
    return out


def _register(grays: np.ndarray, host: np.ndarray, found: np.ndarray, t: int, now: np.ndarray) -> np.ndarray:
    """Move each corner to where frame `t` looks most like its patch in its host; NaN where nothing does."""
    out = np.full_like(now, np.nan)
    height, width = grays.shape[1:]
    for key in np.unique(host):
        alive = np.flatnonzero((host == key) & np.isfinite(now[:, 0]))
        if not len(alive):
            continue
        start, guess = np.ascontiguousarray(found[alive]), np.ascontiguousarray(now[alive])
        there, good, _ = cv2.calcOpticalFlowPyrLK(
            grays[key], grays[t], start, guess.copy(), None, None, _WINDOW, 1, _CRITERIA,
            cv2.OPTFLOW_USE_INITIAL_FLOW,
        )  # type: ignore[call-overload]  # fmt: skip
        near = np.abs(there - guess).max(axis=1) < _DRIFT
        inside = ((there >= 2) & (there <= (width - 3, height - 3))).all(axis=1)
        alike = correlation(grays[key], grays[t], start, there) > _ALIKE
        kept = (good[:, 0] > 0) & near & inside & alike
        out[alive[kept]] = there[kept]
    return out


def correlation(
    one: np.ndarray,  # [H, W]
    other: np.ndarray,  # [H, W]
    first: np.ndarray,  # [N, 2] in OpenCV's coordinates
    second: np.ndarray,  # [N, 2]
    radius: int = 5,
) -> np.ndarray:
    """Return the normalized cross-correlation of square patches around points of two pictures, [N]."""
    steps = np.arange(-radius, radius + 1, dtype=np.float32)
    offsets = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    patches = []
    for image, points in ((one, first), (other, second)):
        at = points[:, None].astype(np.float32) + offsets
        rows = [np.ascontiguousarray(at[..., axis]) for axis in (0, 1)]
        patch = np.concatenate(
            [
                cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
                for x, y in zip(*(np.array_split(row, max(1, len(row) // 16000)) for row in rows), strict=True)
            ]
        )
        patches.append(patch)
    out = np.empty(len(first), np.float32)
    _correlate(*patches, out)
    return out


@kernel
def _correlate(ones, others, out):
    """Write the normalized cross-correlation of patches [N, K]."""
    count = ones.shape[1]
    for n in range(ones.shape[0]):
        mean, other = 0.0, 0.0
        for k in range(count):
            mean += ones[n, k]
            other += others[n, k]
        mean, other = mean / count, other / count
        both, square, other_square = 0.0, 0.0, 0.0
        for k in range(count):
            a, b = ones[n, k] - mean, others[n, k] - other
            both, square, other_square = both + a * b, square + a * a, other_square + b * b
        out[n] = both / math.sqrt(square * other_square + 1e-3)
