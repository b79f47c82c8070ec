# SPDX-License-Identifier: GPL-3.0-or-later
"""The second way to draw a tracking video: points on the visible surface, like the published training data.

There, a 70 × 70 grid of tracks was drawn over 720 × 480 pixels as rectangles about half the spacing of the
points, 1.5 : 1 like the grid's cells. Here a grid is laid over the first frame so finely that the wanted
number of its points falls on surfaces. Where a mesh changes its topology, its points are found again by their origins
(`locate`), and one whose surface has vanished is not drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from trackshade.control.compiling import kernel
from trackshade.control.locate import Follower
from trackshade.control.raster import Buffers, barycentric, to_screen
from trackshade.control.scene import ShotRaster
from trackshade.control.visibility import seen, slopes
from trackshade.core.colors import to_uint8
from trackshade.shot import Shot
from trackshade.shot.track_colors import point_colors


@dataclass(frozen=True, eq=False)
class PointTracks:
    """Points fixed to surfaces, ordered by mesh."""

    mesh: np.ndarray  # [N] i32, index of Shot.meshes
    corners: np.ndarray  # [N, 3] i32, vertices of the point's triangle
    weights: np.ndarray  # [N, 3] f64, barycentric
    colors: np.ndarray  # [N, 3] f32, 0..1
    spacing: tuple[float, float]  # of the grid they were taken from, px
    followers: Mapping[int, Follower] = field(default_factory=dict)  # by mesh, for those whose topology changes

    def __len__(self) -> int:
        return len(self.mesh)

    def on_screen(self, shot: Shot, t: int) -> np.ndarray:
        """Screen vertices `[N, 4]` f64 of the points at sample `t` (see `raster`); NaN where a point has vanished."""
        camera = shot.camera
        out = np.empty((len(self), 4))
        for mesh in np.unique(self.mesh):
            mine = self.mesh == mesh
            track = shot.meshes[mesh]
            follower = self.followers.get(int(mesh))
            if follower is not None:
                local = follower.places(t)
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
    """Points spread evenly over what the first sample shows, holdouts left out, colored by the rule of the
    training data. `raster` must have drawn sample 0. Fewer than `count` only where fewer pixels show a
    surface; `seed` shifts the grid and decides which surplus points are left out."""
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
    places = np.stack([pixels % width + 0.5, pixels // width + 0.5], axis=1)
    colors = point_colors(places, buffers.depth.ravel()[pixels])
    return PointTracks(meshes, corners, weights, colors, spacing, followers)


def _even_pixels(usable: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, tuple[float, float]]:
    """Flat pixels `[N]` i32 of the mask `[H, W]` on the coarsest g × g grid that has `count` points on it,
    and the grid's spacing (x, y) px. Cells have the frame's aspect: 1.5 : 1 at 720 × 480."""
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


def draw_points(points: PointTracks, shot: Shot, t: int, surfaces: Buffers, out: np.ndarray) -> np.ndarray:
    """Draw the points of sample `t` into `out` `[H, W, 3]` u8, near ones over far ones; returns which are
    seen `[N]`.

    A point whose center is behind a surface of `surfaces` is not drawn, and a rectangle does not cover what
    is clearly nearer than its point.
    """
    near, far = (float(c) for c in shot.camera.clip[t])
    placed = points.on_screen(shot, t)
    shown = np.array([m.visible[t] for m in shot.meshes], bool)
    visible = seen(placed, surfaces.depth, near, far) & shown[points.mesh]
    mine = np.flatnonzero(visible)
    places = placed[mine, :2]
    size = (max(1, round(points.spacing[0] / 2)), max(1, round(points.spacing[1] / 2)))
    i, j = places[:, 1].astype(np.int64), places[:, 0].astype(np.int64)
    right, down = slopes(surfaces.depth, i, j)
    reach = placed[mine, 3] * 0.995 - (right * (size[0] / 2 + 0.5) + down * (size[1] / 2 + 0.5))
    _rectangles(places, placed[mine, 3], reach, to_uint8(points.colors[mine]), size, surfaces.depth, out)
    return visible


@kernel
def _rectangles(places, z, reach, colors, size, surface, out):
    height, width = surface.shape
    drawn = np.full((height, width), np.inf)
    for n in range(places.shape[0]):
        x, y = places[n]
        # The rectangle of whole pixels whose center is nearest; every point has the same size in every frame.
        left, top = round(x - 0.5 * size[0]), round(y - 0.5 * size[1])
        for i in range(max(top, 0), min(top + size[1], height)):
            for j in range(max(left, 0), min(left + size[0], width)):
                own = i == int(y) and j == int(x)
                if z[n] < drawn[i, j] and (own or reach[n] <= surface[i, j]):
                    drawn[i, j] = z[n]
                    for a in range(3):
                        out[i, j, a] = colors[n, a]
