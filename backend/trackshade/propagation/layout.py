# SPDX-License-Identifier: GPL-3.0-or-later
"""Flat maps of a geometry's surface: large flat faces as planes, everything else as an atlas.

A plane keeps the shape of what is drawn on a floor or wall, so that its pattern can be continued. An atlas uses the
geometry's texture coordinates where they do not overlap, else charts by xatlas (github.com/jpcy/xatlas).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xatlas
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from trackshade.control.texels import find_texels
from trackshade.shot import Geometry

_ANGLE = 1e-4  # 1 - cosine between the normals of neighbors in a plane
_BEND = np.cos(np.radians(31.0))  # cosine between the normals of neighbors on a curved surface, at least
_FACET = 4.0  # times the area of its neighbors on a curved surface that a flat part must have
_FLAT = 2e-3  # distance from a plane, relative to its size
_OVERLAP = 0.02  # of the texels that texture coordinates cover twice, up to which they are used
_TEST = 512  # texels along a side, for that test
UNWRAPPED = 50_000  # triangles up to which a geometry is unwrapped: 6 s; one of 90,000 takes minutes


@dataclass(frozen=True, eq=False)
class Plane:
    """A flat part of a geometry.

    Attributes:
        faces: [N] int64, its triangles.
        origin: [3] float64, a point of it, object space.
        axes: [2, 3] float64, orthonormal.
        size: diagonal of its extent, object units.
    """

    faces: np.ndarray
    origin: np.ndarray
    axes: np.ndarray
    size: float

    def project(
        self,
        points: np.ndarray,  # [..., 3] object space
    ) -> np.ndarray:
        """Return coordinates [..., 2] in the plane, object units."""
        return (points - self.origin) @ self.axes.T


def find_planes(geometry: Geometry, least_share: float = 0.002) -> list[Plane]:
    """Return the flat connected parts of a geometry that have at least a fraction of its area, the largest first.

    The facets of a curved surface, such as those of a sphere, are no parts of their own.
    """
    points, triangles = geometry.first.astype(np.float64), geometry.triangles
    if not len(triangles):
        return []
    normals, areas = face_normals(points, triangles)
    group, is_facet = _connect_flat(points, triangles, normals, areas)
    total = np.bincount(group, areas)
    planes = []
    for index in np.argsort(-total, kind="stable").tolist():
        if is_facet[index]:
            continue
        if total[index] < least_share * total.sum() or len(planes) >= 64:
            break
        faces = np.flatnonzero(group == index)
        corners = points[triangles[faces].ravel()]
        normal = (normals[faces] * areas[faces, None]).sum(axis=0)
        length = np.linalg.norm(normal)
        if length <= 0:
            continue
        normal /= length
        size = float(np.linalg.norm(np.ptp(corners, axis=0)))
        origin = corners.mean(axis=0)
        if size <= 0 or np.abs((corners - origin) @ normal).max() > _FLAT * size:
            continue
        planes.append(Plane(faces, origin, _axes(normal), size))
    return planes


def _axes(normal: np.ndarray) -> np.ndarray:
    """Return two axes in a plane, along those of the object where it is parallel to them."""
    across = np.eye(3)[np.argmin(np.abs(normal))]
    first = np.cross(across, normal)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(normal, first)])


def face_normals(points: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return unit normals [F, 3] (zero for triangles without area) and areas [F]."""
    a, b, c = (points[triangles[:, n]] for n in range(3))
    cross = np.cross(b - a, c - a)
    length = np.linalg.norm(cross, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(cross / length[:, None]), length / 2


def _connect_flat(
    points: np.ndarray, triangles: np.ndarray, normals: np.ndarray, areas: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the flat connected parts of a mesh.

    Returns:
        A number for each triangle, [F]: equal for those that are connected by edges without a bend; and for each number
        whether it is a facet of a curved surface: most of its border is a gentle bend to parts of about its size.
    """
    count = len(triangles)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]).astype(np.int64)
    lengths = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    edges.sort(axis=1)
    face = np.tile(np.arange(count), 3)
    key = edges[:, 0] * (int(triangles.max()) + 1) + edges[:, 1]
    order = np.argsort(key, kind="stable")
    same = np.flatnonzero(key[order][1:] == key[order][:-1])
    one, other, length = face[order[same]], face[order[same + 1]], lengths[order[same]]
    cosine = np.abs(np.einsum("nk,nk->n", normals[one], normals[other]))
    straight = cosine > 1 - _ANGLE
    graph = coo_matrix((np.ones(straight.sum(), np.int8), (one[straight], other[straight])), shape=(count, count))
    number, group = connected_components(graph, directed=False)
    total = np.bincount(group, areas, minlength=number)
    border, gentle, largest = np.zeros(number), np.zeros(number), np.zeros(number)
    np.add.at(border, group[face], lengths)  # all edges, of which those inside are taken off again
    one, other = group[one], group[other]
    inside = one == other
    np.subtract.at(border, one[inside], 2 * length[inside])
    bent = ~inside & (cosine > _BEND)
    for own, neighbor in ((one[bent], other[bent]), (other[bent], one[bent])):
        np.add.at(gentle, own, length[bent])
        np.maximum.at(largest, own, total[neighbor])
    return group, (gentle > 0.5 * border) & (total < _FACET * largest)


def unwrap(geometry: Geometry, faces: np.ndarray) -> np.ndarray | None:
    """Return texture coordinates [N, 3, 2] of some triangles that do not overlap; None if there are too many triangles.

    Their unit is the longer side of their extent.
    """
    if geometry.uv is not None:
        uv = _to_unit(geometry.uv[faces].astype(np.float64))
        if uv is not None and _overlap(uv) <= _OVERLAP:
            return uv
    if len(faces) > UNWRAPPED:
        return None
    used, corners = np.unique(geometry.triangles[faces], return_inverse=True)
    corners = corners.reshape(-1, 3).astype(np.uint32)
    points = geometry.first[used]
    atlas = xatlas.Atlas()
    atlas.add_mesh(np.ascontiguousarray(points), np.ascontiguousarray(corners))
    options = xatlas.PackOptions()
    options.padding, options.resolution = 4, 512
    atlas.generate(pack_options=options)
    _, indices, coordinates = atlas[0]
    return _to_unit(coordinates[indices].astype(np.float64))


def _to_unit(uv: np.ndarray) -> np.ndarray | None:
    if not np.isfinite(uv).all():
        return None
    low = uv.reshape(-1, 2).min(axis=0)
    size = float((uv.reshape(-1, 2).max(axis=0) - low).max())
    return (uv - low) / size if size > 0 else None


def _overlap(uv: np.ndarray) -> float:
    """Return the fraction of the texels that more than one triangle covers; 1 if the triangles cover none."""
    texels = find_texels(uv * _TEST, (_TEST, _TEST))
    return texels.shared if len(texels.target) else 1.0
