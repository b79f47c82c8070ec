# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries surface points across changes of a mesh's topology: which points persist, and which are new.

A mesh's samples are kept as segments: runs of samples in which vertex i is the same point of the surface. Where the
vertices or faces change, each vertex of the new mesh is either a point of the surface in the sample before, and has
that point's origin (its object-space position in its first sample) and birth (that sample), or it is new and is born in
this sample. In this order:

1. A topology that was there before restores the exact identity of its vertices. So do the same triangles: then
   something else has changed, such as their material slots.
2. A vertex at exactly the position of a vertex of the sample before is that vertex.
3. If the new mesh starts with the faces of the one before, or the other way round (Array, Build, Screw), those are the
   same vertices, even if they move, provided that the faces keep their shapes and that the surface before is not so
   much nearer that it must have been resampled, or cut off in front.
4. Any other vertex that lies on the surface of the sample before is that point of it.
5. A vertex beside it takes the nearest point of the surface, if that part of it does not persist as it was (its
   vertices do not persist by 2 or 3) and is near enough: within `EDGES` lengths of the edges there, or within `MOVES`
   times the median of such distances, which is how far the surface moves between the samples. Exceptions are vertices
   - beyond the open rim of a surface;
   - that would have moved in the plane of one of their faces, at a flat place or a sharp edge: a face that moves in its
     plane cannot be told from one that grows;
   - that share a triangle with a vertex that did not move: what is around it has not moved either, as around the hole
     that a moving cutter leaves.
   But no vertex is new alone: if all its triangles have vertices that take a nearest point, it does so, too.
6. The others are new: the origin of a new vertex is its position.

Points of the surface before that no vertex takes over have vanished.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackshade.shot.mesh_geometry import cosines_to_normals, vertex_normals
from trackshade.shot.surface_search import SurfaceSearch

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

EDGES = 2.0  # edge lengths at the nearest point within which a vertex may be that point, moved
MOVES = 4.0  # the same limit, in medians of the distances
LARGEST = 0.25  # of the surface's extent: nothing moves farther from one sample to the next
BESIDE = 0.25  # edge lengths along the surface beyond its open rim, from which on a vertex is beside it
# A movement is in the plane of a face if all cosines between it and the normals of the vertex's faces are below FLAT,
# or, at a sharp edge, some are below IN_PLANE and others above ACROSS.
FLAT = 0.1
IN_PLANE, ACROSS = 0.3, 0.7
ON_SURFACE = 1e-3  # edge lengths within which a vertex lies on a surface
_COMMON = 0.5  # fraction of the smaller mesh's triangles that both must start with
_KEPT = 0.9  # fraction of these that must be the same triangles, and keep their shapes
_STRETCH = 0.5  # relative change of an edge's length that still is the same shape
_DETOUR = 16.0  # times the distance from the surface before that a vertex may have moved
_SAMPLES = 2048  # vertices that are compared before all are


@dataclass(frozen=True, eq=False)
class Surface:
    """A mesh in one sample, and where its points come from."""

    positions: Float32  # [V, 3] object space, metres
    triangles: Int32  # [F, 3], F > 0
    origins: Float32  # [V, 3] object-space positions of the points in their first samples
    births: Int32  # [V] these samples


@dataclass(frozen=True, eq=False)
class Carried:
    """Where the points of a mesh come from."""

    origins: Float32  # [V, 3], see `Surface`
    births: Int32  # [V], see `Surface`
    is_exact: bool  # whether no point is the nearest point of a surface that has moved meanwhile


def carry(
    before: Surface,
    positions: Float32,  # [V, 3] object space, metres
    triangles: Int32,  # [F, 3]
    t: int,
) -> Carried:
    """Find where the points of a mesh come from that has another topology than in the sample before.

    Args:
        before: the mesh in the latest sample before.
        positions: the mesh now.
        triangles: its faces.
        t: the sample.
    """
    if len(positions) == len(before.positions) and np.array_equal(triangles, before.triangles):
        return Carried(before.origins, before.births, True)
    same = _exact_match(positions, before.positions)
    surface = before.positions  # the surface before, with the vertices that persist where they are now
    moved = _common_start(before, positions, triangles)
    if moved is not None and np.any(same[moved] != moved) and _moved(before, positions, moved):
        same[np.isin(same, moved)] = -1
        same[moved] = moved
        surface = surface.copy()
        surface[moved] = positions[moved]
    origins, births = positions.copy(), np.full(len(positions), t, np.int32)
    known, unknown = np.flatnonzero(same >= 0), np.flatnonzero(same < 0)
    origins[known], births[known] = before.origins[same[known]], before.births[same[known]]
    if not len(unknown):
        return Carried(origins, births, True)
    still = np.zeros(len(positions), np.bool_)
    still[known] = _equal_rows(positions[known], before.positions[same[known]])
    persists = np.zeros(len(before.positions), np.bool_)
    persists[same[known]] = True
    taken, corners, weights, exact = _nearest(surface, before.triangles, positions, triangles, unknown, persists, still)
    origins[taken] = np.einsum("vk,vkc->vc", weights, before.origins[corners].astype(np.float64))
    births[taken] = before.births[corners[np.arange(len(taken)), weights.argmax(axis=1)]]
    return Carried(origins, births, exact)


def _nearest(
    surface: Float32,  # [N, 3] the surface before
    faces: Int32,  # [G, 3] its triangles
    positions: Float32,  # [V, 3] the mesh now
    triangles: Int32,  # [F, 3] its triangles
    rest: Int64,  # [n] vertices of it that are not known yet
    persists: Bool,  # [N] whether a vertex of the surface before is known to persist
    still: Bool,  # [V] whether a vertex of the mesh now is known not to have moved
) -> tuple[Int64, Int32, NDArray[np.float64], bool]:
    """Find vertices that are points of a surface, by rules 4 and 5.

    Returns:
        The indices [m] of those among `rest`, the corners [m, 3] and weights [m, 3] of the points, and whether all lie
        on the surface exactly.
    """
    search = SurfaceSearch(surface, faces)
    tolerance = 1e-6 * search.diagonal
    gone = ~_combine_corners(persists, faces, np.logical_and)  # triangles that do not persist as they were
    limit = LARGEST * search.diagonal if gone.any() else ON_SURFACE * float(search.edge.max()) + tolerance
    normals = vertex_normals(positions, triangles)
    found = search.nearest(np.ascontiguousarray(positions[rest]), np.ascontiguousarray(normals[rest]), limit)
    near = np.flatnonzero(found.triangle >= 0)
    triangle, weights, distance = found.triangle[near], found.weights[near], found.distance[near]
    vertices = rest[near]
    edge = search.edge[triangle].astype(np.float64)
    taken = distance <= ON_SURFACE * edge + tolerance
    on = taken.copy()
    apart = gone[triangle] & ~taken
    if still.any():
        fixed = np.zeros(len(positions), np.bool_)
        fixed[triangles[_combine_corners(still, triangles, np.logical_or)]] = True
        apart &= ~fixed[vertices]
    if apart.any():
        moves = MOVES * float(np.median(distance[apart]))
        taken |= apart & (distance <= np.minimum(np.maximum(EDGES * edge, moves), limit))
        doubtful = np.flatnonzero(taken & (distance > BESIDE * edge))
        beyond = search.beyond_rim(positions[vertices[doubtful]], triangle[doubtful], weights[doubtful])
        taken[doubtful[beyond > BESIDE * edge[doubtful]]] = False
        moved = np.flatnonzero(taken & apart)
        nearest = np.einsum("vk,vkc->vc", weights[moved], surface[faces[triangle[moved]]])
        movement = positions[vertices[moved]] - nearest
        least, most = cosines_to_normals(movement, vertices[moved], positions, triangles)
        taken[moved[(most < FLAT) | ((least < IN_PLANE) & (most > ACROSS))]] = False
        # Where all faces of a vertex have vertices that moved, it moved, too.
        carried = np.zeros(len(positions), np.bool_)
        carried[vertices[taken & apart]] = True
        has_other_face = np.zeros(len(positions), np.bool_)
        has_other_face[triangles[~_combine_corners(carried, triangles, np.logical_or)]] = True
        taken |= apart & ~has_other_face[vertices]
    return vertices[taken], faces[triangle[taken]], weights[taken], not np.any(taken & ~on)


def _exact_match(positions: Float32, before: Float32) -> Int64:
    """Return the index of a vertex [N, 3] before at exactly the same position as each vertex [V, 3]; -1 if none, [V].

    Of several at one position, the first one corresponds to the first, the second to the second.
    """
    match = np.full(len(positions), -1, np.int64)
    count = min(len(positions), len(before))
    if _equal_rows(positions[:count], before[:count]).all():
        match[:count] = np.arange(count)
        return match
    keys, other_keys = _hash_positions(positions), _hash_positions(before)
    some = np.sort(keys[:: max(1, len(keys) // _SAMPLES)])
    at = np.minimum(np.searchsorted(some, other_keys), len(some) - 1)
    if not np.any(some[at] == other_keys):
        return match
    order, other_order = np.argsort(keys, kind="stable"), np.argsort(other_keys, kind="stable")
    sorted_keys, sorted_others = keys[order], other_keys[other_order]
    rank = np.arange(len(sorted_keys)) - np.searchsorted(sorted_keys, sorted_keys)
    left = np.searchsorted(sorted_others, sorted_keys)
    right = np.searchsorted(sorted_others, sorted_keys, side="right")
    some = np.flatnonzero(right > left)
    theirs = other_order[np.minimum(left[some] + rank[some], right[some] - 1)]
    ours = order[some]
    same = _equal_rows(positions[ours], before[theirs])
    match[ours[same]] = theirs[same]
    return match


def _hash_positions(positions: Float32) -> NDArray[np.uint64]:
    """Return hashes [V] of positions [V, 3]; equal positions have equal ones."""
    bits = (positions + np.float32(0)).view(np.uint32).astype(np.uint64)  # adding 0 makes -0 into 0
    key = bits[:, 0] * np.uint64(0x9E3779B97F4A7C15)
    key ^= bits[:, 1] * np.uint64(0xC2B2AE3D27D4EB4F) + (key >> np.uint64(29))
    key ^= bits[:, 2] * np.uint64(0x165667B19E3779F9) + (key >> np.uint64(32))
    return key


def _common_start(before: Surface, positions: Float32, triangles: Int32) -> Int64 | None:
    """Return the vertices of the triangles that both meshes start with and that keep their shapes; None if too few."""
    count = min(len(triangles), len(before.triangles))
    half = slice(0, count // 2 + 1, max(1, count // (2 * _SAMPLES)))
    if np.mean(_equal_rows(triangles[half], before.triangles[half])) < 2 * _KEPT - 1.1:
        return None
    equal = _equal_rows(triangles[:count], before.triangles[:count])
    share = np.cumsum(equal) / np.arange(1, count + 1)
    enough = np.flatnonzero(share >= _KEPT)
    length = int(enough[-1]) + 1 if len(enough) else 0
    if length < _COMMON * count:
        return None
    common = triangles[:length][equal[:length]]
    piece = common[:: max(1, len(common) // _SAMPLES)]
    old, new = before.positions[piece], positions[piece]
    old_edges, new_edges = old - np.roll(old, 1, axis=1), new - np.roll(new, 1, axis=1)
    change = np.linalg.norm(new_edges - old_edges, axis=2)
    if np.mean(change <= _STRETCH * np.linalg.norm(old_edges, axis=2)) < _KEPT:
        return None
    vertices = np.zeros(min(len(positions), len(before.positions)), np.bool_)
    vertices[common.reshape(-1)] = True
    return np.flatnonzero(vertices)


def _moved(before: Surface, positions: Float32, vertices: Int64) -> bool:
    """Return whether most vertices are the ones with the same indices before, moved; compare some of them.

    They are not if a good part of the mesh is far nearer to the surface before than they are to where they were: then
    the surface has been resampled, or cut off in front, and equal indices are different points.
    """
    search = SurfaceSearch(before.positions, before.triangles)
    some = vertices[:: max(1, len(vertices) // 512)]
    away = np.linalg.norm(positions[some] - before.positions[some], axis=1)
    any_ones = np.ascontiguousarray(positions[:: max(1, len(positions) // 512)])
    near = np.quantile(search.nearest(any_ones).distance, 0.25)
    return bool(np.median(away) <= _DETOUR * near)


def _equal_rows(a: NDArray, b: NDArray) -> Bool:
    """Return whether rows of [N, 3] are equal, [N]; several times faster than `all` along an axis."""
    return (a[:, 0] == b[:, 0]) & (a[:, 1] == b[:, 1]) & (a[:, 2] == b[:, 2])


def _combine_corners(flags: Bool, triangles: Int32, combine: np.ufunc) -> Bool:
    """Combine the flags [V] of the corners of each triangle, [F]."""
    return combine(combine(flags[triangles[:, 0]], flags[triangles[:, 1]]), flags[triangles[:, 2]])
