# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances in one call, flat maps of surfaces, and coverage, alignment and light of key pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter

from tests.helpers import propagation_reference as reference
from tests.helpers.shots import camera_track
from trackshade.control.raster import Buffers, draw, to_screen
from trackshade.control.scene import ShotRaster
from trackshade.control.texels import find_texels
from trackshade.core.colors import srgb_to_linear
from trackshade.core.errors import CancelledError, UsageError
from trackshade.propagation import KeyPicture, Propagation, alignment, canvases, coverage, match_light
from trackshade.propagation.canvases import Canvas, CanvasMaker
from trackshade.propagation.fallbacks import VertexColors, finely_meshed
from trackshade.propagation.layout import find_planes, unwrap
from trackshade.propagation.pictures import surface_picture
from trackshade.propagation.poses import PoseTable
from trackshade.propagation.sky import make_panorama
from trackshade.propagation.survey import survey
from trackshade.shot import Geometry, MeshTrack, Shot


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 12))
def test_instances_are_drawn_as_meshes_one_by_one(seed, count):
    """In any order, ties included: meshes on the same place show the first of them."""
    rng = np.random.default_rng(seed)
    shapes = (
        reference.box(0.5),
        Geometry(rng.normal(size=(1, 9, 3)).astype(np.float32), np.arange(9, dtype=np.int32).reshape(3, 3)),
    )
    matrices = [np.eye(4)[None].repeat(2, 0) for _ in range(count)]
    for matrix in matrices:
        matrix[:, :3, 3] = rng.integers(-1, 2, 3) + np.array([0, 0, 5])
        matrix[:, :3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    tracks = tuple(MeshTrack("m", int(rng.integers(2)), matrix, np.ones(2, bool)) for matrix in matrices)
    shot = Shot(np.arange(1.0, 3), 24.0, (96, 64), camera_track(2), shapes, (*tracks, tracks[0]))
    found, one = ShotRaster(shot).draw(1), Buffers.empty(shot.size)
    for index, track in enumerate(shot.meshes):
        vertices = to_screen(shapes[track.geometry].at(1), track.matrix_world[1], shot.camera.intrinsics[1], False)
        draw(one, vertices, shapes[track.geometry].triangles, index, 0.1, 100.0)
    for name in ("label", "triangle", "depth"):
        np.testing.assert_array_equal(getattr(found, name), getattr(one, name))


def sphere(steps: int = 24) -> Geometry:
    u, v = np.meshgrid(np.linspace(0, 2 * np.pi, steps + 1), np.linspace(0.1, np.pi - 0.1, steps + 1))
    points = np.stack([np.sin(v) * np.cos(u), np.sin(v) * np.sin(u), np.cos(v)], -1).reshape(1, -1, 3)
    n = np.arange((steps + 1) ** 2).reshape(steps + 1, steps + 1)
    a, b, c, d = (part.ravel() for part in (n[:-1, :-1], n[:-1, 1:], n[1:, 1:], n[1:, :-1]))
    return Geometry(
        points.astype(np.float32), np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)
    )


def test_planes_are_the_flat_connected_parts():
    planes = find_planes(reference.box(1.0))
    assert sorted(tuple(plane.faces) for plane in planes) == [(n, n + 1) for n in range(0, 12, 2)]
    for plane in planes:
        np.testing.assert_allclose(plane.axes @ plane.axes.T, np.eye(2), atol=1e-12)
        corners = reference.box(1.0).first[reference.box(1.0).triangles[plane.faces]].astype(float)
        lengths = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)
        flat = plane.project(corners)
        np.testing.assert_allclose(np.linalg.norm(flat[:, 1] - flat[:, 0], axis=1), lengths)
    assert find_planes(sphere(), least_share=0.01) == []
    assert find_planes(sphere(16), least_share=0.0) == []  # facets of a curved surface
    assert find_planes(Geometry(np.zeros((1, 0, 3), np.float32), np.zeros((0, 3), np.int32))) == []


def grid(height: Callable[[np.ndarray, np.ndarray], np.ndarray], steps: int = 20) -> Geometry:
    x, y = np.meshgrid(np.linspace(-1, 1, steps + 1), np.linspace(-1, 1, steps + 1))
    points = np.stack([x, y, height(x, y)], -1).reshape(1, -1, 3)
    n = np.arange((steps + 1) ** 2).reshape(steps + 1, steps + 1)
    a, b, c, d = (part.ravel() for part in (n[:-1, :-1], n[:-1, 1:], n[1:, 1:], n[1:, :-1]))
    return Geometry(
        points.astype(np.float32), np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)
    )


def test_a_terrain_is_one_plane_and_a_steep_surface_is_none():
    hills = grid(lambda x, y: 0.1 * np.sin(5 * x) * np.cos(4 * y))
    [plane] = find_planes(hills)
    assert len(plane.faces) == len(hills.triangles)
    flat = plane.project(hills.first[hills.triangles].astype(float))
    across = np.cross(flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0])
    assert (np.sign(across) == np.sign(across[0])).all()  # no triangle is turned over
    ball = sphere()
    upper = (ball.first[ball.triangles][..., 2] >= -1e-6).all(axis=1)
    assert find_planes(replace(ball, triangles=ball.triangles[upper])) == []


@pytest.mark.parametrize("coordinates", ["none", "good", "overlapping"])
def test_atlas_has_every_point_once(coordinates):
    """By the geometry's own coordinates if they do not overlap, else by charts."""
    shape = sphere(8)
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 9), np.linspace(0, 1, 9)), -1).reshape(-1, 2).astype(np.float32)
    uv = (
        None
        if coordinates == "none"
        else grid[shape.triangles]
        if coordinates == "good"
        else grid[shape.triangles] % 0.5
    )
    found = unwrap(replace(shape, uv=uv), np.arange(len(shape.triangles)))
    assert found is not None
    assert found.min() >= 0
    assert found.max() == pytest.approx(1)
    if coordinates == "good":
        np.testing.assert_allclose(found, grid[shape.triangles], atol=1e-6)
    # Every triangle has a place of its own: no texel is inside of two.
    size = 400
    texels = find_texels(found * size, (size, size))
    inner = (texels.weights.min(axis=1) > 1e-3) & (texels.weights.sum(axis=1) < 1 - 1e-3)
    count = np.bincount(np.repeat(texels.target, np.diff(texels.start))[inner], minlength=size**2)
    assert (count > 1).sum() < 0.01 * (count > 0).sum()
    assert (count > 0).mean() > 0.2


def test_canvases_hold_what_a_picture_shows():
    """The texels of the floor that the picture shows have its texture; the box's shadow of vision is unknown."""
    shot = reference.box_over_floor(4)
    image = reference.paint(shot, 0, reference.smooth_texture)
    table = PoseTable(shot)
    pictures = [(surface_picture(shot, 0, image), table.pose(0, shot.size))]
    found = survey(table, pictures, shot.size, range(4))
    maker = CanvasMaker(table, pictures, found, 0)
    floors = [maker.gather(canvas) for canvas, *_ in maker.plan() if canvas.mesh == 0]
    assert [canvas.kind for canvas in floors] == ["plane"]
    canvas = floors[0]
    assert 0.2 < canvas.known.mean() < 0.98
    # Texels to points of the floor, by its first triangle.
    corners = shot.geometries[0].first[shot.geometries[0].triangles[0]].astype(float)
    to_point = np.linalg.solve(np.column_stack([canvas.uv[0].astype(float), np.ones(3)]), corners)
    rows, columns = np.nonzero(canvas.known)
    points = np.column_stack([columns + 0.5, rows + 0.5, np.ones(len(rows))]) @ to_point
    error = np.abs(canvas.color[rows, columns] - reference.smooth_texture(0, points)).max(axis=1)
    assert np.median(error) < 0.01
    assert np.percentile(error, 80) < 0.1  # where the floor is far, pixels are large


def test_a_plain_to_the_horizon_has_ever_finer_canvases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pixel is read at the right place, from texels of about its size; coarse canvases continue fine ones."""
    monkeypatch.setitem(canvases.LARGEST, "plane", 96)
    shot = reference.plain_to_the_horizon()
    made: list[Canvas] = []

    def place_as_color(maker: CanvasMaker, canvas: Canvas, progress: object) -> tuple[np.ndarray, np.ndarray]:
        """Colors that tell where a texel is, and how large."""
        x, y = (canvas.origin[k] + (np.arange(canvas.size[k]) + 0.5) / canvas.density for k in (0, 1))
        made.append(canvas)
        color = np.stack([*np.meshgrid(x / 1000 + 0.5, y / 1000 + 0.5), np.full(canvas.size[::-1], canvas.density)], -1)
        return color.astype(np.float32), np.zeros(canvas.size[::-1], bool)

    monkeypatch.setattr(CanvasMaker, "fill", place_as_color)
    propagation = Propagation(shot, [KeyPicture(0, np.zeros((64, 96, 3), np.uint8))])
    propagation.prepare()
    assert 3 <= len(made) <= 1 + canvases.MOST_INSETS
    for fine, coarse in pairwise(made):  # the finest is filled first
        assert fine.density > 1.5 * coarse.density
        rows, columns = np.nonzero(coarse.known & np.isclose(coarse.color[..., 2], fine.density))
        assert len(rows) > 50
        places = coarse.origin + np.stack([columns + 0.5, rows + 0.5], axis=1) / coarse.density
        np.testing.assert_allclose(
            (coarse.color[rows, columns, :2] - 0.5) * 1000, places, atol=0.2 / fine.density + 1e-3
        )
    [plane] = find_planes(shot.geometries[0])
    seen = reference.look(shot, 2, shot.size)
    corners = shot.geometries[0].first[shot.geometries[0].triangles[seen.face]].astype(float)
    places = plane.project(np.einsum("ijk,ijkx->ijx", seen.weights, corners))
    frame = propagation.frame(2)
    unseen = (frame.shown == 0) & (seen.mesh == 0)
    assert unseen.mean() > 0.3
    found = srgb_to_linear(frame.image.astype(float))
    error = np.linalg.norm((found[..., :2] - 0.5) * 1000 - places, axis=-1)
    distance = np.linalg.norm(places - plane.project(np.zeros(3)), axis=-1)
    near = unseen & (distance < 20)
    assert np.median(error[near]) < 0.05
    assert error[near].max() < 0.5


@pytest.mark.parametrize("has_clouds", [True, False])
def test_clouds_go_on_where_no_picture_shows_the_sky(has_clouds: bool) -> None:
    """As patches of those that are known, without a step beside them; a plain sky stays smooth."""
    angles = np.radians([0, 40])
    looks = [reference.look_at((0, 0, 0), (np.cos(angle), np.sin(angle), 0.3)) for angle in angles]
    shot = reference.make_shot((reference.floor(),), (reference.mesh(0, reference.moved(*[(0, 0, -900)] * 2)),),
                               reference.camera(looks, focal=90.0))  # fmt: skip
    rows = np.arange(shot.size[1])[:, None]
    grain = gaussian_filter(np.random.default_rng(3).normal(size=shot.size[::-1]), 3)
    image = np.repeat((0.3 + 0.003 * rows + 1.2 * has_clouds * grain)[..., None], 3, axis=2).astype(np.float32)
    table = PoseTable(shot)
    pictures = [(surface_picture(shot, 0, image), table.pose(0, shot.size))]
    sky, unseen = make_panorama(pictures, shot, range(2)), make_panorama(pictures, shot, ())
    drawn = (sky != unseen).any(axis=2)
    assert drawn.any() == has_clouds
    if has_clouds:
        known = (np.abs(sky - unseen).max(axis=2) == 0) & (unseen != np.roll(unseen, 1, axis=0)).any(axis=2)
        inner = binary_erosion(drawn, iterations=2)
        slopes = np.hypot(*np.gradient(sky[..., 0]))
        assert slopes[inner].mean() > 1.5 * np.hypot(*np.gradient(unseen[..., 0]))[inner].mean()
        rim = drawn & binary_dilation(~drawn & known)
        assert slopes[rim].mean() < 2 * slopes[inner].mean()


def test_an_atlas_knows_what_is_shown_beside_it():
    """Points of its mesh on other faces, with the colors, places and normals of the surface; none where it has all."""
    shot = reference.box_over_floor(4, travel=2.5)
    table = PoseTable(shot)
    picture = surface_picture(shot, 0, reference.paint(shot, 0, reference.smooth_texture))
    pictures = [(picture, table.pose(0, shot.size))]
    maker = CanvasMaker(table, pictures, survey(table, pictures, shot.size, range(4)), 0)
    canvas = next(canvas for canvas, *_ in maker.plan() if canvas.kind == "atlas")
    geometry = shot.geometries[shot.meshes[canvas.mesh].geometry]
    seen = np.unique(picture.triangle[picture.label == canvas.mesh])
    whole = replace(canvas, faces=np.arange(len(geometry.triangles)))
    none, beside = maker.others(whole), maker.others(replace(canvas, faces=np.setdiff1d(whole.faces, seen)))
    assert none is not None
    assert len(none.positions) == 0
    assert beside is not None
    assert len(beside.positions) > 50
    error = np.abs(beside.colors - reference.smooth_texture(canvas.mesh, beside.positions)).max(axis=1)
    assert np.median(error) < 0.02
    np.testing.assert_allclose(np.linalg.norm(beside.normals, axis=1), 1, atol=1e-5)


def test_coverage():
    """What is hidden behind the box is missing, and the best further picture shows more of it than others."""
    shot = reference.box_over_floor(8, travel=0.8)
    found = coverage(shot, [0])
    assert found.unseen[0] == 0
    assert found.unseen[-1] > 0.05
    assert (np.diff(found.unseen) > -0.02).all()
    assert found.by_mesh[0] > 0
    best = found.best
    assert best is not None
    assert best.t >= 4
    assert best.reveals == max(item.reveals for item in found.candidates)
    more = coverage(shot, [0, best.t])
    assert more.unseen.mean() < found.unseen.mean() - 0.5 * best.reveals
    every = coverage(shot, range(8))
    assert every.unseen.max() == 0
    assert every.best is None
    assert coverage(shot, []).unseen.min() == 1

    def cancel(fraction: float) -> None:
        raise CancelledError()

    with pytest.raises(CancelledError):
        coverage(shot, [0], progress=cancel)


def test_coverage_after_a_cut():
    """Another camera that looks at another part of the floor is not served by the first one's picture."""
    shot = reference.box_over_floor(4, travel=0.0)
    views = shot.camera.world_to_camera.copy()
    views[2:] = reference.look_at((0, 0, 4.0), (6, 6, 0))
    found = coverage(replace(shot, camera=replace(shot.camera, world_to_camera=views)), [0])
    assert found.unseen[1] < 0.2
    assert found.unseen[2] > 0.4


@settings(max_examples=10)
@given(right=st.integers(-4, 4), down=st.integers(-4, 4), blur=st.sampled_from([0.4, 1.2]))
def test_alignment_finds_the_shift(right, down, blur):
    shot = reference.box_over_floor(2)
    shot = replace(shot, meshes=shot.meshes[1:])
    large = reference.paint(shot, 0, reference.smooth_texture, (216, 144))
    image = gaussian_filter(np.roll(large, (down, right), (0, 1)), (blur, blur, 0)).astype(np.float32)
    found = alignment(shot, 0, image)
    assert found.shift == pytest.approx((right, down), abs=0.4)
    assert found.correlation > 0.3
    assert found.lead > 0.04
    sharp = alignment(shot, 0, gaussian_filter(large, (0.4, 0.4, 0)).astype(np.float32))
    if blur > 1:
        assert found.rim > sharp.rim


def test_pictures_of_other_scenes_lie_as_well_anywhere():
    shot = reference.box_over_floor(2)
    noise = gaussian_filter(np.random.default_rng(3).random((144, 216, 3)), (4, 4, 0))
    other = ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)
    assert alignment(shot, 0, other).lead < 0.04


def test_meshes_of_small_triangles_are_told_from_those_of_large_ones():
    """Two triangles of 500 pixels, and 125 of 8 pixels."""
    mesh, face = np.repeat([3, 5], 1000), np.concatenate([np.repeat([0, 1], 500), np.arange(1000) // 8])
    assert finely_meshed(mesh, face, 1.0) == {5}
    assert finely_meshed(mesh, face, 4.0) == set()


def test_alignment_without_silhouettes():
    shot = reference.make_shot(
        (reference.floor(60.0),), (reference.mesh(0, reference.moved((0, 0, 0))),),
        reference.camera([reference.look_at((0, -1, 5), (0, 0, 0))]),
    )  # fmt: skip
    found = alignment(shot, 0, np.zeros((48, 72, 3), np.uint8))
    assert np.isnan(found.correlation)
    with pytest.raises(UsageError, match="aspect"):
        alignment(shot, 0, np.zeros((48, 30, 3), np.uint8))


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.0, 1.3])
def test_light_match_is_the_exponent_of_the_light(exponent):
    """Of a picture that is texture times powers of the light, one for each channel; 0 for a picture without it."""
    shot = reference.box_over_floor(1)
    light = 0.5 + 0.4 * gaussian_filter(np.random.default_rng(1).normal(size=(48, 72)), 2.5)[..., None].repeat(3, 2) * 8
    light = np.clip(light, 0.1, 1.5).astype(np.float32)
    grain = np.random.default_rng(0).uniform(0.9, 1.1, (48, 72, 3))
    powers = exponent * np.array([0.85, 1.0, 1.15])
    image = (0.3 * grain * light**powers).astype(np.float32)
    from trackshade.core.colors import linear_to_srgb

    found = match_light(shot, KeyPicture(0, linear_to_srgb(image).astype(np.float32)), lambda t: light)
    assert found.slope == pytest.approx(exponent, abs=0.08)
    np.testing.assert_allclose(found.slopes, powers, atol=0.06)
    np.testing.assert_allclose(found.exponents, np.clip(found.slopes, 0.75, 1.35))
    assert found.agrees == (exponent > 0.5)
    flat = match_light(
        shot, KeyPicture(0, np.full((48, 72, 3), 0.5, np.float32)), lambda t: np.ones((48, 72, 3), np.float32)
    )
    assert np.isnan(flat.slope)
    assert flat.agrees


def test_colors_of_many_meshes_are_kept_from_frame_to_frame():
    meshes = [reference.mesh(0, reference.moved((0, 0, 5), (0, 0, 6))) for _ in range(40)]
    camera = reference.camera([np.eye(4)] * 2)
    table = PoseTable(reference.make_shot((sphere(),), meshes, camera))
    points = {mesh: (np.eye(3), np.full((3, 3), mesh / 40)) for mesh in range(40)}
    colors = VertexColors(table, points)
    start, found = colors.at(0)
    np.testing.assert_allclose(found[start], np.tile(np.arange(40)[:, None] / 40, 3), rtol=1e-6)
    before = [colors._of(mesh, 0) for mesh in range(40)]
    colors.at(1)
    assert all(colors._of(mesh, 0) is kept for mesh, kept in enumerate(before))
