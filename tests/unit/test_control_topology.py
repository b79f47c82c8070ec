# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh whose topology changes, in everything that is made of a shot: tracking video, points, consistency, texture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.ray_reference import tracking_frame
from tests.helpers.vertices import vertex_colors, visible_vertices
from trackshade.control import tracking_video
from trackshade.control.points import choose_points, draw_points
from trackshade.control.raster import barycentric
from trackshade.control.scene import ShotRaster
from trackshade.control.signals import control_signal
from trackshade.results.cells.views import render_views
from trackshade.results.consistency import measure
from trackshade.results.texture.bake import bake_texture
from trackshade.results.texture.projection import write_tracks
from trackshade.shot import CameraTrack, Geometry, MeshTrack, Shot
from trackshade.shot.segments import History, geometries_of
from trackshade_lab.evaluation.points import shot_points
from trackshade_lab.evaluation.tracks import shot_tracks

SIZE = (96, 64)
LEFT, WHOLE, RIGHT, FINE = 0, 1, 2, 3  # what the samples of `growing` show


def strip(low: float, high: float, cells: int) -> Geometry:
    """A flat strip of the plane z = 4, x from `low` to `high`; its texture coordinates are its place."""
    x, y = np.meshgrid(np.linspace(low, high, cells + 1), np.linspace(-0.9, 0.9, 7), indexing="ij")
    positions = np.stack([x, y, 0 * x + 4], axis=-1).reshape(-1, 3).astype(np.float32)
    n = np.arange(len(positions)).reshape(x.shape)
    a, b, c, d = n[:-1, :-1].ravel(), n[1:, :-1].ravel(), n[1:, 1:].ravel(), n[:-1, 1:].ravel()
    triangles = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)]).astype(np.int32)
    uv = (positions[:, :2] + [1.5, 0.9]) / [3, 1.8]
    return Geometry(positions[None], triangles, uv[triangles].astype(np.float32))


def growing(step: float = 0.1, bend: float = 0.0) -> Shot:
    """A strip of which the left half, the whole, the right half, and the whole with finer faces are there; it moves to
    the right by `step` in each sample, and parts of it that stay are lifted by `bend`."""
    shapes = [strip(-1.5, 0.0, 10), strip(-1.5, 1.5, 20), strip(0.0, 1.5, 10), strip(-1.5, 1.5, 33)]
    places = [item.positions[0].copy() for item in shapes]
    for t, place in enumerate(places):
        place[:, 2] -= np.float32(bend * t) * (1 - place[:, 1] ** 2)
    history = History(len(shapes), 0, places[0], shapes[0].triangles, shapes[0].uv)
    for t, item in enumerate(shapes):
        history.put(t, t, places[t], lambda item=item: (item.triangles, item.uv))
    history.complete()
    geometries, numbers = geometries_of([history])
    geometry, changes = history.track(numbers)
    matrix = np.tile(np.eye(4), (len(shapes), 1, 1))
    matrix[:, 0, 3] = step * np.arange(len(shapes))
    count = len(shapes)
    camera = CameraTrack(
        "Camera", ("Camera",) * count, np.tile(np.array([[90.0, 0, 44.03], [0, 90, 32.01], [0, 0, 1]]), (count, 1, 1)),
        np.tile(np.eye(4), (count, 1, 1)), np.zeros(count, bool), np.tile([0.1, 100.0], (count, 1)),
    )  # fmt: skip
    track = MeshTrack("Strip", geometry, matrix, np.ones(count, bool), changes=changes)
    return Shot(np.arange(1.0, count + 1), 24.0, SIZE, camera, geometries, (track,))


@pytest.mark.parametrize("bend", [0.0, 0.05])
def test_every_sample_is_drawn_as_it_is(bend: float) -> None:
    """Beside the slow reference, which shares no code with the raster."""
    shot = growing(bend=bend)
    video = tracking_video(shot, threads=1)
    for t in range(4):
        frame, owner, _, sure = tracking_frame(shot, t, video.rule)
        assert np.array_equal(video.object_index[t][sure], owner[sure])
        assert np.abs(video.frames[t][sure].astype(int) - frame[sure]).max() <= 1
    widths = (video.object_index >= 0).any(axis=1).sum(axis=1)
    np.testing.assert_allclose(widths[[LEFT, RIGHT]] / widths[[WHOLE, FINE]], 0.5, atol=0.05)


def test_colors_are_those_of_the_place_at_birth_and_stay() -> None:
    """The strip moves as a whole, so that each of its points has one place in the frame for its color."""
    shot = growing()
    video = tracking_video(shot, threads=1)
    whole = tracking_video(replace(shot, meshes=(replace(shot.meshes[0], geometry=1, changes=()),)), threads=1)
    for t in range(4):
        seen = video.object_index[t] >= 0
        assert seen.any()
        inner = seen & np.roll(seen, 1, axis=1) & np.roll(seen, -1, axis=1)
        # The range of blue is another one: it is that of the points of the first geometry.
        assert np.abs(video.frames[t][inner, :2].astype(int) - whole.frames[t][inner, :2]).max() <= 1
    assert [len(vertex_colors(video, 0, t)) for t in range(4)] == [77, 147, 77, 238]
    np.testing.assert_array_equal(vertex_colors(video, 0, WHOLE)[:77], vertex_colors(video, 0))


def test_the_range_of_blue_is_that_of_the_first_geometry() -> None:
    shot = growing()
    alone = replace(shot, meshes=(replace(shot.meshes[0], changes=()),))
    assert tracking_video(shot, threads=1).rule.limits == tracking_video(alone, threads=1).rule.limits


def test_points_go_on_through_changes_and_vanish_with_their_surface() -> None:
    shot = growing(bend=0.02)
    raster = ShotRaster(shot)
    raster.draw(0)
    points = choose_points(raster, 60)
    drawn = []
    for t in range(4):
        out = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        drawn.append(draw_points(points, shot, t, raster.draw(t), out))
        assert out.any() == drawn[t].any()
    assert drawn[LEFT].mean() > 0.95
    assert drawn[WHOLE].mean() > 0.95
    assert drawn[RIGHT].mean() < 0.1  # the left half is not there
    assert drawn[FINE].mean() < 0.2  # and is other surface when it comes again with other faces
    start, end = points.on_screen(shot, LEFT), points.on_screen(shot, WHOLE)
    moved = (end - start)[drawn[WHOLE], :2]
    np.testing.assert_allclose(moved, np.broadcast_to([90 * 0.1 / 4, 0], moved.shape), atol=0.7)


def test_other_control_signals_and_visible_vertices() -> None:
    shot = growing(bend=0.02)
    assert control_signal(shot, "tracks-50").shape == (4, SIZE[1], SIZE[0], 3)
    assert control_signal(shot, "depth")[1:].any(axis=(1, 2, 3)).all()
    table = visible_vertices(tracking_video(shot, threads=1), 0)
    assert table.shape == (4, 77)
    assert table[LEFT].mean() > 0.9
    assert table[WHOLE].mean() > 0.9
    assert table[RIGHT].mean() < 0.2  # the edge in the middle is still there


def test_consistency_follows_points_through_changes() -> None:
    """The strip wears its place: what is there keeps its color exactly, in whichever geometry."""
    shot = growing(step=0.05)
    worn, wrong = painted(shot), painted(shot)[::-1]
    tracking = tracking_video(shot, threads=1)
    found = measure(shot, tracking, worn)
    assert found.points > 500
    assert found.frames_per_point > 1.9
    assert found.result is not None
    assert found.result < 1.5
    assert found.first_frame_held is not None
    assert found.first_frame_held > 2 * found.result
    assert (measure(shot, tracking, wrong.copy()).result or 0) > 3 * found.result


def painted(shot: Shot) -> np.ndarray:
    """[T, H, W, 3] what the strip shows that wears red by x and green by y of its object space."""
    raster = ShotRaster(shot)
    video = np.zeros((4, SIZE[1], SIZE[0], 3), np.uint8)
    for t in range(4):
        buffers = raster.draw(t)
        pixels = np.flatnonzero(buffers.label >= 0).astype(np.int32)
        geometry = shot.geometry_of(0, t)
        corners, weights = barycentric(buffers, pixels, raster.vertices(0, t), geometry.triangles)
        place = np.einsum("nc,ncx->nx", weights, geometry.at(t)[corners].astype(np.float64))
        video[t].reshape(-1, 3)[pixels, 0] = 40 + 50 * (place[:, 0] + 1.5)
        video[t].reshape(-1, 3)[pixels, 1] = 40 + 90 * (place[:, 1] + 0.9)
    return video


def test_dense_tracks_are_places_of_birth() -> None:
    shot = growing()
    tracks, surfaces = shot_tracks(shot)
    video = tracking_video(shot, threads=1)
    for t in range(4):
        seen = surfaces.mesh[t] >= 0
        np.testing.assert_allclose(tracks.position[t][seen, 0] / SIZE[0] * 255, video.frames[t][seen, 0], atol=0.51)


def test_points_of_an_evaluation_follow_too() -> None:
    shot = growing(step=0.0)
    first = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
    _, surfaces = shot_tracks(shot)
    points = shot_points(shot, surfaces, first, 50)
    assert len(points) > 20
    assert points.visible[:, WHOLE].mean() > 0.9
    assert points.visible[:, RIGHT].mean() < 0.1
    assert not points.is_static.any()  # they are not there all the time


def test_all_geometries_of_a_mesh_go_into_its_texture() -> None:
    shot = growing()
    views = render_views(shot, 1)
    video = painted(shot)
    maps = {index: shot.geometries[index].uv for index in shot.meshes[0].geometries}
    by_geometry = {index: uv for index, uv in maps.items() if uv is not None}
    whole = bake_texture(views, video, 0, by_geometry, 64, 1)
    half = bake_texture(views, video, 0, {0: by_geometry[0]}, 64, 1)
    assert whole.coverage > 0.8
    right = (np.arange(64) + 0.5) / 64 > 0.55
    assert whole.covered[:, right].mean() > 0.7
    assert not half.covered[:, right].any()
    x = (np.arange(64) + 0.5) / 64 * 3
    expected = np.broadcast_to(40 + 50 * x, (64, 64))
    assert np.abs(whole.color[..., 0].astype(int) - expected)[whole.covered].max() < 6
    assert np.nanmedian(whole.variation) < 2


def test_tracks_of_a_projection_are_nowhere_where_the_vertices_are_others(tmp_path) -> None:
    shot = growing()
    count = write_tracks(tmp_path / "a.pc2", shot, 0)
    assert count == 77
    rows = np.frombuffer((tmp_path / "a.pc2").read_bytes()[32:], "<f4").reshape(4, count, 3)
    assert rows[LEFT, :, 2].min() > 0
    assert not rows[WHOLE:].any()
