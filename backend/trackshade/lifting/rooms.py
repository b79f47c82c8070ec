# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the back wall of a room or a street by what each line segment may lie on.

A line that leads away from the camera cannot lie on the back wall, a level one not on a side wall, and an upright one
not on the ground or the ceiling. The edges between the surfaces are lines themselves.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from trackshade.lifting.camera import PhotoCamera
from trackshade.lifting.tour import Room
from trackshade.lifting.vanishing import Frame

_SAMPLES = np.array([0.1, 0.3, 0.5, 0.7, 0.9])  # along a segment
_NEAREST = 0.15  # away component of rays that are used
_SHARES = np.geomspace(0.06, 1.15, 8)  # of the visible extent: candidates of an edge
_FINER = (0.12, 0.05)  # relative steps of the refinement
_RAY, _EDGE = math.radians(3.0), 0.08  # how close a segment lies to an edge between surfaces: angle, relative distance
_RAY_WEIGHT, _LEVEL_WEIGHT, _UPRIGHT_WEIGHT = 1.5, 1.0, 0.5
_NO_CEILING = -1e3
_CHUNK = 200
_RIGHT, _DOWN, _AWAY = range(3)


def find_room(camera: PhotoCamera, frame: Frame, indoors: bool) -> Room:
    """Find the walls.

    Args:
        camera: the picture's camera, with the frame's axes.
        frame: the line segments and their directions.
        indoors: whether there is a ceiling.
    """
    points, axis, weight = _samples(camera, frame)
    width, height = camera.size
    border = camera.scene_rays(np.array([0, width, 0, width, 0, width, width / 2, width / 2]),
                               np.array([0, 0, height, height, height / 2, height / 2, 0, height]))  # fmt: skip
    border = border[:, :2] / np.maximum(border[:, 2:], _NEAREST)
    low, high = np.minimum(border.min(axis=0), -0.05), np.maximum(border.max(axis=0), 0.05)
    choices = [low[0] * _SHARES, low[1] * _SHARES if indoors else [_NO_CEILING], high[0] * _SHARES, high[1] * _SHARES]
    best = _best(np.array(list(itertools.product(*choices))), points, axis, weight, indoors)
    for step in _FINER:
        factors = (1 - step, 1.0, 1 + step)
        near = [best[edge] * np.array(factors) if indoors or edge != 1 else [_NO_CEILING] for edge in range(4)]
        best = _best(np.array(list(itertools.product(*near))), points, axis, weight, indoors)
    left, top, right, bottom = (float(value) for value in best)
    if not indoors:
        top = float(low[1])
    return Room((left, top, right, bottom), indoors)


def _samples(camera: PhotoCamera, frame: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points on the segments as right / away and down / away [n, 2], their axes, and their weights."""
    segments = frame.segments
    places = segments.start[:, None] + (segments.end - segments.start)[:, None] * _SAMPLES[:, None]
    pixels = places.reshape(-1, 2) * max(camera.size) + np.array(camera.size) / 2
    rays = camera.scene_rays(*pixels.T)
    axis, weight = np.repeat(frame.axis_of, len(_SAMPLES)), np.repeat(segments.weight, len(_SAMPLES))
    used = (axis >= 0) & (rays[:, 2] > _NEAREST)
    return rays[used, :2] / rays[used, 2:], axis[used], weight[used]


def _best(
    candidates: NDArray[np.float64],
    points: NDArray[np.float64],
    axis: NDArray[np.int64],
    weight: NDArray[np.float64],
    indoors: bool,
) -> NDArray[np.float64]:
    """Return the edges [4] among candidates [n, 4] that agree best with the points."""
    scores = [
        _scores(candidates[i : i + _CHUNK], points, axis, weight, indoors) for i in range(0, len(candidates), _CHUNK)
    ]
    return candidates[int(np.concatenate(scores).argmax())]


def _scores(edges: np.ndarray, points: np.ndarray, axis: np.ndarray, weight: np.ndarray, indoors: bool) -> np.ndarray:
    x, y = points.T
    left, top, right, bottom = (edges[:, k, None] for k in range(4))
    depth = np.stack([x / left, x / right, y / top, y / bottom])  # inverse depth in units of the back wall's
    surface = depth.argmax(axis=0)
    is_back = depth.max(axis=0) < 1
    is_side = (surface < 2) & ~is_back
    fits = np.where(is_back, axis != _AWAY, np.where(is_side, axis != _RIGHT, axis != _DOWN))
    score = np.where(fits, weight, -weight).sum(axis=1)
    angle = np.arctan2(y, x)
    for across, below in itertools.product((left, right), (top, bottom) if indoors else (bottom,)):
        turn = np.abs((angle - np.arctan2(below, across) + math.pi) % (2 * math.pi) - math.pi)
        score += _RAY_WEIGHT * (np.maximum(0, 1 - turn / _RAY) * ((axis == _AWAY) & ~is_back) * weight).sum(axis=1)
    foot = np.maximum(0, 1 - np.abs(y / bottom - 1) / _EDGE) * ((axis == _RIGHT) & (x > left) & (x < right))
    score += _LEVEL_WEIGHT * (foot * weight).sum(axis=1)
    for across in (left, right):
        corner = np.maximum(0, 1 - np.abs(x / across - 1) / _EDGE) * ((axis == _DOWN) & (y < bottom))
        score += _UPRIGHT_WEIGHT * (corner * weight).sum(axis=1)
    return score
