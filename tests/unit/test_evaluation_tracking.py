# SPDX-License-Identifier: GPL-3.0-or-later
"""The evaluation of tracking finds no error in the truth, and the error of what is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.helpers.footage import arc
from trackshade.shot import CameraTrack, Geometry, MeshTrack, Shot
from trackshade.shot.lifted import LiftedMesh, LiftedScene
from trackshade_lab.evaluation.tracking.measures import measure_camera
from trackshade_lab.evaluation.tracking.run import format_table, measure_scene

COUNT, SIZE = 5, (96, 64)
INTRINSICS = np.array([[90.0, 0, 48], [0, 90, 32], [0, 0, 1]])


def truth() -> tuple[Shot, LiftedScene]:
    """A large square 5 m away, seen by a moving camera, and its points at pixels of the first frame."""
    cameras = arc(COUNT, 6.0)
    corners = np.array([[(-9, -9, 5), (9, -9, 5), (9, 9, 5), (-9, 9, 5)]], np.float32)
    geometry = Geometry(corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    camera = CameraTrack(
        "Camera", ("Camera",) * COUNT, np.repeat(INTRINSICS[None], COUNT, 0), cameras, np.zeros(COUNT, bool),
        np.tile([0.1, 100.0], (COUNT, 1)),
    )  # fmt: skip
    mesh = MeshTrack("Square", 0, np.tile(np.eye(4), (COUNT, 1, 1)), np.ones(COUNT, bool))
    shot = Shot(np.arange(1.0, COUNT + 1), 24.0, SIZE, camera, (geometry,), (mesh,))
    x, y = np.meshgrid(np.arange(20, 76, 8) + 0.5, np.arange(16, 48, 8) + 0.5)
    rays = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3) @ np.linalg.inv(INTRINSICS).T
    points = LiftedMesh(
        "Static", "points", (5 * rays)[None].astype(np.float32), np.zeros((0, 3), np.int32),
        np.ones((COUNT, len(rays)), bool), np.zeros(3),
    )  # fmt: skip
    notes = {"focal_error": 0.0, "static_share": 1.0, "reprojection_error": 0.1}
    return shot, LiftedScene("a.mp4", SIZE, 24.0, INTRINSICS, cameras, (points,), notes=notes)


def test_the_truth_has_no_error() -> None:
    shot, scene = truth()
    figures = measure_scene(scene, shot)
    assert figures["median_error"] < 1e-3
    assert (figures["delta"], figures["occlusion_accuracy"], figures["jaccard"]) == (1, 1, 1)
    assert figures["rotation_max"] < 1e-3
    assert figures["direction"] < 1e-3
    record: dict[str, Any] = {"scene": "square", "focal": "given", "warnings": ["Doubtful."], "cpu_seconds": 1.0}
    assert "| square | given | 0.00 | 1.00 |" in format_table([record | figures])


def test_errors_are_measured() -> None:
    shot, scene = truth()
    mesh = scene.meshes[0]
    places = np.repeat(mesh.positions, COUNT, axis=0)
    places[1:, ::2] += np.array([0.5, 0, 0], np.float32)  # 9 px at 5 m
    hidden = mesh.visible.copy()
    hidden[1:, 1::4] = False
    figures = measure_scene(replace(scene, meshes=(replace(mesh, positions=places, visible=hidden),)), shot)
    wrong = (np.arange(28) % 2 == 0).mean()
    assert figures["within_8"] == pytest.approx(1 - wrong)
    assert figures["within_16"] == 1
    assert figures["occlusion_accuracy"] == pytest.approx(1 - (np.arange(28) % 4 == 1).mean())
    assert figures["jaccard"] < figures["delta"]
    cameras = np.array(scene.world_to_camera)
    cameras[-1, 0, 3] += 0.3
    assert measure_camera(cameras, scene.world_to_camera)["direction"] < 1e-3  # the median ignores one frame
    assert measure_camera(cameras[::4], scene.world_to_camera[::4])["direction"] > 5
