# SPDX-License-Identifier: GPL-3.0-or-later
"""Points followed through a video by optical flow, and their distance from the true positions.

Pyramidal Lucas-Kanade in color from frame to frame, with a forward-backward check. The follower errs by itself: at
silhouettes, on plain surfaces, where light moves over a surface. So the end-point error of a generated video is taken
over the points and frames that are followed correctly in the true video, and the error left there is its floor.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .points import ReferencePoints

_BACKWARD_ERROR = 0.5  # px in a frame of width 144: tolerance of the forward-backward check
_TRUSTED_ERROR = 1 / 144  # of the frame's width: tolerance in the true video
_MIN_MOTION = 1 / 144  # of the frame's width: how far a point must be from its first position to count
_MIN_SAMPLES = 20  # points and frames


@dataclass(frozen=True)
class FollowedPoints:
    """Points followed through a video."""

    pixels: np.ndarray  # [P, T, 2] float64, positions
    valid: np.ndarray  # [P, T] bool, the point has not been lost up to this frame


def follow_points(
    video: np.ndarray,  # [T, H, W, 3] uint8
    start: np.ndarray,  # [P, 2] px
) -> FollowedPoints:
    """Follow points of the first frame through a video."""
    frames = [np.ascontiguousarray(frame) for frame in video]
    pixels = np.empty((len(start), len(frames), 2))
    valid = np.zeros((len(start), len(frames)), bool)
    pixels[:, 0], valid[:, 0] = start, True
    if not len(start):
        return FollowedPoints(pixels, valid)
    window = max(9, 2 * round(video.shape[2] / 40) + 1)
    tolerance = _BACKWARD_ERROR * max(1.0, video.shape[2] / 144)
    current = np.asarray(start - 0.5, np.float32).reshape(-1, 1, 2)  # OpenCV counts from pixel centers
    for t in range(1, len(frames)):
        forward, found = _optical_flow(frames[t - 1], frames[t], current, window)
        backward, found_again = _optical_flow(frames[t], frames[t - 1], forward, window)
        consistent = np.linalg.norm((backward - current)[:, 0], axis=1) <= tolerance
        valid[:, t] = valid[:, t - 1] & found & found_again & consistent
        pixels[:, t], current = forward[:, 0] + 0.5, forward
    return FollowedPoints(pixels, valid)


def _optical_flow(
    before: np.ndarray, after: np.ndarray, points: np.ndarray, window: int
) -> tuple[np.ndarray, np.ndarray]:
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, points, np.empty_like(points), winSize=(window, window), maxLevel=3, criteria=criteria
    )
    return moved, found[:, 0] > 0


def find_trusted(followed: FollowedPoints, points: ReferencePoints, width: int) -> np.ndarray:
    """Return the points and frames, [P, T] bool, that are followed correctly in the true video of a width in px."""
    error = np.linalg.norm(followed.pixels - points.pixels, axis=-1)
    correct = followed.valid & _visible_so_far(points) & (error <= _TRUSTED_ERROR * width)
    return np.logical_and.accumulate(correct, axis=1)


def end_point_error(
    followed: FollowedPoints,
    points: ReferencePoints,
    trusted: np.ndarray,  # [P, T] bool, see `find_trusted`
    width: int,  # of the frame, px
) -> dict[str, float]:
    """Compare points followed through a generated video with their true positions, where these have moved.

    Returns:
        `end_px`: mean distance in pixels, and `end_share`: relative to the width; NaN with too few points.
        `held`: fraction of the trusted points and frames in which the point was not lost.
        `trusted`: fraction of the visible points and frames that are followed correctly in the true video.
    """
    moved = np.linalg.norm(points.pixels - points.pixels[:, :1], axis=-1) >= _MIN_MOTION * width
    visible, counted = (_visible_so_far(points) & moved)[:, 1:], (trusted & moved)[:, 1:]
    kept = counted & followed.valid[:, 1:]
    error = np.linalg.norm(followed.pixels - points.pixels, axis=-1)[:, 1:][kept]
    pixels = float(error.mean()) if len(error) >= _MIN_SAMPLES else float("nan")
    return {
        "end_px": pixels,
        "end_share": pixels / width,
        "held": float(kept.sum() / counted.sum()) if counted.any() else float("nan"),
        "trusted": float(counted.sum() / visible.sum()) if visible.any() else float("nan"),
    }


def _visible_so_far(points: ReferencePoints) -> np.ndarray:
    """Whether a point is visible in a frame and in all before, [P, T] bool."""
    return np.logical_and.accumulate(points.visible, axis=1)
