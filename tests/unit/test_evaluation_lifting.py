# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures of lifting: a right scene has small errors, and a wrong one has large ones."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np

from trackshade.cli.image_decoder import decode
from trackshade.core.images import write_png
from trackshade.lifting import lift_image
from trackshade.shot.lift_request import LiftRequest
from trackshade_lab.evaluation.lifting.measures import compare
from trackshade_lab.evaluation.lifting.panoramas import find_panoramas, make_crops
from trackshade_lab.evaluation.lifting.stages import room_stage


def test_figures_tell_a_right_scene_from_a_wrong_one(tmp_path: Path) -> None:
    stage = room_stage(1, (160, 112))
    photo, depth = stage.picture(stage.world_to_camera), stage.depth(stage.world_to_camera)
    write_png(tmp_path / "photo.png", photo)
    np.save(tmp_path / "depth.npy", depth)
    fov = 2 * math.degrees(math.atan(80 / stage.intrinsics[0, 0]))
    request = LiftRequest(depth=str(tmp_path / "depth.npy"), fov=fov)
    scene = lift_image(tmp_path / "photo.png", request, decode=decode)
    camera = stage.moves()["truck"]
    right = compare(stage, scene, camera, photo)
    assert right.error < 0.01
    assert right.beyond < 0.02
    assert right.wrong + right.holes < 0.02
    assert right.rotation < 1.5
    mesh = max(scene.meshes, key=lambda mesh: len(mesh.triangles))
    nearer = dataclasses.replace(mesh, positions=mesh.positions * np.float32(0.9))
    wrong = compare(stage, dataclasses.replace(scene, meshes=(nearer,)), camera, photo)
    assert wrong.wrong > 0.7


def test_crops_have_the_camera_that_they_were_made_with() -> None:
    """The same seed gives the same crops, and their horizon separates a sunset's sky from the ground."""
    assert find_panoramas()
    size = (96, 64)
    crops = {crop.name: crop for crop in make_crops(1, 0, size)}
    again = {crop.name: crop for crop in make_crops(1, 0, size)}
    assert all((crops[name].colors == again[name].colors).all() for name in crops)
    crop = crops["sunrise"]
    x, y = np.meshgrid(np.arange(96) + 0.5 - 48, np.arange(64) + 0.5 - 32)
    below = np.stack([x, y, np.full_like(x, crop.focal)], axis=-1) @ crop.down > 0
    assert 0 < below.mean() < 1
    assert crop.colors[~below].mean() > crop.colors[below].mean() + 20
