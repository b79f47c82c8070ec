# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the camera's tilt, roll and focal length from line segments of a world with three perpendicular directions.

A hypothesis is a focal length, a direction down and an azimuth of the two level directions. Its score is the weight of
the segments that point to one of the three vanishing points. Directions down come from pairs of upright segments, as
in RANSAC; azimuths and focal lengths are searched on a grid. The best hypotheses are refined by robust least squares,
whose covariance says how certain they are. Without a prior on the focal length, parallel lines would pull it to
infinity.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

Array = NDArray[np.float64]

_SIDE = 800  # pixels of the longer side in which segments are found
_LEAST_LENGTH = 0.022  # of the picture's diagonal
_MOST_SEGMENTS = 400
_LEAST_SEGMENTS = 12
_FOCALS = np.geomspace(0.42, 2.4, 14)  # of the longer side
_FOCAL, _FOCAL_SPREAD, _FOCAL_WEIGHT = 0.7, 0.4, 0.025  # the prior on its logarithm
_PITCH_SPREAD, _ROLL_SPREAD, _TILT_WEIGHT = math.radians(15), math.radians(5), 0.01  # the prior on the camera's tilt
_MOST_PITCH, _MOST_ROLL = math.radians(40), math.radians(15)
_ANGLE_ERROR, _PIXEL_ERROR = math.sin(math.radians(0.5)), 1.5 / 800  # of a segment's direction, of its ends
_GATE = 1.5  # tolerances within which least squares use a segment
_UPRIGHT = math.cos(math.radians(30))
_ZENITHS, _KEPT_ZENITHS = 240, 6
_AZIMUTHS = np.radians(np.arange(0.0, 90.0, 1.0))
_REFINED = 4  # hypotheses
_SCORE_SPREAD = 0.015  # of the score, between alternatives that are about as good


@dataclass(frozen=True, eq=False)
class Segments:
    """Line segments of a picture; lengths are in units of its longer side, from its middle.

    Attributes:
        start: [n, 2] ends.
        end: [n, 2].
        weight: [n] length, limited so that no single segment dominates.
    """

    start: Array
    end: Array
    weight: Array

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def tolerance(self) -> Array:
        """[n] sine of the angle to the vanishing point that a segment may have: short ones are less precise."""
        length = np.linalg.norm(self.end - self.start, axis=1)
        return np.sqrt(_ANGLE_ERROR**2 + (_PIXEL_ERROR / np.maximum(length, 1e-9)) ** 2)

    @property
    def middle(self) -> Array:
        """[n, 2]."""
        return (self.start + self.end) / 2

    @property
    def direction(self) -> Array:
        """[n, 2] unit vectors."""
        along = self.end - self.start
        return along / np.maximum(np.linalg.norm(along, axis=1), 1e-9)[:, None]

    def chosen(self, mask: NDArray[np.bool_]) -> Segments:
        """Return some of them."""
        return Segments(self.start[mask], self.end[mask], self.weight[mask])

    def errors(self, points: Array) -> Array:
        """Return the signed sine of the angle between each segment and the line from its middle to vanishing points.

        Args:
            points: [..., 3] homogeneous.

        Returns:
            [..., n].
        """
        middle, direction = self.middle, self.direction
        x = points[..., 0, None] - points[..., 2, None] * middle[:, 0]
        y = points[..., 1, None] - points[..., 2, None] * middle[:, 1]
        cross = x * direction[:, 1] - y * direction[:, 0]
        return cross / np.maximum(np.sqrt(x * x + y * y), 1e-9)


@dataclass(frozen=True, eq=False)
class Frame:
    """The three directions of a scene, as its lines show them.

    Attributes:
        focal: focal length, in units of the picture's longer side.
        axes: [3, 3] columns are right, down and away in camera axes.
        support: share of the segments' weight that points to a vanishing point.
        counts: number of segments along right, down and away.
        focal_error: standard deviation of the focal length's natural logarithm.
        line_error: the same by the scatter of the lines alone, without other focal lengths that fit about as well.
        tilt_error: standard deviation of the direction down, radians.
        finite: number of vanishing points with segments that do not lie far outside the picture.
        segments: the segments.
        axis_of: [n] axis of each segment (0, 1 or 2), or -1.
    """

    focal: float
    axes: Array
    support: float
    counts: tuple[int, int, int]
    focal_error: float
    line_error: float
    tilt_error: float
    finite: int
    segments: Segments
    axis_of: NDArray[np.int64]


def find_segments(colors: NDArray[np.uint8]) -> Segments:
    """Find the line segments of a picture [h, w, 3], the longest."""
    gray = cv2.cvtColor(colors, cv2.COLOR_RGB2GRAY)
    height, width = gray.shape
    scale = min(1.0, _SIDE / max(height, width))
    if scale < 1:
        gray = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    found = cv2.createLineSegmentDetector(cv2.LSD_REFINE_STD).detect(gray)[0]
    lines = np.zeros((0, 4)) if found is None else found[:, 0].astype(np.float64) / scale
    length = np.hypot(lines[:, 2] - lines[:, 0], lines[:, 3] - lines[:, 1])
    order = np.argsort(-length)[:_MOST_SEGMENTS]
    order = order[length[order] > _LEAST_LENGTH * math.hypot(width, height)]
    side, middle = max(width, height), np.array([width, height]) / 2
    start, end = (lines[order, :2] - middle) / side, (lines[order, 2:] - middle) / side
    return Segments(start, end, np.minimum(length[order] / side, 0.25))


def find_frame(segments: Segments, focal: float | None = None) -> Frame | None:
    """Find the directions of the scene.

    Args:
        segments: the picture's line segments.
        focal: focal length in units of the picture's longer side, if it is known.

    Returns:
        The best frame; None if there are too few segments.
    """
    if len(segments) < _LEAST_SEGMENTS:
        return None
    rng = np.random.default_rng(0)
    profile: list[tuple[float, float, Array]] = []
    for value in _FOCALS if focal is None else [focal]:
        axes = _hypotheses(segments, value, rng)
        scores = _score(segments, axes, value, focal is None)
        for index in np.argsort(-scores)[: 1 if focal is None else _REFINED]:
            fixed = _refine(segments, axes[index], value, focal_is_known=True, rounds=1)[0]
            profile.append((float(_score(segments, fixed[None], value, focal is None)[0]), float(value), fixed))
    best: tuple[float, float, Array, Array] | None = None
    for _, value, axes in sorted(profile, key=lambda item: -item[0])[:_REFINED]:
        refined_axes, refined, covariance = _refine(segments, axes, value, focal is not None)
        score = float(_score(segments, refined_axes[None], refined, focal is None)[0])
        if best is None or score > best[0]:
            best = (score, refined, refined_axes, covariance)
    assert best is not None
    _, value, axes, covariance = best
    hits = _hits(segments, axes[None], value)[0]
    axis_of = np.where(hits.max(axis=0) > 0, hits.argmax(axis=0), -1)
    counts = tuple(int(np.count_nonzero(axis_of == axis)) for axis in range(3))
    axes, axis_of, counts = _facing(axes, axis_of, counts)
    finite = sum(bool(abs(axes[2, axis]) > 0.12 and counts[axis] >= 4) for axis in range(3))
    support = float((hits.max(axis=0) * segments.weight).sum() / segments.weight.sum())
    focal_error, tilt_error = _errors(profile, best[0], value, axes[:, 1], covariance)
    line_error = math.sqrt(float(covariance[3, 3]))
    if focal is not None:
        focal_error = line_error = 0.0
    return Frame(value, axes, support, counts, focal_error, line_error, tilt_error, finite, segments, axis_of)


def _errors(
    profile: list[tuple[float, float, Array]], best: float, focal: float, down: Array, covariance: Array
) -> tuple[float, float]:
    """Return the standard deviations of log focal and of the direction down (radians).

    Each is that of the least squares and that of the alternatives at other focal lengths, by how well they score.
    """
    weights = np.exp((np.array([item[0] for item in profile]) - best) / _SCORE_SPREAD)
    total = 1.0 + weights.sum()
    focals = np.log(np.array([item[1] for item in profile]) / focal)
    angles = np.arccos(np.clip([item[2][:, 1] @ down for item in profile], -1, 1))
    spread = covariance[:3, :3] - np.outer(down, down @ covariance[:3, :3])
    tilt = float(np.trace(spread)) + float(weights @ angles**2) / total
    return math.sqrt(float(covariance[3, 3]) + float(weights @ focals**2) / total), math.sqrt(max(0.0, tilt))


def _hypotheses(segments: Segments, focal: float, rng: np.random.Generator) -> Array:
    """Return frames [n, 3, 3] whose direction down is supported by upright segments, at all azimuths."""
    downs = _downs(segments, focal, rng)
    hits = np.maximum(0, 1 - (segments.errors(downs * (focal, focal, 1.0)) / segments.tolerance) ** 2)
    scores = hits @ segments.weight - _tilt_cost(downs) * segments.weight.sum()
    kept: list[Array] = []
    for index in np.argsort(-scores):
        if all(abs(downs[index] @ other) < math.cos(math.radians(1.0)) for other in kept):
            kept.append(downs[index])
        if len(kept) == _KEPT_ZENITHS:
            break
    down = np.array(kept)
    away = np.array([0.0, 0, 1]) - down * down[:, 2:]
    away /= np.linalg.norm(away, axis=1)[:, None]
    right = np.cross(down, away)
    c, s = np.cos(_AZIMUTHS)[:, None], np.sin(_AZIMUTHS)[:, None]
    turned = right[:, None] * c + away[:, None] * s
    other = away[:, None] * c - right[:, None] * s
    frames = np.stack([turned, np.broadcast_to(down[:, None], turned.shape), other], axis=-1)
    return frames.reshape(-1, 3, 3)


def _downs(segments: Segments, focal: float, rng: np.random.Generator) -> Array:
    """Return directions down [n, 3]: where pairs of upright segments meet, and that of a level camera."""
    upright = segments.weight * (np.abs(segments.direction[:, 1]) > _UPRIGHT)
    level = np.array([[0.0, 1, 0]])
    if np.count_nonzero(upright) < 2:
        return level
    pairs = rng.choice(len(segments), (_ZENITHS, 2), p=upright / upright.sum())
    planes = np.cross(_homogeneous(segments.start, focal), _homogeneous(segments.end, focal))
    downs = np.cross(planes[pairs[:, 0]], planes[pairs[:, 1]])
    length = np.linalg.norm(downs, axis=1)
    downs = downs[length > 1e-9] / length[length > 1e-9, None]
    downs *= np.where(downs[:, 1:2] < 0, -1.0, 1.0)
    pitch, roll = np.arcsin(np.clip(downs[:, 2], -1, 1)), np.arctan2(downs[:, 0], downs[:, 1])
    return np.concatenate([level, downs[(np.abs(pitch) < _MOST_PITCH) & (np.abs(roll) < _MOST_ROLL)]])


def _homogeneous(points: Array, focal: float) -> Array:
    return np.column_stack([points, np.full(len(points), focal)])


def _tilt_cost(downs: Array) -> Array:
    """Return the prior's cost of directions down [..., 3] in units of the segments' whole weight."""
    pitch, roll = np.arcsin(np.clip(downs[..., 2], -1, 1)), np.arctan2(downs[..., 0], downs[..., 1])
    return _TILT_WEIGHT * ((pitch / _PITCH_SPREAD) ** 2 + (roll / _ROLL_SPREAD) ** 2)


def _hits(segments: Segments, axes: Array, focal: float) -> Array:
    """Return how well each segment points to each vanishing point: [n, 3, segments], 0 to 1."""
    points = np.swapaxes(axes, -1, -2) * (focal, focal, 1.0)
    return np.maximum(0, 1 - (segments.errors(points) / segments.tolerance) ** 2)


def _score(segments: Segments, axes: Array, focal: float, focal_is_free: bool) -> Array:
    total = segments.weight.sum()
    score = _hits(segments, axes, focal).max(axis=1) @ segments.weight / total - _tilt_cost(axes[..., 1])
    if focal_is_free:
        score -= _FOCAL_WEIGHT * (math.log(focal / _FOCAL) / _FOCAL_SPREAD) ** 2
    return score


def _refine(
    segments: Segments, axes: Array, focal: float, focal_is_known: bool, rounds: int = 2
) -> tuple[Array, float, Array]:
    """Fit a frame to the segments that point to its vanishing points.

    Returns:
        The axes, the focal length, and the covariance [4, 4] of a small rotation in camera axes and of log focal.
    """
    covariance = np.eye(4)
    for _ in range(rounds):
        hits = np.maximum(0, 1 - (segments.errors(axes.T * (focal, focal, 1.0)) / (_GATE * segments.tolerance)) ** 2)
        used, axis_of = hits.max(axis=0) > 0, hits.argmax(axis=0)
        if np.count_nonzero(used) < 6:
            break
        residuals = functools.partial(_residuals, segments.chosen(used), axis_of[used], axes, focal, focal_is_known)
        fit = least_squares(residuals, np.zeros(4), loss="soft_l1", max_nfev=30)
        axes, focal = cv2.Rodrigues(fit.x[:3])[0] @ axes, focal * math.exp(fit.x[3])
        covariance = np.linalg.inv(fit.jac.T @ fit.jac + 1e-9 * np.eye(4))
    return axes, focal, covariance


def _residuals(
    segments: Segments, axis_of: NDArray[np.int64], axes: Array, focal: float, focal_is_known: bool, change: Array
) -> Array:
    """Return the errors of segments after a change [4] (rotation in camera axes, log focal), and those of the prior."""
    turned, changed = cv2.Rodrigues(change[:3])[0] @ axes, focal * math.exp(change[3])
    errors = segments.errors(turned.T * (changed, changed, 1.0))[axis_of, np.arange(len(axis_of))]
    pitch, roll = math.asin(max(-1.0, min(1.0, turned[2, 1]))), math.atan2(turned[0, 1], turned[1, 1])
    prior = change[3] * 1e3 if focal_is_known else math.log(changed / _FOCAL) / _FOCAL_SPREAD
    errors *= np.sqrt(segments.weight / segments.weight.mean()) / (segments.tolerance / 2)
    return np.append(errors, [prior, pitch / _PITCH_SPREAD, roll / _ROLL_SPREAD])


def _facing(axes: Array, axis_of: NDArray[np.int64], counts: tuple[int, ...]) -> tuple:
    """Return the same frame with its third axis being the level direction nearest to the camera's, looking forward."""
    if abs(axes[2, 0]) > abs(axes[2, 2]):
        axes = axes[:, [2, 1, 0]]
        axis_of = np.where(axis_of == 0, 2, np.where(axis_of == 2, 0, axis_of))
        counts = (counts[2], counts[1], counts[0])
    away = axes[:, 2] * (1.0 if axes[2, 2] >= 0 else -1.0)
    return np.stack([np.cross(axes[:, 1], away), axes[:, 1], away], axis=1), axis_of, counts
