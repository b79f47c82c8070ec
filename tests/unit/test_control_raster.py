# SPDX-License-Identifier: GPL-3.0-or-later
"""The rasteriser against rays, and its rules on edges, ties and clip planes."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import propagation_reference
from tests.helpers.ray_reference import trace
from trackshade.control.compiling import kernel
from trackshade.control.raster import Buffers, barycentric, draw, to_screen
from trackshade.control.scene import ShotRaster

SIZE = (40, 28)
PERSPECTIVE = np.array([[36.0, 0, 20.5], [0, 34.0, 13.0], [0, 0, 1]])
ORTHOGRAPHIC = np.array([[9.0, 0, 20.0], [0, 9.0, 14.0], [0, 0, 1]])


def render(positions, triangles, k, orthographic, near=0.1, far=50.0, size=SIZE):
    buffers = Buffers.empty(size)
    vertices = to_screen(np.asarray(positions, np.float32), np.eye(4), k, orthographic)
    draw(buffers, vertices, np.asarray(triangles, np.int32), 0, near, far)
    return buffers, vertices


def soup(seed: int, count: int, depth: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positions = np.stack(
        [rng.uniform(-2, 2, 3 * count), rng.uniform(-2, 2, 3 * count), rng.uniform(*depth, 3 * count)], 1
    )
    return positions.astype(np.float32), np.arange(3 * count, dtype=np.int32).reshape(-1, 3)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 14),
    orthographic=st.booleans(),
    crossing=st.booleans(),
)
def test_same_as_rays(seed, count, orthographic, crossing):
    """Coverage, depth and weights, also of triangles that cross the near plane or reach behind the camera."""
    positions, triangles = soup(seed, count, (-2.0, 4.0) if crossing else (0.8, 5.0))
    k = ORTHOGRAPHIC if orthographic else PERSPECTIVE
    buffers, vertices = render(positions, triangles, k, orthographic, 0.3, 3.5)
    traced = trace(positions, triangles, k, orthographic, SIZE, 0.3, 3.5)
    sure = traced.sure
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(buffers.triangle[sure], traced.triangle[sure])
    covered = sure & (traced.triangle >= 0)
    np.testing.assert_allclose(buffers.depth[covered], traced.depth[covered], rtol=1e-4)
    pixels = np.flatnonzero(covered).astype(np.int32)
    corners, weights = barycentric(buffers, pixels, vertices, triangles)
    np.testing.assert_array_equal(corners, triangles[traced.triangle[covered]])
    np.testing.assert_allclose(weights, traced.weights[covered], atol=1e-5)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), orthographic=st.booleans(), snapped=st.booleans())
def test_neighbors_neither_leak_nor_overlap(seed, orthographic, snapped):
    """Every pixel inside a triangulated rectangle is covered by exactly one triangle, also where the
    vertices lie on pixel centers and edges run through them."""
    rng = np.random.default_rng(seed)
    n = 6
    x, y = np.meshgrid(np.arange(n + 1) * 4.0 + 2, np.arange(n + 1) * 3.0 + 2)
    x[1:-1, 1:-1] += rng.uniform(-0.9, 0.9, (n - 1, n - 1))
    y[1:-1, 1:-1] += rng.uniform(-0.45, 0.45, (n - 1, n - 1))
    if snapped:
        x, y = np.round(x) + 0.5, np.round(y) + 0.5
    z = np.ones(x.shape) if orthographic else rng.uniform(1.0, 3.0, x.shape)
    # As a projection would give them: with the rounding of a product and a quotient.
    vertices = np.stack([x * z * (1 / z), y * z * (1 / z), 1 / z, z], -1).reshape(-1, 4)
    i = np.arange((n + 1) ** 2).reshape(n + 1, n + 1)
    a, b, c, d = (v.ravel() for v in (i[:-1, :-1], i[:-1, 1:], i[1:, :-1], i[1:, 1:]))
    triangles = np.concatenate([np.stack([a, b, d], 1), np.stack([a, c, d], 1)]).astype(np.int32)
    count = np.zeros(SIZE[::-1], int)
    for triangle in triangles:
        buffers = Buffers.empty(SIZE)
        draw(buffers, vertices, triangle[None], 0)
        count += buffers.label == 0
    expected = np.zeros_like(count)
    expected[2 : 2 + 3 * n, 2 : 2 + 4 * n] = 1  # from 2 or from 2.5 on: left and top edges are inside
    np.testing.assert_array_equal(count, expected)


def test_pixel_centers():
    """A square of one pixel around (j + 0.5, i + 0.5) = (7.5, 4.5) covers row 4, column 7 and nothing
    else.
    """
    x, y = np.array([7.2, 7.8, 7.8, 7.2]), np.array([4.2, 4.2, 4.8, 4.8])
    vertices = np.stack([x, y, np.ones(4), np.ones(4)], 1)
    buffers = Buffers.empty(SIZE)
    draw(buffers, vertices, np.array([[0, 1, 2], [0, 2, 3]], np.int32), 5)
    assert np.argwhere(buffers.label >= 0).tolist() == [[4, 7]]
    assert buffers.label[4, 7] == 5


def test_equal_depth_goes_to_the_first_and_nearer_wins():
    positions = np.array([[-9, -9, 2], [9, -9, 2], [0, 20, 2], [-9, -9, 1], [9, -9, 1], [0, 20, 1]], np.float32)
    same, _ = render(positions, [[0, 1, 2], [0, 1, 2]], PERSPECTIVE, False)
    assert same.triangle[14, 20] == 0
    nearer, _ = render(positions, [[0, 1, 2], [3, 4, 5]], PERSPECTIVE, False)
    assert nearer.triangle[14, 20] == 1
    assert nearer.depth[14, 20] == 1.0


def test_both_sides_are_drawn():
    positions = np.array([[-1, -1, 2], [1, -1, 2], [0, 1, 2]], np.float32)
    front, _ = render(positions, [[0, 1, 2]], PERSPECTIVE, False)
    back, _ = render(positions, [[0, 2, 1]], PERSPECTIVE, False)
    assert (front.label >= 0).sum() > 100
    np.testing.assert_array_equal(front.label, back.label)


def test_floor_under_the_camera_is_cut_at_the_near_plane():
    """One huge triangle pair from behind the camera to the horizon: all of the lower half of the image."""
    floor = np.array([[-500, 1, -500], [500, 1, -500], [500, 1, 500], [-500, 1, 500]], np.float32)
    k = np.array([[20.0, 0, 20], [0, 20.0, 14], [0, 0, 1]])
    buffers, _ = render(floor, [[0, 1, 2], [0, 2, 3]], k, False, near=0.01, far=1e4)
    assert np.all(buffers.label[15:] == 0)
    assert np.all(buffers.label[:14] == -1)
    rows = np.arange(15, 28) + 0.5
    np.testing.assert_allclose(buffers.depth[15:, 20], 20.0 / (rows - 14), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_draw_nothing(bad):
    positions = np.array([[-1, -1, 2], [1, bad, 2], [0, 1, 2]], np.float32)
    buffers, _ = render(positions, [[0, 1, 2]], PERSPECTIVE, False)
    assert np.all(buffers.label == -1)


def test_kernels_compile_where_nothing_can_be_kept():
    """Code without a file has no folder for compiled code, like an installation that nobody may write to."""
    space = {}
    exec("def double(x):\n    return 2.0 * x", space)
    assert kernel(space["double"])(21) == 42.0


@pytest.mark.parametrize("orthographic", [False, True])
def test_a_crowd_is_drawn_as_its_meshes_one_by_one(orthographic):
    """Leaving out what is hidden, and drawing near instances first, changes no pixel, also where depths are equal."""
    rng = np.random.default_rng(0)
    visible = rng.random((60, 2)) < 0.8
    offsets = rng.uniform((-2, -1.5, 3), (2, 1.5, 9), (60, 1, 3)) + np.zeros((60, 2, 3))
    offsets[30:45] = offsets[15:30]  # in the same places
    meshes = [
        replace(propagation_reference.mesh(index % 3 % 2, propagation_reference.moved(*offsets[index])), visible=seen)
        for index, seen in enumerate(visible)
    ]
    geometries = propagation_reference.box(0.4), propagation_reference.floor(0.5)
    camera = propagation_reference.camera([np.eye(4)] * 2, orthographic)
    shot = propagation_reference.make_shot(geometries, meshes, camera)
    raster, expected = ShotRaster(shot), Buffers.empty(shot.size)
    for t in range(2):
        expected.clear()
        for mesh in reversed(range(60)):
            if visible[mesh, t]:
                triangles = shot.geometry_of(mesh, t).triangles
                draw(expected, raster.vertices(mesh, t), triangles, mesh, near=0.1, far=100.0)
        found = raster.draw(t)
        assert len(np.unique(found.label)) > 20
        for name in ("label", "triangle", "depth"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@given(seed=st.integers(0, 1000), bands=st.integers(1, 5), orthographic=st.booleans())
@settings(max_examples=12, deadline=None)
def test_bands_of_rows_make_the_whole_picture(seed, bands, orthographic):
    """Also with bodies in, before and behind the camera, of which some are left out as a whole."""
    rng = np.random.default_rng(seed)
    offsets = rng.uniform((-3, -3, -1), (3, 3, 8), (40, 1, 3))
    meshes = [
        propagation_reference.mesh(index % 2, propagation_reference.moved(*offsets[index])) for index in range(40)
    ]
    geometries = propagation_reference.box(0.7), propagation_reference.floor(0.5)
    camera = propagation_reference.camera([np.eye(4)], orthographic)
    shot = propagation_reference.make_shot(geometries, meshes, camera)
    expected, raster = Buffers.empty(shot.size), ShotRaster(shot)
    for mesh in range(40):
        draw(expected, raster.vertices(mesh, 0), shot.geometry_of(mesh, 0).triangles, mesh, near=0.1, far=100.0)
    with ThreadPoolExecutor(bands) as pool:
        found = ShotRaster(shot, pool.map).draw(0)
    for name in ("label", "triangle", "depth"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
