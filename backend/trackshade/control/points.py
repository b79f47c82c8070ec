# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracking videos of sampled points on the visible surfaces, like the published training data.

There, a 70 × 70 grid of tracks was drawn over 720 × 480 pixels as rectangles about half the spacing of the points,
1.5 : 1 like the grid's cells. Here a grid is laid over the first frame so finely that the requested number of its
points falls on surfaces. If a mesh changes its topology, its points are found again by their origins (`locate`), and a
point whose surface has vanished is not drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trackshade.control.compiling import kernel
from trackshade.control.locate import Follower, points_at, shows_surface
from trackshade.control.raster import Buffers, to_screen
from trackshade.control.scene import ShotRaster
from trackshade.control.visibility import depth_slopes, is_visible
from trackshade.core.colors import to_uint8
from trackshade.shot import Shot
from trackshade.shot.track_colors import point_colors


@dataclass(frozen=True, eq=False)
class PointTracks:
    """Points fixed to surfaces, ordered by mesh."""

    mesh: np.ndarray  # [N] int64, index into `Shot.meshes`
    colors: np.ndarray  # [N, 3] float32 in 0..1
    spacing: tuple[float, float]  # (x, y) of the grid that they were taken from, pixels
    followers: Mapping[int, Follower]  # the points' positions, by mesh

    def __len__(self) -> int:
        return len(self.mesh)

    def on_screen(self, shot: Shot, t: int) -> np.ndarray:
        """Return the points' screen vertices [N, 4] in sample `t` (see `raster`); NaN where a point has vanished."""
        camera, out = shot.camera, np.empty((len(self), 4))
        for mesh, follower in self.followers.items():
            to_camera = camera.world_to_camera[t] @ shot.meshes[mesh].matrix_world[t]
            orthographic = bool(camera.orthographic[t])
            out[self.mesh == mesh] = to_screen(follower.positions(t), to_camera, camera.intrinsics[t], orthographic)
        return out


def choose_points(raster: ShotRaster, count: int, seed: int = 0) -> PointTracks:
    """Choose points spread evenly over what the first sample shows, except holdouts.

    Args:
        raster: must have drawn sample 0.
        count: number of points; fewer are returned only if fewer pixels show a surface.
        seed: shifts the grid, and decides which surplus points are left out.

    Returns:
        The points, colored by the rule of the training data.
    """
    shot, buffers = raster.shot, raster.buffers
    pixels, spacing = _even_pixels(shows_surface(raster), count, np.random.default_rng(seed))
    pixels = pixels[np.argsort(buffers.label.ravel()[pixels], kind="stable")]
    points = points_at(raster, 0, pixels)
    followers: dict[int, Follower] = {}
    for mesh in np.unique(points.mesh).tolist():
        of_mesh = points.mesh == mesh
        follower = Follower(shot, mesh, points.geometry[of_mesh], points.corners[of_mesh], points.weights[of_mesh])
        for t in range(len(shot.frame_numbers)):
            follower.at(t)  # now, since frames are drawn by several threads
        followers[mesh] = follower
    width = shot.size[0]
    centers = np.stack([pixels % width + 0.5, pixels // width + 0.5], axis=1)
    colors = point_colors(centers, buffers.depth.ravel()[pixels])
    return PointTracks(points.mesh, colors, spacing, followers)


def _even_pixels(
    usable: np.ndarray,  # [H, W] bool
    count: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, tuple[float, float]]:
    """Return flat pixels [N] on the coarsest g × g grid that has `count` usable ones, and its spacing (x, y).

    Cells have the frame's aspect: 1.5 : 1 at 720 × 480.
    """
    h, w = usable.shape
    area = int(usable.sum())
    phase = rng.uniform(0.25, 0.75, 2)
    if area <= count:
        return np.flatnonzero(usable).astype(np.int32), (1.0, 1.0)
    grid = max(1, int(np.sqrt(count * h * w / area)))
    while True:
        rows = np.unique(((np.arange(grid) + phase[0]) * (h / grid)).astype(int))
        columns = np.unique(((np.arange(grid) + phase[1]) * (w / grid)).astype(int))
        pixels = (rows[:, None] * w + columns).ravel()
        pixels = pixels[usable.ravel()[pixels]].astype(np.int32)
        if len(pixels) >= count:
            kept = np.sort(rng.permutation(len(pixels))[:count])
            return pixels[kept], (w / grid, h / grid)
        grid += 1


def draw_points(
    points: PointTracks,
    shot: Shot,
    t: int,
    surfaces: Buffers,
    out: np.ndarray,  # [H, W, 3] uint8
) -> np.ndarray:
    """Draw the points of sample `t`, near ones over far ones; returns which are visible, [N] bool.

    A point whose center is behind a surface is not drawn, and a rectangle does not cover what is clearly nearer than
    its point.
    """
    near, far = (float(c) for c in shot.camera.clip[t])
    vertices = points.on_screen(shot, t)
    is_shown = np.array([m.visible[t] for m in shot.meshes], bool)
    visible = is_visible(vertices, surfaces.depth, near, far) & is_shown[points.mesh]
    drawn = np.flatnonzero(visible)
    pixels, depth = vertices[drawn, :2], vertices[drawn, 3]
    size = (max(1, round(points.spacing[0] / 2)), max(1, round(points.spacing[1] / 2)))
    i, j = pixels[:, 1].astype(np.int64), pixels[:, 0].astype(np.int64)
    right, down = depth_slopes(surfaces.depth, i, j)
    min_depth = depth * 0.995 - (right * (size[0] / 2 + 0.5) + down * (size[1] / 2 + 0.5))
    _draw_rectangles(pixels, depth, min_depth, to_uint8(points.colors[drawn]), size, surfaces.depth, out)
    return visible


@kernel
def _draw_rectangles(pixels, z, min_depth, colors, size, surface, out):
    height, width = surface.shape
    drawn = np.full((height, width), np.inf)
    for n in range(pixels.shape[0]):
        x, y = pixels[n]
        # The rectangle of whole pixels whose center is nearest; every point has the same size in every frame.
        left, top = round(x - 0.5 * size[0]), round(y - 0.5 * size[1])
        for i in range(max(top, 0), min(top + size[1], height)):
            for j in range(max(left, 0), min(left + size[0], width)):
                is_center = i == int(y) and j == int(x)
                if z[n] < drawn[i, j] and (is_center or min_depth[n] <= surface[i, j]):
                    drawn[i, j] = z[n]
                    for a in range(3):
                        out[i, j, a] = colors[n, a]
