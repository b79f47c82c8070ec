# SPDX-License-Identifier: GPL-3.0-or-later
"""What the colors of a picture say about where the walls of a room or a street are.

Edges between surfaces are often too faint for line segments, but they are long: contrast is summed along each of them.
And a surface's colors are more alike than those of different surfaces.

Candidates are edges of the back wall [n, 4]: left, top, right and bottom, as right / away and down / away in scene
coordinates. In these coordinates the edges of the back wall are rows and columns, and those that lead to the camera are
rays from the origin.
"""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from trackshade.lifting.camera import PhotoCamera

NEAREST = 0.15  # away component of rays that are used
_SIDE = 480  # pixels of the longer side in which contrast is measured
_COLUMNS, _ROWS, _TURNS, _DISTANCES = 360, 260, 1080, 300  # samples of the scene's directions
_BEYOND = 1.2  # of the candidates' extent
_STEP = 2  # samples on each side of an edge whose colors are compared
_FAINT = 2.0  # units of Lab: contrast that counts little, and as many times the picture's median contrast
_CELLS = 48  # columns of averaged colors


class RoomEvidence:
    """Measures of candidates by the colors of a picture."""

    def __init__(
        self, camera: PhotoCamera, colors: NDArray[np.uint8], low: NDArray[np.float64], high: NDArray[np.float64]
    ) -> None:
        """Measure the contrast of a picture [h, w, 3] sRGB around candidates between low and high [2]."""
        self._camera = camera
        height, width = colors.shape[:2]
        scale = min(1.0, _SIDE / max(height, width))
        size = max(2, round(width * scale)), max(2, round(height * scale))
        small = cv2.resize(colors, size, interpolation=cv2.INTER_AREA)
        self._lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        self.x = np.linspace(_BEYOND * low[0], _BEYOND * high[0], _COLUMNS)
        self.y = np.linspace(_BEYOND * low[1], _BEYOND * high[1], _ROWS)
        farthest = _BEYOND * float(np.hypot(*np.maximum(-low, high)))
        self.distance = np.linspace(0.02, farthest, _DISTANCES)
        across = self.x[None] + 0 * self.y[:, None], self.y[:, None] + 0 * self.x[None]
        angle = np.linspace(-math.pi, math.pi, _TURNS + 1)[:, None]
        self._rows, self._columns = self._summed(*across, axis=1), self._summed(*across, axis=0)
        self._rays = self._summed(np.cos(angle) * self.distance, np.sin(angle) * self.distance, axis=1)
        cells = cv2.resize(self._lab, (_CELLS, max(2, round(_CELLS * height / width))), interpolation=cv2.INTER_AREA)
        rows, columns = cells.shape[:2]
        x, y = (np.arange(columns) + 0.5) / columns * camera.size[0], (np.arange(rows) + 0.5) / rows * camera.size[1]
        rays = camera.scene_rays(x, y[:, None]).reshape(-1, 3)
        used = rays[:, 2] > NEAREST
        self._directions = rays[used, :2] / rays[used, 2:]
        self._colors = cells.reshape(-1, 3)[used] - cells.reshape(-1, 3).mean(axis=0)

    def _summed(self, x: NDArray[np.float64], y: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        """Return the contrast across lines along an axis of scene directions [h, w], summed along them from 0 on.

        It is above 0 where it is larger than in most of the picture, and counts by its length in the picture, in units
        of the diagonal.
        """
        rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ (self._camera.intrinsics @ self._camera.axes).T
        ahead = rays[..., 2] > 1e-6
        pixels = rays[..., :2] / np.where(ahead, rays[..., 2], 1.0)[..., None]
        height, width = self._lab.shape[:2]
        places = (pixels * (np.array([width, height]) / self._camera.size) - 0.5).astype(np.float32)
        inside = ahead & (places >= 0).all(axis=-1) & (places <= (width - 1, height - 1)).all(axis=-1)
        places = np.where(inside[..., None], places, -1).astype(np.float32)
        colors = cv2.remap(self._lab, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        before, after = (np.roll(colors, step, 1 - axis) for step in (_STEP, -_STEP))
        known = np.roll(inside, _STEP, 1 - axis) & np.roll(inside, -_STEP, 1 - axis)
        contrast = np.where(known, np.linalg.norm(before - after, axis=-1), 0.0)
        if not known.any():
            return np.zeros([side + (k == axis) for k, side in enumerate(x.shape)])
        clear = np.tanh(contrast / (_FAINT * (1 + np.median(contrast[known]))))
        step = np.linalg.norm(np.diff(pixels, axis=axis, append=np.take(pixels, [-1], axis)), axis=-1)
        weight = np.where(known, step / math.hypot(*self._camera.size), 0.0)
        total = np.cumsum((clear - clear[known].mean()) * weight, axis=axis)
        return np.pad(total, [(int(k == axis), 0) for k in range(2)])

    def contrast(self, edges: NDArray[np.float64], indoors: bool) -> NDArray[np.float64]:
        """Return the contrast [n] along all edges of candidates, in units of the picture's diagonal."""
        left, top, right, bottom = edges.T
        columns = [np.clip(np.searchsorted(self.x, side), 0, _COLUMNS - 1) for side in (left, right)]
        upper, lower = (np.clip(np.searchsorted(self.y, side), 0, _ROWS - 1) for side in (top, bottom))
        total = np.zeros(len(edges))
        for row in (upper, lower) if indoors else (lower,):
            total += self._rows[row, columns[1]] - self._rows[row, columns[0]]
        for column in columns:
            total += self._columns[lower, column] - self._columns[upper if indoors else 0, column]
        for x, y in itertools.product((left, right), (top, bottom) if indoors else (bottom,)):
            turn = np.round((np.arctan2(y, x) + math.pi) / (2 * math.pi) * _TURNS).astype(int)
            begin = np.clip(np.searchsorted(self.distance, np.hypot(x, y)), 0, _DISTANCES)
            total += self._rays[turn, -1] - self._rays[turn, begin]
        return total

    def likeness(self, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share [n] of the colors' variance that is between surfaces and not within them."""
        surfaces = surface_of(edges, self._directions)
        between = np.zeros(len(edges))
        for surface in range(5):
            on = (surfaces == surface).astype(np.float32)
            total = on @ self._colors
            between += (total**2).sum(axis=1) / np.maximum(on.sum(axis=1), 1)
        return between / max(float((self._colors**2).sum()), 1e-6)


def surface_of(edges: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return which surface of candidates [n, 4] is seen in scene directions [m, 2].

    Returns:
        [n, m]: 0 for the back wall, and 1 to 4 for the surfaces on its left, right, upper and lower side.
    """
    x, y = directions.T.astype(np.float32)
    left, top, right, bottom = (edges[:, k, None].astype(np.float32) for k in range(4))
    # Inverse depth in units of the back wall's.
    side = np.where(x < 0, x / left, x / right)
    level = np.where(y < 0, y / top, y / bottom)
    nearest = np.where(side > level, np.where(x < 0, 1, 2), np.where(y < 0, 3, 4))
    return np.where(np.maximum(side, level) < 1, 0, nearest).astype(np.int8)
