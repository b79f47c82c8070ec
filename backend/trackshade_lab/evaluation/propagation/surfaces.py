# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pixels show what the first frame shows, and points of surfaces that are followed through samples of a shot.

Everything is computed from the shot alone, pixel by pixel, and shares no code with what is evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackshade.control.locate import Follower
from trackshade.control.raster import NOTHING, Buffers, barycentric, to_screen
from trackshade.control.scene import ShotRaster
from trackshade.control.visibility import is_visible
from trackshade.core.geometry import project
from trackshade.shot import Shot

from ..tracks import pixel_centers


@dataclass(frozen=True)
class FirstFramePlaces:
    """Where the first frame shows what a sample shows.

    Attributes:
        position: [H, W, 2] float32, (x, y) in pixels of the first frame; of any value where it is not known.
        known: [H, W] bool, the first frame shows the pixel's surface point, or the background in its direction.
        mesh: [H, W] int32, index into `Shot.meshes`, -1 for the background.
    """

    position: np.ndarray
    known: np.ndarray
    mesh: np.ndarray


@dataclass(frozen=True)
class FollowedPoints:
    """P surface points in N samples.

    Attributes:
        position: [P, N, 2] pixels.
        visible: [P, N] bool.
        known: [P] bool, visible in the first sample.
    """

    position: np.ndarray
    visible: np.ndarray
    known: np.ndarray


class SampleViews:
    """What the camera sees in some samples of a shot.

    Args:
        shot: The shot.
        samples: The samples; the first one is 0.
    """

    def __init__(self, shot: Shot, samples: tuple[int, ...]) -> None:
        self.shot, self.samples = shot, samples
        self._raster = ShotRaster(shot)
        self._buffers = {t: self._raster.draw(t, into=Buffers.empty(shot.size)) for t in samples}

    def first_frame_places(self, t: int) -> FirstFramePlaces:
        """Find what sample `t` shows in the first frame."""
        label = self._buffers[t].label
        position, known = pixel_centers(self.shot.size), np.zeros(label.shape, bool)
        flat_position, flat_known = position.reshape(-1, 2), known.reshape(-1)
        for mesh in np.unique(label[label != NOTHING]).tolist():
            pixels = np.flatnonzero(label == mesh).astype(np.int32)
            flat_position[pixels], flat_known[pixels] = self._find(mesh, self._points(mesh, t, pixels), t, 0)
        empty = np.flatnonzero(label == NOTHING)
        flat_position[empty], flat_known[empty] = self._find_background(flat_position[empty], t)
        return FirstFramePlaces(position, known, label.copy())

    def follow(self, count: int, seed: int = 0) -> FollowedPoints:
        """Choose up to `count` points of surfaces, evenly over the pixels of all samples, and follow them."""
        rng = np.random.default_rng(seed)
        positions, visibles = [np.zeros((0, len(self.samples), 2))], [np.zeros((0, len(self.samples)), bool)]
        for source in self.samples:
            usable = np.flatnonzero(_clear(self._buffers[source].label))
            chosen = np.sort(rng.permutation(usable)[: -(-count // len(self.samples))]).astype(np.int32)
            labels = self._buffers[source].label.reshape(-1)[chosen]
            for mesh in np.unique(labels).tolist():
                points = self._points(mesh, source, chosen[labels == mesh])
                found = [self._find(mesh, points, source, t, clear=True) for t in self.samples]
                positions.append(np.stack([position for position, _ in found], axis=1))
                visibles.append(np.stack([visible for _, visible in found], axis=1))
        visible = np.concatenate(visibles)
        return FollowedPoints(np.concatenate(positions), visible, visible[:, 0])

    def _points(self, mesh: int, t: int, pixels: np.ndarray) -> Follower:
        triangles = self.shot.geometry_of(mesh, t).triangles
        corners, weights = barycentric(self._buffers[t], pixels, self._raster.vertices(mesh, t), triangles)
        return Follower(self.shot, mesh, self.shot.meshes[mesh].geometry_at(t), corners, weights)

    def _find(
        self, mesh: int, points: Follower, source: int, t: int, clear: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the pixels [N, 2] of points in sample `t`, and whether it shows them, [N] bool.

        Args:
            mesh: Their mesh.
            points: The points.
            source: A sample that shows them, from the side that must be visible.
            t: The sample.
            clear: Whether the pixel's neighbors must show the same mesh.
        """
        camera, buffers = self.shot.camera, self._buffers[t]
        place, _ = self._in_camera(mesh, points, t)
        if not self.shot.meshes[mesh].visible[t]:
            return np.zeros((len(place), 2)), np.zeros(len(place), bool)
        near, far = (float(x) for x in camera.clip[t])
        screen = to_screen(place, np.eye(4), camera.intrinsics[t], bool(camera.orthographic[t]))
        visible = is_visible(screen, buffers.depth, near, far) & points.at(t).exists
        visible &= self._facing(mesh, points, t) == self._facing(mesh, points, source)
        pixels = np.where(visible[:, None], screen[:, :2], 0.0)
        column, row = pixels.astype(int).T
        label = np.where(_clear(buffers.label), buffers.label, NOTHING) if clear else buffers.label
        return pixels, visible & (label[row, column] == mesh)

    def _in_camera(self, mesh: int, points: Follower, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Camera-space positions [N, 3] of points, and of their triangles' vertices [N, 3, 3], metres."""
        located = points.at(t)
        matrix = self.shot.camera.world_to_camera[t] @ self.shot.meshes[mesh].matrix_world[t]
        local = self.shot.geometry_of(mesh, t).at(t)[located.corners].astype(np.float64)
        corners = local @ matrix[:3, :3].T + matrix[:3, 3]
        return np.einsum("nc,ncx->nx", located.weights, corners), corners

    def _facing(self, mesh: int, points: Follower, t: int) -> np.ndarray:
        """Whether the camera sees the points' triangles from behind, [N] bool."""
        place, corners = self._in_camera(mesh, points, t)
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        ray = np.broadcast_to([0.0, 0.0, 1.0], place.shape) if self.shot.camera.orthographic[t] else place
        return np.einsum("nx,nx->n", normal, ray) > 0

    def _find_background(self, pixels: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels [N, 2] of sample `t` in the first frame, by their direction, and whether it shows no surface there."""
        camera, first = self.shot.camera, self._buffers[0].label
        if camera.orthographic[t] or camera.orthographic[0]:  # parallel rays: one direction
            row, column = np.floor(pixels[:, ::-1]).astype(int).T
            return pixels, first[row, column] == NOTHING
        rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(camera.intrinsics[t]).T
        turn = camera.world_to_camera[0][:3, :3] @ camera.world_to_camera[t][:3, :3].T
        rays = rays @ turn.T
        with np.errstate(divide="ignore", invalid="ignore"):
            found = project(rays, camera.intrinsics[0], False)
            height, width = first.shape
            inside = (rays[:, 2] > 0) & (found >= 0).all(axis=1) & (found < (width, height)).all(axis=1)
        found = np.where(inside[:, None], found, 0.0)
        row, column = np.floor(found[:, ::-1]).astype(int).T
        return found, inside & (first[row, column] == NOTHING)


def _clear(label: np.ndarray) -> np.ndarray:
    """Return which pixels [H, W] show a mesh that their four neighbors show, too."""
    clear = np.zeros(label.shape, bool)
    middle = label[1:-1, 1:-1]
    clear[1:-1, 1:-1] = middle != NOTHING
    for other in (label[:-2, 1:-1], label[2:, 1:-1], label[1:-1, :-2], label[1:-1, 2:]):
        clear[1:-1, 1:-1] &= other == middle
    return clear
