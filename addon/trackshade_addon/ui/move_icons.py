# SPDX-License-Identifier: GPL-3.0-or-later
"""Thumbnails of camera moves, which are drawn here: a subject, and how the camera moves about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
from bpy.utils import previews

SIZE = 64  # pixels along a side
_LINE, _ARROW, _SOFT = 3.2, 8.0, 1.0  # width of lines, length of an arrow's head, width of soft edges, pixels
_WHITE, _BLUE, _GRAY = (0.9, 0.9, 0.9), (0.35, 0.65, 1.0), (0.55, 0.55, 0.55)
Point = tuple[float, float]


class _Canvas:
    """An image with a transparent ground; x points to the right and y upwards, 0 to 1."""

    def __init__(self) -> None:
        self.pixels = np.zeros((SIZE, SIZE, 4), np.float32)
        y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE
        self._places = np.stack([x, y], axis=-1)

    def polyline(self, points: list[Point], color: tuple[float, float, float]) -> None:
        """Draw a line through points."""
        distance = np.full((SIZE, SIZE), np.inf)
        for start, end in pairwise(points):
            a, b = np.array(start), np.array(end)
            along = np.clip((self._places - a) @ (b - a) / max(float((b - a) @ (b - a)), 1e-9), 0, 1)
            distance = np.minimum(distance, np.linalg.norm(self._places - a - along[..., None] * (b - a), axis=-1))
        self._blend(_LINE / 2 - distance * SIZE, color)

    def disc(self, center: Point, radius: float, color: tuple[float, float, float]) -> None:
        """Draw a disc."""
        self._blend((radius - np.linalg.norm(self._places - center, axis=-1)) * SIZE, color)

    def arrow(self, points: list[Point], color: tuple[float, float, float] = _BLUE) -> None:
        """Draw a line through points with a head at its end."""
        self.polyline(points, color)
        (x, y), (u, v) = points[-2:]
        direction = math.atan2(v - y, u - x)
        for turn in (2.5, -2.5):
            head = (u + _ARROW / SIZE * math.cos(direction + turn), v + _ARROW / SIZE * math.sin(direction + turn))
            self.polyline([(u, v), head], color)

    def _blend(self, inside: np.ndarray, color: tuple[float, float, float]) -> None:
        """Draw where a distance, in pixels, is above 0."""
        alpha = np.clip(inside / _SOFT + 0.5, 0, 1)[..., None].astype(np.float32)
        self.pixels[..., :3] = np.where(alpha > 0, (1 - alpha) * self.pixels[..., :3] + alpha * np.float32(color),
                                        self.pixels[..., :3])  # fmt: skip
        self.pixels[..., 3:] = np.maximum(self.pixels[..., 3:], alpha)


def _camera(canvas: _Canvas, x: float = 0.5, y: float = 0.18, angle: float = math.pi / 2, wide: float = 0.5) -> None:
    """Draw a camera from above, and the borders of what it sees."""
    canvas.disc((x, y), 0.07, _WHITE)
    for side in (-wide, wide):
        end = (x + 0.26 * math.cos(angle + side), y + 0.26 * math.sin(angle + side))
        canvas.polyline([(x, y), end], _WHITE)


def _arc(center: Point, radius: float, start: float, end: float) -> list[Point]:
    return [
        (center[0] + radius * math.cos(a), center[1] + radius * math.sin(a))
        for a in np.radians(np.linspace(start, end, 16))
    ]


def _orbit(canvas: _Canvas) -> None:
    canvas.disc((0.5, 0.62), 0.1, _GRAY)
    _camera(canvas)
    canvas.arrow(_arc((0.5, 0.62), 0.44, -70, 10))


def _dolly(canvas: _Canvas) -> None:
    canvas.disc((0.5, 0.85), 0.09, _GRAY)
    _camera(canvas)
    canvas.arrow([(0.5, 0.3), (0.5, 0.68)])


def _truck(canvas: _Canvas) -> None:
    canvas.disc((0.5, 0.85), 0.09, _GRAY)
    _camera(canvas, 0.25)
    canvas.arrow([(0.38, 0.18), (0.88, 0.18)])


def _pan(canvas: _Canvas) -> None:
    _camera(canvas, angle=math.radians(105))
    canvas.arrow(_arc((0.5, 0.18), 0.55, 115, 45))


def _tilt(canvas: _Canvas) -> None:
    _camera(canvas, 0.18, 0.4, 0.0)
    canvas.arrow(_arc((0.18, 0.4), 0.55, -20, 50))


def _crane(canvas: _Canvas) -> None:
    canvas.disc((0.85, 0.25), 0.09, _GRAY)
    _camera(canvas, 0.25, 0.25, 0.0)
    canvas.arrow([(0.25, 0.38), (0.25, 0.88)])


def _zoom(canvas: _Canvas) -> None:
    _camera(canvas, wide=0.75)
    for side in (-1, 1):
        canvas.arrow([(0.5 + 0.4 * side, 0.75), (0.5 + 0.14 * side, 0.75)])


def _dolly_zoom(canvas: _Canvas) -> None:
    _camera(canvas, wide=0.4)
    canvas.arrow([(0.5, 0.3), (0.5, 0.68)])
    for side in (-1, 1):
        canvas.arrow([(0.5 + 0.14 * side, 0.85), (0.5 + 0.4 * side, 0.85)])


DRAWINGS: Mapping[str, Callable[[_Canvas], None]] = {
    "orbit": _orbit,
    "dolly": _dolly,
    "truck": _truck,
    "pan": _pan,
    "tilt": _tilt,
    "crane": _crane,
    "zoom": _zoom,
    "dolly-zoom": _dolly_zoom,
}
"""Functions that draw a preset."""


def draw_icon(name: str) -> np.ndarray:
    """Return the thumbnail of a preset, [SIZE, SIZE, 4] float32 from 0 to 1, bottom row first."""
    canvas = _Canvas()
    DRAWINGS[name](canvas)
    return canvas.pixels


class MoveIcons:
    """The thumbnails in Blender, drawn when they are first needed."""

    def __init__(self) -> None:
        self._icons: previews.ImagePreviewCollection | None = None

    def icon(self, name: str) -> int:
        """Return the ID of a preset's icon."""
        if self._icons is None:
            self._icons = previews.new()
        if name not in self._icons:
            preview = self._icons.new(name)
            pixels = draw_icon(name)
            for kind, step in (("icon", 2), ("image", 1)):
                small = pixels.reshape(SIZE // step, step, SIZE // step, step, 4).mean(axis=(1, 3))
                setattr(preview, f"{kind}_size", small.shape[:2])
                getattr(preview, f"{kind}_pixels_float").foreach_set(np.ascontiguousarray(small).ravel())
        return self._icons[name].icon_id

    def close(self) -> None:
        """Remove the icons."""
        if self._icons is not None:
            previews.remove(self._icons)
            self._icons = None


icons = MoveIcons()
