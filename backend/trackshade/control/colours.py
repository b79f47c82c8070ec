# SPDX-License-Identifier: GPL-3.0-or-later
"""The colour of a point: where it is in the first frame (Gu et al. 2025, "Diffusion as Shader", and its code).

All rules share the idea: red and green are the place in the image, blue grows from far to near. They differ in how the
three are normalised. Colours here are floats in 0..1 and are data: no colour management ever touches them.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from .raster import Buffers, edge

PERCENTILES = (2.0, 98.0)


def inverse_range(inverse: np.ndarray) -> tuple[float, float]:
    """The 2nd and 98th percentile of inverse depths or distances, of those that are finite; (0, 0) of nothing."""
    inverse = inverse[np.isfinite(inverse)]
    if inverse.size == 0:
        return 0.0, 0.0
    low, high = np.percentile(inverse, PERCENTILES)
    return float(low), float(high)


def nearness(inverse: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Blue: `inverse` mapped from `limits` to 0..1 and clipped; 0 where the limits leave no range."""
    low, high = limits
    span = high - low
    if not span > 0.0:
        return np.zeros(np.shape(inverse))
    return np.clip((inverse - low) / span, 0.0, 1.0)


def inverse_distance(positions_camera: np.ndarray) -> np.ndarray:
    """1 / euclidean distance to the camera `[N]`, per metre, of points `[N, 3]` in its frame; inf at the camera itself."""
    with np.errstate(divide="ignore"):
        return 1.0 / np.sqrt(np.einsum("ij,ij->i", positions_camera, positions_camera, dtype=np.float64))


def mesh_colours(
    first: np.ndarray, intrinsics: np.ndarray, orthographic: bool, limits: tuple[float, float], size: tuple[int, int]
) -> np.ndarray:
    """The mesh rule: colours `[N, 3]` f32 of points at `first` `[N, 3]`, in the camera's frame of the first frame, metres.

    R = x / W and G = y / H in the image (the camera view's x and 1 − y), B = nearness of the inverse euclidean distance
    between `limits`, percentiles over all vertices of the scene. Black outside the frame and behind the camera. Hidden
    points have the colour of their place, like seen ones.
    """
    first = np.asarray(first, np.float64)
    k = np.asarray(intrinsics, np.float64)
    w = np.ones(len(first)) if orthographic else first[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        red = (k[0, 0] * first[:, 0] + k[0, 1] * first[:, 1] + k[0, 2] * w) / w / size[0]
        green = (k[1, 1] * first[:, 1] + k[1, 2] * w) / w / size[1]
        blue = nearness(1.0 / np.sqrt(np.sum(first * first, axis=1)), limits)
    inside = (first[:, 2] > 0.0) & (red >= 0.0) & (red <= 1.0) & (green >= 0.0) & (green <= 1.0)
    colours = np.stack([red, green, blue], axis=1)
    colours[~inside] = 0.0
    return colours.astype(np.float32)


def paint_places(
    buffers: Buffers, vertices: np.ndarray, triangles: np.ndarray, label: int, first: np.ndarray,
    intrinsics: np.ndarray, orthographic: bool, limits: tuple[float, float], out: np.ndarray,
) -> None:
    """Paint 8-bit `out` `[H, W, 3]` at the pixels of `label` by the mesh rule, evaluated at the surface point seen there.

    `first` `[V, 3]` are the vertices in the camera's frame of the first frame and `intrinsics`, `orthographic` that
    frame's camera. The point's place is interpolated and coloured, not the vertices' colours: on a fine mesh the two are
    the same, and on a coarse one (a floor of two triangles) every point still has the colour of its own place.
    """
    _paint_places(
        buffers.triangle, buffers.label, vertices, triangles, label, first,
        np.ascontiguousarray(intrinsics, np.float64), bool(orthographic), float(limits[0]), float(limits[1]), out,
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _paint_places(triangle, labels, vertices, triangles, label, first, k, orthographic, low, high, out):
    height, width = triangle.shape
    span = high - low
    last = -1
    i0 = i1 = i2 = 0
    a0 = b0 = c0 = a1 = b1 = c1 = a2 = b2 = c2 = 0.0
    for i in range(height):
        py = i + 0.5
        for j in range(width):
            f = triangle[i, j]
            if f < 0 or labels[i, j] != label:
                continue
            if f != last:
                last = f
                i0, i1, i2 = triangles[f, 0], triangles[f, 1], triangles[f, 2]
                x0, y0, w0 = vertices[i0, 0], vertices[i0, 1], vertices[i0, 2]
                x1, y1, w1 = vertices[i1, 0], vertices[i1, 1], vertices[i1, 2]
                x2, y2, w2 = vertices[i2, 0], vertices[i2, 1], vertices[i2, 2]
                a0, b0, c0 = edge(x1, y1, w1, x2, y2, w2)
                a1, b1, c1 = edge(x2, y2, w2, x0, y0, w0)
                a2, b2, c2 = edge(x0, y0, w0, x1, y1, w1)
            px = j + 0.5
            e0, e1, e2 = a0 * px + (b0 * py + c0), a1 * px + (b1 * py + c1), a2 * px + (b2 * py + c2)
            total = e0 + e1 + e2
            e0, e1, e2 = e0 / total, e1 / total, e2 / total
            x = e0 * first[i0, 0] + e1 * first[i1, 0] + e2 * first[i2, 0]
            y = e0 * first[i0, 1] + e1 * first[i1, 1] + e2 * first[i2, 1]
            z = e0 * first[i0, 2] + e1 * first[i1, 2] + e2 * first[i2, 2]
            w = 1.0 if orthographic else z
            red = (k[0, 0] * x + k[0, 1] * y + k[0, 2] * w) / w / width
            green = (k[1, 1] * y + k[1, 2] * w) / w / height
            if not (z > 0.0 and red >= 0.0 and red <= 1.0 and green >= 0.0 and green <= 1.0):
                out[i, j, 0] = out[i, j, 1] = out[i, j, 2] = 0
                continue
            blue = 0.0
            if span > 0.0:
                blue = min(max((1.0 / math.sqrt(x * x + y * y + z * z) - low) / span, 0.0), 1.0)
            out[i, j, 0] = np.rint(red * 255.0)
            out[i, j, 1] = np.rint(green * 255.0)
            out[i, j, 2] = np.rint(blue * 255.0)


def dense_colours(pixels: np.ndarray, depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The dense-depth and CoTracker rule: `pixels` `[N, 2]` and `depth` `[N]` (metres along the axis) of the first frame
    to `[N, 3]` f32: R, G = x / W, y / H clipped, B = 1/z between its own 2nd and 98th percentile."""
    with np.errstate(divide="ignore"):
        inverse = 1.0 / np.asarray(depth, np.float64)
    place = np.clip(np.asarray(pixels, np.float64) / np.asarray(size, np.float64), 0.0, 1.0)
    blue = nearness(inverse, inverse_range(inverse))
    return np.concatenate([place, blue[:, None]], axis=1).astype(np.float32)


def point_colours(pixels: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """The rule of the published training data (SpatialTracker): like `dense_colours`, but R and G run from 0 to 1 between
    the least and the greatest x and y of the first frame's tracks."""
    pixels = np.asarray(pixels, np.float64)
    if len(pixels) == 0:
        return np.zeros((0, 3), np.float32)
    low, span = pixels.min(axis=0), np.ptp(pixels, axis=0)
    place = (pixels - low) / np.where(span > 0.0, span, 1.0)
    with np.errstate(divide="ignore"):
        inverse = 1.0 / np.asarray(depth, np.float64)
    blue = nearness(inverse, inverse_range(inverse))
    return np.concatenate([place, blue[:, None]], axis=1).astype(np.float32)
