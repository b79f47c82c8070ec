# SPDX-License-Identifier: GPL-3.0-or-later
"""Which points of a surface persist where its topology changes, and which are new.

A mesh's samples are kept as segments: runs of samples in which vertex i is the same point of the surface. Where the
vertices or faces change, each vertex of the new mesh is either a point of the surface of the sample before, and then
takes over that point's origin (its object-space place at its first moment) and birth (the sample of that moment), or it
is new and is born in this sample. In this order:

1. A topology that was there before brings back the exact identity of its vertices, and so do the same triangles: then
   something else has changed, such as their material slots.
2. A vertex at exactly the position of a vertex of the sample before is that vertex.
3. Where the new mesh starts with the faces of the one before, or the other way round (Array, Build, Screw), those are
   the same vertices, also where they move: if the faces keep their shapes, and unless the surface before is so much
   nearer that it must have been resampled, or cut off in front.
4. Any other vertex that lies on the surface of the sample before is that point of it.
5. A vertex beside it takes the nearest point of the surface, if that part of it is not there any more as it was (its
   vertices do not persist by 2 or 3), and is near enough: within `EDGES` lengths of the edges there, or within `MOVES`
   times the median of such distances, which is how far the surface moves between the samples. Not so
   - beyond the open rim of a surface;
   - where it would have moved in the plane of a face of its own, which is flat or has a sharp edge there: a face that
     moves in its own plane cannot be told from one that grows;
   - where it shares a triangle with a vertex that did not move: what is around it has not moved either then, as around
     the hole that a moving cutter leaves.
   But no vertex is new alone: where all its triangles have vertices that take a nearest point, it does so, too.
6. The others are new: the origin of a new vertex is its own position.

Points of the surface before that nothing takes over have vanished.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackshade.shot.surface_search import SurfaceSearch, slopes, vertex_normals

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

EDGES = 2.0  # lengths of the edges at the nearest point within which a vertex may be that point, moved
MOVES = 4.0  # the same in medians of the distances
LARGEST = 0.25  # of the surface's extent: nothing moves farther from one sample to the next
BESIDE = 0.25  # edge lengths along the surface beyond its open rim, from which on a vertex is beside it
# Cosines between a movement and the normals of a vertex's faces, of which it is in the plane:
FLAT = 0.1  # all are less than this,
IN_PLANE, ACROSS = 0.3, 0.7  # or some less than the first, at a sharp edge: others are more than the second
ON_SURFACE = 1e-3  # edge lengths within which a vertex lies on a surface
_ALIKE = 0.5  # share of the smaller mesh's triangles that both must start with
_KEPT = 0.9  # share of these that must be the same triangles, and keep their shapes
_STRETCH = 0.5  # change of an edge, against its length, that still is the same shape
_DETOUR = 16.0  # times the distance from the surface before that a vertex may have moved
_SAMPLES = 2048  # vertices that are looked at before all are


@dataclass(frozen=True, eq=False)
class Surface:
    """A mesh in one sample, and where its points come from.

    Attributes:
        positions: [V, 3] float32, object space, metres.
        triangles: [F, 3] int32, F > 0.
        origins: [V, 3] float32, object-space places of the points at their first moment.
        births: [V] int32, samples of these moments.
    """

    positions: Float32
    triangles: Int32
    origins: Float32
    births: Int32


@dataclass(frozen=True, eq=False)
class Carried:
    """Where the points of a mesh come from; see `Surface`.

    Attributes:
        exact: no point was found by the nearest point of a surface that has moved meanwhile.
    """

    origins: Float32
    births: Int32
    exact: bool


def carry(before: Surface, positions: Float32, triangles: Int32, t: int) -> Carried:
    """Where the points of a mesh come from that has another topology than in the sample before.

    Args:
        before: the mesh as it was seen last.
        positions, triangles: the mesh now, [V, 3] float32 and [F, 3] int32.
        t: the sample.
    """
    if len(positions) == len(before.positions) and np.array_equal(triangles, before.triangles):
        return Carried(before.origins, before.births, True)
    same = _exact_match(positions, before.positions)
    there = before.positions  # where the surface before is now, as far as its vertices persist
    moved = _common_start(before, positions, triangles)
    if moved is not None and np.any(same[moved] != moved) and _moved(before, positions, moved):
        same[np.isin(same, moved)] = -1
        same[moved] = moved
        there = there.copy()
        there[moved] = positions[moved]
    origins, births = positions.copy(), np.full(len(positions), t, np.int32)
    known, rest = np.flatnonzero(same >= 0), np.flatnonzero(same < 0)
    origins[known], births[known] = before.origins[same[known]], before.births[same[known]]
    if not len(rest):
        return Carried(origins, births, True)
    still = np.zeros(len(positions), np.bool_)
    still[known] = _equal_rows(positions[known], before.positions[same[known]])
    persists = np.zeros(len(before.positions), np.bool_)
    persists[same[known]] = True
    taken, corners, weights, exact = _nearest(there, before.triangles, positions, triangles, rest, persists, still)
    origins[taken] = np.einsum("vk,vkc->vc", weights, before.origins[corners].astype(np.float64))
    births[taken] = before.births[corners[np.arange(len(taken)), weights.argmax(axis=1)]]
    return Carried(origins, births, exact)


def _nearest(
    surface: Float32,
    faces: Int32,
    positions: Float32,
    triangles: Int32,
    rest: Int64,
    persists: Bool,
    still: Bool,
) -> tuple[Int64, Int32, NDArray[np.float64], bool]:
    """Those of the vertices `rest` that are points of a surface, by rules 4 and 5: their indices [n], the corners
    [n, 3] and weights [n, 3] of the points, and whether all lie on the surface exactly.

    Args:
        surface, faces: the surface before.
        positions, triangles: the mesh now.
        rest: vertices of it that are not known yet.
        persists: whether each vertex of the surface before is known to persist.
        still: whether each vertex now is known not to have moved.
    """
    search = SurfaceSearch(surface, faces)
    tolerance = 1e-6 * search.diagonal
    gone = ~_each(persists, faces, np.logical_and)  # triangles that are not there any more as they were
    limit = LARGEST * search.diagonal if gone.any() else ON_SURFACE * float(search.edge.max()) + tolerance
    normals = vertex_normals(positions, triangles)
    found = search.nearest(np.ascontiguousarray(positions[rest]), np.ascontiguousarray(normals[rest]), limit)
    there = np.flatnonzero(found.triangle >= 0)
    triangle, weights, distance = found.triangle[there], found.weights[there], found.distance[there]
    edge = search.edge[triangle].astype(np.float64)
    taken = distance <= ON_SURFACE * edge + tolerance
    on = taken.copy()
    apart = gone[triangle] & ~taken
    if still.any():
        fixed = np.zeros(len(positions), np.bool_)
        fixed[triangles[_each(still, triangles, np.logical_or)]] = True
        apart &= ~fixed[rest[there]]
    if apart.any():
        moves = MOVES * float(np.median(distance[apart]))
        taken |= apart & (distance <= np.minimum(np.maximum(EDGES * edge, moves), limit))
        doubtful = np.flatnonzero(taken & (distance > BESIDE * edge))
        points = positions[rest[there[doubtful]]]
        aside = search.beyond_rim(points, triangle[doubtful], weights[doubtful])
        taken[doubtful[aside > BESIDE * edge[doubtful]]] = False
        moved = np.flatnonzero(taken & apart)
        own = rest[there[moved]]
        feet = np.einsum("vk,vkc->vc", weights[moved], surface[faces[triangle[moved]]])
        least, most = slopes(positions[own] - feet, own, positions, triangles)
        taken[moved[(most < FLAT) | ((least < IN_PLANE) & (most > ACROSS))]] = False
        # Where all faces of a vertex have vertices that moved, it moved, too.
        carried = np.zeros(len(positions), np.bool_)
        carried[rest[there[taken & apart]]] = True
        apart_from_these = np.zeros(len(positions), np.bool_)
        apart_from_these[triangles[~_each(carried, triangles, np.logical_or)]] = True
        taken |= apart & ~apart_from_these[rest[there]]
    return rest[there[taken]], faces[triangle[taken]], weights[taken], not np.any(taken & ~on)


def _exact_match(positions: Float32, before: Float32) -> Int64:
    """[V] index of a vertex [N, 3] before at exactly the same position, -1 where there is none.

    Of several at one position, the first one goes with the first, the second with the second.
    """
    match = np.full(len(positions), -1, np.int64)
    count = min(len(positions), len(before))
    if _equal_rows(positions[:count], before[:count]).all():
        match[:count] = np.arange(count)
        return match
    keys, other_keys = _keys(positions), _keys(before)
    some = np.sort(keys[:: max(1, len(keys) // _SAMPLES)])
    at = np.minimum(np.searchsorted(some, other_keys), len(some) - 1)
    if not np.any(some[at] == other_keys):
        return match
    order, other_order = np.argsort(keys, kind="stable"), np.argsort(other_keys, kind="stable")
    sorted_keys, sorted_others = keys[order], other_keys[other_order]
    rank = np.arange(len(sorted_keys)) - np.searchsorted(sorted_keys, sorted_keys)
    left = np.searchsorted(sorted_others, sorted_keys)
    right = np.searchsorted(sorted_others, sorted_keys, side="right")
    there = np.flatnonzero(right > left)
    chosen = other_order[np.minimum(left[there] + rank[there], right[there] - 1)]
    own = order[there]
    same = _equal_rows(positions[own], before[chosen])
    match[own[same]] = chosen[same]
    return match


def _keys(positions: Float32) -> NDArray[np.uint64]:
    """[V] hashes of positions; equal positions have equal ones."""
    bits = (positions + np.float32(0)).view(np.uint32).astype(np.uint64)  # adding 0 makes -0 into 0
    key = bits[:, 0] * np.uint64(0x9E3779B97F4A7C15)
    key ^= bits[:, 1] * np.uint64(0xC2B2AE3D27D4EB4F) + (key >> np.uint64(29))
    key ^= bits[:, 2] * np.uint64(0x165667B19E3779F9) + (key >> np.uint64(32))
    return key


def _common_start(before: Surface, positions: Float32, triangles: Int32) -> Int64 | None:
    """The vertices of the triangles that both meshes start with and that keep their shapes; None where too few do."""
    count = min(len(triangles), len(before.triangles))
    half = slice(0, count // 2 + 1, max(1, count // (2 * _SAMPLES)))
    if np.mean(_equal_rows(triangles[half], before.triangles[half])) < 2 * _KEPT - 1.1:
        return None
    equal = _equal_rows(triangles[:count], before.triangles[:count])
    share = np.cumsum(equal) / np.arange(1, count + 1)
    enough = np.flatnonzero(share >= _KEPT)
    length = int(enough[-1]) + 1 if len(enough) else 0
    if length < _ALIKE * count:
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
    """Whether most vertices have moved from the ones with the same indices before, looking at some of them.

    Not if a good part of the mesh is far nearer to the surface before than those are to where they were: then the
    surface has been resampled, or cut off in front, and what has the same indices are other points.
    """
    search = SurfaceSearch(before.positions, before.triangles)
    some = vertices[:: max(1, len(vertices) // 512)]
    away = np.linalg.norm(positions[some] - before.positions[some], axis=1)
    any_ones = np.ascontiguousarray(positions[:: max(1, len(positions) // 512)])
    near = np.quantile(search.nearest(any_ones).distance, 0.25)
    return bool(np.median(away) <= _DETOUR * near)


def _equal_rows(a: NDArray, b: NDArray) -> Bool:
    """[N] whether rows of [N, 3] are equal; several times faster than `all` along an axis."""
    return (a[:, 0] == b[:, 0]) & (a[:, 1] == b[:, 1]) & (a[:, 2] == b[:, 2])


def _each(flags: Bool, triangles: Int32, combine: np.ufunc) -> Bool:
    """[F] the flags [V] of the corners of each triangle, combined."""
    return combine(combine(flags[triangles[:, 0]], flags[triangles[:, 1]]), flags[triangles[:, 2]])
