# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes built from lifted photos and videos: their pixels, what sticks to objects, and their tracks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest

import trackshade_addon
from tests.helpers import lifted_scenes as lifted
from tests.helpers import stage
from trackshade.core.errors import ShotError
from trackshade.core.geometry import project
from trackshade.core.images import write_png
from trackshade.shot import Shot
from trackshade.shot.lifted import LiftedScene
from trackshade_addon.capture.given_image import read_given_image, read_image_file
from trackshade_addon.lifting import build_scene
from trackshade_addon.lifting.meshes import UNSEEN
from trackshade_addon.placement import save_copy


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    lifted.photo(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    """A video, written by Blender itself."""
    return lifted.write_video(tmp_path / "footage.mp4")


def render(scene: bpy.types.Scene, path: Path) -> np.ndarray:
    """[H, W, 3] uint8 of the present frame."""
    scene.render.filepath = str(path)
    scene.render.image_settings.file_format = "PNG"
    bpy.ops.render.render(write_still=True, scene=scene.name)
    return read_image_file(path, None).pixels[..., :3]


def pixels_of(shot: Shot, name: str, t: int) -> np.ndarray:
    """[V, 2] where the vertices of a mesh are in the picture of a sample, in pixels of the lifted scene's picture."""
    view = shot.camera.world_to_camera[t]
    points = stage.world(shot, name, t) @ view[:3, :3].T + view[:3, 3]
    return project(points, shot.camera.intrinsics[t], False) * lifted.SIZE[0] / shot.size[0]


def corners_of(shot: Shot, name: str, t: int) -> np.ndarray:
    """[F, 3, 2] where the corners of a mesh's triangles are."""
    geometry = shot.geometries[stage.track(shot, name).geometry]
    return pixels_of(shot, name, t)[geometry.triangles]


def expected_pixels(made: LiftedScene, mesh: int, t: int) -> np.ndarray:
    view, positions = made.world_to_camera[t], made.meshes[mesh].positions
    points = positions[min(t, len(positions) - 1)] @ view[:3, :3].T + view[:3, 3]
    return project(points, made.intrinsics, False)


def test_the_first_frame_is_the_photo_also_in_a_saved_file(scene: bpy.types.Scene, photo: Path, tmp_path: Path) -> None:
    pixels = lifted.photo(photo)
    build_scene(lifted.photo_scene(photo), scene)
    save_copy(tmp_path / "scene.blend")
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "scene.blend"), load_ui=False)
    scene = bpy.context.scene
    assert (scene.frame_start, scene.frame_end) == (1, 49)
    np.testing.assert_array_equal(render(scene, tmp_path / "render.png"), pixels)


def test_a_scene_can_be_moved_without_its_photo(scene: bpy.types.Scene, photo: Path, tmp_path: Path) -> None:
    """The photo is stored in the file: renders and the first frame of the next job need nothing else."""
    pixels = lifted.photo(photo)
    trackshade_addon.register()
    try:
        build_scene(lifted.photo_scene(photo), scene)
        save_copy(tmp_path / "scene.blend")
        photo.unlink()
        (tmp_path / "elsewhere").mkdir()
        moved = (tmp_path / "scene.blend").rename(tmp_path / "elsewhere" / "scene.blend")
        bpy.ops.wm.open_mainfile(filepath=str(moved), load_ui=False)
        scene = bpy.context.scene
        np.testing.assert_array_equal(render(scene, tmp_path / "render.png"), pixels)
        request = scene.trackshade.shot_request("ViewLayer")
        np.testing.assert_array_equal(read_given_image(request.first_frame, None).pixels[..., :3], pixels)
    finally:
        trackshade_addon.unregister()


@pytest.mark.parametrize("kind", ["turned", "transparent", "not square"])
def test_photos_of_other_kinds_are_shown_as_first_frames_are(scene: bpy.types.Scene, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "photo.png"
    pixels = lifted.photo(path)
    made = lifted.wall_scene(path, aspect=1.25 if kind == "not square" else 1.0)
    if kind == "turned":
        lifted.turn(path)
        pixels = np.rot90(pixels, -1)
        made = lifted.wall_scene(path, (lifted.SIZE[1], lifted.SIZE[0]))
    elif kind == "transparent":
        alpha = np.full((*pixels.shape[:2], 1), 255, np.uint8)
        alpha[5:9, 10:20] = 0
        lifted.write_rgba(path, np.concatenate([pixels, alpha], -1))
        pixels = pixels * (alpha > 0)
    build_scene(made, scene)
    np.testing.assert_array_equal(render(scene, tmp_path / "render.png"), pixels)


def test_a_moved_object_keeps_its_picture(scene: bpy.types.Scene, photo: Path, tmp_path: Path) -> None:
    pixels = lifted.photo(photo)
    build_scene(lifted.photo_scene(photo), scene)
    person = scene.objects["Person"]
    person.keyframe_insert("location", frame=1)
    person.location.x += 8 * 3.0 / lifted.FOCAL  # by eight pixels at its depth
    person.keyframe_insert("location", frame=10)
    scene.frame_set(10)
    shown = render(scene, tmp_path / "render.png")
    np.testing.assert_array_equal(shown[10:26, 22:32], pixels[10:26, 14:24])
    np.testing.assert_array_equal(shown[:, :22], pixels[:, :22])
    pivot = lifted.photo_scene(photo).meshes[3].pivot
    assert np.allclose(person.location, pivot + np.array([0.6, 0, 0]), atol=1e-5)


def test_an_object_is_duplicated_and_removed(scene: bpy.types.Scene, photo: Path, tmp_path: Path) -> None:
    pixels, made = lifted.photo(photo), lifted.photo_scene(photo)
    build_scene(made, scene)
    person = scene.objects["Person"]
    other = person.copy()
    other.name = "Other"
    scene.collection.objects.link(other)
    other.location.x += 12 * 3.0 / lifted.FOCAL  # by twelve pixels at its depth
    shown = render(scene, tmp_path / "render.png")
    np.testing.assert_array_equal(shown[10:26, 26:36], pixels[10:26, 14:24])
    np.testing.assert_array_equal(shown[:, :26], pixels[:, :26])
    bpy.data.objects.remove(person)
    shot = stage.shoot(scene, 2)
    assert "Person" not in {mesh.name for mesh in shot.meshes}
    wanted = expected_pixels(made, 3, 0) + np.array([12.0, 0.0])
    np.testing.assert_allclose(pixels_of(shot, "Other", 1), wanted, atol=2e-3)


def test_walls_are_not_seen_from_behind(scene: bpy.types.Scene, photo: Path, tmp_path: Path) -> None:
    made = lifted.photo_scene(photo)
    build_scene(made, scene)
    camera = scene.camera
    camera.location, camera.rotation_euler = (0, 14, 2), (np.pi / 2, 0, np.pi)
    shown = render(scene, tmp_path / "behind.png")
    shot = stage.shoot(scene, 1)
    number = stage.track(shot, "Wall").surfaces
    assert number is not None
    sides = shot.surfaces[number]
    assert (sides.front.all(), sides.back.any()) == (True, False)
    bpy.data.objects.remove(scene.objects["Wall"])
    np.testing.assert_array_equal(shown, render(scene, tmp_path / "without.png"))


def test_tracks_of_a_photos_scene_are_exact(scene: bpy.types.Scene, photo: Path) -> None:
    made = lifted.photo_scene(photo)
    build_scene(made, scene)
    shot = stage.shoot(scene, 2)
    for number, mesh in enumerate(made.meshes):
        np.testing.assert_allclose(pixels_of(shot, mesh.name, 1), expected_pixels(made, number, 0), atol=2e-3)


def test_another_file_in_place_of_the_photo_is_an_error(scene: bpy.types.Scene, photo: Path) -> None:
    made = lifted.photo_scene(photo)
    write_png(photo, np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ShotError, match="8×8 pixels, and had 48×32"):
        build_scene(made, scene)


@pytest.mark.parametrize("triangles", [False, True])
def test_tracked_points_move_as_in_the_footage(
    scene: bpy.types.Scene, footage: Path, tmp_path: Path, triangles: bool
) -> None:
    made = lifted.tracked_scene(footage, triangles)
    build_scene(made, scene)
    save_copy(tmp_path / "scene.blend")
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "scene.blend"), load_ui=False)
    scene = bpy.context.scene
    assert (scene.frame_start, scene.frame_end, scene.render.fps) == (1, lifted.FRAMES, 12)
    tracks = scene.objects["Tracks"]
    faces = np.array([face.vertices[:] for face in tracks.data.polygons])
    is_person = (faces >= 48).all(1)
    assert (is_person | (faces < 48).all(1)).all()  # cut at the depth edge
    if not triangles:
        assert is_person.sum() == 8
        assert set(faces.ravel()) == set(range(57)) - set(lifted.BEHIND)  # also what is seen later
    else:
        assert len(faces) == 2
    shot = stage.shoot(scene, lifted.FRAMES)
    for t in range(lifted.FRAMES):
        shown, wanted = corners_of(shot, "Tracks", t), expected_pixels(made, 0, t)[faces]
        seen = made.meshes[0].visible[t][faces].any(1)
        assert seen.any() == (t != 2 or not triangles)
        np.testing.assert_allclose(shown[seen], wanted[seen], atol=2e-3)
        assert np.ptp(shown[~seen], axis=1).max(initial=0) < 1e-3  # shrunk to a point


def test_the_footage_is_shown_at_the_times_that_were_tracked(scene: bpy.types.Scene, footage: Path) -> None:
    made = lifted.tracked_scene(footage)
    times = [2 / 12, 2 / 12, 3 / 12, 3 / 12, 4 / 12]
    assert build_scene(replace(made, notes={**made.notes, "times": times}), scene) == ()
    user = scene.camera.data.background_images[0].image_user
    for frame, number in zip(range(1, 6), (3, 3, 4, 4, 5), strict=True):
        scene.frame_set(frame)
        assert user.frame_offset + frame == number


def test_footage_that_blender_shows_otherwise_is_left_out(scene: bpy.types.Scene, footage: Path) -> None:
    made = lifted.tracked_scene(footage)
    (warning,) = build_scene(replace(made, size=(lifted.SIZE[1], lifted.SIZE[0])), scene)
    assert "turned or stretched" in warning
    assert not scene.camera.data.background_images
    gone = replace(made, picture=str(footage.with_name("gone.mp4")))
    (warning,) = build_scene(gone, bpy.data.scenes.new("Other"))
    assert "cannot read gone.mp4" in warning


def test_tracked_points_can_be_deleted(scene: bpy.types.Scene, footage: Path) -> None:
    made = lifted.tracked_scene(footage)
    build_scene(made, scene)
    tracks = scene.objects["Tracks"]
    bpy.context.view_layer.objects.active = tracks
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_mode(type="VERT")
    bpy.ops.mesh.select_all(action="DESELECT")
    bpy.ops.object.mode_set(mode="OBJECT")
    for vertex in tracks.data.vertices:
        vertex.select = vertex.index < 48
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.delete(type="VERT")
    bpy.ops.object.mode_set(mode="OBJECT")
    assert len(tracks.data.vertices) == 9
    unseen = np.empty(9, np.bool_)
    tracks.data.attributes[f"{UNSEEN}3"].data.foreach_get("value", unseen)
    assert unseen.all()
    faces = np.array([face.vertices[:] for face in tracks.data.polygons]) + 48
    shown = corners_of(stage.shoot(scene, lifted.FRAMES), "Tracks", 4)
    np.testing.assert_allclose(shown, expected_pixels(made, 0, 4)[faces], atol=2e-3)


def test_tracked_points_can_be_masked_and_smoothed(scene: bpy.types.Scene, footage: Path) -> None:
    made = lifted.tracked_scene(footage)
    build_scene(made, scene)
    tracks = scene.objects["Tracks"]
    faces = np.array([face.vertices[:] for face in tracks.data.polygons])
    tracks.vertex_groups.new(name="Kept").add(list(range(48, 57)), 1.0, "REPLACE")
    mask = tracks.modifiers.new("Mask", "MASK")
    mask.vertex_group = "Kept"
    shown = corners_of(stage.shoot(scene, lifted.FRAMES), "Tracks", 4)
    kept = expected_pixels(made, 0, 4)[faces[(faces >= 48).all(1)]]
    np.testing.assert_allclose(shown, kept, atol=2e-3)
    smooth = tracks.modifiers.new("Smooth", "SMOOTH")
    smooth.factor, smooth.iterations = 0.5, 2
    smoothed = corners_of(stage.shoot(scene, lifted.FRAMES), "Tracks", 4)
    assert smoothed.shape == shown.shape
    assert np.ptp(smoothed.reshape(-1, 2), axis=0).max() < np.ptp(shown.reshape(-1, 2), axis=0).max()  # it shrinks
    np.testing.assert_allclose(smoothed.mean((0, 1)), shown.mean((0, 1)), atol=1.0)
