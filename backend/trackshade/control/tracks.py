# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracks of points that the first frame of a shot shows.

Pixel coordinates are continuous: pixel (row i, column j) has its center at (j + 0.5, i + 0.5), so that the cell of a
point is the integer part of its coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trackshade.control.scene import ShotRaster
from trackshade.control.video import choose_first_points
from trackshade.control.visibility import is_visible
from trackshade.shot import Shot


@dataclass(frozen=True, eq=False)
class Tracks:
    """Tracked surface points of a shot.

    Attributes:
        pixels: [T, N, 2] float64, x and y in the image. A point that has vanished or is behind the camera stays where
            it was.
        depth: [T, N] float64, metres along the camera's axis.
        world: [T, N, 3] float64, metres.
        visible: [T, N] bool, whether the camera sees the point.
        mesh: [N] int64, index into `Shot.meshes`.
    """

    pixels: np.ndarray
    depth: np.ndarray
    world: np.ndarray
    visible: np.ndarray
    mesh: np.ndarray


def sample_tracks(shot: Shot, count: int, report: Callable[[int], None] = lambda done: None) -> Tracks:
    """Track points that lie on a grid in the first frame.

    Args:
        shot: the shot.
        count: number of points; fewer are returned only if fewer pixels show a surface.
        report: called with the number of frames that are done.

    Raises:
        ShotError: the first frame shows no surface.
    """
    points = choose_first_points(shot, count, seed=0)
    frames, raster = len(shot.frame_numbers), ShotRaster(shot)
    pixels, world = np.empty((frames, len(points), 2)), np.empty((frames, len(points), 3))
    depth, visible = np.empty((frames, len(points))), np.empty((frames, len(points)), bool)
    for t in range(frames):
        near, far = (float(limit) for limit in shot.camera.clip[t])
        vertices = points.on_screen(shot, t)
        shown = np.array([mesh.visible[t] for mesh in shot.meshes])[points.mesh]
        visible[t] = is_visible(vertices, raster.draw(t).depth, near, far) & shown
        for mesh, follower in points.followers.items():
            matrix = shot.meshes[mesh].matrix_world[t]
            world[t, points.mesh == mesh] = follower.positions(t) @ matrix[:3, :3].T + matrix[:3, 3]
        pixels[t], depth[t] = vertices[:, :2], vertices[:, 3]
        lost = ~np.isfinite(vertices).all(axis=1) | (vertices[:, 2] <= 0)
        if t and lost.any():  # in the first frame, every point is seen
            pixels[t, lost], depth[t, lost] = pixels[t - 1, lost], depth[t - 1, lost]
            gone = ~np.isfinite(world[t]).all(axis=1)
            world[t, gone] = world[t - 1, gone]
        report(t + 1)
    return Tracks(pixels, depth, world, visible, points.mesh)
