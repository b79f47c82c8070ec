# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of a lifted scene returns what was written, and refuses what is damaged."""

from pathlib import Path

import numpy as np
import pytest

from trackshade.core.errors import ShotError, UsageError
from trackshade.shot.lifted import LiftedMesh, LiftedScene, Perspective


def _scene() -> LiftedScene:
    rng = np.random.default_rng(0)
    eye = np.eye(4)
    mesh = LiftedMesh(
        name="Ground",
        kind="ground",
        positions=rng.normal(size=(1, 4, 3)).astype(np.float32),
        triangles=np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        visible=np.zeros((0, 4), np.bool_),
        pivot=np.zeros(3),
        one_sided=True,
    )
    points = LiftedMesh(
        name="Tracks",
        kind="points",
        positions=rng.normal(size=(3, 5, 3)).astype(np.float32),
        triangles=np.zeros((0, 3), np.int32),
        visible=rng.random((3, 5)) > 0.5,
        pivot=np.zeros(3),
    )
    perspective = Perspective(((0, 200.5), (640, 190)), (320, 200), (200, 100, 400, 300), 500.0, 0.1, True, False)
    intrinsics = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
    cameras = np.stack([eye, eye, eye])
    notes = {"warnings": ["The focal length is uncertain."]}
    return LiftedScene("/a/photo.jpg", (640, 480), 24, intrinsics, cameras, (mesh, points), perspective, 1, notes)


def test_a_file_returns_the_scene(tmp_path: Path) -> None:
    scene = _scene()
    back = LiftedScene.load(scene.save(tmp_path / "photo.lifted"))
    assert (back.picture, back.size, back.fps, back.perspective) == (
        scene.picture,
        scene.size,
        scene.fps,
        scene.perspective,
    )
    assert (back.picture_frame, back.warnings) == (1, ("The focal length is uncertain.",))
    for read, written in zip(back.meshes, scene.meshes, strict=True):
        assert (read.name, read.kind, read.one_sided) == (written.name, written.kind, written.one_sided)
        for key in ("positions", "triangles", "visible", "pivot"):
            np.testing.assert_array_equal(getattr(read, key), getattr(written, key))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = _scene().save(tmp_path / "photo.lifted")
    data = path.read_bytes()
    for length in (0, 10, 100, len(data) - 1):
        short = tmp_path / f"{length}.lifted"
        short.write_bytes(data[:length])
        with pytest.raises(ShotError):
            LiftedScene.load(short)
    for old, new in (
        (b"intrinsics", b"intrinsicz"),
        (b"picture_frame\x01", b"picture_frame\x09"),
        (b"points", b"pointz"),
    ):
        changed = tmp_path / "changed.lifted"
        changed.write_bytes(data.replace(old, new))
        with pytest.raises(ShotError):
            LiftedScene.load(changed)


def test_a_perspective_names_bad_values() -> None:
    good = _scene().perspective
    assert good is not None
    assert Perspective.from_dict(good.to_dict()) == good
    for change in ({"focal": 0}, {"focal": float("nan")}, {"horizon": [1, 2]}, {"rectangle": [1, 2, 3]}):
        with pytest.raises(UsageError):
            Perspective.from_dict({**good.to_dict(), **change})
