# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws samples of a shot into buffers, one mesh at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trackshade.control.raster import BLACK, INVISIBLE, Buffers, PaintMode, barycentric, draw, to_screen
from trackshade.control.surfaces import ShotSlots
from trackshade.shot import Shot
from trackshade.shot.track_colors import MeshRule


class SurfacePoints(NamedTuple):
    """P points on triangles.

    Attributes:
        mesh: [P] int64, index into `Shot.meshes`.
        geometry: [P] int64, index into `Shot.geometries` of the geometry that the triangle belongs to.
        corners: [P, 3] int32, vertices of the triangle.
        weights: [P, 3] float64, barycentric, in space.
        front: [P] bool, whether the camera saw the triangle's front there.
    """

    mesh: np.ndarray
    geometry: np.ndarray
    corners: np.ndarray
    weights: np.ndarray
    front: np.ndarray


class ShotRaster:
    """Draws samples of one shot, one after the other. Every thread needs its own instance.

    Attributes:
        shot: the shot.
        buffers: what `draw` writes to unless it is given others.
    """

    def __init__(self, shot: Shot) -> None:
        self.shot = shot
        self.buffers = Buffers.empty(shot.size)
        largest = max((len(g.positions[0]) for g in shot.geometries), default=0)
        self._slots = ShotSlots(shot)
        self._scratch = np.empty((largest, 4), np.float64)

    def vertices(
        self,
        mesh: int,
        t: int,
        positions: np.ndarray | None = None,  # [V, 3] object space, metres
    ) -> np.ndarray:
        """Return screen vertices [V, 4] of a mesh in sample `t`, valid until the next call.

        Args:
            mesh: index into `Shot.meshes`.
            t: the sample.
            positions: other points of the object, at most as many as the largest geometry has vertices.
        """
        track, camera = self.shot.meshes[mesh], self.shot.camera
        if positions is None:
            positions = self.shot.geometry_of(mesh, t).at(t)
        return to_screen(
            positions,
            camera.world_to_camera[t] @ track.matrix_world[t],
            camera.intrinsics[t],
            bool(camera.orthographic[t]),
            out=self._scratch[: len(positions)],
        )

    def draw(
        self,
        t: int,
        rule: MeshRule | None = None,
        out: np.ndarray | None = None,  # [H, W, 3] uint8
        into: Buffers | None = None,
    ) -> Buffers:
        """Draw what the camera sees in sample `t`.

        Args:
            t: the sample.
            rule: colors for `out`; holdouts are black, and what nothing covers stays as it is.
            out: image to paint.
            into: buffers to draw into; this object's own if None.

        Returns:
            The buffers; labels are indices into `Shot.meshes`. This object's own are valid until the next call.
        """
        near, far = (float(c) for c in self.shot.camera.clip[t])
        buffers = into or self.buffers
        buffers.clear()
        for mesh, track in enumerate(self.shot.meshes):
            if track.visible[t]:
                geometry = self.shot.geometry_of(mesh, t)
                if rule is None or out is None:
                    paint = PaintMode(INVISIBLE, geometry.first)
                elif track.holdout:
                    paint = PaintMode(BLACK, geometry.first, out=out)
                else:
                    paint = PaintMode.by_rule(rule, geometry.first, track.matrix_world[0], out)
                slots = self._slots.of(mesh, t)
                is_mirrored = slots is not None and bool(np.linalg.det(track.matrix_world[t, :3, :3]) < 0)
                draw(buffers, self.vertices(mesh, t), geometry.triangles, mesh, near, far, paint, slots, is_mirrored)
        return buffers

    def shows_surface(self) -> np.ndarray:
        """Return which pixels of this object's own buffers show a mesh that is no holdout, [H, W] bool."""
        holdout = np.array([mesh.holdout for mesh in self.shot.meshes] + [True])  # the last entry is label -1, nothing
        return ~holdout[self.buffers.label]

    def points_at(
        self,
        t: int,
        pixels: np.ndarray,  # [P] flat indices
    ) -> SurfacePoints:
        """Return the surface points at pixels of this object's own buffers, which must show sample `t`."""
        meshes = self.buffers.label.ravel()[pixels].astype(np.int64)
        corners, weights = np.empty((len(pixels), 3), np.int32), np.empty((len(pixels), 3))
        front, geometry = np.empty(len(pixels), np.bool_), np.empty(len(pixels), np.int64)
        for mesh in np.unique(meshes).tolist():
            here = meshes == mesh
            geometry[here] = self.shot.meshes[mesh].geometry_at(t)
            triangles = self.shot.geometry_of(mesh, t).triangles
            corners[here], weights[here] = barycentric(self.buffers, pixels[here], self.vertices(mesh, t), triangles)
            triangle = in_camera(self.shot, mesh, corners[here], t)
            place = np.einsum("pc,pcx->px", weights[here], triangle)
            front[here] = is_front(triangle, place, bool(self.shot.camera.orthographic[t]))
        return SurfacePoints(meshes, geometry, corners, weights, front)


def in_camera(
    shot: Shot,
    mesh: int,
    corners: np.ndarray,  # [P, 3] vertices
    t: int,
) -> np.ndarray:
    """Return camera-space positions [P, 3, 3] of vertices of a mesh in sample `t`, metres."""
    matrix = shot.camera.world_to_camera[t] @ shot.meshes[mesh].matrix_world[t]
    local = shot.geometry_of(mesh, t).at(t)[corners].astype(np.float64)
    return local @ matrix[:3, :3].T + matrix[:3, 3]


def is_front(
    triangles: np.ndarray,  # [P, 3, 3] camera space
    places: np.ndarray,  # [P, 3] camera space
    orthographic: bool,
) -> np.ndarray:
    """Return whether the camera sees the front of triangles at places on them, [P] bool."""
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    ray = np.broadcast_to([0.0, 0.0, 1.0], places.shape) if orthographic else places
    return np.einsum("px,px->p", normal, ray) > 0
