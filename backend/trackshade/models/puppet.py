# SPDX-License-Identifier: GPL-3.0-or-later
"""A puppet of capsules between landmarks, in colors that are taken from a picture of the figure.

The head has hair at its back and a nose, without which front and back look the same.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from ..motion.framing import LANDMARKS, VISIBLE_HEIGHT

# Points of the puppet: the landmarks, the middles of hips and shoulders, and of the head the back and the nose.
_POINTS = (*LANDMARKS, "hips", "shoulders", "hair", "nose")
_MIDDLES = (("thigh_l", "thigh_r"), ("upper_arm_l", "upper_arm_r"))
_CENTRAL = (
    ("hips", "shoulders", 0.12, 0.13),
    ("thigh_l", "thigh_r", 0.10, 0.10),
    ("upper_arm_l", "upper_arm_r", 0.08, 0.08),
    ("neck", "head_top", 0.06, 0.105),
    ("hair", "head_top", 0.09, 0.085),
    ("nose", "nose", 0.03, 0.03),
)
# How far hair and nose are below the top of the head, and before it, metres.
_HEAD = ((0.06, -0.05), (0.11, 0.13))
_LEFT = (
    ("upper_arm_l", "forearm_l", 0.062, 0.05),
    ("forearm_l", "hand_l", 0.05, 0.038),
    ("hand_l", "fingertip_l", 0.042, 0.03),
    ("thigh_l", "shin_l", 0.092, 0.07),
    ("shin_l", "foot_l", 0.066, 0.046),
    ("foot_l", "toe_l", 0.05, 0.045),
)
_RIGHT = tuple((a[:-1] + "r", b[:-1] + "r", ra, rb) for a, b, ra, rb in _LEFT)
_BONES = (*_CENTRAL, *_LEFT, *_RIGHT)
NUM_BONES = len(_BONES)
_ENDS = np.array([[_POINTS.index(a), _POINTS.index(b)] for a, b, _, _ in _BONES])
_RADII = np.array([[ra, rb] for _, _, ra, rb in _BONES])  # metres
# The bone of the other side, whose color is taken where a bone is hidden.
_MIRRORED = np.array(
    [
        *range(len(_CENTRAL)),
        *range(len(_CENTRAL) + len(_LEFT), NUM_BONES),
        *range(len(_CENTRAL), len(_CENTRAL) + len(_LEFT)),
    ]
)
STOPS = 3  # colors along a bone
_CONTRAST = 0.06  # difference from the background of what belongs to a figure
_REACH = 3  # pixels about a bone where its color is sampled, and their spread
_SPREAD = 1.5
_SAMPLES = 2  # along each side of a pixel


def sample_colors(
    pictures: np.ndarray,  # [N, H, W, 3] float32
    places: np.ndarray,  # [N, L, 2] pixels
    depths: np.ndarray,  # [N, L] metres
) -> np.ndarray:
    """Return the colors of the bones of figures in pictures, [N, NUM_BONES, STOPS, 3] float32.

    Args:
        pictures: one figure in each.
        places: its landmarks.
        depths: their depths, which tell what is hidden. A hidden bone gets the color of the other side's bone.

    Landmarks are not exact: the background is not sampled, and what is near a bone is, the nearer the more.
    """
    height = pictures.shape[1]
    pictures = np.ascontiguousarray(pictures, np.float32)
    points, distances = _all_points(places, depths, height / VISIBLE_HEIGHT)
    nearest = np.full(pictures.shape[:3], -1, np.int32)
    radii = np.full(len(pictures), height / VISIBLE_HEIGHT)
    _paint(points, distances, radii, np.zeros((len(pictures), NUM_BONES, STOPS, 3)), 1, None, nearest)
    background = erase_figures(pictures, nearest >= 0, margin=3)
    figure = np.abs(pictures - background).max(axis=-1) > _CONTRAST
    colors = np.empty((len(pictures), NUM_BONES, STOPS, 3), np.float32)
    _sample(pictures, points, radii, nearest, figure, colors)
    return colors


def paint_puppets(
    places: np.ndarray,  # [N, L, 2] pixels
    depths: np.ndarray,  # [N, L] metres
    colors: np.ndarray,  # [N, NUM_BONES, STOPS, 3]
    size: tuple[int, int],
    scales: np.ndarray | None = None,  # [N]
) -> np.ndarray:
    """Paint figures of capsules.

    Args:
        places: landmarks.
        depths: their depths.
        colors: along the bones.
        size: width and height of the pictures.
        scales: factors of the capsules' radii; 1 by default.

    Returns:
        Pictures [N, H, W, 4] float32: colors times coverage, and coverage 0..1.
    """
    width, height = size
    result = np.zeros((len(places), height, width, 4), np.float32)
    radii = np.full(len(places), height / VISIBLE_HEIGHT) * (1.0 if scales is None else scales)
    points, distances = _all_points(places, depths, height / VISIBLE_HEIGHT)
    nearest = np.empty((0, 0, 0), np.int32)
    _paint(points, distances, radii, np.ascontiguousarray(colors, np.float64), _SAMPLES, result, nearest)
    return result


def erase_figures(
    pictures: np.ndarray,  # [N, H, W, 3] float32
    coverage: np.ndarray,  # [N, H, W] of the figures
    margin: int = 2,
) -> np.ndarray:
    """Return pictures [N, H, W, 3] float32 without figures: in each row, the gap is filled from its two ends.

    Args:
        pictures: one figure in each.
        coverage: where it is.
        margin: number of pixels by which the gap is wider, for places that are not exact.
    """
    result = np.array(pictures, np.float32, order="C")
    _erase(result, np.ascontiguousarray(coverage, np.float32), margin)
    return result


def _all_points(places: np.ndarray, depths: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the places [N, P, 2] in pixels and depths [N, P] in metres of `_POINTS`, float64.

    The face looks to the front of the shoulders.

    Args:
        places: landmarks.
        depths: their depths.
        scale: pixels of a metre.
    """
    points = np.concatenate([places / scale, depths[..., None]], axis=-1).astype(np.float64)
    middles = [points[:, [LANDMARKS.index(a), LANDMARKS.index(b)]].mean(axis=1) for a, b in _MIDDLES]
    top, neck, left, right = (points[:, LANDMARKS.index(x)] for x in ("head_top", "neck", "upper_arm_l", "upper_arm_r"))
    up, front = _unit(top - neck), _unit(np.cross(left - right, top - neck))
    head = [top - below * up + before * front for below, before in _HEAD]
    points = np.concatenate([points, np.stack([*middles, *head], axis=1)], axis=1)
    return points[..., :2] * scale, points[..., 2]


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors [N, 3] of length 1; those of no length stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)


@njit(cache=True, nogil=True)
def _paint(points, depths, scales, colors, samples, result, nearest):
    """Paint pictures into `result`, or the index of the nearest bone into `nearest` if `result` is None."""
    if result is None:
        height, width = nearest.shape[1:3]
    else:
        height, width = result.shape[1:3]
    rows, columns = height * samples, width * samples
    buffer = np.empty((rows, columns))
    bones = np.empty((rows, columns), np.int32)
    along = np.empty((rows, columns))
    for n in range(len(points)):
        buffer[:] = 1e9
        bones[:] = -1
        for q in range(len(_ENDS)):
            a, b = _ENDS[q]
            ax, ay = points[n, a, 0] * samples, points[n, a, 1] * samples
            ex, ey = points[n, b, 0] * samples - ax, points[n, b, 1] * samples - ay
            ra, rb = _RADII[q, 0] * scales[n] * samples, _RADII[q, 1] * scales[n] * samples
            reach = max(ra, rb)
            left, right = max(0, int(min(ax, ax + ex) - reach)), min(columns - 1, int(max(ax, ax + ex) + reach) + 1)
            top, bottom = max(0, int(min(ay, ay + ey) - reach)), min(rows - 1, int(max(ay, ay + ey) + reach) + 1)
            squared = ex * ex + ey * ey + 1e-9
            for y in range(top, bottom + 1):
                for x in range(left, right + 1):
                    px, py = x + 0.5 - ax, y + 0.5 - ay
                    u = min(1.0, max(0.0, (px * ex + py * ey) / squared))
                    qx, qy = px - u * ex, py - u * ey
                    radius = ra + (rb - ra) * u
                    off = qx * qx + qy * qy
                    if off >= radius * radius:
                        continue
                    bulge = math.sqrt(radius * radius - off) / (scales[n] * samples)
                    z = depths[n, a] + (depths[n, b] - depths[n, a]) * u - bulge
                    if z < buffer[y, x]:
                        buffer[y, x] = z
                        bones[y, x] = q
                        along[y, x] = u
        if result is None:
            nearest[n] = bones
            continue
        share = 1.0 / (samples * samples)
        for y in range(rows):
            for x in range(columns):
                q = bones[y, x]
                if q < 0:
                    continue
                place = min(STOPS - 1.0, max(0.0, along[y, x] * STOPS - 0.5))
                first = min(STOPS - 2, int(place))
                weight = min(1.0, place - first)
                for c in range(3):
                    color = colors[n, q, first, c] * (1 - weight) + colors[n, q, first + 1, c] * weight
                    result[n, y // samples, x // samples, c] += color * share
                result[n, y // samples, x // samples, 3] += share


@njit(cache=True, nogil=True)
def _sample(pictures, points, scales, nearest, figure, colors):
    height, width = pictures.shape[1:3]
    totals = np.empty((len(_ENDS), 4))
    for n in range(len(pictures)):
        for stop in range(STOPS):
            for q in range(len(_ENDS)):
                a, b = _ENDS[q]
                seen, blind = np.zeros(4), np.full(4, 1e-9)
                u = (stop + 0.5) / STOPS
                px = points[n, a, 0] + u * (points[n, b, 0] - points[n, a, 0])
                py = points[n, a, 1] + u * (points[n, b, 1] - points[n, a, 1])
                px, py = min(width - 1.0, max(0.0, px)), min(height - 1.0, max(0.0, py))
                for y in range(max(0, int(py) - _REACH), min(height, int(py) + _REACH + 1)):
                    for x in range(max(0, int(px) - _REACH), min(width, int(px) + _REACH + 1)):
                        squared = (x + 0.5 - px) ** 2 + (y + 0.5 - py) ** 2
                        weight = math.exp(-squared / (2 * _SPREAD * _SPREAD))
                        if not figure[n, y, x]:
                            weight *= 1e-3
                        hit = weight if nearest[n, y, x] == q else 0.0
                        for c in range(3):
                            seen[c] += hit * pictures[n, y, x, c]
                            blind[c] += weight * pictures[n, y, x, c]
                        seen[3] += hit
                        blind[3] += weight
                totals[q] = seen
                for c in range(3):
                    colors[n, q, stop, c] = blind[c] / blind[3]
            for q in range(len(_ENDS)):
                source = q if totals[q, 3] > 0.3 else _MIRRORED[q]
                if totals[source, 3] > 0.3:
                    for c in range(3):
                        colors[n, q, stop, c] = totals[source, c] / totals[source, 3]


@njit(cache=True, nogil=True)
def _erase(pictures, coverage, margin):
    height, width = pictures.shape[1:3]
    hidden = np.zeros((height, width), np.bool_)
    for n in range(len(pictures)):
        hidden[:] = False
        for y in range(height):
            for x in range(width):
                if coverage[n, y, x] > 0:
                    for i in range(max(0, y - margin), min(height, y + margin + 1)):
                        for j in range(max(0, x - margin), min(width, x + margin + 1)):
                            hidden[i, j] = True
        for y in range(height):
            x = 0
            while x < width:
                if not hidden[y, x]:
                    x += 1
                    continue
                first = x
                while x < width and hidden[y, x]:
                    x += 1
                if first == 0 and x == width:
                    continue  # nothing of the background is seen in this row
                left, right = max(first - 1, 0) if first else x, x if x < width else first - 1
                for k in range(first, x):
                    weight = (k - first + 1.0) / (x - first + 1.0)
                    for c in range(3):
                        pictures[n, y, k, c] = (
                            pictures[n, y, left, c] * (1 - weight) + pictures[n, y, right, c] * weight
                        )
