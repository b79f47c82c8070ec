# SPDX-License-Identifier: GPL-3.0-or-later
"""Keyframes of lifted scenes: motions as text, camera presets, and what lifting again does to them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from tests.helpers import lifted_scenes as lifted
from tests.helpers import stage
from trackshade.core.camera_motion import parse_camera_motion, parse_object_motion
from trackshade.core.errors import UsageError
from trackshade.core.geometry import camera_to_blender, world_to_camera
from trackshade.shot.lifted import LiftedScene
from trackshade_addon import commands
from trackshade_addon.lifting import build_scene
from trackshade_addon.lifting.motion import (
    apply_preset,
    camera_path,
    follow_path,
    move_object,
    move_scene_camera,
    parse_object_option,
    subject_distance,
)
from trackshade_addon.lifting.update import update_scene
from trackshade_addon.placement import save_copy

FRAMES = 9


@pytest.fixture
def made(scene: bpy.types.Scene, tmp_path: Path) -> LiftedScene:
    lifted.photo(tmp_path / "photo.png")
    made = lifted.photo_scene(tmp_path / "photo.png")
    build_scene(made, scene, FRAMES)
    return made


def view(scene: bpy.types.Scene, frame: int) -> np.ndarray:
    scene.frame_set(frame)
    return world_to_camera(np.array(scene.camera.matrix_world))


def test_a_motion_as_text_moves_the_camera_as_defined(scene: bpy.types.Scene, made: LiftedScene) -> None:
    text = "trans 0.2 0 -0.5 0 4; rot y 10"
    move_scene_camera(scene, text)
    wanted = parse_camera_motion(text, FRAMES) @ made.world_to_camera[0]
    for t in range(FRAMES):
        np.testing.assert_allclose(view(scene, 1 + t), wanted[t], atol=2e-6)
    move_scene_camera(scene, "trans 0 0.1 0", "append")
    np.testing.assert_allclose(view(scene, FRAMES)[1, 3], wanted[-1][1, 3] + 0.1, atol=2e-6)
    move_scene_camera(scene, "rot z 0", "override")
    np.testing.assert_allclose(view(scene, FRAMES), made.world_to_camera[0], atol=2e-6)


def test_a_motion_as_text_moves_an_object_about_its_center(scene: bpy.types.Scene, made: LiftedScene) -> None:
    person = made.meshes[3]
    move_object(scene, "Person", "right 0.5; rot y 40")
    center = person.positions[0].astype(np.float64).mean(0)
    wanted = parse_object_motion("right 0.5; rot y 40", FRAMES, center, made.world_to_camera[0])
    points = np.column_stack([person.positions[0], np.ones(4)])
    shot = stage.shoot(scene, FRAMES)
    for t in (0, 4, FRAMES - 1):
        np.testing.assert_allclose(stage.world(shot, "Person", t), (points @ wanted[t].T)[:, :3], atol=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda scene: move_object(scene, "Nobody", "up"), "no object 'Nobody'"),
        (lambda scene: move_scene_camera(scene, "fly 1"), "'fly'"),
        (lambda scene: parse_object_option("right 0.5"), "names no object"),
        (lambda scene: apply_preset(scene, "orbit", 10.0, 5, 5), "no duration"),
        (lambda scene: apply_preset(scene, "zoom", -1.0, 1, 5), "above 0"),
    ],
)
def test_what_cannot_be_moved_is_a_sentence(scene: bpy.types.Scene, made: LiftedScene, call, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        call(scene)


def test_presets_move_about_the_nearest_object(scene: bpy.types.Scene, made: LiftedScene) -> None:
    start = view(scene, 1)
    distance = subject_distance(scene, start)
    assert distance == pytest.approx(3.0, abs=1e-5)
    pivot = np.linalg.inv(start) @ np.array([0, 0, distance, 1])
    apply_preset(scene, "orbit", 30.0, 1, FRAMES)
    np.testing.assert_allclose(view(scene, 1), start, atol=2e-6)
    end = view(scene, FRAMES)
    np.testing.assert_allclose(end @ pivot, [0, 0, distance, 1], atol=1e-5)
    assert np.degrees(np.arccos((np.trace(end[:3, :3] @ start[:3, :3].T) - 1) / 2)) == pytest.approx(30, abs=0.3)
    apply_preset(scene, "dolly-zoom", 0.5, 1, FRAMES)
    np.testing.assert_allclose(view(scene, 1), start, atol=2e-6)  # the earlier move is gone
    lens = scene.camera.data.lens
    scene.frame_set(FRAMES)
    assert scene.camera.data.lens == pytest.approx(lens / 2, rel=1e-5)


def test_lifting_again_keeps_the_users_motion(scene: bpy.types.Scene, made: LiftedScene) -> None:
    person, camera = scene.objects["Person"], scene.camera
    pivot = made.meshes[3].pivot
    stage.key(person, "location", {1: tuple(pivot), 5: tuple(pivot + np.array([1.0, 0.0, 0.0]))})
    camera.rotation_mode = "XYZ"
    for frame, by in ((1, 0.0), (5, -0.6)):
        camera.matrix_basis = Matrix((camera_to_blender(made.world_to_camera[0]) @ moved(by)).tolist())
        camera.keyframe_insert("location", frame=frame)
        camera.keyframe_insert("rotation_euler", frame=frame)
    twin = bpy.data.objects.new("Twin", person.data)
    twin.location = pivot + np.array([0.0, 2.0, 0.0])
    scene.collection.objects.link(twin)

    again = lifted.photo_scene(Path(made.picture), pitch=0.2, height=3.2)
    renamed = replace(again.meshes[1], name="Back wall")
    update_scene(replace(again, meshes=(again.meshes[0], renamed, *again.meshes[2:])), scene)

    pivot = again.meshes[3].pivot
    scene.frame_set(1)
    np.testing.assert_allclose(person.location, pivot, atol=1e-5)
    np.testing.assert_allclose(twin.location, pivot + np.array([0.0, 4.0, 0.0]), atol=1e-5)  # twice the height
    np.testing.assert_allclose(view(scene, 1), again.world_to_camera[0], atol=1e-5)
    scene.frame_set(5)
    np.testing.assert_allclose(person.location, pivot + np.array([2.0, 0.0, 0.0]), atol=1e-5)
    wanted = world_to_camera(camera_to_blender(again.world_to_camera[0]) @ moved(-1.2))
    np.testing.assert_allclose(view(scene, 5), wanted, atol=1e-5)
    assert camera.rotation_mode == "XYZ"
    names = {obj.name for obj in scene.objects}
    assert "Back wall" in names
    assert "Wall" not in names
    assert len(bpy.data.materials) == 2
    shot = stage.shoot(scene, 1)
    np.testing.assert_allclose(stage.world(shot, "Ground", 0), again.meshes[2].positions[0], atol=1e-5)


def moved(by: float) -> np.ndarray:
    """A move along the camera's axis."""
    matrix = np.eye(4)
    matrix[2, 3] = by
    return matrix


def test_a_photo_gives_no_light_and_takes_it(scene: bpy.types.Scene, made: LiftedScene) -> None:
    assert not stage.shoot(scene, 1).source["light"]["lit"]
    stage.add(scene, "Sun", bpy.data.lights.new("Sun", "SUN"))
    assert stage.shoot(scene, 1).source["light"]["lit"]


def test_the_camera_follows_another_file(scene: bpy.types.Scene, made: LiftedScene, tmp_path: Path) -> None:
    apply_preset(scene, "orbit", 20.0, 1, FRAMES)
    scene.camera.data.lens *= 2  # another lens
    scene.camera.data.keyframe_insert("lens", frame=1)
    scene.camera.data.lens *= 2
    scene.camera.data.keyframe_insert("lens", frame=FRAMES)
    path = camera_path(scene)
    wanted = [view(scene, frame) for frame in (1, 5, FRAMES)]
    other = bpy.context.window_manager.windows[0].scene = bpy.data.scenes.new("Other")
    build_scene(made, other, 2 * FRAMES - 1)
    lens = other.camera.data.lens
    follow_path(other, path)
    for frame, matrix in zip((1, FRAMES, 2 * FRAMES - 1), wanted, strict=True):
        np.testing.assert_allclose(view(other, frame), matrix, atol=1e-5)
    assert other.camera.data.lens == pytest.approx(2 * lens, rel=1e-5)
    follow_path(other, replace(path, intrinsics=None), "append")
    np.testing.assert_allclose(view(other, 1), wanted[0], atol=1e-5)


def test_a_camera_path_is_an_option(scene: bpy.types.Scene, made: LiftedScene, tmp_path: Path) -> None:
    apply_preset(scene, "truck", 0.5, 1, FRAMES)
    save_copy(tmp_path / "camera.blend")
    np.savez(tmp_path / "camera.npz", world_to_camera=camera_path(scene).world_to_camera)
    for name in ("camera.blend", "camera.npz"):
        values = {"camera_path": str(tmp_path / name), "camera_mode": "override", "scene": "other.blend"}
        path = commands._read_camera_path(values, lambda progress: None)
        assert path is not None
        assert np.ptp(path.world_to_camera[:, 0, 3]) == pytest.approx(1.5, rel=1e-4)
    with pytest.raises(UsageError, match="cannot be read beside"):
        commands._read_camera_path({**values, "camera_path": "camera.blend", "scene": None}, lambda progress: None)
