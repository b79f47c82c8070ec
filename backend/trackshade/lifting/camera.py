# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera that took a picture, and the perspective that the user sees and moves.

World: Blender's, Z up, metres, ground at z = 0. The camera stands above the world's origin and looks along +Y; the
scene's axes are those of the room or street: x right, y away from the camera. *Scene coordinates* of a direction are
(x, -z, y) of the world: right, down, away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trackshade.shot.lifted import Perspective, Point, Rectangle

Array = NDArray[np.float64]
_TO_WORLD = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # right, down, away -> x, y, z
_LEAST_AWAY = 0.05  # the cosine below which the direction away from the camera has no vanishing point in reach


@dataclass(frozen=True, eq=False)
class PhotoCamera:
    """A pinhole camera with square pixels and its axis in the middle of the picture.

    Attributes:
        size: (width, height) of the picture, pixels.
        focal: focal length, pixels.
        axes: [3, 3] columns are the scene's directions right, down and away, in camera axes (x right, y down,
            z forward).
        height: of the camera above the ground, metres.
    """

    size: tuple[int, int]
    focal: float
    axes: Array
    height: float

    @property
    def intrinsics(self) -> Array:
        """[3, 3], pixels."""
        width, height = self.size
        return np.array([[self.focal, 0, width / 2], [0, self.focal, height / 2], [0, 0, 1.0]])

    @property
    def world_to_camera(self) -> Array:
        """[4, 4], x right, y down, z forward."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.axes @ _TO_WORLD.T
        matrix[:3, 3] = -matrix[:3, :3] @ (0, 0, self.height)
        return matrix

    def rays(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Return the rays [..., 3] through pixels, in camera axes, with z = 1."""
        u = (np.asarray(x, np.float64) - self.size[0] / 2) / self.focal
        v = (np.asarray(y, np.float64) - self.size[1] / 2) / self.focal
        return np.stack(np.broadcast_arrays(u, v, 1.0), axis=-1)

    def scene_rays(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Return the rays [..., 3] through pixels in scene coordinates; their depth in camera axes is 1."""
        return self.rays(x, y) @ self.axes

    def to_world(self, x: ArrayLike, y: ArrayLike, inverse_depth: ArrayLike) -> Array:
        """Return the world positions [..., 3] that pixels show at 1 / z of the camera's axes, metres."""
        points = self.scene_rays(x, y) / np.asarray(inverse_depth)[..., None]
        return points @ _TO_WORLD.T + (0, 0, self.height)

    def project(self, directions: ArrayLike) -> Array:
        """Return the pixels [..., 2] of directions [..., 3] in scene coordinates."""
        seen = np.asarray(directions, np.float64) @ self.axes.T
        return seen[..., :2] / seen[..., 2:] * self.focal + np.array(self.size) / 2

    def rows_above_horizon(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Return how far pixels lie above the horizon, as the tangent of an angle; negative below it."""
        return -self.scene_rays(x, y)[..., 1]

    def horizon(self) -> tuple[Point, Point]:
        """Return where the horizon meets the picture's left and right border."""
        (width, height), (a, b, c) = self.size, self.axes[:, 1]
        rows = [-(a * (x - width / 2) + c * self.focal) / b + height / 2 for x in (0.0, float(width))]
        return (0.0, float(rows[0])), (float(width), float(rows[1]))

    def rectangle_of(self, edges: tuple[float, float, float, float]) -> Rectangle:
        """Return the rectangle in the picture of a back wall.

        Args:
            edges: its left, top, right and bottom edge as right / away and down / away in scene coordinates.
        """
        left, top, right, bottom = edges
        ends = [self.project([left, 0, 1])[0], self.project([0, top, 1])[1]]
        ends += [self.project([right, 0, 1])[0], self.project([0, bottom, 1])[1]]
        return float(ends[0]), float(ends[1]), float(ends[2]), float(ends[3])

    def edges_of(self, rectangle: Rectangle) -> tuple[float, float, float, float]:
        """Return a back wall's edges in scene coordinates, the inverse of `rectangle_of`."""
        found = []
        for value, axis in zip(rectangle, (0, 1, 0, 1), strict=True):
            # The pixel of (t, 0, 1) or (0, t, 1) is (m t + n) / (p t + q).
            m = self.focal * self.axes[axis, axis] + self.size[axis] / 2 * self.axes[2, axis]
            n = self.focal * self.axes[axis, 2] + self.size[axis] / 2 * self.axes[2, 2]
            p, q = self.axes[2, axis], self.axes[2, 2]
            slope = m - value * p
            found.append((value * q - n) / (slope if abs(slope) > 1e-9 else 1e-9))
        return found[0], found[1], found[2], found[3]

    def with_height(self, height: float) -> PhotoCamera:
        """Return the same camera at another height, metres."""
        return replace(self, height=height)


def level_axes(pitch: float = 0.0) -> Array:
    """Return the scene's axes for a camera without roll; a positive pitch (radians) looks up."""
    c, s = math.cos(pitch), math.sin(pitch)
    return np.array([[1.0, 0, 0], [0, c, s], [0, -s, c]])


def axes_of_perspective(perspective: Perspective, size: tuple[int, int]) -> Array:
    """Return the scene's axes in camera axes [3, 3] from the horizon, the vanishing point and the focal length."""
    camera = PhotoCamera(size, perspective.focal, np.eye(3), 0.0)
    (x0, y0), (x1, y1) = perspective.horizon
    down = np.cross(camera.rays(x0, y0), camera.rays(x1, y1))
    down /= max(np.linalg.norm(down), 1e-12)
    if down[1] < 0:
        down = -down
    if not abs(down[1]) > 1e-3:  # the two points coincide or stand above each other
        down = np.array([0.0, 1, 0])
    away = camera.rays(*perspective.vanishing_point)
    away = away - down * (away @ down)
    if np.linalg.norm(away) < 1e-6:
        away = np.array([0.0, 0, 1]) - down * down[2]
    away /= np.linalg.norm(away)
    return np.stack([np.cross(down, away), down, away], axis=1)


def perspective_of(camera: PhotoCamera, rectangle: Rectangle | None, **facts: float | bool) -> Perspective:
    """Return what the user sees of a camera; `facts` are the other fields of `Perspective`."""
    away = camera.axes[:, 2].copy()
    away[2] = max(away[2], _LEAST_AWAY)
    x, y = away[:2] / away[2] * camera.focal + np.array(camera.size) / 2
    return Perspective(camera.horizon(), (float(x), float(y)), rectangle, float(camera.focal), **facts)  # type: ignore[arg-type]
