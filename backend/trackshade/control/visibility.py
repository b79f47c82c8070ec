# SPDX-License-Identifier: GPL-3.0-or-later
"""Which points are visible: in front of the camera, inside the frame and not behind a surface.

The depth buffer has the surface at pixel centers only, and a point lies up to half a pixel beside one. So a point
counts as visible if it is no deeper than the surface may be half a pixel away, by the slope between neighboring pixels
(the smaller of the two sides, which a silhouette does not affect).
"""

from __future__ import annotations

import math

import numpy as np

from trackshade.control.compiling import kernel

RELATIVE = 1e-3  # of the depth, added to the slope: covers float32 and curvature within a pixel


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
def depth_slopes(
    depth,  # [H, W] float32, metres
    i,  # [N] rows
    j,  # [N] columns
):
    """Return the change of depth per pixel to the right and downwards, [N] each, metres."""
    right, down = np.empty(i.size), np.empty(i.size)
    for n in range(i.size):
        right[n], down[n] = _slope(depth, i[n], j[n])
    return right, down


@kernel
def is_visible(
    vertices,  # [N, 4] screen vertices, see `raster`
    depth,  # [H, W] float32, metres along the camera's axis, inf for the background
    near=1e-6,
    far=math.inf,
):
    """Return which points are visible, [N] bool; `near` and `far` are limits of the depth, metres."""
    height, width = depth.shape
    out = np.zeros(vertices.shape[0], np.bool_)
    for n in range(vertices.shape[0]):
        x, y, q, z = vertices[n, 0], vertices[n, 1], vertices[n, 2], vertices[n, 3]
        if q > 0.0 and z >= max(near, 1e-6) and z <= far and x >= 0.0 and x < width and y >= 0.0 and y < height:
            i, j = int(y), int(x)
            out[n] = z <= depth[i, j] or z <= _depth_limit(depth, i, j)
    return out


@kernel
def _depth_limit(depth, i, j):
    right, down = _slope(depth, i, j)
    d = np.float64(depth[i, j])
    return d + 0.5 * (right + down) + RELATIVE * d


@kernel
def depth_limits(
    depth,  # [H, W] float32, metres
    out,  # [H, W] float32
):
    """Write the greatest depth at which a point in each pixel still counts as visible, metres."""
    for i in range(depth.shape[0]):
        for j in range(depth.shape[1]):
            out[i, j] = _depth_limit(depth, i, j)
