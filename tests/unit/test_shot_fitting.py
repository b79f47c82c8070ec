# SPDX-License-Identifier: GPL-3.0-or-later
"""Fitting captured shots to a model: what the model sees is what the shot shows, at its frames and size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.shots import camera_track, changing_shot, same, shots, small_shot
from trackshade.config import registry
from trackshade.core.errors import ShotError
from trackshade.core.fitting import FRAME_RULES, SIZE_MODES, SizeFit, fit_size
from trackshade.core.geometry import project
from trackshade.core.image_headers import ImageHeader
from trackshade.shot import CameraTrack, Geometry, MeshTrack, Shot, Surfaces
from trackshade.shot.fitting import fit_shot, plan_fit, sample_shot
from trackshade.shot.input_image import InputImage, attach_key_pictures

MINI = registry.spec("mini")
COUNT, SIZE = MINI.allowed_frame_counts[0], MINI.sizes[0]


def turn(angle: float, x: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """[4, 4] a turn about the y axis by `angle` radians, scaled, at x."""
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, 0, s, x], [0, scale, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1.0]])


def turning_shot(count: int, size: tuple[int, int] = (96, 64)) -> Shot:
    """A triangle that turns, grows and moves evenly before a camera that turns and moves evenly."""
    times = np.arange(count)
    positions = np.array([[(-1, -1, 6), (1, -1, 6), (0, 1, 6)]], np.float32)
    camera = replace(
        camera_track(count),
        world_to_camera=np.linalg.inv(np.stack([turn(0.02 * t, 0.1 * t) for t in times])),
        intrinsics=np.stack([np.array([[90.0 + t, 0, 48], [0, 90 + t, 32], [0, 0, 1]]) for t in times]),
    )
    matrices = np.stack([turn(0.1 * t, 0.2 * t, 1 + 0.01 * t) for t in times])
    mesh = MeshTrack("Triangle", 0, matrices, np.ones(count, bool))
    geometry = Geometry(positions, np.array([[0, 1, 2]], np.int32))
    return Shot(times + 5.0, 24.0, size, camera, (geometry,), (mesh,))


def pixels(shot: Shot, mesh: int, t: int) -> np.ndarray:
    """[V, 2] where a mesh's vertices are in the image."""
    world = shot.world_positions(mesh, t).astype(np.float64)
    matrix = shot.camera.world_to_camera[t]
    return project(world @ matrix[:3, :3].T + matrix[:3, 3], shot.camera.intrinsics[t], False)


def test_a_shot_that_the_model_takes_passes_unchanged() -> None:
    shot = replace(turning_shot(COUNT, SIZE), source={"size_fit": fit_size((192, 108), (2.0, 1.0), (SIZE,)).to_dict()})
    for rule in FRAME_RULES:
        assert fit_shot(shot, MINI, frame_rule=rule, size_mode="crop") is shot
    assert plan_fit(shot, MINI).positions.tolist() == list(range(COUNT))


@given(
    st.integers(1, 3 * COUNT),
    st.tuples(st.integers(16, 4096), st.integers(16, 4096)),
    st.sampled_from(FRAME_RULES),
    st.sampled_from(SIZE_MODES),
    st.sampled_from([(1.0, 1.0), (2.0, 1.0), (1.0, 1.5)]),
)
def test_what_is_fitted_lies_where_the_shot_shows_it(count, size, rule, mode, aspect) -> None:
    identity = SizeFit(size, aspect, size, "pad", (1.0, 1.0), (0.0, 0.0), "")
    shot = replace(turning_shot(count, size), source={"size_fit": identity.to_dict()})
    try:
        fit = plan_fit(shot, MINI, frame_rule=rule, size_mode=mode)
    except ShotError as error:
        assert error.code == "too-few-frames"  # noqa: PT017 - a refusal is one of two right answers
        assert rule in ("choose", "step")
        return
    fitted = fit.apply(shot)
    fitted.check_values()
    assert (len(fitted.frame_numbers), fitted.size) == (COUNT, SIZE)
    assert fitted.source["size_fit"] == fit_size(size, aspect, MINI.sizes, mode).to_dict()
    assert np.array_equal(fitted.source["frame_map"]["frames"], fitted.frame_numbers)
    (sx, sy), offset = fit.size_fit.scale, np.array(fit.size_fit.offset)
    assert sx / sy == pytest.approx(aspect[0] / aspect[1])  # the model's pixels are square
    for i, place in enumerate(fit.positions):
        if place == int(place):
            expected = pixels(shot, 0, int(place)) * (sx, sy) + offset
            np.testing.assert_allclose(pixels(fitted, 0, i), expected, rtol=1e-9, atol=1e-6)


@given(shots(), st.data())
def test_whole_samples_are_equal_bit_by_bit(shot: Shot, data: st.DataObject) -> None:
    total = len(shot.frame_numbers)
    chosen = sorted(data.draw(st.sets(st.integers(0, total - 1), min_size=1)) | {0})
    taken = sample_shot(shot, chosen)
    assert taken.frame_numbers.tolist() == shot.frame_numbers[chosen].tolist()
    for i, t in enumerate(chosen):
        assert taken.camera.world_to_camera[i].tobytes() == shot.camera.world_to_camera[t].tobytes()
        for n, mesh in enumerate(shot.meshes):
            assert taken.meshes[n].matrix_world[i].tobytes() == mesh.matrix_world[t].tobytes()
            assert taken.meshes[n].visible[i] == mesh.visible[t]
            assert taken.geometry_of(n, i).triangles is shot.geometry_of(n, t).triangles
            assert taken.geometry_of(n, i).at(i).tobytes() == shot.geometry_of(n, t).at(t).tobytes()
            assert taken.first_places(n, i).tobytes() == shot.first_places(n, t).tobytes()
        for before, after in zip(shot.surfaces, taken.surfaces, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(before.at(t), after.at(i), strict=True))
    assert same(sample_shot(shot, np.arange(total)), shot)


@given(shots(), st.lists(st.floats(0, 1), min_size=1, max_size=5, unique=True))
def test_any_shot_can_be_sampled_anywhere(shot: Shot, shares: list[float]) -> None:
    places = sorted({round(share * (len(shot.frame_numbers) - 1), 4) for share in shares})
    taken = sample_shot(shot, places, frame_numbers=np.arange(float(len(places))))
    assert len(taken.frame_numbers) == len(places)
    for i, place in enumerate(places):
        for n in range(len(shot.meshes)):
            assert taken.geometry_of(n, i).triangles is shot.geometry_of(n, int(place + 1e-5)).triangles


def test_between_samples_what_turns_turns_halfway() -> None:
    shot = turning_shot(9)
    taken = sample_shot(shot, [0, 0.5, 3, 3.25])
    for i, t in ((1, 0.5), (3, 3.25)):
        linear = taken.meshes[0].matrix_world[i][:3, :3]
        scale = np.cbrt(np.linalg.det(linear))
        assert scale == pytest.approx(1 + 0.01 * t, abs=1e-9)  # it does not shrink on its way
        np.testing.assert_allclose(taken.meshes[0].matrix_world[i], turn(0.1 * t, 0.2 * t, 1 + 0.01 * t), atol=2e-4)
        np.testing.assert_allclose(np.linalg.inv(taken.camera.world_to_camera[i]), turn(0.02 * t, 0.1 * t), atol=2e-6)
        rotation = taken.camera.world_to_camera[i][:3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert taken.camera.intrinsics[i, 0, 0] == pytest.approx(90 + t)
    assert taken.frame_numbers.tolist() == [5, 5.5, 8, 8.25]


def test_mirrored_flat_and_switched_transforms_are_not_turned_inside_out() -> None:
    shot = turning_shot(2)
    flat, mirror = np.diag([1.0, 0, 1, 1]), np.diag([-1.0, 1, 1, 1])
    for before, after in ((flat, np.eye(4)), (mirror, np.eye(4)), (np.zeros((4, 4)), flat)):
        mesh = replace(shot.meshes[0], matrix_world=np.stack([before, after]))
        taken = sample_shot(replace(shot, meshes=(mesh,)), [0, 0.5])
        np.testing.assert_allclose(taken.meshes[0].matrix_world[1], (before + after) / 2)


def test_the_camera_before_a_switch_is_held() -> None:
    shot = turning_shot(3)
    camera = replace(shot.camera, sources=("A", "A", "B"))
    taken = sample_shot(replace(shot, camera=camera), [0, 1.75]).camera
    assert taken.sources == ("A", "A")
    assert taken.world_to_camera[1].tobytes() == camera.world_to_camera[1].tobytes()
    assert taken.intrinsics[1].tobytes() == camera.intrinsics[1].tobytes()


def test_deforming_positions_are_interpolated_and_rigid_ones_shared() -> None:
    shot = small_shot(3)
    taken = sample_shot(shot, [0, 0.5, 1, 1.5])
    rows = shot.geometries[1].positions
    assert taken.geometries[0].positions is shot.geometries[0].positions
    np.testing.assert_allclose(taken.geometries[1].positions[[1, 3]], (rows[:2] + rows[1:]) / 2, rtol=1e-6)
    assert taken.geometries[1].positions[2].tobytes() == rows[1].tobytes()


def test_changes_of_topology_keep_their_points() -> None:
    shot = changing_shot()
    taken = sample_shot(shot, [0, 1.5, 3])
    assert taken.meshes[0].changes == ((1, 1), (2, 2))
    between = taken.geometries[1]
    assert between.start == 1
    assert between.born.tolist() == [0, 0, 0, 0, 1]
    np.testing.assert_allclose(between.positions[0], shot.geometries[1].positions.mean(axis=0))
    np.testing.assert_array_equal(between.first, shot.geometries[1].first)
    late = sample_shot(shot, [0, 0.5, 2, 2.5])
    assert late.meshes[0].changes == ((2, 1),)
    assert len(late.geometries) == 2
    assert late.geometries[1].start == 2
    assert late.geometries[1].born.tolist() == [0, 0, 0, 0, 2]
    assert not late.geometries[1].deforms or np.array_equal(late.geometries[1].at(2), shot.geometries[1].at(2))


def test_a_geometry_without_origins_keeps_those_it_had() -> None:
    """The colors of its points come from its first sample, also where that is left out."""
    shot = changing_shot()
    grown = replace(shot.geometries[1], origins=None, births=None)
    shot = replace(shot, geometries=(shot.geometries[0], grown, shot.geometries[2]))
    taken = sample_shot(shot, [0, 2])
    np.testing.assert_array_equal(taken.first_places(0, 1), shot.first_places(0, 2))
    assert taken.geometries[1].born.tolist() == [1] * 5


def test_sides_of_surfaces_are_those_of_the_sample_before() -> None:
    shot = small_shot(3)
    sides = np.array([[True], [False], [True]])
    surfaces = Surfaces(sides, ~sides, np.array([-1], np.int32), np.array([0], np.int32))
    taken = sample_shot(replace(shot, surfaces=(surfaces,)), [0, 1.5, 2])
    assert taken.surfaces[0].front[:, 0].tolist() == [True, False, True]


def test_a_single_frame_is_held() -> None:
    fitted = fit_shot(turning_shot(1), MINI)
    assert len(fitted.frame_numbers) == COUNT
    assert fitted.source["frame_map"]["rule"] == "hold"
    assert fitted.source["frame_map"]["statement"] == f"The single frame 5, held for {COUNT} frames."
    np.testing.assert_array_equal(fitted.meshes[0].matrix_world, np.broadcast_to(turn(0), (COUNT, 4, 4)))


def test_frames_at_uneven_distances_are_those_of_the_samples() -> None:
    numbers = np.cumsum(np.r_[1.0, np.tile([1.0, 2.0], COUNT)])[: 2 * COUNT - 1]
    shot = replace(turning_shot(2 * COUNT - 1), frame_numbers=numbers)
    fit = plan_fit(shot, MINI)
    assert fit.positions.tolist() == list(range(0, 2 * COUNT - 1, 2))
    assert fit.apply(shot).frame_numbers.tolist() == numbers[::2].tolist()


def test_a_fit_of_a_fitted_image_relates_the_model_to_the_scene() -> None:
    before = fit_size((1000, 500), (1.0, 1.0), ((200, 100),))
    shot = replace(turning_shot(COUNT, (200, 100)), source={"size_fit": before.to_dict()})
    assert SizeFit.from_dict(fit_shot(shot, MINI).source["size_fit"]) == replace(
        fit_size((1000, 500), (1.0, 1.0), (SIZE,)), statement="200×100 fitted to 144×96, the camera's view widened to "
        "the model's aspect; placing cuts it back to the frame.", scale=pytest.approx((0.144, 0.144)),
    )  # fmt: skip


def test_a_size_that_the_model_does_not_have_is_refused() -> None:
    assert plan_fit(turning_shot(3), MINI, size=SIZE).size_fit.size == SIZE
    with pytest.raises(ShotError, match="no size 640 × 480: it takes 144 × 96"):
        fit_shot(turning_shot(3), MINI, size=(640, 480))


def test_a_camera_without_a_definite_transform_is_held_together() -> None:
    shot = turning_shot(2)
    broken = CameraTrack(**{**vars(shot.camera), "world_to_camera": np.stack([np.zeros((4, 4)), np.eye(4)])})
    assert np.isfinite(sample_shot(replace(shot, camera=broken), [0.5]).camera.world_to_camera).all()


def test_pictures_are_attached_to_their_frames() -> None:
    shot = turning_shot(4, (12, 8))  # frames 5 to 8
    gray = InputImage(np.full((16, 24, 3), 99, np.uint8), ImageHeader("png", (24, 16)), "gray.png")
    small = InputImage(np.full((8, 12, 3), 50, np.uint8), ImageHeader("png", (12, 8)), "small.png")
    attached, keys = attach_key_pictures(shot, [(None, 7, gray), (None, 5, small)])
    assert {t: image.shape for t, image in keys.items()} == {0: (8, 12, 3), 2: (16, 24, 3)}
    assert (keys[2] == 99).all()
    assert [(item["frame"], item["name"]) for item in attached.source["key_pictures"]] == [
        (7, "gray.png"),
        (5, "small.png"),
    ]
    assert attached.warnings == shot.warnings
    assert attach_key_pictures(shot, []) == (shot, {})
    for frames, words in (((9,), "no frame 9: its 4 frames are 5 to 8"), ((7, 7.00001), "Two pictures show frame 7")):
        with pytest.raises(ShotError, match=words):
            attach_key_pictures(shot, [(None, frame, gray) for frame in frames])


@pytest.mark.parametrize(
    ("value", "size", "words"),
    [
        (0, (24, 16), "7, it.png, is black everywhere"),
        (9, (8, 8), "8 × 8 pixels, another shape than the scene's"),
    ],
)
def test_pictures_that_show_nothing_or_another_frame_are_refused(value: int, size: tuple[int, int], words: str) -> None:
    image = InputImage(np.full((*size[::-1], 3), value, np.uint8), ImageHeader("png", size), "it.png")
    with pytest.raises(ShotError, match=words):
        attach_key_pictures(turning_shot(4, (12, 8)), [(None, 7, image)])
