# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the back wall of a room or a street by what each line segment may lie on.

A line that leads away from the camera cannot lie on the back wall, a level one not on a side wall, and an upright one
not on the ground or the ceiling. The edges between the surfaces are lines themselves, and the surfaces differ in color.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from trackshade.lifting.camera import PhotoCamera
from trackshade.lifting.room_evidence import NEAREST, RoomEvidence, surface_of
from trackshade.lifting.tour import Room
from trackshade.lifting.vanishing import Frame

_SAMPLES = np.array([0.1, 0.3, 0.5, 0.7, 0.9])  # along a segment
_SHARES = np.geomspace(0.06, 1.15, 8)  # of the visible extent: candidates of an edge
_FINE_SHARES = np.geomspace(0.06, 1.15, 100)
_STARTS, _SWEEPS = 4, 2  # candidates whose edges are moved one after the other, and how often
_RAY, _EDGE = math.radians(3.0), 0.08  # how close a segment lies to an edge between surfaces: angle, relative distance
_RAY_WEIGHT, _LEVEL_WEIGHT, _UPRIGHT_WEIGHT = 1.5, 1.0, 0.5
_CONTRAST_WEIGHT, _LIKENESS_WEIGHT = 3.0, 2.0  # in relation to lengths of segments
_NO_CEILING = -1e3
_CHUNK = 200
_RIGHT, _DOWN, _AWAY = range(3)


def find_room(camera: PhotoCamera, frame: Frame, indoors: bool, colors: NDArray[np.uint8]) -> Room:
    """Find the walls.

    Args:
        camera: the picture's camera, with the frame's axes.
        frame: the line segments and their directions.
        indoors: whether there is a ceiling.
        colors: [h, w, 3] the picture, sRGB, at any size.
    """
    points, axis, weight = _samples(camera, frame)
    width, height = camera.size
    border = camera.scene_rays(np.array([0, width, 0, width, 0, width, width / 2, width / 2]),
                               np.array([0, 0, height, height, height / 2, height / 2, 0, height]))  # fmt: skip
    border = border[:, :2] / np.maximum(border[:, 2:], NEAREST)
    low, high = np.minimum(border.min(axis=0), -0.05), np.maximum(border.max(axis=0), 0.05)
    evidence = RoomEvidence(camera, colors, low, high)

    def scores(candidates: NDArray[np.float64]) -> NDArray[np.float64]:
        found = []
        for part in np.array_split(candidates, math.ceil(len(candidates) / _CHUNK)):
            score = _scores(part, points, axis, weight, indoors) / len(_SAMPLES)
            score += _CONTRAST_WEIGHT * evidence.contrast(part, indoors) + _LIKENESS_WEIGHT * evidence.likeness(part)
            found.append(score)
        return np.concatenate(found)

    moved = [edge for edge in range(4) if indoors or edge != 1]
    limits = np.array([*low, *high])
    coarse = [limits[edge] * _SHARES if edge in moved else [_NO_CEILING] for edge in range(4)]
    candidates = np.array(list(itertools.product(*coarse)))
    starts = candidates[np.argsort(-scores(candidates), kind="stable")[:_STARTS]]
    # Contrast is where an edge is, and nowhere near: each edge is tried everywhere while the others stay.
    for edge in moved * _SWEEPS:
        tried = np.repeat(starts[:, None], len(_FINE_SHARES) + 1, axis=1)
        tried[:, 1:, edge] = limits[edge] * _FINE_SHARES
        found = scores(tried.reshape(-1, 4)).reshape(len(starts), -1)
        starts = tried[np.arange(len(starts)), found.argmax(axis=1)]
    best = starts[int(scores(starts).argmax())]
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
    used = (axis >= 0) & (rays[:, 2] > NEAREST)
    return rays[used, :2] / rays[used, 2:], axis[used], weight[used]


def _scores(edges: np.ndarray, points: np.ndarray, axis: np.ndarray, weight: np.ndarray, indoors: bool) -> np.ndarray:
    """Return how well candidates [n, 4] agree with points of segments [m, 2], by their axes and weights."""
    x, y = points.T
    left, top, right, bottom = (edges[:, k, None] for k in range(4))
    surface = surface_of(edges, points)
    is_back, is_side = surface == 0, (surface == 1) | (surface == 2)
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
