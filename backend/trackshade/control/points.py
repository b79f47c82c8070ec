# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracking videos of sampled points on the visible surfaces, like the published training data.

There, a 70 × 70 grid of tracks was drawn over 720 × 480 pixels as rectangles about half the spacing of the points,
1.5 : 1 like the grid's cells. Here a grid is laid over the first frame so finely that the requested number of its
points falls on surfaces. If a mesh changes its topology, its points are found again by their origins (`locate`), and a
point whose surface has vanished is not drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from trackshade.control.compiling import kernel
from trackshade.control.locate import Follower
from trackshade.control.raster import Buffers, barycentric, to_screen
from trackshade.control.scene import ShotRaster
from trackshade.control.visibility import depth_slopes, is_visible
from trackshade.core.colors import to_uint8
from trackshade.shot import Shot
from trackshade.shot.track_colors import point_colors


@dataclass(frozen=True, eq=False)
class PointTracks:
    """Points fixed to surfaces, ordered by mesh.

    Attributes:
        mesh: [N] int32, index into `Shot.meshes`.
        corners: [N, 3] int32, vertices of the point's triangle.
        weights: [N, 3] float64, barycentric.
        colors: [N, 3] float32 in 0..1.
        spacing: (x, y) of the grid that they were taken from, pixels.
        followers: by mesh, for meshes whose topology changes.
    """

    mesh: np.ndarray
    corners: np.ndarray
    weights: np.ndarray
    colors: np.ndarray
    spacing: tuple[float, float]
    followers: Mapping[int, Follower] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.mesh)

    def on_screen(self, shot: Shot, t: int) -> np.ndarray:
        """Return the points' screen vertices [N, 4] in sample `t` (see `raster`); NaN where a point has vanished."""
        camera = shot.camera
        out = np.empty((len(self), 4))
        for mesh in np.unique(self.mesh):
            mine = self.mesh == mesh
            track = shot.meshes[mesh]
            follower = self.followers.get(int(mesh))
            if follower is not None:
                local = follower.positions(t)
            else:
                positions = shot.geometries[track.geometry].at(t)
                local = np.einsum("nc,ncx->nx", self.weights[mine], positions[self.corners[mine]])
            out[mine] = to_screen(
                local,
                camera.world_to_camera[t] @ track.matrix_world[t],
                camera.intrinsics[t],
                bool(camera.orthographic[t]),
            )
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
    holdout = np.array([m.holdout for m in shot.meshes] + [True])  # the last entry is label -1, nothing
    usable = ~holdout[buffers.label]
    pixels, spacing = _even_pixels(usable, count, np.random.default_rng(seed))
    meshes = buffers.label.ravel()[pixels]
    order = np.argsort(meshes, kind="stable")
    pixels, meshes = pixels[order], meshes[order]
    corners, weights = np.empty((len(pixels), 3), np.int32), np.empty((len(pixels), 3))
    followers: dict[int, Follower] = {}
    for mesh in np.unique(meshes):
        mine = meshes == mesh
        triangles = shot.geometries[shot.meshes[mesh].geometry].triangles
        corners[mine], weights[mine] = barycentric(buffers, pixels[mine], raster.vertices(mesh, 0), triangles)
        if shot.meshes[mesh].changes:
            follower = Follower(shot, int(mesh), shot.meshes[mesh].geometry, corners[mine], weights[mine])
            for t in range(len(shot.frame_numbers)):
                follower.at(t)  # now, since frames are drawn by several threads
            followers[int(mesh)] = follower
    width = shot.size[0]
    centers = np.stack([pixels % width + 0.5, pixels // width + 0.5], axis=1)
    colors = point_colors(centers, buffers.depth.ravel()[pixels])
    return PointTracks(meshes, corners, weights, colors, spacing, followers)


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
    least = depth * 0.995 - (right * (size[0] / 2 + 0.5) + down * (size[1] / 2 + 0.5))
    _draw_rectangles(pixels, depth, least, to_uint8(points.colors[drawn]), size, surfaces.depth, out)
    return visible


@kernel
def _draw_rectangles(pixels, z, least, colors, size, surface, out):
    height, width = surface.shape
    drawn = np.full((height, width), np.inf)
    for n in range(pixels.shape[0]):
        x, y = pixels[n]
        # The rectangle of whole pixels whose center is nearest; every point has the same size in every frame.
        left, top = round(x - 0.5 * size[0]), round(y - 0.5 * size[1])
        for i in range(max(top, 0), min(top + size[1], height)):
            for j in range(max(left, 0), min(left + size[0], width)):
                is_center = i == int(y) and j == int(x)
                if z[n] < drawn[i, j] and (is_center or least[n] <= surface[i, j]):
                    drawn[i, j] = z[n]
                    for a in range(3):
                        out[i, j, a] = colors[n, a]
