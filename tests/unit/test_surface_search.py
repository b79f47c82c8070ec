# SPDX-License-Identifier: GPL-3.0-or-later
"""Nearest points of surfaces, beside an exact search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import KDTree

from trackshade.shot.mesh_geometry import closest_weights, vertex_normals
from trackshade.shot.surface_search import SurfaceSearch

SOME = 7  # one point of as many is compared with the exact search, which is slow; not a divisor of a ball's segments


def ball(rings: int, radius: float = 1.0, squash: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A closed ball: positions [V, 3] and triangles [F, 3]; its poles have as many neighbors as it has segments."""
    segments = 2 * rings
    polar = np.linspace(0, np.pi, rings + 1)[1:-1]
    around = np.arange(segments) * 2 * np.pi / segments
    x, y = np.sin(polar)[:, None] * np.cos(around), np.sin(polar)[:, None] * np.sin(around)
    z = np.broadcast_to(np.cos(polar)[:, None], x.shape)
    rim = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    positions = np.concatenate([[[0, 0, 1]], rim, [[0, 0, -1]]]) * [radius, radius, radius * squash]
    number = 1 + np.arange((rings - 1) * segments).reshape(rings - 1, segments)
    right = np.roll(number, -1, axis=1)
    quads = [(number[:-1], number[1:], right[1:]), (number[:-1], right[1:], right[:-1])]
    caps = [
        (np.zeros_like(number[0]), number[0], right[0]),
        (np.full_like(number[0], len(rim) + 1), right[-1], number[-1]),
    ]
    triangles = np.concatenate([np.stack(part, axis=-1).reshape(-1, 3) for part in (*quads, *caps)])
    return positions.astype(np.float32), triangles.astype(np.int32)


def exact(points: np.ndarray, positions: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """[N] distances to the nearest of all triangles."""
    points, corners = points.astype(np.float64), positions[triangles].astype(np.float64)
    centers = corners.mean(axis=1)
    reach = np.linalg.norm(corners - centers[:, None], axis=2).max(axis=1)  # no point of a triangle is farther from it
    found = KDTree(centers).query(points)[0]  # the nearest triangle is as near or nearer
    for n, point in enumerate(points):
        near = np.linalg.norm(centers - point, axis=1) - reach <= found[n]
        _, distance = closest_weights(np.broadcast_to(point, (near.sum(), 3)), corners[near])
        found[n] = distance.min()
    return found


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_no_other_point_of_a_surface_is_nearer(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    surface = rng.normal(size=(12, 3)).astype(np.float32)
    triangles = np.array([rng.choice(12, 3, replace=False) for _ in range(count)], np.int32)
    points = rng.normal(size=(5, 3)).astype(np.float32)
    found = SurfaceSearch(surface, triangles).nearest(points)
    assert np.all(found.weights >= 0)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1.0, atol=1e-9)
    places = np.einsum("nk,nkc->nc", found.weights, surface[triangles[found.triangle]].astype(np.float64))
    np.testing.assert_allclose(np.linalg.norm(places - points, axis=1), found.distance, atol=1e-6)
    weights = rng.dirichlet((1, 1, 1), (len(triangles), 400))
    others = np.einsum("fsk,fkc->fsc", weights, surface[triangles]).reshape(-1, 3)
    best = np.linalg.norm(others[None] - points[:, None], axis=2).min(axis=1)
    assert np.all(found.distance <= best + 1e-5)


@pytest.mark.parametrize("growth", [0.97, 1.0, 1.05, 1.3])
def test_points_near_and_far_from_a_ball(growth: float) -> None:
    positions, triangles = ball(40)
    points, faces = ball(43, growth)
    found = SurfaceSearch(positions, triangles).nearest(points, vertex_normals(points, faces))
    worse = found.distance[::SOME] - exact(points[::SOME], positions, triangles)
    assert worse.min() > -1e-6
    assert np.mean(worse > 0.02) < 0.005  # a quarter of an edge
    assert worse.max() < 0.1


def test_a_ball_that_has_moved_by_many_edges() -> None:
    positions, triangles = ball(40)
    points, faces = ball(41)
    points += np.array([0, 0, -0.5], np.float32)  # six edges
    found = SurfaceSearch(positions, triangles).nearest(points, vertex_normals(points, faces))
    worse = found.distance[::SOME] - exact(points[::SOME], positions, triangles)
    assert np.mean(worse > 0.02) < 0.005
    assert worse.max() < 0.1


def test_each_side_of_a_thin_plate_is_found() -> None:
    """The sides are nearer to each other than the edges are long."""
    positions, triangles = ball(40, squash=0.004)
    points, faces = ball(41, squash=0.004)
    points += np.array([0, 0, 0.01], np.float32)  # now the lower side is where the upper one was
    found = SurfaceSearch(positions, triangles).nearest(points, vertex_normals(points, faces))
    upper = positions[triangles[found.triangle]].mean(axis=1)[:, 2] > 0
    inner = np.linalg.norm(points[:, :2], axis=1) < 0.9
    assert np.mean(upper[inner] == (points[inner, 2] > 0.01)) > 0.99


def test_large_and_small_triangles_side_by_side() -> None:
    fine, triangles = ball(30, 0.01)
    floor = np.array([(-9, -9, -1), (9, -9, -1), (9, 9, -1), (-9, 9, -1)], np.float32)
    positions = np.concatenate([fine, floor])
    faces = np.concatenate([triangles, len(fine) + np.array([[0, 1, 2], [0, 2, 3]], np.int32)])
    rng = np.random.default_rng(0)
    points = np.concatenate([1.01 * fine, floor[:1] + rng.random((900, 3)).astype(np.float32) * [18, 18, 0.3]])
    found = SurfaceSearch(positions, faces).nearest(points.astype(np.float32))
    worse = found.distance[::SOME] - exact(points[::SOME].astype(np.float32), positions, faces)
    assert np.mean(worse > 1e-5) < 0.01


def test_long_thin_triangles() -> None:
    """A disc whose triangles all meet in the middle, as fills of curves and cuts have them."""
    around = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    rim = np.stack([np.cos(around), np.sin(around), 0 * around], axis=1)
    positions = np.concatenate([rim, [[0.9, 0, 0]]]).astype(np.float32)
    triangles = np.stack([np.arange(720), np.roll(np.arange(720), -1), np.full(720, 720)], axis=1).astype(np.int32)
    rng = np.random.default_rng(0)
    points = (rng.random((3000, 3)) * [1.2, 1.2, 0.1] - [0.6, 0.6, 0.05]).astype(np.float32)
    found = SurfaceSearch(positions, triangles).nearest(points)
    assert np.mean(found.distance - np.abs(points[:, 2]) > 1e-3) < 0.01


def test_what_is_farther_than_the_limit_is_not_looked_for() -> None:
    positions, triangles = ball(60)
    found = SurfaceSearch(positions, triangles).nearest(10 * positions, limit=0.1)
    assert (found.triangle == -1).all()
    assert np.isinf(found.distance).all()
    # So far away, what is found without a limit is near by, and not always the nearest.
    far = SurfaceSearch(positions, triangles).nearest(10 * positions).distance
    assert np.median(far) < 9.01
    assert far.max() < 11


def test_triangles_without_area_and_points_at_one_place() -> None:
    positions = np.array([(0, 0, 0), (1, 0, 0), (2, 0, 0), (5, 5, 5)], np.float32)
    line = np.array([[0, 1, 2]], np.int32)
    found = SurfaceSearch(positions, line).nearest(np.array([(1.9, 0.0, 0.0), (3, 0, 4), (0.5, 1, 0)], np.float32))
    np.testing.assert_allclose(found.distance, [0, np.hypot(1, 4), 1], atol=1e-6)
    dot = np.array([[3, 3, 3]] * 4, np.int32)
    found = SurfaceSearch(positions, dot).nearest(positions)
    np.testing.assert_allclose(found.distance, np.linalg.norm(positions - 5, axis=1), rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_the_unit_does_not_matter(scale: float) -> None:
    positions, triangles = ball(30, scale)
    points, _ = ball(31, 1.02 * scale)
    offset = np.array([3, -2, 5], np.float32) * np.array(scale, np.float32)
    found = SurfaceSearch(positions + offset, triangles).nearest(points + offset)
    np.testing.assert_allclose(found.distance, 0.02 * scale, atol=0.006 * scale)


def test_an_open_rim_is_told_from_edges_inside() -> None:
    x, y = np.meshgrid(np.arange(30.0), np.arange(30.0), indexing="ij")
    positions = np.stack([x, y, 0 * x], axis=-1).reshape(-1, 3).astype(np.float32)
    n = np.arange(900).reshape(30, 30)
    a, b, c, d = n[:-1, :-1].ravel(), n[1:, :-1].ravel(), n[1:, 1:].ravel(), n[:-1, 1:].ravel()
    triangles = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)]).astype(np.int32)
    search = SurfaceSearch(positions, triangles)
    points = np.array([(-0.5, 10.2, 0), (-0.5, 10.2, 3), (10, 10, 1), (10.5, 10, 2), (29.75, 29.0, 0)], np.float32)
    found = search.nearest(points)
    aside = search.beyond_rim(points, found.triangle, found.weights)
    np.testing.assert_allclose(aside, [0.5, 0.5, 0, 0, 0.75], atol=1e-5)
