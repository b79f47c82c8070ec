# SPDX-License-Identifier: GPL-3.0-or-later
"""Registers parts of what moves from frame to frame: affine maps under which their colors and silhouettes agree.

Each frame's map begins where optical flow, the motion so far or the part's tracks lead, whichever agrees best. It is
then refined by Gauss-Newton steps on the differences of color from the part's first frame, slowly adapted to the light,
and on the distances of its outline from the silhouette of what covers still surfaces (compare Baker and Matthews,
Lucas-Kanade 20 Years On, 2004).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from trackshade.tracking.flow import Flows, read_field
from trackshade.tracking.motions import apply, compose, fit_maps, invert
from trackshade.tracking.outlines import Silhouette

_MOST_POINTS, _MOST_RIM = 160, 48
_COLOR, _OUTSIDE, _RIM = 22.0, 2.0, 2.0  # levels and px at which a residual counts half
_RIM_WEIGHT = 1.5  # of a point of the outline, relative to one inside
_TURN, _SHIFT = 0.05, 2.5  # deviations of a map from where it begins, usual: linear part, and px
_DATA = 40.0  # points that all of a part's count as
_STEPS = 7
_ADAPTED = 0.08  # of its color that a point takes from each frame
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
        frame = _Frame(np.concatenate([image, slopes, edge.distances[..., None], edge.directions], axis=2))
        for template in templates:
            _register_one(template, t, frame, flows)


@dataclass(frozen=True, eq=False)
class _Frame:
    """Colors, their slopes to the right and downwards, and the silhouette's distances and directions, [h, w, 12]."""

    field: np.ndarray


def _register_one(template: Template, t: int, frame: _Frame, flows: Flows) -> None:
    before = template.maps[t - 1]
    place = apply(before, template.points)
    moves = read_field(flows.forward[t - 1], place)
    step = fit_maps(place, moves[None], np.ones((1, len(place))))[0]
    step[:2] += np.eye(2)
    begins = [compose(before, step), before, template.maps[t]]
    if t > 1:
        begins.append(compose(before, compose(invert(template.maps[t - 2]), before)))
    costs = [_cost(template, begin, frame) for begin in begins]
    best = int(np.argmin(costs))
    found = _refine(template, begins[best], frame)
    cost = _cost(template, found, frame)
    if cost > costs[best]:
        found, cost = begins[best], costs[best]
    if cost > _LOST:
        found = begins[0]
    template.maps[t] = found
    place = apply(found, template.points)
    colors = read_field(frame.field, place)[:, :3]
    near = np.abs(colors - template.colors).max(axis=1) < 2 * _COLOR
    template.colors[near] += _ADAPTED * (colors - template.colors)[near]


def _residuals(template: Template, found: np.ndarray, frame: _Frame) -> tuple[np.ndarray, ...]:
    """Return differences of color [N, 3], their slopes [N, 3, 2], distances outside [N], and directions [N, 2]."""
    values = read_field(frame.field, apply(found, template.points))
    slopes = np.stack([values[:, 3:6], values[:, 6:9]], axis=2)
    return values[:, :3] - template.colors, slopes, np.maximum(values[:, 9], 0), values[:, 10:]


def _rim(template: Template, found: np.ndarray, frame: _Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distances of the outline from the silhouette [B], directions [B, 2], and which count [B]."""
    values = read_field(frame.field, apply(found, template.rim))
    away, outwards = values[:, 9], values[:, 10:]
    normal = template.normals @ np.linalg.inv(found[:2] + 1e-6 * np.eye(2)).T
    facing = (normal * outwards).sum(axis=1) > 0.5 * np.linalg.norm(normal, axis=1)
    return away, outwards, facing & (np.abs(away) < 8)


def _cost(template: Template, found: np.ndarray, frame: _Frame) -> float:
    """Return how badly a map agrees with a frame, from 0 to about 1."""
    difference, _, outside, _ = _residuals(template, found, frame)
    color = np.square(difference / _COLOR).sum(axis=1)
    out = np.square(outside / _OUTSIDE)
    cost = (color / (1 + color) + out / (1 + out)).sum()
    if not len(template.rim):
        return float(cost / len(template.points))
    away, _, facing = _rim(template, found, frame)
    rim = np.square(away / _RIM)
    rim = np.where(facing, rim / (1 + rim), 0.7).sum() * 0.5 * len(template.points) / len(template.rim)
    return float((cost + rim) / (1.5 * len(template.points)))


def _refine(template: Template, begin: np.ndarray, frame: _Frame) -> np.ndarray:
    """Return a map that agrees with a frame better, by Gauss-Newton steps."""
    middle = template.points.mean(axis=0)
    spread = max(2.0, float(template.points.std(axis=0).max()))
    to_unit = np.array([[1 / spread, 0], [0, 1 / spread], -middle / spread])
    design = np.c_[apply(to_unit, template.points), np.ones(len(template.points))]
    rim_design = np.c_[apply(to_unit, template.rim), np.ones(len(template.rim))]
    # Maps of the unit coordinates: linear rows are in pixels.
    first = np.r_[begin[:2] * spread, [middle @ begin[:2] + begin[2]]]
    prior = np.repeat([1 / (_TURN * spread) ** 2, 1 / (_TURN * spread) ** 2, 1 / _SHIFT**2], 2)
    now = first.copy()
    share = _DATA / len(template.points)
    for _ in range(_STEPS):
        found = np.r_[now[:2] / spread, [now[2] - middle @ now[:2] / spread]]
        difference, slopes, outside, directions = _residuals(template, found, frame)
        weight = share / np.square(_COLOR) / np.square(1 + np.square(difference / _COLOR).sum(axis=1))
        jacobian = np.einsum("ni,nkc->nkic", design, slopes).reshape(-1, 6)
        w = np.repeat(weight, 3)
        normal, right = (jacobian.T * w) @ jacobian, (jacobian.T * w) @ difference.ravel()
        terms = [(design, outside, directions, share * (outside > 0), _OUTSIDE)]
        if len(template.rim):
            away, outwards, facing = _rim(template, found, frame)
            rim_share = _RIM_WEIGHT * _DATA / max(len(template.rim), 20) * facing
            terms.append((rim_design, away, outwards, rim_share, _RIM))
        for rows, miss, towards, factor, scale in terms:
            w = factor / scale**2 / np.square(1 + np.square(miss / scale))
            jacobian = np.einsum("ni,nc->nic", rows, towards).reshape(-1, 6)
            normal += (jacobian.T * w) @ jacobian
            right += (jacobian.T * w) @ miss
        normal += np.diag(prior)
        right += prior * (now - first).ravel()
        delta = np.linalg.solve(normal, right).reshape(3, 2)
        now = now - delta
        if np.abs(delta).max() < 0.02:
            break
    return np.r_[now[:2] / spread, [now[2] - middle @ now[:2] / spread]]
