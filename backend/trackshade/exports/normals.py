# SPDX-License-Identifier: GPL-3.0-or-later
"""Smooth normals of meshes, for programs that light them anew.

Shots do not say which faces are smooth. Edges below an angle in the first frame are taken as smooth, as by Blender's
modifier Smooth by Angle; around a vertex, faces that such edges connect share one normal, weighted by their angles
(Thürmer and Wüthrich 1998, "Computing vertex normals from polygonal facets").
"""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

CREASE = math.radians(30.0)
_LEAST = 1e-30


class SmoothNormals:
    """Normals of a mesh whose vertices may move.

    Args:
        points: [V, 3] in the first frame.
        triangles: [F, 3].
        crease: angle between two faces from which their edge is sharp, radians.

    Attributes:
        groups: [3 F] which of the normals each corner of the faces has.
        count: number of normals.
    """

    def __init__(self, points: np.ndarray, triangles: np.ndarray, crease: float = CREASE) -> None:
        self._triangles = np.asarray(triangles, np.int64)
        one, other = _neighbors(self._triangles)
        normals = _unit(_face_normals(points, self._triangles))
        smooth = np.einsum("ij,ij->i", normals[one // 3], normals[other // 3]) > math.cos(crease)
        one, other = one[smooth], other[smooth]
        size = self._triangles.size
        edges = coo_matrix((np.ones(len(one), bool), (one, other)), shape=(size, size))
        self.count, self.groups = connected_components(edges, directed=False)

    def at(self, points: np.ndarray) -> np.ndarray:
        """Return the normals [N, 3] float32 for vertices at `points` [V, 3]; those of faces without area are 0."""
        corners = np.asarray(points, np.float64)[self._triangles]  # [F, 3, 3]
        normals = _unit(_face_normals(points, self._triangles))
        following, before = np.roll(corners, -1, axis=1) - corners, np.roll(corners, 1, axis=1) - corners
        cosine = np.einsum("fci,fci->fc", _unit(following), _unit(before))
        weighted = np.arccos(np.clip(cosine, -1, 1))[:, :, None] * normals[:, None, :]
        flat = weighted.reshape(-1, 3)
        sums = np.stack([np.bincount(self.groups, flat[:, axis], self.count) for axis in range(3)], axis=1)
        return _unit(sums).astype(np.float32)


def _neighbors(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of corners at the same vertex, of two faces that share an edge there."""
    corner = np.arange(triangles.size).reshape(-1, 3)
    ends = np.stack([triangles, np.roll(triangles, -1, axis=1)], axis=-1).reshape(-1, 2)  # of each half-edge
    corners = np.stack([corner, np.roll(corner, -1, axis=1)], axis=-1).reshape(-1, 2)
    ascending = np.argsort(ends, axis=1)
    ends, corners = np.take_along_axis(ends, ascending, 1), np.take_along_axis(corners, ascending, 1)
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    ends, corners = ends[order], corners[order]
    same = np.flatnonzero((ends[1:] == ends[:-1]).all(axis=1))
    return corners[same].ravel(), corners[same + 1].ravel()


def _face_normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return the normals [F, 3] of faces, as long as twice their area."""
    corners = np.asarray(points, np.float64)[triangles]
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors [..., 3] of length 1, or 0."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > _LEAST, vectors / np.maximum(length, _LEAST), 0.0)
