# SPDX-License-Identifier: GPL-3.0-or-later
"""Registers parts of what moves from frame to frame: affine maps under which their colors and silhouettes agree.

Each frame's map begins where optical flow, the motion so far or the part's tracks lead, whichever agrees best. It is
then refined by Gauss-Newton steps on the differences of color from the part's first frame, slowly adapted to the light,
and on the distances of its outline from the silhouette of what covers still surfaces (compare Baker and Matthews,
Lucas-Kanade 20 Years On, 2004).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from trackshade.control.compiling import inlined, kernel
from trackshade.tracking.flow import Flows, read_field, read_pixel
from trackshade.tracking.motions import apply, compose, fit_maps, invert
from trackshade.tracking.outlines import Silhouette

_MOST_POINTS, _MOST_RIM = 160, 48
_COLOR, _OUTSIDE, _RIM = 22.0, 2.0, 2.0  # levels and px at which a residual counts half
_RIM_WEIGHT = 1.5  # of a point of the outline, relative to one inside
_TURN, _SHIFT = 0.05, 2.5  # deviations of a map from where it begins, usual: linear part, and px
_DATA = 40.0  # points that all of a part's count as
_STEPS = 7
_ADAPTED = 0.08  # of its color that a point takes from each frame
_FARTHEST = 8.0  # px from the silhouette up to which the outline is pulled to it
_LOST = 0.75  # mean cost from which a part is not seen, and moves on as before


@dataclass(eq=False)
class Template:
    """A part that is registered.

    Attributes:
        points: [N, 2] places in the first frame.
        rim: [B, 2] places of its outline that border on what stands still.
        normals: [B, 2] unit vectors outwards there.
        colors: [N, 3] at the points, adapted to the light.
        maps: [T, 3, 2] affine maps to each frame: first where tracks lead, then registered.
    """

    points: np.ndarray
    rim: np.ndarray
    normals: np.ndarray
    colors: np.ndarray
    maps: np.ndarray

    @classmethod
    def of(cls, region: np.ndarray, whole: Silhouette, image: np.ndarray, maps: np.ndarray) -> Template:
        """Return the template of the pixels `region` [h, w] of an image, of a thing with a silhouette."""
        y, x = np.nonzero(region)
        points = np.stack([x, y], axis=1) + 0.5
        points = points[:: max(1, len(points) // _MOST_POINTS)]
        edge = region & (np.abs(whole.distances) < 1.0)
        edge[:2], edge[-2:], edge[:, :2], edge[:, -2:] = False, False, False, False
        y, x = np.nonzero(edge)
        chosen = slice(None, None, max(1, len(x) // _MOST_RIM))
        y, x = y[chosen], x[chosen]
        colors = read_field(image.astype(np.float32), points)
        return cls(points, np.stack([x, y], axis=1) + 0.5, whole.directions[y, x].astype(np.float64), colors, maps)


def register(templates: list[Template], smooth: np.ndarray, flows: Flows, silhouettes: list[Silhouette]) -> None:
    """Replace the maps of templates by registered ones.

    Args:
        templates: the parts.
        smooth: [T, h, w, 3] uint8, blurred a little.
        flows: how pixels move.
        silhouettes: of what covers still surfaces, in each frame.
    """
    for t in range(1, len(smooth)):
        image = smooth[t].astype(np.float32)
        slopes = np.concatenate([cv2.Sobel(image, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1))], axis=2)
        edge = silhouettes[t]
        field = np.concatenate([image, slopes, edge.distances[..., None], edge.directions], axis=2)
        for template in templates:
            _register_one(template, t, field, flows)


def _register_one(template: Template, t: int, field: np.ndarray, flows: Flows) -> None:
    """Register the map of a template to a frame.

    Args:
        template: the part, whose maps to all frames before are registered.
        t: the frame.
        field: [h, w, 12] float32: colors, their slopes to the right and downwards, and the silhouette's distances and
            directions.
        flows: how pixels move.
    """
    before = template.maps[t - 1]
    place = apply(before, template.points)
    moves = read_field(flows.forward[t - 1], place)
    step = fit_maps(place, moves[None], np.ones((1, len(place))))[0]
    step[:2] += np.eye(2)
    begins = [compose(before, step), before, template.maps[t]]
    if t > 1:
        begins.append(compose(before, compose(invert(template.maps[t - 2]), before)))
    costs = [_cost(template, begin, field) for begin in begins]
    best = int(np.argmin(costs))
    found = _refine(template, begins[best], field)
    cost = _cost(template, found, field)
    if cost > costs[best]:
        found, cost = begins[best], costs[best]
    if cost > _LOST:
        found = begins[0]
    template.maps[t] = found
    place = apply(found, template.points)
    colors = read_field(field, place)[:, :3]
    near = np.abs(colors - template.colors).max(axis=1) < 2 * _COLOR
    template.colors[near] += _ADAPTED * (colors - template.colors)[near]


@kernel
def _turned_back(found, out):
    """Write the inverse of a map's linear part, [2, 2]."""
    a, b, c, d = found[0, 0] + 1e-6, found[0, 1], found[1, 0], found[1, 1] + 1e-6
    determinant = a * d - b * c
    out[0, 0], out[0, 1], out[1, 0], out[1, 1] = d / determinant, -b / determinant, -c / determinant, a / determinant


@inlined
def _look(field, found, place, values):
    """Write the values of a frame's field where a map takes a place."""
    x = place[0] * found[0, 0] + place[1] * found[1, 0] + found[2, 0]
    y = place[0] * found[0, 1] + place[1] * found[1, 1] + found[2, 1]
    read_pixel(field, x, y, values)


@inlined
def _faces(back, normal, values):
    """Return whether a place of the outline lies near the silhouette, with the same side outwards."""
    x, y = normal[0] * back[0, 0] + normal[1] * back[0, 1], normal[0] * back[1, 0] + normal[1] * back[1, 1]
    return x * values[10] + y * values[11] > 0.5 * math.sqrt(x * x + y * y) and abs(values[9]) < _FARTHEST


@kernel
def _sum_costs(field, found, points, colors, rim, normals):
    """Return the sums of the costs of points and of the outline, each of them from 0 to about 1."""
    values, back = np.empty(field.shape[2]), np.empty((2, 2))
    _turned_back(found, back)
    inside, outline = 0.0, 0.0
    for n in range(points.shape[0]):
        _look(field, found, points[n], values)
        color = 0.0
        for k in range(3):
            color += ((values[k] - colors[n, k]) / _COLOR) ** 2
        out = (max(values[9], 0.0) / _OUTSIDE) ** 2
        inside += color / (1 + color) + out / (1 + out)
    for n in range(rim.shape[0]):
        _look(field, found, rim[n], values)
        away = (values[9] / _RIM) ** 2
        outline += away / (1 + away) if _faces(back, normals[n], values) else 0.7
    return inside, outline


@inlined
def _add(normal, right, u, v, xx, xy, yy, x, y):
    """Add a point at unit coordinates (u, v) to the normal equations, given those of its place alone."""
    row = (u, v, 1.0)
    for i in range(3):
        right[2 * i] += row[i] * x
        right[2 * i + 1] += row[i] * y
        for j in range(3):
            both = row[i] * row[j]
            normal[2 * i, 2 * j] += both * xx
            normal[2 * i, 2 * j + 1] += both * xy
            normal[2 * i + 1, 2 * j] += both * xy
            normal[2 * i + 1, 2 * j + 1] += both * yy


@kernel
def _equations(field, found, middle, spread, points, colors, rim, normals, share, rim_share, normal, right):
    """Add to the normal equations [6, 6] and [6] of a map of unit coordinates: (place - middle) / spread."""
    values, back = np.empty(field.shape[2]), np.empty((2, 2))
    _turned_back(found, back)
    for n in range(points.shape[0]):
        _look(field, found, points[n], values)
        square, xx, xy, yy, x, y = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(3):
            difference, dx, dy = values[k] - colors[n, k], values[3 + k], values[6 + k]
            square += (difference / _COLOR) ** 2
            xx, xy, yy = xx + dx * dx, xy + dx * dy, yy + dy * dy
            x, y = x + dx * difference, y + dy * difference
        weight = share / (_COLOR * (1 + square)) ** 2
        xx, xy, yy, x, y = weight * xx, weight * xy, weight * yy, weight * x, weight * y
        if values[9] > 0:
            weight = share / (_OUTSIDE * (1 + (values[9] / _OUTSIDE) ** 2)) ** 2
            dx, dy = values[10], values[11]
            xx, xy, yy = xx + weight * dx * dx, xy + weight * dx * dy, yy + weight * dy * dy
            x, y = x + weight * dx * values[9], y + weight * dy * values[9]
        _add(normal, right, (points[n, 0] - middle[0]) / spread, (points[n, 1] - middle[1]) / spread, xx, xy, yy, x, y)
    for n in range(rim.shape[0]):
        _look(field, found, rim[n], values)
        if not _faces(back, normals[n], values):
            continue
        weight = rim_share / (_RIM * (1 + (values[9] / _RIM) ** 2)) ** 2
        dx, dy, away = values[10], values[11], weight * values[9]
        _add(normal, right, (rim[n, 0] - middle[0]) / spread, (rim[n, 1] - middle[1]) / spread,
             weight * dx * dx, weight * dx * dy, weight * dy * dy, dx * away, dy * away)  # fmt: skip


def _cost(template: Template, found: np.ndarray, field: np.ndarray) -> float:
    """Return how badly a map agrees with a frame, from 0 to about 1."""
    count = len(template.points)
    inside, outline = _sum_costs(field, found, template.points, template.colors, template.rim, template.normals)
    if not len(template.rim):
        return inside / count
    return (inside + outline * 0.5 * count / len(template.rim)) / (1.5 * count)


def _refine(template: Template, begin: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Return a map that agrees with a frame better, by Gauss-Newton steps."""
    middle = template.points.mean(axis=0)
    spread = max(2.0, float(template.points.std(axis=0).max()))
    # Maps of the unit coordinates: linear rows are in pixels.
    first = np.r_[begin[:2] * spread, [middle @ begin[:2] + begin[2]]]
    prior = np.repeat([1 / (_TURN * spread) ** 2, 1 / (_TURN * spread) ** 2, 1 / _SHIFT**2], 2)
    found, now = begin, first
    share, rim_share = _DATA / len(template.points), _RIM_WEIGHT * _DATA / max(len(template.rim), 20)
    for _ in range(_STEPS):
        normal, right = np.diag(prior), prior * (now - first).ravel()
        _equations(
            field, found, middle, spread, template.points, template.colors, template.rim, template.normals, share,
            rim_share, normal, right,
        )  # fmt: skip
        delta = np.linalg.solve(normal, right).reshape(3, 2)
        now = now - delta
        found = np.r_[now[:2] / spread, [now[2] - middle @ now[:2] / spread]]
        if np.abs(delta).max() < 0.02:
            break
    return found
