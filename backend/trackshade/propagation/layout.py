# SPDX-License-Identifier: GPL-3.0-or-later
"""Flat maps of a geometry's surface: flat and gently curved parts as planes, everything else as an atlas.

A plane keeps the shape of what is drawn on a floor, a wall or a terrain, so that its pattern can be continued. An atlas
uses the geometry's texture coordinates where they do not overlap, else charts by xatlas (github.com/jpcy/xatlas).
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
_TILT = np.cos(np.radians(60.0))  # cosine between the normals of a gently curved part and its plane's, at least
_STEEP = 0.01  # share of a gently curved part that may be steeper
_FLAT = 2e-3  # distance from a plane, relative to its size
_OVERLAP = 0.02  # of the texels that texture coordinates cover twice, up to which they are used
_TEST = 512  # texels along a side, for that test
MOST_PARTS = 64  # planes of a geometry
UNWRAPPED = 50_000  # triangles up to which a geometry is unwrapped: 6 s; one of 90,000 takes minutes


@dataclass(frozen=True, eq=False)
class Plane:
    """A flat part of a geometry, or one that is curved so little that it is laid out by looking straight at it.

    Attributes:
        faces: [N] int64, its triangles.
        origin: [3] float64, the mean of its points, object space.
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
    """Return the flat and gently curved parts of a geometry that have at least a fraction of its area, by their size.

    A smooth surface, such as a terrain or a piece of cloth, is one part if it hides nothing of itself where it is
    looked at straight. Of other surfaces, flat parts are; but no facets of curved ones, such as those of a sphere.
    """
    points, triangles = geometry.first.astype(np.float64), geometry.triangles
    if not len(triangles):
        return []
    normals, areas = face_normals(points, triangles)
    least = least_share * areas.sum()
    smooth, flat, is_facet = _connect(points, triangles, normals, areas)
    found, taken = [], np.zeros(len(triangles), np.bool_)
    for group, is_left_out in ((smooth, np.zeros(smooth.max() + 1, np.bool_)), (flat, is_facet)):
        total = np.bincount(group, areas)
        for index in np.argsort(-total, kind="stable")[:MOST_PARTS].tolist():
            faces = np.flatnonzero(group == index)
            if total[index] < least or is_left_out[index] or taken[faces[0]]:
                continue
            plane = _lay_out(points, triangles[faces], normals[faces], areas[faces], faces)
            if plane is not None:
                taken[faces] = True
                found.append((float(total[index]), plane))
    found.sort(key=lambda item: -item[0])
    return [plane for _, plane in found[:MOST_PARTS]]


def _lay_out(
    points: np.ndarray, triangles: np.ndarray, normals: np.ndarray, areas: np.ndarray, faces: np.ndarray
) -> Plane | None:
    """Return the plane of connected triangles; None if they are too steep on it, or hide each other."""
    normal = (normals * areas[:, None]).sum(axis=0)
    length = np.linalg.norm(normal)
    corners = points[triangles.ravel()]
    size = float(np.linalg.norm(np.ptp(corners, axis=0)))
    if length <= 0 or size <= 0:
        return None
    normal /= length
    origin = corners.mean(axis=0)
    plane = Plane(faces, origin, _axes(normal), size)
    if np.abs((corners - origin) @ normal).max() <= _FLAT * size:
        return plane
    if areas[normals @ normal < _TILT].sum() > _STEEP * areas.sum():
        return None
    uv = _to_unit(plane.project(points[triangles]))
    return plane if uv is not None and _overlap(uv) <= _OVERLAP else None


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


def _connect(
    points: np.ndarray, triangles: np.ndarray, normals: np.ndarray, areas: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the smooth and the flat connected parts of a mesh.

    Returns:
        A number for each triangle, [F], equal for those that are connected by edges with a gentle bend at most; the
        same for edges without a bend; and for each number of the latter whether it is a facet of a curved surface: most
        of its edges to others are gentle bends to parts of about its size.
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
    (_, smooth), (number, group) = (
        connected_components(
            coo_matrix((np.ones(used.sum(), np.int8), (one[used], other[used])), shape=(count, count)), directed=False
        )
        for used in (cosine > _BEND, straight)
    )
    total = np.bincount(group, areas, minlength=number)
    border, gentle, largest = np.zeros(number), np.zeros(number), np.zeros(number)
    one, other = group[one], group[other]
    outer = one != other
    bent = outer & (cosine > _BEND)
    for own, neighbor in ((one, other), (other, one)):
        np.add.at(border, own[outer], length[outer])
        np.add.at(gentle, own[bent], length[bent])
        np.maximum.at(largest, own[bent], total[neighbor[bent]])
    return smooth, group, (gentle > 0.5 * border) & (total < _FACET * largest)


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
