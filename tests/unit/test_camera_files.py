# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera paths are read from arrays and from NeRF data, and what is none is refused in a sentence."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from trackshade.core.camera_files import read_camera_path
from trackshade.core.camera_motion import parse_camera_motion
from trackshade.core.errors import ShotError
from trackshade.core.geometry import camera_to_blender

PATH = parse_camera_motion("rot y 40; trans 1 2 3; rot x 20", 5)
LENS = np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]])


@pytest.mark.parametrize("name", ["world_to_camera", "camera_to_world", "c2w"])
def test_arrays_are_read_from_npz_and_json(name: str, tmp_path: Path) -> None:
    matrices = PATH if name == "world_to_camera" else np.linalg.inv(PATH)
    np.savez(tmp_path / "a.npz", intrinsics=LENS, size=[640, 480], **{name: matrices})
    (tmp_path / "a.json").write_text(json.dumps({name: matrices[:, :3].tolist(), "K": LENS.tolist()}))
    for file in ("a.npz", "a.json"):
        read = read_camera_path(tmp_path / file)
        np.testing.assert_allclose(read.world_to_camera, PATH, atol=1e-12)
        assert read.intrinsics is not None
        assert np.array_equal(read.intrinsics, np.tile(LENS, (5, 1, 1)))
        assert read.size == ((640, 480) if file == "a.npz" else None)


def test_frames_of_nerf_data_are_read(tmp_path: Path) -> None:
    frames = [{"file_path": "a.png", "transform_matrix": matrix.tolist()} for matrix in camera_to_blender(PATH)]
    lens = {"fl_x": 500, "fl_y": 510, "cx": 320, "cy": 240, "w": 640, "h": 480}
    file = tmp_path / "transforms.json"
    file.write_text(json.dumps({**lens, "frames": frames}))
    read = read_camera_path(file)
    np.testing.assert_allclose(read.world_to_camera, PATH, atol=1e-12)
    assert read.intrinsics is not None
    assert np.array_equal(read.intrinsics[4], LENS)
    assert read.size == (640, 480)
    file.write_text(json.dumps({"camera_angle_x": math.pi / 2, "w": 640, "h": 480, "frames": frames}))
    angled = read_camera_path(file).intrinsics
    assert angled is not None
    np.testing.assert_allclose(angled[0], [[320, 0, 320], [0, 320, 240], [0, 0, 1]], atol=1e-9)
    file.write_text(json.dumps({"camera_angle_x": 1.0, "frames": frames}))  # of an unknown size
    assert read_camera_path(file).intrinsics is None


def test_a_path_becomes_a_motion(tmp_path: Path) -> None:
    start = camera_to_blender(np.eye(4))  # a camera that stands elsewhere in the world
    np.savez(tmp_path / "a.npz", world_to_camera=PATH @ np.linalg.inv(start))
    file = tmp_path / "a.npz"
    np.testing.assert_allclose(read_camera_path(file).motion(5), PATH, atol=1e-12)
    np.testing.assert_allclose(read_camera_path(file).motion(9)[::2], PATH, atol=1e-12)
    np.testing.assert_allclose(read_camera_path(file).motion(1), np.eye(4)[None], atol=1e-12)
    for matrix in read_camera_path(file).motion(8):
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
    turn = parse_camera_motion("rot y 30", 3)
    np.savez(tmp_path / "b.npz", world_to_camera=turn)
    halves = read_camera_path(tmp_path / "b.npz").motion(5)
    np.testing.assert_allclose(halves, parse_camera_motion("rot y 30", 5), atol=1e-12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "world_to_camera"),
        ('{"frames": []}', "shape"),
        ('{"frames": [{}]}', "transform_matrix"),
        ('{"c2w": [[1, 2], [3, 4]]}', "shape"),
        ('{"c2w": [[[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]]}', "inverted"),
        ('{"world_to_camera": [[[NaN, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]]}', "finite"),
        ("[]", "no camera path"),
        ("no json", "no camera path"),
    ],
)
def test_what_is_no_camera_path_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ShotError, match=words):
        read_camera_path(tmp_path / "a.json")


def test_a_missing_or_damaged_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShotError, match="cannot be read"):
        read_camera_path(tmp_path / "none.json")
    (tmp_path / "a.npz").write_bytes(b"PK no archive")
    with pytest.raises(ShotError, match="no camera path"):
        read_camera_path(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", c2w=np.array([{}], object))
    with pytest.raises(ShotError, match="no camera path"):
        read_camera_path(tmp_path / "b.npz")
