# SPDX-License-Identifier: GPL-3.0-or-later
"""A result placed in a scene that has lost its camera: one is made from the record, and sees the same."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.helpers.place_results import make_result, new_scene, numbered, render
from trackshade.core.fitting import fit_size
from trackshade.core.geometry import intrinsics, orthographic_intrinsics, project, world_to_camera
from trackshade_addon.capture.camera import camera_intrinsics
from trackshade_addon.placement import place, remove

SAMPLES = [1, 2.5, 4]


@pytest.mark.parametrize("orthographic", [False, True])
@pytest.mark.parametrize("source", [(96, 40), (40, 96)])
def test_the_camera_of_the_record_sees_the_same(tmp_path: Path, orthographic: bool, source: tuple[int, int]) -> None:
    scene = new_scene(source)
    bpy.data.objects.remove(scene.camera)
    scene.render.pixel_aspect_x = 1.5
    fit = fit_size(source, (1.5, 1.0), [(12, 8)])
    frame = {"sensor_fit": "AUTO", "shift_x": 0.2, "shift_y": -0.1, "size": source, "pixel_aspect": (1.5, 1.0)}
    if orthographic:
        seen = [orthographic_intrinsics(ortho_scale=4 + t, **frame) for t in range(3)]
    else:
        sensor = {"sensor_width": 32, "sensor_height": 18}
        seen = [intrinsics(lens=40 + 10 * t, **sensor, **frame) for t in range(3)]
    turns = np.stack([rotated(0.4 + t, 0.2 - 0.5 * t, 0.1) for t in range(3)])
    matrices = world_to_camera(turns)
    folder = make_result(
        tmp_path / "job",
        numbered(3, (12, 8)),
        SAMPLES,
        cameras="Lost",
        fit=fit,
        world_to_camera=matrices,
        intrinsics=np.stack([fit.apply(k) for k in seen]),
        orthographic=orthographic,
    )
    before = sorted(block.name for block in [*bpy.data.objects, *bpy.data.actions])
    placed = place(folder, scene)
    assert any("has no camera 'Lost'" in warning for warning in placed.warnings)
    assert scene.camera.name == "Lost"
    points = np.random.default_rng(2).uniform((-1, -1, 5), (1, 1, 7), (20, 3))  # camera space
    for t, sample in enumerate(SAMPLES):
        scene.frame_set(int(sample), subframe=sample % 1)
        world = points @ np.linalg.inv(matrices[t])[:3, :3].T + np.linalg.inv(matrices[t])[:3, 3]
        matrix = world_to_camera(np.array(scene.camera.matrix_world))
        there = world @ matrix[:3, :3].T + matrix[:3, 3]
        k = camera_intrinsics(scene.camera.data, "Lost", fit)
        assert np.abs(project(there, k, orthographic) - project(points, fit.apply(seen[t]), orthographic)).max() < 1e-3
    for frame_number, expected in ((1, 10), (4, 30)):
        assert np.abs(render(scene, frame_number, tmp_path / "out.png") - expected).max() <= 1
    again = place(folder, scene)
    assert again == placed
    assert scene.camera.name == "Lost"
    remove(placed)
    assert sorted(block.name for block in [*bpy.data.objects, *bpy.data.actions]) == before


def rotated(x: float, y: float, z: float) -> np.ndarray:
    """[4, 4] a camera's place, turned by three angles."""
    from mathutils import Euler, Matrix

    return np.array(Matrix.Translation((x, y, z)) @ Euler((x, y, z)).to_matrix().to_4x4())
