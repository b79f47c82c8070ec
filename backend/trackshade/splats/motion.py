# SPDX-License-Identifier: GPL-3.0-or-later
"""Position, rotation and size of splats in a frame, from the surface that they ride on.

A splat is a round disc on the surface at the vertices' origins. The deformation of its triangle makes an ellipse of the
disc, whose axes are the splat's. They are followed from frame to frame, so that a surface that turns turns its splats
with it and values between two frames can be interpolated.
"""

from __future__ import annotations

import math

import numpy as np

from trackshade.control.compiling import kernel
from trackshade.results.cells.points import PointSet

THICKNESS = 0.02  # of the smaller axis
_ROUND = 1e-3  # relative difference of the axes below which their direction is kept
_LEAST = 1e-9  # metres


class SplatMotion:
    """Follows splats through the frames of a shot, which are asked for one after the other.

    Args:
        points: the points.
        spacing: [N] distance to the nearest others at the vertices' origins.
        views: number of cameras of the unrolled shot.
    """

    def __init__(self, points: PointSet, spacing: np.ndarray, views: int) -> None:
        self._points, self._spacing, self._views = points, np.ascontiguousarray(spacing, np.float64), views
        self._angle = np.zeros(len(points))
        self._rotation = np.zeros((len(points), 4), np.float32)

    def frame(self, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the splats of a frame.

        Returns:
            Positions [N, 3] world, metres; rotations [N, 4] as quaternions (w, x, y, z); sizes [N, 3] of the axes,
            metres, those of the surface as far apart as splats are; and whether each splat exists [N]. Splats that do
            not exist are at the origin and have no size.
        """
        count, t = len(self._points), frame * self._views
        position, size = np.zeros((count, 3), np.float32), np.full((count, 3), _LEAST, np.float32)
        exists = np.zeros(count, np.bool_)
        shot = self._points.shot
        for mesh, numbers, located in self._points.groups(t):
            if shot.meshes[mesh].visible[t]:
                geometry = shot.geometry_of(mesh, t)
                _place(
                    numbers, located.corners, located.weights, located.exists, geometry.first, geometry.at(t),
                    np.array(shot.meshes[mesh].matrix_world[t]), self._spacing, self._angle, position, self._rotation,
                    size, exists,
                )  # fmt: skip
        self._rotation[:, 0][~exists & (self._rotation == 0).all(axis=1)] = 1
        return position, self._rotation.copy(), size, exists


@kernel
def _place(
    numbers, corners, weights, present, first, at, matrix, spacing, angles, position, rotation, size, exists,
):  # fmt: skip
    u, v, w1, w2, f1, f2 = np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3)
    x, y, z, local, q = np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(4)
    for row in range(numbers.shape[0]):
        if not present[row]:
            continue
        n = numbers[row]
        n0, n1, n2 = corners[row, 0], corners[row, 1], corners[row, 2]
        for k in range(3):
            local[k] = weights[row, 0] * at[n0, k] + weights[row, 1] * at[n1, k] + weights[row, 2] * at[n2, k]
            u[k], v[k] = first[n1, k] - first[n0, k], first[n2, k] - first[n0, k]
        for k in range(3):
            position[n, k] = matrix[k, 0] * local[0] + matrix[k, 1] * local[1] + matrix[k, 2] * local[2] + matrix[k, 3]
            w1[k] = w2[k] = 0.0
            for j in range(3):
                w1[k] += matrix[k, j] * (np.float64(at[n1, j]) - at[n0, j])
                w2[k] += matrix[k, j] * (np.float64(at[n2, j]) - at[n0, j])
        # The first edge at the origins is (length, 0) in the plane of the triangle, the second one (along, across).
        length = math.sqrt(u[0] ** 2 + u[1] ** 2 + u[2] ** 2)
        along = (u[0] * v[0] + u[1] * v[1] + u[2] * v[2]) / max(length, 1e-30)
        across = math.sqrt(max(v[0] ** 2 + v[1] ** 2 + v[2] ** 2 - along**2, 0.0))
        if length < 1e-12 or across < 1e-9 * length:
            continue  # a triangle without area
        for k in range(3):
            f1[k] = w1[k] / length
            f2[k] = (w2[k] - along * f1[k]) / across
        a = f1[0] ** 2 + f1[1] ** 2 + f1[2] ** 2
        b = f1[0] * f2[0] + f1[1] * f2[1] + f1[2] * f2[2]
        c = f2[0] ** 2 + f2[1] ** 2 + f2[2] ** 2
        angle = angles[n]
        if math.hypot(a - c, 2.0 * b) > _ROUND * (a + c):
            turned = 0.5 * math.atan2(2.0 * b, a - c)
            angle = turned + 0.5 * math.pi * np.rint((angle - turned) / (0.5 * math.pi))
            angles[n] = angle
        cosine, sine = math.cos(angle), math.sin(angle)
        for k in range(3):
            x[k], y[k] = cosine * f1[k] + sine * f2[k], cosine * f2[k] - sine * f1[k]
        wide = math.sqrt(x[0] ** 2 + x[1] ** 2 + x[2] ** 2)
        high = math.sqrt(y[0] ** 2 + y[1] ** 2 + y[2] ** 2)
        if not (wide > 1e-12 and high > 1e-12):
            continue
        exists[n] = True
        size[n, 0] = max(spacing[n] * wide, _LEAST)
        size[n, 1] = max(spacing[n] * high, _LEAST)
        size[n, 2] = max(THICKNESS * spacing[n] * min(wide, high), _LEAST)
        for k in range(3):
            x[k] /= wide
        dot = x[0] * y[0] + x[1] * y[1] + x[2] * y[2]
        for k in range(3):
            y[k] -= dot * x[k]
        high = math.sqrt(y[0] ** 2 + y[1] ** 2 + y[2] ** 2)
        for k in range(3):
            y[k] /= high
        z[0], z[1], z[2] = x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]
        _quaternion(x, y, z, q)
        same = 0.0
        for k in range(4):
            same += q[k] * rotation[n, k]
        for k in range(4):
            rotation[n, k] = -q[k] if same < 0.0 else q[k]


@kernel
def _quaternion(x, y, z, out):
    """Write the quaternion (w, x, y, z) of the rotation whose columns are x, y and z."""
    trace = x[0] + y[1] + z[2]
    if trace > 0.0:
        s = 2.0 * math.sqrt(1.0 + trace)
        out[0], out[1], out[2], out[3] = 0.25 * s, (y[2] - z[1]) / s, (z[0] - x[2]) / s, (x[1] - y[0]) / s
    elif x[0] >= y[1] and x[0] >= z[2]:
        s = 2.0 * math.sqrt(max(1.0 + x[0] - y[1] - z[2], 1e-12))
        out[0], out[1], out[2], out[3] = (y[2] - z[1]) / s, 0.25 * s, (y[0] + x[1]) / s, (z[0] + x[2]) / s
    elif y[1] >= z[2]:
        s = 2.0 * math.sqrt(max(1.0 + y[1] - x[0] - z[2], 1e-12))
        out[0], out[1], out[2], out[3] = (z[0] - x[2]) / s, (y[0] + x[1]) / s, 0.25 * s, (z[1] + y[2]) / s
    else:
        s = 2.0 * math.sqrt(max(1.0 + z[2] - x[0] - y[1], 1e-12))
        out[0], out[1], out[2], out[3] = (x[1] - y[0]) / s, (z[0] + x[2]) / s, (z[1] + y[2]) / s, 0.25 * s
