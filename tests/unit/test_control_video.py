# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracking videos of shots made from arrays: colors, occlusion, instances, holdouts, cameras, visible vertices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.ray_reference import tracking_frame
from tests.helpers.vertices import vertex_colors, visible_vertices
from trackshade.control import point_colors, tracking_video
from trackshade.core.colors import to_uint8
from trackshade.core.errors import CancelledError, ShotError, UsageError
from trackshade.core.geometry import world_to_camera
from trackshade.shot import CameraTrack, Geometry, MeshTrack, Shot
from trackshade.shot.track_colors import mesh_rule

SIZE = (48, 32)
CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
CUBE_FACES = np.array(
    [
        [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
        [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
    ],
    np.int32,
)  # fmt: skip
QUAD = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
QUAD_FACES = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def moved(x=0.0, y=0.0, z=0.0, scale=1.0, turn=0.0) -> np.ndarray:
    m = np.eye(4)
    m[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    m[:3, :3] *= scale
    m[:3, 3] = x, y, z
    return m


def mesh(name, geometry, matrices, visible=None, holdout=False) -> MeshTrack:
    matrices = np.stack(matrices).astype(np.float64)
    visible = np.ones(len(matrices), bool) if visible is None else np.array(visible)
    return MeshTrack(name, geometry, matrices, visible, holdout)


def make_shot(geometries, meshes, frames=2, orthographic=False, camera=None, focal=40.0, clip=(0.1, 100.0)) -> Shot:
    """By default seen from z = 6 downwards (Blender's axes): x to the right, y upwards in the image."""
    k = np.array([[focal, 0, SIZE[0] / 2], [0, focal, SIZE[1] / 2], [0, 0, 1]])
    poses = [moved(z=6.0)] * frames if camera is None else camera
    track = CameraTrack(
        "Camera",
        ("Camera",) * frames,
        np.repeat(k[None], frames, 0),
        world_to_camera(np.stack(poses)),
        np.full(frames, orthographic),
        np.repeat(np.array([clip]), frames, 0),
    )
    return Shot(np.arange(1.0, frames + 1), 8.0, SIZE, track, tuple(geometries), tuple(meshes))


def rigid(positions, faces) -> Geometry:
    return Geometry(np.ascontiguousarray(positions, np.float32)[None], faces)


def grid(n=9) -> Geometry:
    x, y = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n), indexing="ij")
    i = np.arange(n * n).reshape(n, n)
    a, b, c, d = (v.ravel() for v in (i[:-1, :-1], i[:-1, 1:], i[1:, :-1], i[1:, 1:]))
    faces = np.concatenate([np.stack([a, c, d], 1), np.stack([a, d, b], 1)]).astype(np.int32)
    return rigid(np.stack([x, y, 0.3 * np.sin(3 * x) * y], -1).reshape(-1, 3), faces)


def busy_shot(seed: int, orthographic: bool) -> Shot:
    """A floor that reaches behind the camera, cubes that share a geometry, a deforming grid, a holdout."""
    rng = np.random.default_rng(seed)
    frames = 3
    bent = grid().positions.repeat(frames, 0) + rng.normal(0, 0.05, (frames, 81, 3)).astype(np.float32)
    geometries = [rigid(CUBE, CUBE_FACES), rigid(QUAD * 40, QUAD_FACES), Geometry(bent, grid().triangles)]

    def path():
        start, step = rng.uniform(-2, 2, 3), rng.uniform(-0.7, 0.7, 3)
        return [moved(*(start + t * step), scale=0.6, turn=t * 0.4 + start[0]) for t in range(frames)]

    meshes = [
        mesh("floor", 1, [moved(z=-2.0)] * frames),
        mesh("cube", 0, path()),
        mesh("cube instance", 0, path()),
        mesh("bent", 2, path(), visible=[False, True, True]),
        mesh("hole", 0, path(), holdout=True),
        mesh("gone", 0, path(), visible=[True, True, False]),
    ]
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(1.0), -np.sin(1.0)], [np.sin(1.0), np.cos(1.0)]]
    camera = [moved(y=-4.0 + 0.3 * t, z=2.5) @ tilt for t in range(frames)]
    return make_shot(geometries, meshes, frames, orthographic, camera, focal=9.0 if orthographic else 40.0)


@settings(max_examples=6)
@given(seed=st.integers(0, 2**32), orthographic=st.booleans())
def test_same_as_the_reference(seed, orthographic):
    shot = busy_shot(seed, orthographic)
    video = tracking_video(shot)
    rule = mesh_rule(shot)
    for t in range(3):
        frame, owner, depth, sure = tracking_frame(shot, t, rule)
        assert sure.mean() > 0.9
        np.testing.assert_array_equal(video.object_index[t][sure], owner[sure])
        np.testing.assert_allclose(video.depth[t][sure], depth[sure], rtol=1e-4)
        difference = np.abs(video.frames[t].astype(int) - frame)[sure]
        # A value may lie on the border between two 8-bit levels, or a point on the border of the first frame.
        assert (difference <= 1).mean() > 0.999
        assert (difference == 0).mean() > 0.99


@pytest.mark.parametrize("orthographic", [False, True])
def test_colors_at_known_points(orthographic):
    """A point seen at (x, y) in the first frame has R = x / W and G = y / H, whatever becomes of it."""
    shot = make_shot(
        [rigid(QUAD, QUAD_FACES)],
        [mesh("quad", 0, [moved(), moved(x=0.5)])],
        orthographic=orthographic,
        focal=6.0 if orthographic else 40.0,
    )
    video = tracking_video(shot)
    rows, columns = np.nonzero(video.object_index[0] == 0)
    assert len(rows) > 100
    expected = np.stack([(columns + 0.5) / SIZE[0], (rows + 0.5) / SIZE[1]], 1)
    np.testing.assert_array_equal(video.frames[0][rows, columns, :2], np.rint(255 * expected))
    # Half a metre to the right is 6 · 0.5 or 40 / 6 · 0.5 pixels; the plane keeps its distance along the axis.
    shift = 3 if orthographic else 40 / 6 * 0.5
    later = (columns + 0.5 - shift) / SIZE[0]
    seen = video.object_index[1][rows, columns] == 0
    seen &= later * SIZE[0] > columns.min()
    off = video.frames[1][rows, columns, 0][seen] - 255 * later[seen]
    assert np.abs(off).max() <= 0.5001


def test_blue_is_nearness_by_euclidean_distance():
    quads = [mesh(f"q{n}", 0, [moved(x=n - 1.5, z=-n, scale=0.3)] * 2) for n in range(4)]
    shot = make_shot([rigid(QUAD, QUAD_FACES)], quads)
    video = tracking_video(shot)
    corners = np.concatenate([shot.world_positions(n, 0) for n in range(4)])
    inverse = 1 / np.linalg.norm(corners - [0, 0, 6.0], axis=1)
    low, high = np.percentile(inverse, [2, 98])
    expected = np.clip((inverse - low) / (high - low), 0, 1)
    colors = np.concatenate([vertex_colors(video, n) for n in range(4)])
    np.testing.assert_allclose(colors[:, 2], expected, atol=1e-6)
    blues = [int(video.frames[0][..., 2][video.object_index[0] == n].mean()) for n in range(4)]
    assert blues == sorted(blues, reverse=True)
    assert blues[0] > blues[3] + 100


def test_points_outside_the_first_frame_are_black():
    """A wide quad slides in from the left: what the first frame did not show is black, the rest keeps its place."""
    shot = make_shot([rigid(QUAD * [8, 1, 1], QUAD_FACES)], [mesh("bar", 0, [moved(), moved(x=2.0)])])
    video = tracking_video(shot)
    row = video.frames[1][16]
    shift = 40 / 6 * 2.0
    columns = np.arange(48) + 0.5 - shift
    np.testing.assert_array_equal(row[columns < 0], 0)
    np.testing.assert_array_equal(row[columns >= 0, 0], np.rint(255 * columns[columns >= 0] / 48))
    assert np.all(video.object_index[1][16] == 0)


def test_points_behind_the_first_camera_are_black():
    """The camera turns round after the first frame: the wall it sees then was behind it."""
    back = np.diag([1.0, -1, -1, 1])
    walls = [mesh("front", 0, [moved(z=-3)] * 2), mesh("back", 0, [moved(z=15, scale=4)] * 2)]
    shot = make_shot([rigid(QUAD, QUAD_FACES)], walls, camera=[moved(z=6.0), moved(z=6.0) @ back])
    video = tracking_video(shot)
    assert (video.object_index[1] == 1).sum() > 300
    assert not video.frames[1].any()
    assert not vertex_colors(video, 1).any()
    assert vertex_colors(video, 0).any()


def test_hidden_in_the_first_frame_is_colored_by_its_place():
    """Behind another mesh or not visible at all in frame 0: the color is still that of where it is."""
    geometries = [rigid(QUAD, QUAD_FACES)]
    front = mesh("front", 0, [moved(z=1, scale=2), moved(z=1, x=9, scale=2)])
    hidden = mesh("hidden", 0, [moved()] * 2)
    unseen = mesh("unseen", 0, [moved(x=2, scale=0.5)] * 2, visible=[False, True])
    video = tracking_video(make_shot(geometries, [front, hidden, unseen]))
    assert not (video.object_index[0] == 1).any()
    assert not (video.object_index[0] == 2).any()
    for index in (1, 2):
        rows, columns = np.nonzero(video.object_index[1] == index)
        assert len(rows) > 20
        expected = np.rint(255 * np.stack([(columns + 0.5) / 48, (rows + 0.5) / 32], 1))
        np.testing.assert_array_equal(video.frames[1][rows, columns, :2], expected)


def test_holdout_occludes_and_is_black():
    geometries = [rigid(QUAD, QUAD_FACES)]
    behind = mesh("behind", 0, [moved(scale=2)] * 2)
    hole = mesh("hole", 0, [moved(z=1, scale=0.5)] * 2, holdout=True)
    video = tracking_video(make_shot(geometries, [behind, hole]))
    held = video.object_index[0] == 1
    assert held.sum() > 20
    assert not video.frames[0][held].any()
    assert video.frames[0][video.object_index[0] == 0].any(axis=1).all()
    assert not vertex_colors(video, 1).any()
    # It does not take part in the range of distances either.
    alone = tracking_video(make_shot(geometries, [behind]))
    assert alone.rule.limits == video.rule.limits


def test_instances_share_geometry_but_not_color():
    cubes = [mesh(f"cube{n}", 0, [moved(x=2.0 * n - 2.0, scale=0.5)] * 2) for n in range(3)]
    shot = make_shot([rigid(CUBE, CUBE_FACES)], cubes)
    video = tracking_video(shot)
    reds = [video.frames[0][..., 0][video.object_index[0] == n].mean() for n in range(3)]
    assert reds[0] + 40 < reds[1] < reds[2] - 40


def test_mesh_that_is_not_visible_is_not_drawn():
    two = [mesh("a", 0, [moved()] * 2), mesh("b", 0, [moved(z=1)] * 2, visible=[True, False])]
    video = tracking_video(make_shot([rigid(QUAD, QUAD_FACES)], two))
    assert (video.object_index[0] == 1).any()
    assert not (video.object_index[1] == 1).any()
    assert (video.object_index[1] == 0).any()


def test_depth_is_along_the_axis():
    video = tracking_video(make_shot([rigid(QUAD * 9, QUAD_FACES)], [mesh("wall", 0, [moved(), moved(z=2)])]))
    np.testing.assert_allclose(video.depth[0], 6.0, rtol=1e-6)
    np.testing.assert_allclose(video.depth[1], 4.0, rtol=1e-6)


def test_clip_range_of_the_camera():
    shot = make_shot(
        [rigid(QUAD * 9, QUAD_FACES)],
        [mesh("near", 0, [moved(z=4.5)] * 2), mesh("seen", 0, [moved()] * 2)],
        clip=(2.0, 7.0),
    )
    video = tracking_video(shot)
    assert (video.object_index == 1).all()


def test_visible_vertices():
    """Of a cube seen from above, the upper four corners; none of what is behind it; nearly all of a curved grid."""
    cube = mesh("cube", 0, [moved(), moved(x=30)])
    hidden = mesh("hidden", 1, [moved(z=-2.0, scale=0.4)] * 2)
    beside = mesh("beside", 1, [moved(x=2.4, scale=0.5)] * 2, visible=[True, False])
    video = tracking_video(make_shot([rigid(CUBE, CUBE_FACES), grid()], [cube, hidden, beside]))
    table = visible_vertices(video, 0)
    assert table[0].tolist() == (CUBE[:, 2] > 0).tolist()
    assert not table[1].any()
    assert not visible_vertices(video, 1)[0].any()
    assert visible_vertices(video, 1)[1].mean() > 0.9
    assert visible_vertices(video, 2)[0].mean() > 0.97
    assert not visible_vertices(video, 2)[1].any()


def test_points_mode():
    wall = mesh("wall", 0, [moved(scale=9), moved(scale=9)])
    cube = mesh("cube", 1, [moved(x=-1, z=1, scale=0.5), moved(x=1, z=1, scale=0.5)])
    hole = mesh("hole", 1, [moved(x=2.5, z=2, scale=0.3)] * 2, holdout=True)
    shot = make_shot([rigid(QUAD, QUAD_FACES), rigid(CUBE, CUBE_FACES)], [wall, cube, hole])
    video = tracking_video(shot, "points", points=150, seed=3)
    tracks = video.points
    assert tracks is not None
    assert len(tracks) == 150
    assert set(tracks.mesh) == {0, 1}
    np.testing.assert_allclose(tracks.colors.min(axis=0), 0.0)
    np.testing.assert_allclose(tracks.colors.max(axis=0), 1.0)
    # Black means no point: about a quarter of the frame is covered by rectangles of half the spacing.
    covered = video.frames[0].any(axis=-1).mean()
    assert 0.15 < covered < 0.45
    drawn = {tuple(c) for c in video.frames[1].reshape(-1, 3).tolist()} - {(0, 0, 0)}
    colors = {tuple(c) for c in to_uint8(tracks.colors).tolist()}
    assert drawn <= colors
    on_cube = {tuple(c) for c in to_uint8(tracks.colors[tracks.mesh == 1]).tolist()}
    in_cube = {tuple(c) for c in video.frames[1][video.object_index[1] == 1].tolist()}
    assert len(in_cube & on_cube) >= 3
    again = tracking_video(shot, "points", points=150, seed=3)
    np.testing.assert_array_equal(again.frames, video.frames)
    other = tracking_video(shot, "points", points=150, seed=4)
    assert not np.array_equal(other.frames, video.frames)


def test_points_are_hidden_by_what_comes_before_them():
    """Points of a wall, then a screen slides before all of it: nothing is left."""
    wall = mesh("wall", 0, [moved(scale=9)] * 2)
    screen = mesh("screen", 0, [moved(x=99, z=2, scale=9), moved(z=2, scale=9)])
    video = tracking_video(make_shot([rigid(QUAD, QUAD_FACES)], [wall, screen]), "points", points=60)
    assert video.frames[0].any()
    assert not video.frames[1].any()


def test_fewer_pixels_than_points():
    small = mesh("small", 0, [moved(scale=0.2)] * 2)
    video = tracking_video(make_shot([rigid(QUAD, QUAD_FACES)], [small]), "points")
    assert video.points is not None
    assert len(video.points) == (video.object_index[0] == 0).sum()


def test_rules_of_normalisation():
    pixels, depth = np.array([[10.0, 5.0], [30.0, 25.0], [20.0, 15.0]]), np.array([1.0, 2.0, 4.0])
    tracks = point_colors(pixels, depth)
    np.testing.assert_allclose(tracks[:, :2], [[0, 0], [1, 1], [0.5, 0.5]], atol=1e-6)
    low, high = np.percentile(1 / depth, [2, 98])
    np.testing.assert_allclose(tracks[:, 2], np.clip((1 / depth - low) / (high - low), 0, 1), atol=1e-6)
    assert point_colors(np.zeros((0, 2)), np.zeros(0)).shape == (0, 3)


def test_nothing_to_follow():
    away = mesh("away", 0, [moved(x=50), moved()])
    with pytest.raises(ShotError, match="first frame") as error:
        tracking_video(make_shot([rigid(QUAD, QUAD_FACES)], [away]))
    assert error.value.code == "no-tracks"
    assert error.value.fix
    only_holdout = mesh("hole", 0, [moved()] * 2, holdout=True)
    with pytest.raises(ShotError):
        tracking_video(make_shot([rigid(QUAD, QUAD_FACES)], [only_holdout]), "points")
    with pytest.raises(ShotError):
        tracking_video(make_shot([], []))


def test_bad_requests():
    shot = make_shot([rigid(QUAD, QUAD_FACES)], [mesh("a", 0, [moved()] * 2)])
    with pytest.raises(UsageError):
        tracking_video(shot, "lines")  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        tracking_video(shot, "points", points=0)
    wrong = make_shot([rigid(QUAD, np.array([[0, 1, 400]], np.int32))], [mesh("a", 0, [moved()] * 2)])
    with pytest.raises(ShotError):
        tracking_video(wrong)


def test_progress_and_cancel():
    frames = 6
    shot = make_shot([rigid(QUAD, QUAD_FACES)], [mesh("a", 0, [moved()] * frames)], frames)
    told = []
    tracking_video(shot, progress=lambda done, total: told.append((done, total)))
    assert told == [(n, frames) for n in range(1, frames + 1)]
    told.clear()

    def cancel(done: int, total: int) -> None:
        told.append(done)
        if done == 2:
            raise CancelledError

    with pytest.raises(CancelledError):
        tracking_video(shot, progress=cancel, threads=1)
    assert told == [1, 2]


def test_threads_change_nothing():
    shot = busy_shot(7, False)
    one, three = tracking_video(shot, threads=1), tracking_video(shot, threads=3)
    np.testing.assert_array_equal(one.frames, three.frames)
    np.testing.assert_array_equal(one.depth, three.depth)
