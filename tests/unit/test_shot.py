# SPDX-License-Identifier: GPL-3.0-or-later
"""The shot's data model: what it accepts, what it refuses and in which words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from tests.helpers.shots import camera_track, changing_shot, same, shots, small_shot
from trackshade.core.errors import ShotError
from trackshade.shot import Geometry, MeshTrack, Shot
from trackshade.shot.encoding import VERSION, array_specs


def with_geometry(shot: Shot, index: int, geometry: Geometry) -> Shot:
    items = list(shot.geometries)
    items[index] = geometry
    return replace(shot, geometries=tuple(items))


@given(shots())
def test_encode_and_decode_are_inverse(shot: Shot) -> None:
    header, arrays = shot.encode()
    assert same(Shot.decode(header, arrays), shot)


@given(shots())
def test_any_valid_shot_passes_the_value_check(shot: Shot) -> None:
    shot.check_values()


def test_header_announces_every_array() -> None:
    header, arrays = small_shot().encode()
    assert [(array.dtype, array.shape) for array in arrays] == array_specs(header)


def test_nbytes_counts_a_shared_geometry_once() -> None:
    shot = small_shot()
    more = replace(shot, meshes=(*shot.meshes, replace(shot.meshes[0], name="again")))
    assert more.nbytes - shot.nbytes == 3 * 16 * 8 + 3  # a matrix and a flag per frame, and no vertices


def test_arrays_are_read_only_and_the_callers_stay_writable() -> None:
    positions = np.zeros((1, 3, 3), np.float32)
    geometry = Geometry(positions, np.array([[0, 1, 2]], np.int32))
    with pytest.raises(ValueError, match="read-only"):
        geometry.positions[0, 0, 0] = 1
    positions[0, 0, 0] = 1


def test_world_positions_follow_the_matrix() -> None:
    shot = small_shot()
    local = shot.geometries[1].positions[2].astype(np.float64)
    assert np.allclose(shot.world_positions(2, 2), np.add(local, [2, 0, 0]))


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (lambda: Geometry(np.zeros((1, 3, 3)), np.zeros((0, 3), np.int32)), "bad-type"),  # type: ignore[arg-type]
        (lambda: Geometry(np.zeros((3, 3), np.float32), np.zeros((0, 3), np.int32)), "bad-shape"),
        (lambda: MeshTrack("m", 0, np.zeros((2, 4, 4)), np.ones(3, bool)), "bad-shape"),
        (lambda: replace(small_shot(), frame_numbers=np.array([1.0, 1.0, 2.0])), "bad-frames"),
        (lambda: replace(small_shot(), frame_numbers=np.array([1.0, np.nan, 2.0])), "bad-frames"),
        (lambda: replace(small_shot(), frame_numbers=np.zeros(0)), "empty-shot"),
        (lambda: replace(small_shot(), fps=0.0), "bad-rate"),
        (lambda: replace(small_shot(), size=(0, 64)), "bad-size"),
        (lambda: replace(small_shot(), camera=camera_track(2)), "bad-shape"),
        (lambda: replace(small_shot(), geometries=small_shot().geometries[:1]), "bad-index"),
        (lambda: replace(small_shot(4), geometries=small_shot(3).geometries), "bad-shape"),
    ],
)
def test_parts_that_do_not_fit_are_refused(broken, code: str) -> None:
    with pytest.raises(ShotError) as caught:
        broken()
    assert caught.value.code == code
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vertex_that_is_not_finite_is_named_with_object_and_frame(value: float) -> None:
    shot = small_shot()
    positions = shot.geometries[1].positions.copy()
    positions[1, 2, 0] = value
    bad = with_geometry(shot, 1, replace(shot.geometries[1], positions=positions))
    with pytest.raises(ShotError, match=r"Vertex 2 of 'Square' .* at frame 2"):
        bad.check_values()


def test_a_matrix_that_is_not_finite_is_named_with_object_and_frame() -> None:
    shot = small_shot()
    matrix = shot.meshes[0].matrix_world.copy()
    matrix[2, 0, 3] = np.nan
    bad = replace(shot, meshes=(replace(shot.meshes[0], matrix_world=matrix), *shot.meshes[1:]))
    with pytest.raises(ShotError, match=r"'Triangle' is not finite at frame 3"):
        bad.check_values()


def test_a_triangle_of_a_missing_vertex_is_named() -> None:
    shot = small_shot()
    bad = with_geometry(shot, 0, replace(shot.geometries[0], triangles=np.array([[0, 1, 3]], np.int32)))
    with pytest.raises(ShotError, match=r"'Triangle' names a vertex that is not there"):
        bad.check_values()


def test_a_camera_without_focal_length_is_refused() -> None:
    camera = camera_track(3)
    k = camera.intrinsics.copy()
    k[1, 0, 0] = 0
    with pytest.raises(ShotError, match="focal length"):
        replace(small_shot(), camera=replace(camera, intrinsics=k)).check_values()


@pytest.mark.parametrize(
    "change",
    [
        {"frames": 99},
        {"frames": "0"},
        {"fps": "24"},
        {"size": [96]},
        {"size": [float("inf"), 64]},
        {"camera": None},
        {"meshes": {}},
        {"geometries": [1]},
        {"source": []},
        {"view_layer": None},
        {"version": 0},
        {"arrays": [{"dtype": "|O", "shape": [1]}]},
        {"arrays": [{"dtype": ["<f8"], "shape": [1]}]},
        {"arrays": [{"dtype": {}, "shape": [1]}]},
        {"arrays": [{"dtype": "<f8", "shape": [-1]}]},
        {"arrays": [{"dtype": "<f8", "shape": [1 << 40, 1 << 40]}]},
    ],
)
def test_a_header_from_elsewhere_is_not_trusted(change: dict) -> None:
    header, arrays = small_shot().encode()
    with pytest.raises(ShotError) as caught:
        Shot.decode(header | change, arrays)
    assert caught.value.code == "damaged-shot"


def test_a_newer_header_says_which_side_to_update() -> None:
    header, arrays = small_shot().encode()
    with pytest.raises(ShotError, match="Update Trackshade") as caught:
        Shot.decode(header | {"version": VERSION + 1}, arrays)
    assert caught.value.code == "shot-too-new"


def test_swapped_arrays_are_found() -> None:
    header, arrays = small_shot().encode()
    with pytest.raises(ShotError, match="not those that its header announces"):
        Shot.decode(header, arrays[::-1])


def test_a_mesh_has_another_geometry_from_each_change_on() -> None:
    shot = changing_shot()
    square = shot.meshes[0]
    assert [square.geometry_at(t) for t in range(4)] == [0, 1, 1, 2]
    assert square.geometries == (0, 1, 2)
    assert [len(shot.world_positions(0, t)) for t in range(4)] == [4, 5, 5, 4]
    # The positions of the second geometry are those of samples 1 and 2.
    np.testing.assert_array_equal(shot.geometry_of(0, 2).at(2), shot.geometries[1].positions[1])
    np.testing.assert_array_equal(shot.geometry_of(0, 3).at(3), shot.geometries[2].positions[0])


def test_points_are_colored_by_their_origin_under_the_first_matrix() -> None:
    shot = changing_shot()
    first = shot.world_positions(0, 0)
    np.testing.assert_array_equal(shot.first_places(0), first)
    np.testing.assert_array_equal(shot.first_places(0, 1)[:4], first)
    np.testing.assert_array_equal(shot.first_places(0, 3), first)
    assert shot.geometries[0].born.tolist() == [0, 0, 0, 0]
    assert shot.geometries[1].born.tolist() == [0, 0, 0, 0, 1]
    assert shot.geometries[0].same_points(shot.geometries[2])
    assert not shot.geometries[0].same_points(shot.geometries[1])


def test_a_shot_without_changes_is_written_as_it_always_was() -> None:
    """Header and digest of such a shot are those of version 1, which knew no other."""
    header, _ = small_shot().encode()
    assert header["version"] == 1
    assert set(header["geometries"][0]) == {"positions", "triangles", "uv"}
    assert set(header["meshes"][0]) == {"name", "geometry", "matrix_world", "visible", "holdout", "pass_index"}
    assert changing_shot().encode()[0]["version"] == 2


def test_what_a_returning_topology_shares_is_written_once() -> None:
    shot = changing_shot()
    header, arrays = shot.encode()
    first, _, again = header["geometries"]
    assert first["triangles"] == again["triangles"]
    assert Shot.decode(header, arrays).geometries[0].same_points(Shot.decode(header, arrays).geometries[2])


def changed(**values: object) -> Shot:
    shot = changing_shot()
    return replace(shot, meshes=(replace(shot.meshes[0], **values), *shot.meshes[1:]))


@pytest.mark.parametrize(
    ("broken", "code", "said"),
    [
        (lambda: changed(changes=((1, 1), (3, 9))), "bad-index", "names geometry 9; the shot has 3"),
        (lambda: changed(changes=((1, 1), (1, 2))), "bad-index", "must ascend from 1 to at most 3"),
        (lambda: changed(changes=((0, 1),)), "bad-index", "must ascend"),
        (lambda: changed(changes=((4, 1),)), "bad-index", "must ascend"),
        (lambda: changed(changes=((1, 1),)), "bad-shape", "has the samples 1 to 2, but 'Square' shows it in"),
        (lambda: with_geometry(changing_shot(), 1, replace(changing_shot().geometries[1], start=4)), "bad-index", "st"),
        (lambda: with_geometry(changing_shot(), 1, replace(changing_shot().geometries[1], start=3)), "bad-shape", "3"),
        (lambda: replace(changing_shot().geometries[1], origins=np.zeros((4, 3), np.float32)), "bad-shape", "origins"),
        (lambda: replace(changing_shot().geometries[1], births=np.zeros(5, np.int64)), "bad-type", "births"),
    ],
)
def test_changes_that_do_not_fit_are_refused(broken, code: str, said: str) -> None:
    with pytest.raises(ShotError, match=said) as caught:
        broken()
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"births": np.array([0, 0, 0, 0, 4], np.int32)}, "bad-index"),
        ({"births": np.array([0, 0, 0, 0, -1], np.int32)}, "bad-index"),
        ({"origins": np.full((5, 3), np.nan, np.float32)}, "not-finite"),
    ],
)
def test_origins_and_births_that_cannot_be_are_named(change: dict, code: str) -> None:
    shot = with_geometry(changing_shot(), 1, replace(changing_shot().geometries[1], **change))
    with pytest.raises(ShotError, match="'Square'") as caught:
        shot.check_values()
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("geometries", {"start": "1"}),
        ("geometries", {"start": True}),
        ("geometries", {"origins": 99}),
        ("geometries", {"births": -1}),
        ("meshes", {"changes": 3}),
        ("meshes", {"changes": [[1]]}),
        ("meshes", {"changes": [[1, 1, 1]]}),
        ("meshes", {"changes": [["1", 1]]}),
        ("meshes", {"changes": [[1.0, 1]]}),
    ],
)
def test_changes_from_elsewhere_are_not_trusted(part: str, change: dict) -> None:
    header, arrays = changing_shot().encode()
    items = [dict(item) for item in header[part]]
    items[0] |= change
    with pytest.raises(ShotError) as caught:
        Shot.decode(header | {part: items}, arrays)
    assert caught.value.code == "damaged-shot"
