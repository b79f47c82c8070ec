# SPDX-License-Identifier: GPL-3.0-or-later
"""A shot's geometry in flat arrays, so that kernels follow surface points of all meshes without calls into Python.

A surface point is a mesh, one of its triangles and barycentric weights. Its position in another sample is the
weighted sum of the triangle's vertices in that sample. A mesh whose topology differs between the two samples has the
vertices of the one found again on the other (`trackshade.control.locate`); a vertex that is not there is NaN, and with
it all points of its triangles.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from trackshade.control.compiling import inlined
from trackshade.control.locate import locate
from trackshade.core.errors import UsageError
from trackshade.shot import Geometry, Shot, fitting

NOWHERE = np.iinfo(np.int64).min  # of a mesh without vertices in a sample
_ASPECT = 0.02  # relative difference of aspect up to which a picture is one of the camera's
_LOCATED = 64  # pairs of geometries whose correspondences are kept


@dataclass(frozen=True, eq=False)
class Pose:
    """A shot in one sample, with the triangles that its meshes have in the same or another sample.

    Attributes:
        t: the sample.
        moving: [N, 3] float32 object-space positions of vertices that are not the same in all samples.
        where: [M] int64, where a mesh's vertices begin: n in `PoseTable.still`, -1 - n in `moving`; `NOWHERE`.
        to_camera: [M, 4, 4] float64, object to camera space.
        lens: [6] float64: focal lengths and center in x and y, pixels; width and height of the image.
        orthographic: whether the camera is orthographic.
        rotation: [3, 3] float64, world to camera.
    """

    t: int
    moving: np.ndarray
    where: np.ndarray
    to_camera: np.ndarray
    lens: np.ndarray
    orthographic: bool
    rotation: np.ndarray


class PoseTable:
    """Makes the poses of a shot. Thread-safe.

    Attributes:
        shot: the shot.
        still: [N, 3] float32 vertices of all geometries that do not deform.
        triangles: [N, 3] int32 triangles of all geometries.
        has_changes: whether the topology of a mesh changes.
    """

    def __init__(self, shot: Shot) -> None:
        self.shot = shot
        empty = np.zeros((0, 3), np.float32)
        still = [geometry.positions[0] for geometry in shot.geometries if not geometry.deforms]
        self.still = np.concatenate([empty, *still])
        self.triangles = np.concatenate([empty.astype(np.int32), *(item.triangles for item in shot.geometries)])
        counts = [0 if geometry.deforms else geometry.positions.shape[1] for geometry in shot.geometries]
        self._still_start = np.concatenate([[0], np.cumsum(counts)])[:-1].astype(np.int64)
        faces = [len(geometry.triangles) for geometry in shot.geometries]
        self._face_start = np.concatenate([[0], np.cumsum(faces)])[:-1].astype(np.int64)
        self._first_geometry = np.array([mesh.geometry for mesh in shot.meshes], np.int64)
        self._changing = [index for index, mesh in enumerate(shot.meshes) if mesh.changes]
        self.has_changes = bool(self._changing)
        self._located: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def geometries(self, t: int) -> np.ndarray:
        """Return the index into `Shot.geometries` of every mesh's geometry in sample `t`, [M]."""
        indices = self._first_geometry.copy()
        for mesh in self._changing:
            indices[mesh] = self.shot.meshes[mesh].geometry_at(t)
        return indices

    def face_starts(self, t: int) -> np.ndarray:
        """Return where the triangles begin that every mesh has in sample `t`, [M] int64."""
        return self._face_start[self.geometries(t)]

    def pose(self, t: int, size: tuple[int, int], faces_of: int | None = None) -> Pose:
        """Return the shot in sample `t`.

        Args:
            t: the sample.
            size: (width, height) of the image, pixels.
            faces_of: sample whose triangles are followed; `t` if None.
        """
        shot = self.shot
        faces_of = t if faces_of is None else faces_of
        wanted, present = self.geometries(faces_of), self.geometries(t)
        moving: list[np.ndarray] = []
        starts: dict[tuple[int, int], int] = {}
        total = 0
        where = np.full(len(shot.meshes), NOWHERE, np.int64)
        for mesh, track in enumerate(shot.meshes):
            if not track.visible[t]:
                continue
            index, now = int(wanted[mesh]), int(present[mesh])
            geometry = shot.geometries[index]
            if index == now and not geometry.deforms:
                where[mesh] = self._still_start[index]
                continue
            if (index, now) not in starts:
                starts[index, now] = total
                moving.append(self._positions(index, now, t))
                total += len(moving[-1])
            where[mesh] = -1 - starts[index, now]
        camera = shot.camera
        k = camera.intrinsics[t]
        sx, sy = size[0] / shot.size[0], size[1] / shot.size[1]
        # Much faster than np.stack for many meshes.
        matrices = np.concatenate([np.zeros((0, 4)), *(mesh.matrix_world[t] for mesh in shot.meshes)]).reshape(-1, 4, 4)
        return Pose(
            t,
            np.concatenate([np.zeros((0, 3), np.float32), *moving]),
            where,
            camera.world_to_camera[t] @ matrices,
            np.array([k[0, 0] * sx, k[1, 1] * sy, k[0, 2] * sx, k[1, 2] * sy, size[0], size[1]]),
            bool(camera.orthographic[t]),
            np.array(camera.world_to_camera[t][:3, :3]),
        )

    def _positions(self, index: int, now: int, t: int) -> np.ndarray:
        """Return where the vertices of geometry `index` are in sample `t`, on geometry `now`; [V, 3] float32."""
        shot = self.shot
        geometry, target = shot.geometries[index], shot.geometries[now]
        if geometry.same_points(target):
            return target.at(t)
        with self._lock:
            found = self._located.get((index, now))
        if found is None:
            found = _locate_vertices(geometry, target)
            with self._lock:
                self._located[index, now] = found
                while len(self._located) > _LOCATED:
                    self._located.popitem(last=False)
        positions = target.at(t)
        corners, weights = found[:, :3].astype(np.int64), found[:, 3:]
        return np.einsum("nc,ncx->nx", weights, positions[corners]).astype(np.float32)


def _locate_vertices(geometry: Geometry, target: Geometry) -> np.ndarray:
    """Return corners and weights [V, 6] of a geometry's vertices on another one; NaN weights where it has none."""
    points = locate(geometry.first, geometry.born, target)
    weights = np.where(points.exists[:, None], points.weights, np.nan)
    return np.concatenate([points.corners, weights], axis=1)


def resize_shot(shot: Shot, size: tuple[int, int]) -> Shot:
    """Return the shot seen by the same camera at another size of the same aspect.

    Raises:
        UsageError: the size has another aspect.
    """
    if size == tuple(shot.size):
        return shot
    sx, sy = size[0] / shot.size[0], size[1] / shot.size[1]
    # A pixel more or less, from rounding, is no other aspect.
    rounding = 1 / min(size) + 1 / min(shot.size)
    if min(size) < 1 or abs(sx / sy - 1) > max(_ASPECT, rounding):
        raise UsageError(
            "other-aspect",
            f"A picture of {size[0]} × {size[1]} pixels does not have the aspect of the camera, which renders "
            f"{shot.size[0]} × {shot.size[1]}.",
            "Crop or render it with the aspect of the camera.",
        )
    return fitting.resize_shot(shot, (int(size[0]), int(size[1])))


@inlined
def vertex(still, moving, where, n, axis):
    """Return a coordinate of vertex `n` of the mesh whose vertices begin at `where` (see `Pose.where`)."""
    if where >= 0:
        return np.float64(still[where + n, axis])
    return np.float64(moving[n - 1 - where, axis])


@inlined
def to_camera_axis(m, mesh, row, x, y, z):
    """Return a camera-space coordinate of an object-space point."""
    return m[mesh, row, 0] * x + m[mesh, row, 1] * y + m[mesh, row, 2] * z + m[mesh, row, 3]


@inlined
def load_corners(still, moving, where, triangles, face, to_camera, mesh, x, y, z):
    """Write the camera-space corners of a triangle to `x`, `y` and `z`, [3] each."""
    for n in range(3):
        at = triangles[face, n]
        px, py = vertex(still, moving, where, at, 0), vertex(still, moving, where, at, 1)
        pz = vertex(still, moving, where, at, 2)
        x[n] = to_camera_axis(to_camera, mesh, 0, px, py, pz)
        y[n] = to_camera_axis(to_camera, mesh, 1, px, py, pz)
        z[n] = to_camera_axis(to_camera, mesh, 2, px, py, pz)
