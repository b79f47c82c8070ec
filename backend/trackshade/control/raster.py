# SPDX-License-Identifier: GPL-3.0-or-later
"""A z-buffer for triangles, without a GPU and without the GIL.

Vertices come in homogeneous pixels, `[V, 4] = (x·w, y·w, w, z)`: w = z for a perspective camera and 1 for an
orthographic one, z is the depth along the camera's axis in metres. Coverage is decided by homogeneous edge
functions (Olano and Greer 1997, "Triangle scan conversion using 2D homogeneous coordinates"), so that a
triangle that crosses the near plane needs no clipping into pieces: it is cut exactly, pixel by pixel.

Rules, shared with `trackshade.control.reference`:
- pixel (row i, column j) is sampled at (j + 0.5, i + 0.5);
- a sample exactly on an edge belongs to the triangle whose inside lies to the right of the edge, or below a
  level one (the top-left rule). Both triangles of an edge compute its function with the same rounding and
  opposite sign, so they neither leak nor overlap;
- the nearest depth wins, compared as float32; at equal depth the triangle drawn first wins.
Both sides of a triangle are drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

NOTHING = -1  # triangle and label of the background


@dataclass(frozen=True)
class Buffers:
    """What is seen at every pixel, written by `draw`."""

    depth: np.ndarray  # [H, W] f32, metres along the camera's axis, inf where nothing is
    triangle: np.ndarray  # [H, W] i32, index within its mesh, -1 where nothing is
    label: np.ndarray  # [H, W] i32, the label of the mesh, -1 where nothing is

    @classmethod
    def empty(cls, size: tuple[int, int]) -> Buffers:
        """Buffers of `size` (w, h) that show nothing."""
        w, h = size
        return cls(
            np.full((h, w), np.inf, np.float32),
            np.full((h, w), NOTHING, np.int32),
            np.full((h, w), NOTHING, np.int32),
        )

    def clear(self) -> None:
        self.depth.fill(np.inf)
        self.triangle.fill(NOTHING)
        self.label.fill(NOTHING)


def homogeneous(
    positions: np.ndarray,
    to_camera: np.ndarray,
    intrinsics: np.ndarray,
    orthographic: bool,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Homogeneous pixels `[V, 4]` f64 of `positions` `[V, 3]` f32, which `to_camera` `[4, 4]` brings into
    the camera's frame (x right, y down, z forward, metres); `intrinsics` `[3, 3]` in pixels (orthographic:
    pixels per metre).
    """
    if out is None:
        out = np.empty((len(positions), 4), np.float64)
    _homogeneous(
        positions,
        np.ascontiguousarray(to_camera, np.float64),
        np.ascontiguousarray(intrinsics, np.float64),
        bool(orthographic),
        out,
    )
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _homogeneous(positions, to_camera, k, orthographic, out):
    m = to_camera
    for v in range(positions.shape[0]):
        px, py, pz = np.float64(positions[v, 0]), np.float64(positions[v, 1]), np.float64(positions[v, 2])
        x = m[0, 0] * px + m[0, 1] * py + m[0, 2] * pz + m[0, 3]
        y = m[1, 0] * px + m[1, 1] * py + m[1, 2] * pz + m[1, 3]
        z = m[2, 0] * px + m[2, 1] * py + m[2, 2] * pz + m[2, 3]
        w = 1.0 if orthographic else z
        out[v, 0] = k[0, 0] * x + k[0, 2] * w
        out[v, 1] = k[1, 1] * y + k[1, 2] * w
        out[v, 2] = w
        out[v, 3] = z


def draw(
    buffers: Buffers,
    vertices: np.ndarray,
    triangles: np.ndarray,
    label: int,
    near: float = 1e-6,
    far: float = math.inf,
) -> None:
    """Draw a mesh into `buffers`: `vertices` `[V, 4]` homogeneous pixels, `triangles` `[F, 3]` i32. Only
    what lies between `near` and `far` (metres along the camera's axis) is drawn; `label` is written where it
    is seen.
    """
    _draw(buffers.depth, buffers.triangle, buffers.label, vertices, triangles, label, max(near, 1e-6), far)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def edge(ax, ay, aw, bx, by, bw):
    """Edge function (A, B, C) of the homogeneous points a and b: A·x + B·y + C, zero on the edge. Exchanging
    the points negates it exactly."""
    return ay * bw - aw * by, aw * bx - ax * bw, ax * by - ay * bx


@njit(cache=True, nogil=True, error_model="numpy")
def _draw(depth, triangle, labels, vertices, triangles, label, near, far):
    height, width = depth.shape
    for f in range(triangles.shape[0]):
        i0, i1, i2 = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        x0, y0, w0, z0 = vertices[i0, 0], vertices[i0, 1], vertices[i0, 2], vertices[i0, 3]
        x1, y1, w1, z1 = vertices[i1, 0], vertices[i1, 1], vertices[i1, 2], vertices[i1, 3]
        x2, y2, w2, z2 = vertices[i2, 0], vertices[i2, 1], vertices[i2, 2], vertices[i2, 3]
        if (z0 < near and z1 < near and z2 < near) or (z0 > far and z1 > far and z2 > far):
            continue
        left, top, right, bottom = _box(x0, y0, w0, x1, y1, w1, x2, y2, w2, near)
        # The margin is far above the rounding of the divisions, so that no sample on an edge is lost.
        if not (right >= 0.5 - 1e-6 and bottom >= 0.5 - 1e-6 and left <= width and top <= height):
            continue
        j0 = math.ceil(max(left - 0.5 - 1e-6, 0.0))
        i0_ = math.ceil(max(top - 0.5 - 1e-6, 0.0))
        j1 = math.floor(min(right - 0.5 + 1e-6, width - 1.0))
        i1_ = math.floor(min(bottom - 0.5 + 1e-6, height - 1.0))
        if j1 < j0 or i1_ < i0_:
            continue
        a0, b0, c0 = edge(x1, y1, w1, x2, y2, w2)
        a1, b1, c1 = edge(x2, y2, w2, x0, y0, w0)
        a2, b2, c2 = edge(x0, y0, w0, x1, y1, w1)
        det = a0 * x0 + b0 * y0 + c0 * w0
        if det < 0.0:
            a0, b0, c0, a1, b1, c1, a2, b2, c2 = -a0, -b0, -c0, -a1, -b1, -c1, -a2, -b2, -c2
        elif not det > 0.0:
            continue
        owns0 = a0 > 0.0 or (a0 == 0.0 and b0 > 0.0)
        owns1 = a1 > 0.0 or (a1 == 0.0 and b1 > 0.0)
        owns2 = a2 > 0.0 or (a2 == 0.0 and b2 > 0.0)
        for i in range(i0_, i1_ + 1):
            py = i + 0.5
            r0, r1, r2 = b0 * py + c0, b1 * py + c1, b2 * py + c2
            for j in range(j0, j1 + 1):
                px = j + 0.5
                e0, e1, e2 = a0 * px + r0, a1 * px + r1, a2 * px + r2
                if not (
                    (e0 > 0.0 or (e0 == 0.0 and owns0))
                    and (e1 > 0.0 or (e1 == 0.0 and owns1))
                    and (e2 > 0.0 or (e2 == 0.0 and owns2))
                ):
                    continue
                z = (e0 * z0 + e1 * z1 + e2 * z2) / (e0 + e1 + e2)
                if z < near or z > far:
                    continue
                z32 = np.float32(z)
                if z32 < depth[i, j]:
                    depth[i, j] = z32
                    triangle[i, j] = f
                    labels[i, j] = label


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _box(x0, y0, w0, x1, y1, w1, x2, y2, w2, near):
    """Pixel bounds (left, top, right, bottom) of the part of a triangle with w >= near."""
    if w0 >= near and w1 >= near and w2 >= near:
        q0, q1, q2 = 1.0 / w0, 1.0 / w1, 1.0 / w2
        u0, u1, u2 = x0 * q0, x1 * q1, x2 * q2
        v0, v1, v2 = y0 * q0, y1 * q1, y2 * q2
        return min(u0, u1, u2), min(v0, v1, v2), max(u0, u1, u2), max(v0, v1, v2)
    return _cut_box(x0, y0, w0, x1, y1, w1, x2, y2, w2, near)


@njit(cache=True, nogil=True, error_model="numpy")
def _cut_box(x0, y0, w0, x1, y1, w1, x2, y2, w2, near):
    left = top = np.inf
    right = bottom = -np.inf
    xs, ys, ws = (x0, x1, x2), (y0, y1, y2), (w0, w1, w2)
    for n in range(3):
        m = (n + 1) % 3
        if ws[n] >= near:
            u, v = xs[n] / ws[n], ys[n] / ws[n]
            left, top, right, bottom = min(left, u), min(top, v), max(right, u), max(bottom, v)
        if (ws[n] >= near) != (ws[m] >= near):
            s = (near - ws[n]) / (ws[m] - ws[n])
            u, v = (xs[n] + s * (xs[m] - xs[n])) / near, (ys[n] + s * (ys[m] - ys[n])) / near
            left, top, right, bottom = min(left, u), min(top, v), max(right, u), max(bottom, v)
    # A little wider than the cut: its corners are computed with other roundings than the edge functions.
    margin_x, margin_y = 1e-9 * max(abs(left), abs(right)), 1e-9 * max(abs(top), abs(bottom))
    return left - margin_x, top - margin_y, right + margin_x, bottom + margin_y


def group_pixels(buffers: Buffers, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels by what they show: flat pixel numbers `[N]` i32 sorted by label, row by row within a label, and
    `starts` `[count + 1]`: the pixels of label k are `pixels[starts[k]:starts[k + 1]]`. Labels are below
    `count`.
    """
    return _group_pixels(buffers.label, count)


@njit(cache=True, nogil=True)
def _group_pixels(label, count):
    flat = label.ravel()
    starts = np.zeros(count + 1, np.int64)
    for p in range(flat.size):
        if flat[p] >= 0:
            starts[flat[p] + 1] += 1
    for k in range(count):
        starts[k + 1] += starts[k]
    following = starts[:-1].copy()
    pixels = np.empty(starts[count], np.int32)
    for p in range(flat.size):
        k = flat[p]
        if k >= 0:
            pixels[following[k]] = p
            following[k] += 1
    return pixels, starts


def barycentric(
    buffers: Buffers, pixels: np.ndarray, vertices: np.ndarray, triangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What is seen at flat `pixels` `[N]` of one mesh: vertex indices `[N, 3]` i32 and perspective-correct
    weights `[N, 3]` f64 (sum 1). An attribute of the surface point is the weighted sum of its vertices'."""
    corners = np.empty((len(pixels), 3), np.int32)
    weights = np.empty((len(pixels), 3), np.float64)
    _barycentric(buffers.triangle, pixels, vertices, triangles, corners, weights)
    return corners, weights


@njit(cache=True, nogil=True, error_model="numpy")
def _barycentric(triangle, pixels, vertices, triangles, corners, weights):
    width = triangle.shape[1]
    for n in range(pixels.size):
        i, j = pixels[n] // width, pixels[n] % width
        f = triangle[i, j]
        e = weigh(vertices, triangles[f, 0], triangles[f, 1], triangles[f, 2], j + 0.5, i + 0.5)
        for a in range(3):
            corners[n, a] = triangles[f, a]
            weights[n, a] = e[a]


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def weigh(vertices, i0, i1, i2, px, py):
    """Perspective-correct weights of three vertices at the sample (px, py)."""
    x0, y0, w0 = vertices[i0, 0], vertices[i0, 1], vertices[i0, 2]
    x1, y1, w1 = vertices[i1, 0], vertices[i1, 1], vertices[i1, 2]
    x2, y2, w2 = vertices[i2, 0], vertices[i2, 1], vertices[i2, 2]
    a0, b0, c0 = edge(x1, y1, w1, x2, y2, w2)
    a1, b1, c1 = edge(x2, y2, w2, x0, y0, w0)
    a2, b2, c2 = edge(x0, y0, w0, x1, y1, w1)
    e0, e1, e2 = a0 * px + (b0 * py + c0), a1 * px + (b1 * py + c1), a2 * px + (b2 * py + c2)
    total = e0 + e1 + e2
    return e0 / total, e1 / total, e2 / total
