# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds points of a surface again after its topology has changed.

A surface point is known by its origin and its birth (`Geometry.origins`, `Geometry.births`): those are the same in
every geometry that a mesh has. So a point is looked for on the new geometry where that lies at its vertices' origins.
Where nothing is near, or what is near was born in another sample, its surface has vanished.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackshade.shot import Geometry, Shot
from trackshade.shot.surface_search import SurfaceSearch

NEAR = 0.25  # edge lengths of the triangle found within which it is the point's own
ASIDE = 0.05  # edge lengths along the surface beyond its rim within which a point still is on it


@dataclass(frozen=True, eq=False)
class Located:
    """Points on a geometry.

    Attributes:
        corners: [N, 3] int32, vertices of each point's triangle.
        weights: [N, 3] float64, barycentric.
        there: [N] bool, the geometry has the point.
    """

    corners: np.ndarray
    weights: np.ndarray
    there: np.ndarray

    def places(self, positions: np.ndarray) -> np.ndarray:
        """[N, 3] the points, given the positions [V, 3] of the geometry; anything where a point is not there."""
        return np.einsum("nc,ncx->nx", self.weights, positions[self.corners])


def locate(origins: np.ndarray, births: np.ndarray, target: Geometry) -> Located:
    """The points with these origins [N, 3] float32 and births [N] on a geometry of their mesh."""
    corners = np.zeros((len(origins), 3), np.int32)
    weights = np.tile([1.0, 0.0, 0.0], (len(origins), 1))
    there = np.zeros(len(origins), np.bool_)
    if len(target.triangles) and len(origins):
        search = SurfaceSearch(target.first, target.triangles)
        found = search.nearest(np.ascontiguousarray(origins), limit=NEAR * float(search.edge.max()))
        some = np.flatnonzero(found.triangle >= 0)
        triangle, weight = found.triangle[some], found.weights[some]
        edge = search.edge[triangle]
        corners[some], weights[some] = target.triangles[triangle], weight
        there[some] = found.distance[some] <= NEAR * edge
        there[some] &= search.aside(origins[some], triangle, weight) <= ASIDE * edge
        there[some] &= (target.born[target.triangles[triangle]] == births[some, None]).any(axis=1)
    return Located(corners, weights, there)


class Follower:
    """Points of one mesh over all samples of a shot; what is found is kept.

    Args:
        mesh: index into `Shot.meshes`.
        geometry: index into `Shot.geometries` of the geometry that `corners` and `weights` belong to: one for all
            points, or [N].
        corners, weights: [N, 3] each, vertices of the points' triangles and barycentric weights.
    """

    def __init__(
        self, shot: Shot, mesh: int, geometry: int | np.ndarray, corners: np.ndarray, weights: np.ndarray
    ) -> None:
        self._shot, self._track = shot, shot.meshes[mesh]
        self._corners, self._weights = corners, weights
        self._source = np.broadcast_to(geometry, len(corners))
        self._origins, self._births = np.zeros((len(corners), 3), np.float32), np.zeros(len(corners), np.int32)
        for index in np.unique(self._source).tolist():
            own, source = np.flatnonzero(self._source == index), shot.geometries[index]
            places = source.first[corners[own]].astype(np.float64)
            self._origins[own] = np.einsum("nc,ncx->nx", weights[own], places)
            self._births[own] = source.born[corners[own, weights[own].argmax(axis=1)]]
        self._found: dict[int, Located] = {}

    def at(self, t: int) -> Located:
        """The points on the geometry of sample `t`."""
        index = self._track.geometry_at(t)
        if index not in self._found:
            self._found[index] = self._locate(self._shot.geometries[index])
        return self._found[index]

    def _locate(self, target: Geometry) -> Located:
        sources = np.unique(self._source).tolist()
        same = [index for index in sources if self._shot.geometries[index].same_points(target)]
        exact = np.isin(self._source, same)
        found = Located(self._corners.astype(np.int32), self._weights.astype(np.float64), exact)
        other = np.flatnonzero(~exact)
        if len(other):
            located = locate(self._origins[other], self._births[other], target)
            found.corners[other], found.weights[other] = located.corners, located.weights
            found.there[other] = located.there
        return found

    def places(self, t: int) -> np.ndarray:
        """[N, 3] object-space places in sample `t`; NaN where the mesh does not have the point."""
        found = self.at(t)
        places = found.places(self._shot.geometries[self._track.geometry_at(t)].at(t))
        return places if found.there.all() else np.where(found.there[:, None], places, np.nan)
