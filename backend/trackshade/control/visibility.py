# SPDX-License-Identifier: GPL-3.0-or-later
"""Which points are seen: in front of the camera, inside the frame and not behind a surface.

The depth buffer knows the surface at pixel centers only, a point lies up to half a pixel beside one. So a
point counts as seen when it is no deeper than the surface may be half a pixel away, by the slope between
neighboring pixels (the smaller of the two sides, which a silhouette does not spoil).
"""

from __future__ import annotations

import math

import numpy as np

from trackshade.control.compiling import kernel

RELATIVE = 1e-3  # of the depth, beside the slope: covers float32 and curvature within a pixel


def seen(vertices: np.ndarray, depth: np.ndarray, near: float = 1e-6, far: float = math.inf) -> np.ndarray:
    """Whether points are seen `[N]` bool: screen vertices `[N, 4]` (see `raster`) against `depth` `[H, W]`
    f32, metres along the camera's axis, inf where nothing is."""
    out = np.empty(len(vertices), np.bool_)
    _seen(vertices, depth, max(near, 1e-6), far, out)
    return out


def reach(depth: np.ndarray, out: np.ndarray) -> None:
    """Writes the greatest depth at which a point in each pixel still counts as seen, `out` `[H, W]` f32, metres."""
    _reach(depth, out)


def slopes(depth: np.ndarray, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Change of depth per pixel, (to the right, downwards) `[N]` each, metres, at pixels (i, j)."""
    right, down = np.empty(len(i)), np.empty(len(i))
    _slopes(depth, i, j, right, down)
    return right, down


@kernel
def _slope(depth, i, j):
    height, width = depth.shape
    d = np.float64(depth[i, j])
    right = down = np.inf
    if j + 1 < width:
        right = abs(depth[i, j + 1] - d)
    if j > 0:
        right = min(right, abs(depth[i, j - 1] - d))
    if i + 1 < height:
        down = abs(depth[i + 1, j] - d)
    if i > 0:
        down = min(down, abs(depth[i - 1, j] - d))
    return right if right < np.inf else 0.0, down if down < np.inf else 0.0


@kernel
def _slopes(depth, i, j, right, down):
    for n in range(i.size):
        right[n], down[n] = _slope(depth, i[n], j[n])


@kernel
def _seen(vertices, depth, near, far, out):
    height, width = depth.shape
    for n in range(vertices.shape[0]):
        x, y, q, z = vertices[n, 0], vertices[n, 1], vertices[n, 2], vertices[n, 3]
        out[n] = False
        if not (q > 0.0 and z >= near and z <= far):
            continue
        if not (x >= 0.0 and x < width and y >= 0.0 and y < height):
            continue
        i, j = int(y), int(x)
        d = np.float64(depth[i, j])
        if z <= d:
            out[n] = True
            continue
        out[n] = z <= _limit(depth, i, j)


@kernel
def _limit(depth, i, j):
    right, down = _slope(depth, i, j)
    d = np.float64(depth[i, j])
    return d + 0.5 * (right + down) + RELATIVE * d


@kernel
def _reach(depth, out):
    for i in range(depth.shape[0]):
        for j in range(depth.shape[1]):
            out[i, j] = _limit(depth, i, j)
