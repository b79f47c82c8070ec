# SPDX-License-Identifier: GPL-3.0-or-later
"""Points followed by eye through a video, and how far they end from where they should be.

Pyramidal Lucas-Kanade on color, from frame to frame, each step there and back again. The follower itself errs: at
silhouettes, on plain surfaces, where light slides over a surface. So the end-point error of a made video is taken
over the points and frames that the follower gets right in the true video, and the error left there is its floor.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .points import TruePoints

_BACK = 0.5  # px: a step there and back may end this far from where it began
_TRUST = 1 / 144  # of the frame's width: what the follower may err in the true video
_MOVED = 1 / 144  # of the frame's width: how far from its first place a point must have moved to count
_LEAST = 20  # points and frames; with fewer there is no figure


@dataclass(frozen=True)
class Followed:
    """Where points were followed to.

    Attributes:
        pixels: [P, T, 2] float64.
        held: [P, T] bool, not lost up to this frame.
    """

    pixels: np.ndarray
    held: np.ndarray


@dataclass(frozen=True)
class EndPoints:
    """End-point error, over points and frames after the first in which the point is elsewhere than in the first.

    Attributes:
        pixels: mean distance from the true places, px; NaN with too few points.
        held: share of the trusted points and frames in which the point was not lost.
        trusted: share of the visible points and frames that the follower gets right in the true video.
    """

    pixels: float
    held: float
    trusted: float


def follow(video: np.ndarray, start: np.ndarray) -> Followed:
    """Follow points [P, 2], pixels of the first frame, through [T, H, W, 3] uint8."""
    frames = [np.ascontiguousarray(frame) for frame in video]
    pixels = np.empty((len(start), len(frames), 2))
    held = np.zeros((len(start), len(frames)), bool)
    pixels[:, 0], held[:, 0] = start, True
    if not len(start):
        return Followed(pixels, held)
    side = max(9, 2 * round(video.shape[2] / 40) + 1)
    back = _BACK * max(1.0, video.shape[2] / 144)
    # The library counts from pixel centers.
    here = np.asarray(start - 0.5, np.float32).reshape(-1, 1, 2)
    for t in range(1, len(frames)):
        there, found = _step(frames[t - 1], frames[t], here, side)
        again, found_again = _step(frames[t], frames[t - 1], there, side)
        near = np.linalg.norm((again - here)[:, 0], axis=1) <= back
        held[:, t] = held[:, t - 1] & found & found_again & near
        pixels[:, t], here = there[:, 0] + 0.5, there
    return Followed(pixels, held)


def _step(before: np.ndarray, after: np.ndarray, points: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, points, np.empty_like(points), winSize=(side, side), maxLevel=3, criteria=stop
    )
    return moved, found[:, 0] > 0


def trusted(found: Followed, points: TruePoints, width: int) -> np.ndarray:
    """[P, T] bool: the points and frames, visible without a break until then, that the follower gets right in the true
    video: where it was `found` there. `width` of the frame, px.
    """
    error = np.linalg.norm(found.pixels - points.pixels, axis=-1)
    right = found.held & unbroken(points) & (error <= _TRUST * width)
    return np.logical_and.accumulate(right, axis=1)


def unbroken(points: TruePoints) -> np.ndarray:
    """[P, T] bool: seen in this frame and in all before."""
    return np.logical_and.accumulate(points.seen, axis=1)


def end_points(found: Followed, points: TruePoints, trust: np.ndarray, width: int) -> EndPoints:
    """Compare followed points with the true places, where the follower is trusted (see `trusted`) and the true place
    has moved: what rests says nothing. `width` of the frame, px.
    """
    gone = np.linalg.norm(points.pixels - points.pixels[:, :1], axis=-1) >= _MOVED * width
    visible, counted = (unbroken(points) & gone)[:, 1:], (trust & gone)[:, 1:]
    kept = counted & found.held[:, 1:]
    error = np.linalg.norm(found.pixels - points.pixels, axis=-1)[:, 1:][kept]
    enough = len(error) >= _LEAST
    return EndPoints(
        float(error.mean()) if enough else float("nan"),
        float(kept.sum() / counted.sum()) if counted.any() else float("nan"),
        float(counted.sum() / visible.sum()) if visible.any() else float("nan"),
    )
