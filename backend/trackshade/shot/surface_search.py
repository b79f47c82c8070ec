# SPDX-License-Identifier: GPL-3.0-or-later
"""Nearest points of a triangle mesh for many query points at once, with numpy alone.

Blender's Python has no spatial index for numpy, and querying its BVH tree point by point takes seconds for a mesh of a
hundred thousand vertices. Here all queries go through the same few vectorized steps:

1. Sample points of all triangles (the centroid; several along a thin triangle) are in hash tables of grid cells, one
   table for each size of triangles. A cell keeps one sample. A query looks into the 2 × 2 × 2 cells around it and takes
   the nearest sample. Triangles are also distinguished by the direction that they face, so that a query on the front of
   a thin sheet finds the front; all directions are searched only if that finds nothing near.
2. From the sample's triangle the query walks over the mesh: of the triangles around the corner that is nearest to the
   closest point so far, it takes the closest one, until none is closer. A table of the first and the last triangle that
   has a vertex as its first, second or third corner serves as the neighborhood: six triangles, which is all or most of
   them. Vertices with many triangles, such as poles, have a list of them.
3. Queries far from the surface look into coarser and coarser grids.

If there are few points or few triangles, every pair is tried.

The result is the nearest point except for rare cases in which another part of the surface is about as near
(`tests/unit/test_surface_search.py` compares the distances with those of an exact search). It is the same on every
machine and depends on the arrays alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackshade.shot.mesh_geometry import closest_weights, cross, dot, facing, normalized, row_dot, triangles_around

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]

_BLOCK = 1 << 14  # queries at a time, so that their arrays stay in the processor's cache
_MANY = 12  # triangles at a vertex above which all of them are listed
_FEW_PAIRS = 1 << 19  # points times triangles up to which every pair is tried
_STEPS = 12  # of a walk, at most
_STEPS_AHEAD = 4  # cells along the normals
_FINER = 4.0  # ratio of the cells of two tables
_COARSER = 0.5  # of a band: step to the next coarser grid for points far away
_BANDS = 6  # tables for larger or smaller triangles than the median one, at most, in each direction
_FEW = 4096  # triangles of a size that have more samples each
_PRIMES = np.array([73856093, 19349663, 83492791], np.int64)
_FACING = 15485863  # prime, for the direction that a triangle faces
_AROUND = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.int64)


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest points of a surface."""

    triangle: NDArray[np.int64]  # [N] int64, triangle of the point; -1 if none was found within the limit
    weights: Float64  # [N, 3] float64, barycentric
    distance: Float64  # [N] float64; inf if none was found


@dataclass(frozen=True, eq=False)
class _Best:
    """The nearest triangles so far: their indices [n], -1 for none, and squared distances [n]; changed in place."""

    triangle: NDArray[np.int64]
    squared: Float32

    @staticmethod
    def none(count: int) -> _Best:
        return _Best(np.full(count, -1, np.int64), np.full(count, np.inf, np.float32))


@dataclass(frozen=True, eq=False)
class _Table:
    """Samples by the grid cell that they lie in."""

    cell: float  # side of a cell, metres
    sample: Int32  # [2^k] int32, a sample of the cell with this hash; -1 if there is none

    def keys(self, cells: NDArray[np.int64], facing: NDArray[np.int64] | int) -> NDArray[np.int64]:
        """Return the hashes of cells [3, n] and of the directions that triangles face."""
        x, y, z = cells * _PRIMES[:, None]
        return (x ^ y ^ z ^ (facing * _FACING)) & (len(self.sample) - 1)


@dataclass(frozen=True, eq=False)
class _Fans:
    """All triangles of the vertices that have many: poles, and the corners of large faces with many sides."""

    number: Int32  # [V] int32, index of the vertex's fan, -1 for most
    triangles: list[NDArray[np.int64]]  # the triangles of each fan

    @staticmethod
    def of(vertices: int, triangles: Int32) -> _Fans | None:
        """Return the fans of a mesh; None if no vertex has many triangles."""
        counts = np.bincount(triangles.reshape(-1), minlength=vertices)
        large = np.flatnonzero(counts > _MANY)
        if not len(large):
            return None
        number = np.full(vertices, -1, np.int32)
        number[large] = np.arange(len(large))
        fans = number[triangles]
        rows, columns = np.nonzero(fans >= 0)
        order = np.argsort(fans[rows, columns], kind="stable")
        return _Fans(number, np.split(rows[order], np.cumsum(counts[large])[:-1]))

    def around(self, vertices: Int32) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield indices into vertices [n] that have the same fan, and its triangles."""
        numbers = self.number[vertices]
        for number in np.unique(numbers[numbers >= 0]).tolist():
            which, fan = np.flatnonzero(numbers == number), self.triangles[number]
            step = max(1, _FEW_PAIRS // len(fan))
            for first in range(0, len(which), step):
                yield which[first : first + step], fan


class SurfaceSearch:
    """Finds the nearest points of one surface.

    Args:
        positions: [V, 3] vertices, any unit.
        triangles: [F, 3] vertex indices, F > 0.

    Attributes:
        diagonal: of the surface's bounding box.
        edge: [F] mean length of each triangle's edges.
    """

    def __init__(self, positions: Float32, triangles: Int32) -> None:
        self._triangles = triangles
        self._positions = positions
        columns = np.ascontiguousarray(positions.T)  # [3, V]
        corners = [np.take(columns, triangles[:, k], axis=1) for k in range(3)]  # 3 × [3, F]
        low = np.min([corner.min(axis=1) for corner in corners], axis=0)
        high = np.max([corner.max(axis=1) for corner in corners], axis=0)
        self.diagonal = float(np.linalg.norm((high - low).astype(np.float64)))
        self._center = ((low.astype(np.float64) + high) / 2).astype(np.float32)
        self._corner = [corner - self._center[:, None] for corner in corners]
        self._prepare()
        self._tables: dict[tuple[float, bool], _Table] = {}
        self._around = triangles_around(len(positions), triangles)
        self._fans = _Fans.of(len(positions), triangles)

    def _prepare(self) -> None:
        a, b, c = self._corner
        e1, e2 = b - a, c - a
        d11, d12, d22 = dot(e1, e1), dot(e1, e2), dot(e2, e2)
        determinant = d11 * d22 - d12 * d12
        third = d11 - 2 * d12 + d22  # squared length of the edge between the second and the third corner
        with np.errstate(divide="ignore"):
            inverse = [np.where(x > 0, 1.0 / x, 0.0).astype(np.float32) for x in (determinant, d11, d22, third)]
        # A triangle without area has no inside: its edges alone count.
        thin = determinant <= 1e-12 * d11 * d22
        inverse[0][thin] = 0.0
        self._rows = [*a, *e1, *e2, d11, d12, d22, *inverse]
        self._thin = thin if thin.any() else None
        self._normal = cross(e1, e2)
        self._facing = facing(self._normal)
        self._choose_samples(d11, d22, np.maximum(third, 0))

    def _choose_samples(self, d11: Float32, d22: Float32, third: Float32) -> None:
        """Choose the samples of each triangle, from the squared lengths of its edges, and their tables."""
        longest = np.sqrt(np.maximum(np.maximum(d11, d22), third))
        shortest = np.sqrt(np.minimum(np.minimum(d11, d22), third))
        self.edge = (np.sqrt(d11) + np.sqrt(d22) + np.sqrt(third)) / np.float32(3)
        a, b, c = self._corner
        count = len(longest)
        most = 64 if count < 5000 else 16 if count < 50000 else 4
        with np.errstate(divide="ignore", invalid="ignore"):
            along = np.clip(np.ceil(longest / np.maximum(2 * shortest, longest / most)), 1, most)
        along = np.nan_to_num(along, nan=1.0).astype(np.int64)
        owner, place = np.arange(count), (a + b + c) / np.float32(3)
        several = np.flatnonzero(along > 1)
        if len(several):
            # From the middle of the shortest edge to the corner opposite of it.
            edges = np.stack([d11[several], third[several], d22[several]])
            opposite = np.array([2, 0, 1])[edges.argmin(axis=0)]
            corners = np.stack([a[:, several], b[:, several], c[:, several]])  # [3, 3, n]
            tip = np.take_along_axis(corners, opposite[None, None], axis=0)[0]
            middle = (corners.sum(axis=0) - tip) / np.float32(2)
            repeats = along[several]
            which = np.repeat(np.arange(len(several)), repeats)
            step = np.arange(len(which)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
            share = ((step + 0.5) / repeats[which]).astype(np.float32)
            more = middle[:, which] + (tip - middle)[:, which] * share
            owner, place = np.concatenate([owner, several[which]]), np.concatenate([place, more], axis=1)
        size = np.maximum(longest / along, np.float32(1e-30))
        typical = float(np.median(size))
        self._typical = max(typical, 1e-6 * self.diagonal, 1e-30)
        band = np.rint(np.log(size / np.float32(self._typical)) / np.log(_FINER)) if count > 1 else np.zeros(count)
        band = np.clip(band, -_BANDS, _BANDS).astype(np.int8)
        # If there are few triangles of a size, each has more samples: they are found more reliably.
        few = np.bincount(band + _BANDS, minlength=2 * _BANDS + 1)[band + _BANDS] <= _FEW
        alone = np.flatnonzero(few & (along == 1))
        for near, one, other in ((a, b, c), (b, c, a), (c, a, b)):
            more = near[:, alone] * np.float32(2 / 3) + (one[:, alone] + other[:, alone]) * np.float32(1 / 6)
            owner, place = np.concatenate([owner, alone]), np.concatenate([place, more], axis=1)
        self._band = band[owner]
        self._owner, self._place = owner.astype(np.int32), np.ascontiguousarray(place)
        self._bands = [band - _BANDS for band in np.flatnonzero(np.bincount(self._band + _BANDS)).tolist()]

    def _table(self, band: float, oriented: bool, everything: bool = False) -> _Table:
        """Return the table of the triangles of a size, or of all triangles in a grid of that size (`everything`)."""
        key = (band + (1000 if everything else 0), oriented)
        if key not in self._tables:
            cell = 1.5 * self._typical * _FINER**band
            mine = slice(None) if everything or len(self._bands) == 1 else np.flatnonzero(self._band == band)
            place, owner = self._place[:, mine], self._owner[mine]
            bits = max(6, int(2 * len(owner)).bit_length())
            table = _Table(cell, np.full(1 << bits, -1, np.int32))
            cells = np.floor(place * np.float32(1 / cell)).astype(np.int64)
            keys = table.keys(cells, self._facing[owner].astype(np.int64) if oriented else 0)
            numbers = np.arange(self._place.shape[1], dtype=np.int32)[mine]
            table.sample[keys] = numbers
            self._tables[key] = table
        return self._tables[key]

    def nearest(
        self,
        points: Float32,  # [N, 3]
        normals: Float32 | None = None,  # [N, 3]
        limit: float = np.inf,
    ) -> Nearest:
        """Find the nearest points of the surface.

        Args:
            points: the queries.
            normals: directions, of any length, that the queries' surface faces; a part of the surface that faces about
                the same way is preferred if it is near.
            limit: distance beyond about which nothing needs to be found.
        """
        best = _Best.none(len(points))
        centered = np.ascontiguousarray((points - self._center).T)
        if len(points) * len(self._triangles) <= _FEW_PAIRS:
            self._try_all(centered, normals, best.triangle)
            return self._refine(points, best.triangle)
        for first in range(0, len(points), _BLOCK):
            part = slice(first, first + _BLOCK)
            part_normals = None if normals is None else normals[part].T
            part_best = _Best(best.triangle[part], best.squared[part])
            self._search(np.ascontiguousarray(centered[:, part]), part_normals, limit, part_best)
        return self._refine(points, best.triangle)

    def _try_all(self, points: Float32, normals: Float32 | None, triangle: NDArray[np.int64]) -> None:
        """Try all triangles, if there are few of them or few points [3, n]."""
        count, number = points.shape[1], len(self._triangles)
        if not count:
            return
        every = np.tile(np.arange(number), count)
        squared = self._closest(every, np.repeat(points, number, axis=1))[2].reshape(count, number)
        triangle[:] = squared.argmin(axis=1)
        if normals is not None:
            alike = facing(normals.T)[:, None] == self._facing[None]
            of_alike = np.where(alike, squared, np.float32(np.inf))
            best = of_alike.argmin(axis=1)
            near = np.take_along_axis(of_alike, best[:, None], axis=1)[:, 0] <= self._typical**2
            triangle[near] = best[near]

    def _search(self, points: Float32, normals: Float32 | None, limit: float, best: _Best) -> None:
        """Find triangles for a block of points [3, n]."""
        triangle, squared = best.triangle, best.squared
        if normals is not None:
            faces = facing(normals).astype(np.int64)
            self._look_up(points, points, faces, self._bands, False, best)
            self._walk(points, np.flatnonzero(triangle >= 0), best)
            again = np.flatnonzero(~(squared <= self._typical**2))
            self._search_along(points, normals, faces, again, best)
            # What is not near on that side may be nearer on another: a thin sheet turned over, a sharp edge.
            again = np.flatnonzero(~(squared <= self._typical**2))
        else:
            again = np.arange(points.shape[1])
        if len(again):
            self._search_all_facing(points, again, self._bands, False, best)
        band = max(self._bands)
        while True:
            band += _COARSER
            missing = np.flatnonzero(triangle < 0)
            cell = 1.5 * self._typical * _FINER**band
            if not len(missing) or cell / 4 > min(limit, 4 * self.diagonal):
                break
            self._search_all_facing(points, missing, [band], True, best)
        missing = np.flatnonzero(triangle < 0)
        if len(missing) and not np.isfinite(limit):
            triangle[missing] = 0
            squared[missing] = self._closest(np.zeros(len(missing), np.int64), points[:, missing])[2]
            self._walk(points, missing, best)
        self._walk(points, np.flatnonzero((triangle >= 0) & (squared > (2 * self._typical) ** 2)), best, thorough=True)

    def _search_along(
        self, points: Float32, normals: Float32, faces: NDArray[np.int64], which: NDArray[np.int64], best: _Best
    ) -> None:
        """Search along the normals of the points `which`, on both sides, where a surface that has moved is."""
        if not len(which):
            return
        points, ahead, faces = np.ascontiguousarray(points[:, which]), normalized(normals[:, which]), faces[which]
        found = _Best.none(len(which))
        cell = np.float32(1.5 * self._typical)
        remaining = np.arange(len(which))  # those for which nothing was found so far
        for step in range(1, _STEPS_AHEAD + 1):
            place, side = points[:, remaining], ahead[:, remaining] * (cell * step)
            here = _Best.none(len(remaining))
            for away in (side, -side):
                self._look_up(place + away, place, faces[remaining], self._bands, False, here)
            found.triangle[remaining], found.squared[remaining] = here.triangle, here.squared
            remaining = remaining[here.triangle < 0]
            if not len(remaining):
                break
        self._improve(points, which, found, best)

    def _search_all_facing(
        self, points: Float32, which: NDArray[np.int64], bands: Sequence[float], everything: bool, best: _Best
    ) -> None:
        """Search something nearer for the points `which`, whatever it faces."""
        points, found = np.ascontiguousarray(points[:, which]), _Best.none(len(which))
        self._look_up(points, points, None, bands, everything, found)
        self._improve(points, which, found, best)

    def _improve(self, points: Float32, which: NDArray[np.int64], found: _Best, best: _Best) -> None:
        """Walk from the triangles `found` for the points `which` [n], and keep what is nearer than before."""
        reach = np.sqrt(best.squared[which]) + np.float32(0.25 * self._typical)
        is_hopeful = (found.triangle >= 0) & (found.triangle != best.triangle[which]) & (found.squared < reach * reach)
        hopeful = np.flatnonzero(is_hopeful)
        if not len(hopeful):
            return
        which, points = which[hopeful], np.ascontiguousarray(points[:, hopeful])
        triangle, squared = self._walked(points, found.triangle[hopeful], found.squared[hopeful])
        better = np.flatnonzero(squared < best.squared[which])
        best.triangle[which[better]], best.squared[which[better]] = triangle[better], squared[better]

    def _look_up(
        self,
        places: Float32,  # [3, n]
        points: Float32,  # [3, n]
        faces: NDArray[np.int64] | None,  # [n]
        bands: Sequence[float],
        everything: bool,
        best: _Best,
    ) -> None:
        """Find the triangle of the sample in the cells around each place that is nearest to the point."""
        for band in bands:
            table = self._table(band, faces is not None, everything)
            corner = np.floor(places * np.float32(1 / table.cell) - np.float32(0.5)).astype(np.int64)
            nearest, near = np.full(points.shape[1], -1, np.int32), np.full(points.shape[1], np.inf, np.float32)
            for offset in _AROUND:
                sample = table.sample[table.keys(corner + offset[:, None], 0 if faces is None else faces)]
                position = np.take(self._place, sample, axis=1, mode="wrap")
                away = position - points
                distance = dot(away, away)
                # Another cell with the same hash is no neighbor.
                aside = position - places if places is not points else away
                take = (sample >= 0) & (distance < near) & (dot(aside, aside) < np.float32(6.75 * table.cell**2))
                nearest[take], near[take] = sample[take], distance[take]
            some = np.flatnonzero(nearest >= 0)
            if not len(some):
                continue
            triangle = self._owner[nearest[some]].astype(np.int64)
            distance = self._closest(triangle, points[:, some])[2]
            better = distance < best.squared[some]
            best.triangle[some[better]], best.squared[some[better]] = triangle[better], distance[better]

    def _walk(self, points: Float32, which: NDArray[np.int64], best: _Best, thorough: bool = False) -> None:
        """Walk from the triangles of the points `which` [n] to closer ones."""
        if len(which):
            queries = np.ascontiguousarray(points[:, which])
            best.triangle[which], best.squared[which] = self._walked(
                queries, best.triangle[which], best.squared[which], thorough
            )

    def _walked(
        self, points: Float32, triangle: NDArray[np.int64], squared: Float32, thorough: bool = False
    ) -> tuple[NDArray[np.int64], Float32]:
        """Return closer triangles than those given, and their squared distances.

        `thorough` begins around the two corners that are not the nearest one, after a walk around that has ended: for
        points so far away that the distances to neighboring triangles hardly differ.
        """
        triangle, squared = triangle.copy(), squared.copy()
        b, c, _ = self._closest(triangle, points)
        near = np.float32(0.5) * self.edge[triangle]  # within which no other triangle is nearer than the inside of one
        is_settled = (b > 0) & (c > 0) & (b + c < 1) & (squared <= near * near)
        active = np.flatnonzero(thorough | ~is_settled)
        b, c = b[active], c[active]
        before = np.full(len(triangle), -1, np.int32)
        for step in range(_STEPS):
            corner = np.where(b > c, np.where(2 * b + c > 1, 1, 0), np.where(2 * c + b > 1, 2, 0))
            vertex = self._triangles[triangle[active], corner]
            if thorough and step == 0:
                around = [self._triangles[triangle[active], (corner + k) % 3] for k in (1, 2)]
            else:
                moved = vertex != before[active]
                active, vertex, b, c = active[moved], vertex[moved], b[moved], c[moved]
                around = [vertex]
            if not len(active):
                break
            before[active] = vertex
            queries = points[:, active]
            best, near = triangle[active], squared[active]
            for vertices in around:
                for neighbors in self._around:
                    other = neighbors[vertices].astype(np.int64)
                    other_b, other_c, distance = self._closest(other, queries)
                    closer = distance < near
                    np.copyto(best, other, where=closer)
                    np.copyto(near, distance, where=closer)
                    np.copyto(b, other_b, where=closer)
                    np.copyto(c, other_c, where=closer)
                if self._fans is not None:
                    for which, fan in self._fans.around(vertices):
                        pairs = np.tile(fan, len(which)), np.repeat(queries[:, which], len(fan), axis=1)
                        other_b, other_c, distance = self._closest(*pairs)
                        table = distance.reshape(len(which), len(fan))
                        least = table.argmin(axis=1)
                        at = least + len(fan) * np.arange(len(which))
                        closer = distance[at] < near[which]
                        which, at, least = which[closer], at[closer], least[closer]
                        best[which], near[which] = fan[least], distance[at]
                        b[which], c[which] = other_b[at], other_c[at]
            improved = best != triangle[active]
            if not thorough:
                improved &= ~((b > 0) & (c > 0) & (b + c < 1))  # inside a triangle, nothing beside it is closer
            triangle[active], squared[active] = best, near
            active, b, c = active[improved], b[improved], c[improved]
        return triangle, squared

    def _closest(self, triangle: NDArray[np.int64], points: Float32) -> tuple[Float32, Float32, Float32]:
        """Find the closest points of triangles [n] to points [3, n].

        Returns:
            The weights of the second and of the third corner, and squared distances, [n] each.
        """
        ax, ay, az, ux, uy, uz, vx, vy, vz, d11, d12, d22, inverse, inverse_1, inverse_2, inverse_3 = (
            row[triangle] for row in self._rows
        )
        x, y, z = points[0] - ax, points[1] - ay, points[2] - az
        s1, s2 = x * ux + y * uy + z * uz, x * vx + y * vy + z * vz
        b, c = (d22 * s1 - d12 * s2) * inverse, (d11 * s2 - d12 * s1) * inverse
        outside = (b < 0) | (c < 0) | (b + c > 1)
        if self._thin is not None:
            outside |= self._thin[triangle]
        out = np.flatnonzero(outside)
        if len(out):
            s1_, s2_, d11_, d12_, d22_ = s1[out], s2[out], d11[out], d12[out], d22[out]
            on1 = np.clip(s1_ * inverse_1[out], 0, 1)
            on2 = np.clip(s2_ * inverse_2[out], 0, 1)
            on3 = np.clip((s2_ - s1_ + d11_ - d12_) * inverse_3[out], 0, 1)
            far1, far2 = on1 * (on1 * d11_ - 2 * s1_), on2 * (on2 * d22_ - 2 * s2_)
            rest = 1 - on3
            far3 = rest * (rest * d11_ - 2 * s1_) + on3 * (on3 * d22_ - 2 * s2_) + 2 * rest * on3 * d12_
            first = (far1 <= far2) & (far1 <= far3)
            second = ~first & (far2 <= far3)
            b[out] = np.where(first, on1, np.where(second, 0, rest))
            c[out] = np.where(first, 0, np.where(second, on2, on3))
        x, y, z = x - b * ux - c * vx, y - b * uy - c * vy, z - b * uz - c * vz
        return b, c, x * x + y * y + z * z

    def _refine(self, points: Float32, triangle: NDArray[np.int64]) -> Nearest:
        """Return weights and distances on the triangles that were found, in double precision."""
        weights, distance = np.zeros((len(points), 3)), np.full(len(points), np.inf)
        for first in range(0, len(points), _BLOCK):
            some = first + np.flatnonzero(triangle[first : first + _BLOCK] >= 0)
            corners = self._positions[self._triangles[triangle[some]]].astype(np.float64)  # [n, 3, 3]
            weights[some], distance[some] = closest_weights(points[some].astype(np.float64), corners)
        return Nearest(triangle, weights, distance)

    def beyond_rim(
        self,
        points: Float32,  # [N, 3]
        triangle: NDArray[np.int64],  # [N]
        weights: Float64,  # [N, 3]
    ) -> Float64:
        """Return how far points lie beyond the open rim of the surface, along it, [N].

        Their nearest points are given as weights on triangles; 0 if these are not on the rim.
        """
        corners = self._triangles[triangle]
        rim = np.zeros(len(triangle), np.bool_)
        for k in range(3):
            on = np.flatnonzero(weights[:, k] <= 1e-6)  # on the edge opposite of corner k
            if len(on):
                rim[on] |= self._is_open(corners[on, (k + 1) % 3], corners[on, (k + 2) % 3], triangle[on])
        offset = points - np.einsum("nk,nkc->nc", weights, self._positions[corners].astype(np.float64))
        normal = self._normal[:, triangle].T.astype(np.float64)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
        along = offset - normal * row_dot(offset, normal)[:, None]
        return np.where(rim, np.linalg.norm(along, axis=1), 0.0)

    def _is_open(self, a: Int32, b: Int32, own: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether the edges between vertices a and b belong to the triangles `own` alone, [N]."""
        alone = np.ones(len(a), np.bool_)
        for start, end in ((a, b), (b, a)):
            for neighbors in self._around:
                found = neighbors[start]
                alone &= (found == own) | (self._triangles[found] != end[:, None]).all(axis=1)
        # The neighborhood may lack triangles, so all triangles are searched for edges that seem to be open.
        some = np.flatnonzero(alone)
        if len(some):
            edges, place = np.unique(self._edge_keys(a[some], b[some]), return_inverse=True)
            counts = np.zeros(len(edges), np.int64)
            for k in range(3):
                keys = self._edge_keys(self._triangles[:, k], self._triangles[:, (k + 1) % 3])
                at = np.minimum(np.searchsorted(edges, keys), len(edges) - 1)
                counts += np.bincount(at[edges[at] == keys], minlength=len(edges))
            alone[some] = counts[place.reshape(-1)] == 1
        return alone

    def _edge_keys(self, a: Int32, b: Int32) -> NDArray[np.int64]:
        """Return a number for each edge, whichever end comes first, [N]."""
        return np.minimum(a, b).astype(np.int64) * len(self._positions) + np.maximum(a, b)
