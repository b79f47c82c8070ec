# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders triangle meshes before generated backgrounds, as `raster` renders capsules."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from .raster import Backdrops, average_samples, paint_backdrop

_NEAR = 0.05  # depth before which nothing is drawn, metres
_ADJACENT_DEPTH = 0.2  # how far the surface of an adjacent part may be before a point, metres


@dataclass(frozen=True, eq=False)
class Paint:
    """Colors of the F triangles of a mesh, and how they are changed: mixed with those of M materials, and tinted.

    Attributes:
        colors: [F, 3] float32 sRGB 0..1.
        materials: [F] material of each triangle.
        mixed: [M, 3] float32 colors with which those of the materials are mixed; light and shade of textures stay.
        share: share of these, 0..1.
        tint: [3] float32 factors of the channels.
    """

    colors: np.ndarray
    materials: np.ndarray
    mixed: np.ndarray
    share: float
    tint: np.ndarray


@dataclass(frozen=True, eq=False)
class Mesh:
    """A mesh of V vertices and F triangles in T frames, as a camera sees it.

    Attributes:
        plane: [T, V, 2] places on the plane one unit before the camera, x to the right and y down.
        depth: [T, V] metres.
        triangles: [F, 3] vertices.
        parts: [F] part of the body that each triangle belongs to.
        paint: its colors.
    """

    plane: np.ndarray
    depth: np.ndarray
    triangles: np.ndarray
    parts: np.ndarray
    paint: Paint

    def render(
        self,
        focal: np.ndarray,  # [T] pixels
        center: np.ndarray,  # [T, 2] pixels
        backdrops: Backdrops,
        pictures: np.ndarray,  # [T, H, W, 3] float32
        coverage: np.ndarray,  # [T, H, W] float32
        samples: int = 2,
    ) -> None:
        """Render the frames into pictures, and which share of each pixel the mesh covers; see `raster.render`."""
        paint = self.paint
        _render(
            self.plane, self.depth, self.triangles, paint.colors, paint.materials, paint.mixed, paint.share, paint.tint,
            focal, center, backdrops.sky, backdrops.floor, backdrops.horizon, backdrops.panels, backdrops.pattern,
            backdrops.light, samples, pictures, coverage,
        )  # fmt: skip

    def find_visible(
        self,
        places: np.ndarray,  # [T, L, 2] pixels
        depth: np.ndarray,  # [T, L] metres
        own: np.ndarray,  # [L, parts] 2 for a point's own parts, 1 for parts that meet them at the point, else 0
        focal: np.ndarray,  # [T] pixels
        center: np.ndarray,  # [T, 2] pixels
        size: tuple[int, int],
    ) -> np.ndarray:
        """Return which points are in the picture and not behind the body, [T, L] bool.

        A point is visible if nothing is more than 2 cm before the surface of its own parts.
        """
        visible = np.empty(depth.shape, np.bool_)
        _find_visible(
            self.plane, self.depth, self.triangles, self.parts, focal, center, places, depth, own, size[0], size[1],
            visible,
        )  # fmt: skip
        return visible


@njit(cache=True, nogil=True)
def _render(
    plane, depth, triangles, colors, materials, mixed, share, tint, focal, center, sky, floor, horizon, panels, pattern,
    light, samples, pictures, coverage,
):  # fmt: skip
    height, width = coverage.shape[1:]
    rows, columns = height * samples, width * samples
    nearest = np.empty((rows, columns))
    shown = np.empty((rows, columns), np.int32)  # triangle
    image = np.empty((rows, columns, 3))
    covered = np.empty((rows, columns))
    x, y = np.empty(depth.shape[1]), np.empty(depth.shape[1])
    lit = np.empty((len(triangles), 3))  # colors in the frame
    for n in range(len(pictures)):
        paint_backdrop(image, sky[n], floor[n], horizon[n], panels[n], pattern[n])
        _to_pixels(plane, n, focal[n] * samples, center[n, 0] * samples, center[n, 1] * samples, x, y)
        _find_nearest(x, y, depth, n, triangles, nearest, shown)
        lit[:, 0] = -1.0
        for j in range(rows):
            for i in range(columns):
                f = shown[j, i]
                covered[j, i] = f >= 0
                if f < 0:
                    continue
                if lit[f, 0] < 0:
                    shade = _shade(plane, depth, n, triangles[f, 0], triangles[f, 1], triangles[f, 2], light)
                    bright = share * (colors[f, 0] + colors[f, 1] + colors[f, 2]) * (2.0 / 3.0)
                    for k in range(3):
                        color = min(1.0, (1.0 - share) * colors[f, k] + bright * mixed[materials[f], k])
                        lit[f, k] = min(1.0, min(1.0, color * tint[k]) * shade)
                for k in range(3):
                    image[j, i, k] = lit[f, k]
        average_samples(image, covered, samples, pictures[n], coverage[n])


@njit(cache=True, nogil=True)
def _find_nearest(x, y, depth, n, triangles, nearest, shown):
    """Find the triangle that each sample shows, -1 where there is none."""
    rows, columns = nearest.shape
    nearest[:] = 1e9
    shown[:] = -1
    for f in range(len(triangles)):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        xa, xb, xc, ya, yb, yc = x[a], x[b], x[c], y[a], y[b], y[c]
        low, high, above, below = min(xa, xb, xc), max(xa, xb, xc), min(ya, yb, yc), max(ya, yb, yc)
        if high < 0.5 or low > columns - 0.5 or below < 0.5 or above > rows - 0.5:
            continue
        left, right = int(max(0.0, low + 0.5)), int(min(columns - 1.0, high - 0.5))
        top, bottom = int(max(0.0, above + 0.5)), int(min(rows - 1.0, below - 0.5))
        if left > right or top > bottom:
            continue
        za, zb, zc = depth[n, a], depth[n, b], depth[n, c]
        area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
        if abs(area) < 1e-9 or min(za, zb, zc) < _NEAR:
            continue
        scale = 1.0 / area
        # Shares of the first two corners change evenly along rows and columns.
        ux, uy = (yb - yc) * scale, (xc - xb) * scale
        vx, vy = (yc - ya) * scale, (xa - xc) * scale
        for j in range(top, bottom + 1):
            dx, dy = left + 0.5 - xc, j + 0.5 - yc
            u, v = ux * dx + uy * dy, vx * dx + vy * dy
            for i in range(left, right + 1):
                w = 1.0 - u - v
                if u >= 0 and v >= 0 and w >= 0:
                    z = u * za + v * zb + w * zc
                    if z < nearest[j, i]:
                        nearest[j, i] = z
                        shown[j, i] = f
                u += ux
                v += vx


@njit(cache=True, nogil=True)
def _shares(px, py, xa, ya, xb, yb, xc, yc, area):
    """Return the shares of the first two corners of a triangle at a place."""
    scale = 1.0 / area
    u = ((yb - yc) * (px - xc) + (xc - xb) * (py - yc)) * scale
    v = ((yc - ya) * (px - xc) + (xa - xc) * (py - yc)) * scale
    return u, v


@njit(cache=True, nogil=True)
def _to_pixels(plane, n, focal, left, top, x, y):
    for v in range(len(x)):
        x[v] = plane[n, v, 0] * focal + left
        y[v] = plane[n, v, 1] * focal + top


@njit(cache=True, nogil=True)
def _shade(plane, depth, n, a, b, c, light):
    """Return the brightness of a triangle, whose side that is seen is lit."""
    az, bz, cz = depth[n, a], depth[n, b], depth[n, c]
    ax, ay = plane[n, a, 0] * az, plane[n, a, 1] * az
    ux, uy, uz = plane[n, b, 0] * bz - ax, plane[n, b, 1] * bz - ay, bz - az
    vx, vy, vz = plane[n, c, 0] * cz - ax, plane[n, c, 1] * cz - ay, cz - az
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
    if nx * ax + ny * ay + nz * az > 0:  # turned away from the camera
        length = -length
    # The light's direction has z towards the camera.
    return 0.5 + 0.6 * max(0.0, (nx * light[n, 0] + ny * light[n, 1] - nz * light[n, 2]) / length)


@njit(cache=True, nogil=True)
def _find_visible(
    plane, depth, triangles, parts, focal, center, places, point_depth, own, width, height, visible
):  # fmt: skip
    num_points = places.shape[1]
    mine, others = np.empty(num_points), np.empty(num_points)
    first, following = np.empty(height, np.int64), np.empty(num_points, np.int64)  # points in each row of pixels
    x, y = np.empty(depth.shape[1]), np.empty(depth.shape[1])
    for n in range(len(visible)):
        first[:] = -1
        for p in range(num_points):
            px, py = places[n, p, 0], places[n, p, 1]
            mine[p], others[p] = point_depth[n, p], 1e9
            visible[n, p] = 0 <= px < width and 0 <= py < height
            if visible[n, p]:
                following[p], first[int(py)] = first[int(py)], p
        _to_pixels(plane, n, focal[n], center[n, 0], center[n, 1], x, y)
        for f in range(len(triangles)):
            a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
            xa, xb, xc, ya, yb, yc = x[a], x[b], x[c], y[a], y[b], y[c]
            top, bottom = min(ya, yb, yc), max(ya, yb, yc)
            for row in range(int(max(0.0, top)), int(min(height - 1.0, bottom)) + 1):
                p = first[row]
                while p >= 0:
                    px, py = places[n, p, 0], places[n, p, 1]
                    area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
                    if min(xa, xb, xc) <= px <= max(xa, xb, xc) and abs(area) > 1e-12:
                        u, v = _shares(px, py, xa, ya, xb, yb, xc, yc, area)
                        if u >= 0 and v >= 0 and u + v <= 1:
                            z = u * depth[n, a] + v * depth[n, b] + (1 - u - v) * depth[n, c]
                            kind = own[p, parts[f]]
                            if kind == 2 or (kind == 1 and z > point_depth[n, p] - _ADJACENT_DEPTH):
                                mine[p] = min(mine[p], z)
                            else:
                                others[p] = min(others[p], z)
                    p = following[p]
        for p in range(num_points):
            visible[n, p] = visible[n, p] and mine[p] < others[p] + 0.02
