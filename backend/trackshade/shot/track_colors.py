# SPDX-License-Identifier: GPL-3.0-or-later
"""The color of a point: where it is in the first frame (Gu et al. 2025, "Diffusion as Shader", and its
code).

A point that its mesh gets only later (a topology that changes) is colored by where it would have been in the first
sample: its object-space place at its first moment (`Geometry.origins`), under its object's matrix of the first sample.
So colors are continuous over a surface that grows, and a point keeps its color from then on.

All rules share the idea: red and green are the place in the image, blue grows from far to near. They differ
in how the three are normalised. Colors here are floats in 0..1 and are data: no color management ever
touches them. Light, so that Blender's viewport is painted by the very rule that the tracking video is drawn by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackshade.core.geometry import project
from trackshade.shot import Shot

PERCENTILES = (2.0, 98.0)


def inverse_range(inverse: np.ndarray) -> tuple[float, float]:
    """The 2nd and 98th percentile of inverse depths or distances, of those that are finite; (0, 0) of
    nothing.
    """
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
    """1 / euclidean distance to the camera `[N]`, per metre, of points `[N, 3]` in its frame; inf at the
    camera itself.
    """
    with np.errstate(divide="ignore"):
        return 1.0 / np.linalg.norm(np.asarray(positions_camera, np.float64), axis=1)


@dataclass(frozen=True, eq=False)
class MeshRule:
    """The mesh rule of one shot: the first frame's camera and the range of inverse distances.

    R = x / W and G = y / H in the image (the camera view's x and 1 − y), B = `nearness` of the inverse
    euclidean distance. Black outside the frame and behind the camera. Hidden points have the color of their
    place, like seen ones.
    """

    world_to_camera: np.ndarray  # [4, 4] f64, OpenCV axes
    intrinsics: np.ndarray  # [3, 3] f64, pixels (orthographic: pixels per metre)
    orthographic: bool
    size: tuple[int, int]
    limits: tuple[float, float]  # per metre, percentiles over all vertices of the scene

    def colors(self, world: np.ndarray) -> np.ndarray:
        """Colors `[N, 3]` f32 of points `[N, 3]` that are at `world`, metres, in the first frame."""
        m = self.world_to_camera
        camera = np.asarray(world, np.float64) @ m[:3, :3].T + m[:3, 3]
        place = project(camera, self.intrinsics, self.orthographic) / self.size
        blue = nearness(inverse_distance(camera), self.limits)
        inside = (camera[:, 2] > 0.0) & np.all((place >= 0.0) & (place <= 1.0), axis=1)
        return np.where(inside[:, None], np.column_stack([place, blue]), 0.0).astype(np.float32)

    def numbers(self, matrix_world: np.ndarray) -> np.ndarray:
        """The rule for kernels and shaders, `[18]` f64: object to the first frame's camera (12, row by row), focal
        lengths and center as shares of the frame (4), the range of inverse distances as its low end and the inverse of
        its width (2). `matrix_world` `[4, 4]` takes the object to the world in the first frame.

        A point's place is interpolated and then colored, instead of interpolating the vertices' colors: on a fine
        mesh the two are the same, and on a coarse one (a floor of two triangles that reach behind the camera) every
        point still has the color of its own place.
        """
        w, h = self.size
        k, (low, high) = self.intrinsics, self.limits
        frame = [k[0, 0] / w, k[1, 1] / h, k[0, 2] / w, k[1, 2] / h]
        to_camera = self.world_to_camera @ matrix_world
        return np.array([*to_camera[:3].ravel(), *frame, low, 1.0 / (high - low) if high > low else 0.0])


def mesh_rule(shot: Shot) -> MeshRule:
    """The mesh rule of a shot. Its range of distances is taken over all vertices of the meshes that are drawn
    in color in some sample. Of a mesh whose topology changes, the vertices of its first geometry count: what comes
    later is clipped to their range, and does not change the colors of what was there before."""
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


def dense_colors(pixels: np.ndarray, depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The dense-depth and CoTracker rule: `pixels` `[N, 2]` and `depth` `[N]` (metres along the axis) of the
    first frame to `[N, 3]` f32: R, G = x / W, y / H clipped, B = 1/z between its own 2nd and 98th
    percentile.
    """
    with np.errstate(divide="ignore"):
        inverse = 1.0 / np.asarray(depth, np.float64)
    place = np.clip(np.asarray(pixels, np.float64) / np.asarray(size, np.float64), 0.0, 1.0)
    blue = nearness(inverse, inverse_range(inverse))
    return np.concatenate([place, blue[:, None]], axis=1).astype(np.float32)


def point_colors(pixels: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """The rule of the published training data (SpatialTracker): like `dense_colors`, but R and G run from 0
    to 1 between the least and the greatest x and y of the first frame's tracks."""
    pixels = np.asarray(pixels, np.float64)
    if len(pixels) == 0:
        return np.zeros((0, 3), np.float32)
    low, span = pixels.min(axis=0), np.ptp(pixels, axis=0)
    place = (pixels - low) / np.where(span > 0.0, span, 1.0)
    with np.errstate(divide="ignore"):
        inverse = 1.0 / np.asarray(depth, np.float64)
    blue = nearness(inverse, inverse_range(inverse))
    return np.concatenate([place, blue[:, None]], axis=1).astype(np.float32)
