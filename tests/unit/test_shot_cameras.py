# SPDX-License-Identifier: GPL-3.0-or-later
"""Shots with several cameras: each cell of the unrolled shot is a frame of the shot through that camera."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import propagation_reference as reference
from tests.helpers.matrices import seen_by
from tests.helpers.shots import changing_shot, small_shot
from trackshade.config import registry
from trackshade.control.scene import ShotRaster
from trackshade.core.colors import linear_to_srgb
from trackshade.core.errors import ShotError
from trackshade.ipc.protocol import is_file_name
from trackshade.propagation import KeyPicture, Propagation
from trackshade.propagation.measures import mesh_around
from trackshade.server.key_pictures import unseen_cuts
from trackshade.server.propagate import collect_keys
from trackshade.shot import Shot
from trackshade.shot.cameras import (
    camera_file_names,
    find_cuts,
    first_cells,
    picture_names,
    stored_camera_names,
    through_camera,
    unroll_cameras,
)
from trackshade.shot.fitting import plan_fit, sample_shot


@pytest.mark.parametrize("make", [small_shot, changing_shot], ids=["deforming", "changing topology"])
def test_cells_are_the_frames_of_each_camera(make) -> None:
    shot = seen_by(make(), (0.2, 0, 0), (0, 0.1, 0.3))
    unrolled = unroll_cameras(shot)
    unrolled.check_values()
    assert unrolled.views == 3
    assert all(
        np.shares_memory(a.positions, b.positions) for a, b in zip(shot.geometries, unrolled.geometries, strict=True)
    )
    cells = ShotRaster(unrolled)
    for view in range(3):
        single = through_camera(shot, view)
        frames = ShotRaster(single)
        for t in range(len(shot.frame_numbers)):
            assert unrolled.frame_numbers[t * 3 + view] == shot.frame_numbers[t]
            cell, frame = cells.draw(t * 3 + view), frames.draw(t)
            for name in ("label", "triangle", "depth"):
                np.testing.assert_array_equal(getattr(cell, name), getattr(frame, name))


@pytest.mark.parametrize("form", [lambda shot: shot, unroll_cameras], ids=["captured", "unrolled"])
def test_header_and_arrays(form, tmp_path) -> None:
    shot = form(seen_by(small_shot(), (0.2, 0, 0)))
    header, arrays = shot.encode()
    assert header["version"] == 3
    loaded = Shot.load(shot.save(tmp_path / "shot.tshot"))
    assert [camera.name for camera in loaded.cameras] == [camera.name for camera in shot.cameras]
    assert (loaded.views, loaded.geometries[0].views) == (shot.views, shot.views)
    assert loaded.encode()[0] == header
    for a, b in zip(loaded.encode()[1], arrays, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_cut_wants_a_picture_of_its_own() -> None:
    shot = small_shot()
    cut = replace(shot, camera=replace(shot.camera, sources=("A", "A", "B")))
    assert (find_cuts(shot), first_cells(shot), picture_names(shot)) == ([], [0], {})
    assert (find_cuts(cut), first_cells(cut), picture_names(cut)) == ([2], [0, 2], {2: "3"})
    several = seen_by(cut, (0.2, 0, 0))
    assert (find_cuts(several), first_cells(several)) == ([], [0, 1])
    fit, image = plan_fit(cut, registry.spec("mini")), np.zeros((64, 96, 3), np.uint8)
    (warning,) = unseen_cuts(cut, collect_keys(cut, fit, image, {}, {}))
    assert "'B' at frame 3" in warning
    assert unseen_cuts(cut, collect_keys(cut, fit, image, {2: image}, {})) == []


def test_one_camera_stays_as_it_was() -> None:
    shot = small_shot()
    assert unroll_cameras(shot) is shot
    assert shot.encode()[0]["version"] < 3


def test_samples_of_all_cameras() -> None:
    shot = seen_by(small_shot(), (0.2, 0, 0))
    some = sample_shot(shot, [0, 2])
    for sampled, camera in zip(some.cameras, shot.cameras, strict=True):
        np.testing.assert_array_equal(sampled.world_to_camera, camera.world_to_camera[[0, 2]])


@given(st.lists(st.text(max_size=80) | st.sampled_from(["CON", "Ä", "a/b", "..", "Kamera 1°", "x" * 200]), max_size=6))
def test_file_names_are_valid_and_different(names) -> None:
    camera = small_shot().camera
    found = camera_file_names([replace(camera, name=name) for name in names])
    assert len({name.casefold() for name in found}) == len(names)
    assert all(is_file_name(f"{name}/frames/0001.png") for name in found)


def test_file_names_keep_letters_of_any_script() -> None:
    names = {
        "Kamera übersicht": "Kamera_übersicht",
        "Came\u0301ra": "Caméra",  # letters and marks are joined, as most file systems store them
        "камера: лево": "камера_лево",
        "КАМЕРА_ЛЕВО": "КАМЕРА_ЛЕВО-2",
        "カメラ①": "カメラ①",
        "कैमरा": "कैमरा",
        "กล้อง": "กล้อง",
        "\u0301📷": "camera",
        "com¹.a": "camera_com¹.a",
        "長" * 100: "長" * 40,  # as many as fit in bytes
    }
    camera = small_shot().camera
    assert camera_file_names([replace(camera, name=name) for name in names]) == list(names.values())


def test_files_that_an_earlier_version_has_named_are_found() -> None:
    cameras = [replace(small_shot().camera, name=name) for name in ("Vue été", "камера", "Дверь", "Top")]
    assert stored_camera_names(cameras, {"Vue_ete", "камера", "camera-2", "Top"}.__contains__) == [
        "Vue_ete", "камера", "camera-2", "Top",
    ]  # fmt: skip
    assert stored_camera_names(cameras, lambda name: False) == camera_file_names(cameras)


def test_samples_that_do_not_fit_the_views() -> None:
    shot = unroll_cameras(seen_by(small_shot(), (0.2, 0, 0)))
    with pytest.raises(ShotError, match="cameras"):
        replace(shot, geometries=tuple(replace(geometry, views=1) for geometry in shot.geometries))
    with pytest.raises(ShotError, match="cameras"):
        replace(shot, views=4)
    numbers = shot.frame_numbers.copy()
    numbers[1] += 0.5
    with pytest.raises(ShotError, match="cameras"):
        replace(shot, frame_numbers=numbers)


def test_a_key_picture_is_carried_to_the_other_cameras() -> None:
    """What two cameras see of one texture agrees, though only one of them has a key picture."""
    shot = reference.box_over_floor(2, False)
    shot = seen_by(shot, (0.3, 0, 0), (-0.2, 0.2, 0))
    unrolled = unroll_cameras(shot)
    key = reference.paint(unrolled, 0, reference.smooth_texture, shot.size)
    image = linear_to_srgb(key).astype(np.float32)
    propagation = Propagation(unrolled, [KeyPicture(0, image)], samples=1, threads=2)
    propagation.prepare()
    for cell in (1, 2, 4, 5):
        _, right, hidden = reference.carry(unrolled, key, 0, cell, shot.size)
        frame = propagation.frame(cell)
        assert (frame.shown[right] == 1).all()
        assert (frame.shown[hidden] == 0).all()


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_camera_inside_a_mesh_is_found(mirrored) -> None:
    shot = reference.box_over_floor(1, False)
    box = 1
    assert mesh_around(shot, 0) is None
    inside = np.linalg.inv(shot.camera.world_to_camera[0])
    inside[:3, 3] = shot.meshes[box].matrix_world[0][:3, 3]
    shot = replace(shot, camera=replace(shot.camera, world_to_camera=np.linalg.inv(inside)[None]))
    if mirrored:  # and turned inside out, so that its outside stays outside
        geometry = shot.geometries[shot.meshes[box].geometry]
        flipped = replace(geometry, positions=geometry.positions * np.array([-1, 1, 1], np.float32),
                          triangles=np.ascontiguousarray(geometry.triangles[:, ::-1]))  # fmt: skip
        matrix = shot.meshes[box].matrix_world @ np.diag([-1.0, 1, 1, 1])
        meshes = list(shot.meshes)
        meshes[box] = replace(meshes[box], matrix_world=matrix)
        geometries = list(shot.geometries)
        geometries[meshes[box].geometry] = flipped
        shot = replace(shot, meshes=tuple(meshes), geometries=tuple(geometries))
    assert mesh_around(shot, 0) == box
