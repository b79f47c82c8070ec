# SPDX-License-Identifier: GPL-3.0-or-later
"""Surface points: those that pixels show, and where they are after the topology of their mesh has changed.

A surface point is identified by its origin and its birth (`Geometry.origins`, `Geometry.births`), which are the same in
all geometries that a mesh has. So a point is searched on the new geometry with its vertices at their origins. If
nothing is near, or what is near was born in another sample, the point's surface has vanished.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from trackshade.control.raster import barycentric
from trackshade.control.scene import ShotRaster
from trackshade.shot import Geometry, Shot
from trackshade.shot.surface_search import SurfaceSearch

MAX_DISTANCE = 0.25  # edge lengths of the triangle found within which it has the point
MAX_BEYOND_RIM = 0.05  # edge lengths along the surface beyond its rim within which a point still is on it


@dataclass(frozen=True, eq=False)
class LocatedPoints:
    """Points on a geometry."""

    corners: np.ndarray  # [N, 3] int32, vertices of each point's triangle
    weights: np.ndarray  # [N, 3] float64, barycentric
    exists: np.ndarray  # [N] bool, whether the geometry has the point

    def interpolate(
        self,
        positions: np.ndarray,  # [V, 3]
    ) -> np.ndarray:
        """Return the points' positions [N, 3] from those of the vertices; undefined for points that do not exist."""
        return np.einsum("nc,ncx->nx", self.weights, positions[self.corners])


def locate(
    origins: np.ndarray,  # [N, 3] float32 object space, metres
    births: np.ndarray,  # [N] samples
    target: Geometry,
) -> LocatedPoints:
    """Find points on a geometry of their mesh, by their origins and births."""
    corners = np.zeros((len(origins), 3), np.int32)
    weights = np.tile([1.0, 0.0, 0.0], (len(origins), 1))
    exists = np.zeros(len(origins), np.bool_)
    if len(target.triangles) and len(origins):
        search = SurfaceSearch(target.first, target.triangles)
        nearest = search.nearest(np.ascontiguousarray(origins), limit=MAX_DISTANCE * float(search.edge.max()))
        near = np.flatnonzero(nearest.triangle >= 0)
        triangle, weight = nearest.triangle[near], nearest.weights[near]
        edge = search.edge[triangle]
        corners[near], weights[near] = target.triangles[triangle], weight
        exists[near] = nearest.distance[near] <= MAX_DISTANCE * edge
        exists[near] &= search.beyond_rim(origins[near], triangle, weight) <= MAX_BEYOND_RIM * edge
        exists[near] &= (target.born[target.triangles[triangle]] == births[near, None]).any(axis=1)
    return LocatedPoints(corners, weights, exists)


class Follower:
    """Follows points of one mesh over all samples of a shot, and caches where they are.

    Args:
        shot: the shot.
        mesh: index into `Shot.meshes`.
        geometry: index into `Shot.geometries` of the geometry that `corners` and `weights` belong to: one for all
            points, or [N].
        corners: [N, 3] vertices of the points' triangles.
        weights: [N, 3] barycentric weights.
    """

    def __init__(
        self, shot: Shot, mesh: int, geometry: int | np.ndarray, corners: np.ndarray, weights: np.ndarray
    ) -> None:
        self._shot, self._track = shot, shot.meshes[mesh]
        self._corners, self._weights = corners, weights
        self._sources = np.broadcast_to(geometry, len(corners))
        self._origins, self._births = np.zeros((len(corners), 3), np.float32), np.zeros(len(corners), np.int32)
        for index in np.unique(self._sources).tolist():
            points, source = np.flatnonzero(self._sources == index), shot.geometries[index]
            origins = source.first[corners[points]].astype(np.float64)
            self._origins[points] = np.einsum("nc,ncx->nx", weights[points], origins)
            self._births[points] = source.born[corners[points, weights[points].argmax(axis=1)]]
        self._located: dict[int, LocatedPoints] = {}

    def at(self, t: int) -> LocatedPoints:
        """Return the points on the geometry of sample `t`."""
        index = self._track.geometry_at(t)
        if index not in self._located:
            self._located[index] = self._locate(self._shot.geometries[index])
        return self._located[index]

    def _locate(self, target: Geometry) -> LocatedPoints:
        sources = np.unique(self._sources).tolist()
        same = [index for index in sources if self._shot.geometries[index].same_points(target)]
        exact = np.isin(self._sources, same)
        points = LocatedPoints(self._corners.astype(np.int32), self._weights.astype(np.float64), exact)
        others = np.flatnonzero(~exact)
        if len(others):
            located = locate(self._origins[others], self._births[others], target)
            points.corners[others], points.weights[others] = located.corners, located.weights
            points.exists[others] = located.exists
        return points

    def positions(self, t: int) -> np.ndarray:
        """Return object-space positions [N, 3] in sample `t`; NaN where the mesh does not have the point."""
        points = self.at(t)
        positions = points.interpolate(self._shot.geometries[self._track.geometry_at(t)].at(t))
        return positions if points.exists.all() else np.where(points.exists[:, None], positions, np.nan)


class SurfacePoints(NamedTuple):
    """P points on triangles."""

    mesh: np.ndarray  # [P] int64, index into `Shot.meshes`
    geometry: np.ndarray  # [P] int64, index into `Shot.geometries` of the geometry that the triangle belongs to
    corners: np.ndarray  # [P, 3] int32, vertices of the triangle
    weights: np.ndarray  # [P, 3] float64, barycentric, in space
    front: np.ndarray  # [P] bool, whether the camera saw the triangle's front there


def shows_surface(raster: ShotRaster) -> np.ndarray:
    """Return which pixels of a raster's buffers show a mesh that is no holdout, [H, W] bool."""
    holdout = np.array([mesh.holdout for mesh in raster.shot.meshes] + [True])  # the last entry is label -1, nothing
    return ~holdout[raster.buffers.label]


def points_at(
    raster: ShotRaster,
    t: int,
    pixels: np.ndarray,  # [P] flat indices
) -> SurfacePoints:
    """Return the surface points at pixels that show a surface; the raster must have drawn sample `t` last."""
    shot, buffers = raster.shot, raster.buffers
    meshes = buffers.label.ravel()[pixels].astype(np.int64)
    corners, weights = np.empty((len(pixels), 3), np.int32), np.empty((len(pixels), 3))
    front, geometry = np.empty(len(pixels), np.bool_), np.empty(len(pixels), np.int64)
    for mesh in np.unique(meshes).tolist():
        here = meshes == mesh
        geometry[here] = shot.meshes[mesh].geometry_at(t)
        triangles = shot.geometry_of(mesh, t).triangles
        corners[here], weights[here] = barycentric(buffers, pixels[here], raster.vertices(mesh, t), triangles)
        triangle = in_camera(shot, mesh, corners[here], t)
        place = np.einsum("pc,pcx->px", weights[here], triangle)
        front[here] = is_front(triangle, place, bool(shot.camera.orthographic[t]))
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
