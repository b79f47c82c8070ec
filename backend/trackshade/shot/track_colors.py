# SPDX-License-Identifier: GPL-3.0-or-later
"""Track colors: the color of a surface point, by its position in the first frame.

As in Gu et al. 2025, "Diffusion as Shader", and its code: red and green are the position in the image, blue grows from
far to near. Colors here are floats in 0..1 and are data: no color management is applied. The viewport overlay uses the
same rule as the tracking video.

A point that its mesh gets only later (a topology that changes) is colored by where it would have been in the first
sample: its object-space position in its own first sample (`Geometry.origins`), under its object's matrix of the first
sample. So colors are continuous over a surface that grows, and a point keeps its color from then on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackshade.core.geometry import project
from trackshade.shot import Shot

PERCENTILES = (2.0, 98.0)


def inverse_range(
    inverse: np.ndarray,  # any shape, 1 / metres
) -> tuple[float, float]:
    """Return the 2nd and 98th percentile of the finite values; (0, 0) if there are none."""
    inverse = inverse[np.isfinite(inverse)]
    if inverse.size == 0:
        return 0.0, 0.0
    low, high = np.percentile(inverse, PERCENTILES)
    return float(low), float(high)


def nearness(
    inverse: np.ndarray,  # any shape, 1 / metres
    limits: tuple[float, float],
) -> np.ndarray:
    """Map inverse depths or distances from `limits` to 0..1, clipped; 0 if the limits leave no range."""
    low, high = limits
    span = high - low
    if not span > 0.0:
        return np.zeros(np.shape(inverse))
    return np.clip((inverse - low) / span, 0.0, 1.0)


def inverse_distance(
    positions_camera: np.ndarray,  # [N, 3] camera space, metres
) -> np.ndarray:
    """Return 1 / distance to the camera, [N]; inf at the camera itself."""
    with np.errstate(divide="ignore"):
        return 1.0 / np.linalg.norm(np.asarray(positions_camera, np.float64), axis=1)


@dataclass(frozen=True, eq=False)
class MeshRule:
    """The color rule of one shot's surfaces: the first frame's camera and the range of inverse distances.

    R = x / W and G = y / H in the image, B = `nearness` of the inverse Euclidean distance. Outside the frame and behind
    the camera it is black. Hidden points have the color of their position, like visible ones.
    """

    world_to_camera: np.ndarray  # [4, 4] float64, OpenCV axes
    intrinsics: np.ndarray  # [3, 3] float64, pixels; pixels per metre if orthographic
    orthographic: bool  # whether the camera is orthographic
    size: tuple[int, int]  # (width, height) of the image, pixels
    limits: tuple[float, float]  # percentiles of the inverse distances of all vertices of the scene, 1 / metres

    def colors(
        self,
        world: np.ndarray,  # [N, 3] world positions in the first frame, metres
    ) -> np.ndarray:
        """Return the colors of points, [N, 3] float32 in 0..1."""
        m = self.world_to_camera
        camera = np.asarray(world, np.float64) @ m[:3, :3].T + m[:3, 3]
        image = project(camera, self.intrinsics, self.orthographic) / self.size
        blue = nearness(inverse_distance(camera), self.limits)
        inside = (camera[:, 2] > 0.0) & np.all((image >= 0.0) & (image <= 1.0), axis=1)
        return np.where(inside[:, None], np.column_stack([image, blue]), 0.0).astype(np.float32)

    def packed_parameters(
        self,
        matrix_world: np.ndarray,  # [4, 4] object to world in the first frame
    ) -> np.ndarray:
        """Return the rule as parameters of a kernel or shader, [18] float64.

        They are: object to the first frame's camera (12, row by row); focal lengths and center as fractions of the
        frame (4); the low end of the range of inverse distances, and 1 / its width (2).

        A point's position is interpolated and then colored, instead of interpolating the vertices' colors: on a fine
        mesh the two are the same, and on a coarse one (a floor of two triangles that reach behind the camera) every
        point still has the color of its own position.
        """
        w, h = self.size
        k, (low, high) = self.intrinsics, self.limits
        frame = [k[0, 0] / w, k[1, 1] / h, k[0, 2] / w, k[1, 2] / h]
        to_camera = self.world_to_camera @ matrix_world
        return np.array([*to_camera[:3].ravel(), *frame, low, 1.0 / (high - low) if high > low else 0.0])


def mesh_rule(shot: Shot) -> MeshRule:
    """Return the color rule of a shot's surfaces.

    The range of distances is taken over all vertices of the meshes that are drawn in color in some sample. Of a mesh
    whose topology changes, the vertices of its first geometry count: what comes later is clipped to their range, and
    does not change the colors of what was there before.
    """
    camera = shot.camera
    inverse = [np.zeros(0, np.float32)]
    for track in shot.meshes:
        if not track.holdout and track.visible.any():
            m = camera.world_to_camera[0] @ track.matrix_world[0]
            positions = shot.geometries[track.geometry].first
            inverse.append(inverse_distance(positions @ m[:3, :3].T + m[:3, 3]).astype(np.float32))
    return MeshRule(
        np.array(camera.world_to_camera[0]),
        np.array(camera.intrinsics[0]),
        bool(camera.orthographic[0]),
        shot.size,
        inverse_range(np.concatenate(inverse)),
    )


def point_colors(
    pixels: np.ndarray,  # [N, 2] in the first frame
    depth: np.ndarray,  # [N] metres along the camera's axis
) -> np.ndarray:
    """Color sampled points by the rule of the published training data (SpatialTracker).

    R and G run from 0 to 1 between the least and the greatest x and y of the points in the first frame; B is 1 / depth
    between its own 2nd and 98th percentile. The colors are [N, 3] float32 in 0..1.
    """
    pixels = np.asarray(pixels, np.float64)
    if len(pixels) == 0:
        return np.zeros((0, 3), np.float32)
    low, span = pixels.min(axis=0), np.ptp(pixels, axis=0)
    image = (pixels - low) / np.where(span > 0.0, span, 1.0)
    with np.errstate(divide="ignore"):
        inverse = 1.0 / np.asarray(depth, np.float64)
    blue = nearness(inverse, inverse_range(inverse))
    return np.concatenate([image, blue[:, None]], axis=1).astype(np.float32)
