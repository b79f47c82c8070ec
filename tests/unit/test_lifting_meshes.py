# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes of lifted pictures: where they are cut and creased, and what their triangles show."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.helpers.lifted_rooms import (
    BOX,
    EYE,
    HEIGHT,
    WIDTH,
    X,
    Y,
    areas,
    board,
    camera,
    drawn_labels,
    lattice,
    room,
    with_board,
)
from trackshade.lifting.cuts import EXACT, NOTHING, SOFT, DepthLattice, cut_edges
from trackshade.lifting.meshing import mesh_lattice


@pytest.mark.parametrize("stride", [1, 4, 7])
@pytest.mark.parametrize("rule", [EXACT, SOFT])
def test_the_mesh_covers_the_picture_once(stride: int, rule) -> None:
    """All triangles face the camera, and their areas add up: no slit, no overlap."""
    rng = np.random.default_rng(1)
    rough = with_board(room()) * np.where(rng.random((HEIGHT, WIDTH)) < 0.05, 1.5, 1.0)
    mesh = mesh_lattice(lattice(rough), rule, stride)
    found = areas(mesh.points, mesh.triangles)
    assert found.min() > 0
    assert found.sum() == pytest.approx((WIDTH - 1) * (HEIGHT - 1), rel=1e-9)


def test_vertices_lie_on_the_surfaces_and_no_triangle_joins_two_of_them() -> None:
    labels = np.where(board(), 1, 0).astype(np.int32)
    mesh = mesh_lattice(lattice(with_board(room()), labels), EXACT, 1)
    for label, truth in ((0, None), (1, 1 / 3.5)):
        part = mesh.part(label)
        x, y = part.points.T
        right, down, away = np.moveaxis(camera().scene_rays(x, y), -1, 0)
        behind = np.maximum.reduce([down / EYE, away / 8.0, right / 2.5, -right / 2.5])
        error = np.abs(part.inverse / (behind if truth is None else truth) - 1)
        assert np.quantile(error, 0.98) < 1e-6  # where two walls meet, a vertex may continue either of them
        assert error.max() < 0.03


def test_a_jump_is_cut_and_a_crease_or_a_grazing_floor_is_not() -> None:
    across, down = cut_edges(lattice(with_board(room())), EXACT)
    truth = np.zeros((HEIGHT, WIDTH), bool)
    truth[BOX] = True
    expected_across, expected_down = truth[:, 1:] != truth[:, :-1], truth[1:] != truth[:-1]
    # The board's foot is where it touches the floor: there is no jump.
    assert (across == expected_across)[: BOX[0].stop - 6].all()
    assert (down == expected_down)[: BOX[0].stop - 6].all()
    assert not cut_edges(lattice(room()), EXACT)[0].any()
    floor = np.maximum(Y[:, None] - 20.2, 0.0) * np.ones(WIDTH) / 100 + 1e-3
    assert not cut_edges(lattice(floor), EXACT)[1][21:].any()


def test_a_blended_pixel_on_an_edge_does_not_join_its_sides() -> None:
    inverse = np.full((HEIGHT, WIDTH), 0.5)
    inverse[:, 40:] = 0.1
    inverse[:, 39] = 0.3
    across, _ = cut_edges(lattice(inverse), EXACT)
    assert across[:, [38, 39]].all()
    assert across.sum() == 2 * HEIGHT


def test_flat_regions_get_large_triangles_and_curved_ones_small_triangles() -> None:
    """Between large and small triangles no crack opens: every edge but those of the border belongs to two of them."""
    x, y = np.arange(97) + 0.5, np.arange(65) + 0.5
    labels = np.zeros((65, 97), np.int32)
    flat = mesh_lattice(DepthLattice(x, y, np.full((65, 97), 0.2), labels), EXACT, 4, tolerance=1e-4)
    bump = 0.2 + 0.05 * np.exp(-((x - 48) ** 2 + (y[:, None] - 32) ** 2) / 30)
    curved = mesh_lattice(DepthLattice(x, y, bump, labels), EXACT, 4, tolerance=1e-4)
    assert len(flat.triangles) == 2 * 24 * 16
    assert 1.2 * len(flat.triangles) < len(curved.triangles) < 2.2 * len(flat.triangles)
    edges = np.concatenate([curved.triangles[:, [i, (i + 1) % 3]] for i in range(3)])
    pairs = {(int(a), int(b)) for a, b in edges}
    assert len(pairs) == len(edges)
    points = curved.points
    for a, b in pairs:
        on_border = any(points[a, k] == points[b, k] and points[a, k] in (0.5, (96.5, 64.5)[k]) for k in (0, 1))
        assert on_border or (b, a) in pairs


def test_nothing_is_left_where_there_is_no_surface() -> None:
    labels = np.where(board(), NOTHING, 0).astype(np.int32)
    mesh = mesh_lattice(lattice(room(), labels), EXACT, 4)
    assert areas(mesh.points, mesh.triangles).sum() == pytest.approx((WIDTH - 1) * (HEIGHT - 1) - 22 * 22, abs=8)
    seen = drawn_labels(mesh)
    assert (np.isfinite(seen) == ~board())[1:-1, 1:-1].all()  # corners are rounded between the pixels only


@pytest.mark.parametrize("seed", range(4))
def test_all_pixels_keep_their_surface(seed: int) -> None:
    """However the surfaces lie: silhouettes run between the pixels' centers."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 3, (16, 24)).astype(np.int32).repeat(4, axis=0).repeat(4, axis=1)
    labels = np.where(rng.random(labels.shape) < 0.1, rng.integers(-1, 3, labels.shape), labels).astype(np.int32)
    mesh = mesh_lattice(lattice(0.1 + 0.1 * labels, labels), None, 4)
    assert areas(mesh.points, mesh.triangles).min() > 0
    seen = drawn_labels(mesh)[1:-1, 1:-1]
    assert np.array_equal(np.where(np.isfinite(seen), seen, NOTHING), labels[1:-1, 1:-1])


@pytest.mark.parametrize("slope", [0.0, 0.1, 0.3, 0.9, 2.5])
def test_straight_silhouettes_are_straight(slope: float) -> None:
    """They are found between the pixels; a staircase is off by 0.29 pixels."""
    distance = (Y[:, None] - 20.3 - slope * (X - 40.1)) / math.hypot(1, slope)
    mesh = mesh_lattice(lattice(np.where(distance > 0, 0.5, 0.1)), EXACT, 4)
    x, y = mesh.points[mesh.inverse == 0.5].T
    off = (y - 20.3 - slope * (x - 40.1)) / math.hypot(1, slope)
    inside = (x > 12) & (x < WIDTH - 12) & (y > 12) & (y < HEIGHT - 12)
    edge = off[inside & ((x % 1 != 0.5) | (y % 1 != 0.5))]
    assert len(edge) > 20
    assert np.sqrt((edge**2).mean()) < 0.15 if slope else np.allclose(edge, -0.3)


@pytest.mark.parametrize("turn", [0.0, 0.3, 1.2])
def test_two_planes_meet_where_they_do(turn: float) -> None:
    """A crease between pixels has its own vertices, and both sides share them."""
    across = math.cos(turn) * (X - 47.3) + math.sin(turn) * (Y[:, None] - 31.8)
    mesh = mesh_lattice(lattice(0.3 - 0.002 * np.abs(across)), EXACT, 4, tolerance=1e-5)
    x, y = mesh.points.T
    inside = (np.abs(x - 48) < 44) & (np.abs(y - 32) < 28)
    truth = 0.3 - 0.002 * np.abs(math.cos(turn) * (x - 47.3) + math.sin(turn) * (y - 31.8))
    assert np.abs(mesh.inverse - truth)[inside].max() < 1e-12
    corners = mesh.points[mesh.triangles]
    middle, value = corners.mean(axis=1), mesh.inverse[mesh.triangles].mean(axis=1)
    inside = (np.abs(middle - (48, 32)) < (44, 28)).all(axis=1)
    truth = 0.3 - 0.002 * np.abs(math.cos(turn) * (middle[:, 0] - 47.3) + math.sin(turn) * (middle[:, 1] - 31.8))
    assert np.abs(value - truth)[inside].max() < 0.04 * 0.004  # a pixel's center is as good where it is as near
    edges = np.concatenate([mesh.triangles[:, [i, (i + 1) % 3]] for i in range(3)])
    pairs = {(int(a), int(b)) for a, b in edges}
    inner = (np.abs(mesh.points - (48, 32)) < (44, 28)).all(axis=1)
    assert all((b, a) in pairs for a, b in pairs if inner[a] and inner[b])
