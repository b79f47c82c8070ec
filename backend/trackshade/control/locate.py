# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds points of a surface again after its topology has changed.

A surface point is known by its origin and its birth (`Geometry.origins`, `Geometry.births`): those are the same in
every geometry that a mesh has. So a point is looked for on the new geometry where that lies at the vertices' origins,
among the triangles that have a vertex of the point's birth. Where nothing is near, its surface has vanished.
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


def locate(source: Geometry, corners: np.ndarray, weights: np.ndarray, target: Geometry) -> Located:
    """The points of `source` given by corners [N, 3] and weights [N, 3], on another geometry of the same mesh."""
    if source.same_points(target):
        return Located(corners, weights, np.ones(len(corners), np.bool_))
    found = Located(np.zeros_like(corners), np.zeros(weights.shape), np.zeros(len(corners), np.bool_))
    found.weights[:, 0] = 1.0
    origins = np.einsum("nc,ncx->nx", weights, source.first[corners].astype(np.float64)).astype(np.float32)
    births = source.born[corners[np.arange(len(corners)), weights.argmax(axis=1)]]
    target_births = target.born[target.triangles]  # [F, 3]
    for birth in np.unique(births):
        own, triangles = np.flatnonzero(births == birth), target.triangles[(target_births == birth).any(axis=1)]
        if not len(triangles):
            continue
        search = SurfaceSearch(target.first, triangles)
        nearest = search.nearest(origins[own], limit=NEAR * float(search.edge.max()))
        some = np.flatnonzero(nearest.triangle >= 0)
        triangle, weight = nearest.triangle[some], nearest.weights[some]
        edge = search.edge[triangle]
        there = nearest.distance[some] <= NEAR * edge
        there &= search.aside(origins[own[some]], triangle, weight) <= ASIDE * edge
        found.corners[own[some]], found.weights[own[some]] = triangles[triangle], weight
        found.there[own[some]] = there
    return found


class Follower:
    """Points of one mesh over all samples of a shot; what is found is kept.

    Args:
        mesh: index into `Shot.meshes`.
        geometry: index into `Shot.geometries` of the geometry that `corners` [N, 3] and `weights` [N, 3] belong to.
    """

    def __init__(self, shot: Shot, mesh: int, geometry: int, corners: np.ndarray, weights: np.ndarray) -> None:
        self._shot, self._track = shot, shot.meshes[mesh]
        self._start = shot.geometries[geometry], corners, weights
        self._found = {geometry: Located(corners, weights, np.ones(len(corners), np.bool_))}

    def at(self, t: int) -> Located:
        """The points on the geometry of sample `t`."""
        index = self._track.geometry_at(t)
        if index not in self._found:
            self._found[index] = locate(*self._start, self._shot.geometries[index])
        return self._found[index]

    def places(self, t: int) -> np.ndarray:
        """[N, 3] object-space places in sample `t`; NaN where the mesh does not have the point."""
        found = self.at(t)
        places = found.places(self._shot.geometries[self._track.geometry_at(t)].at(t))
        return places if found.there.all() else np.where(found.there[:, None], places, np.nan)
