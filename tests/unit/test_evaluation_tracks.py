# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracks, the warp, followed points and cameras, on scenes whose answers are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.helpers.result_shots import at, shot
from trackshade.control import tracking_video
from trackshade.core.geometry import project
from trackshade_lab.evaluation.camera import (
    CameraErrors,
    camera_errors,
    camera_motion,
    mean_camera_errors,
    rotation_angle,
    solve_pose,
)
from trackshade_lab.evaluation.points import (
    FollowedPoints,
    ReferencePoints,
    end_point_error,
    find_trusted,
    follow_points,
    shot_points,
    texture_strength,
    tracking_video_points,
)
from trackshade_lab.evaluation.tracks import pixel_centers, shot_tracks, video_tracks
from trackshade_lab.evaluation.warp import fill_smoothly, warp_first_frame
from trackshade_lab.scenes import generate_clip, scene_shot

PER_METRE = 50 / 36 * 96 / 6  # px: the squares of `shot` are 6 m away


def noise(seed: int = 0, size: tuple[int, int] = (96, 64)) -> np.ndarray:
    """[H, W, 3] uint8, smooth and textured everywhere."""
    rough = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    soft = cv2.GaussianBlur(rough, (0, 0), 1.5).astype(float)
    return np.clip((soft - 127) * 4 + 127, 0, 255).astype(np.uint8)


def sliding(frames: int = 5, step: int = 2):
    """A square that moves `step` whole pixels to the right each frame, in front of nothing, and its true video."""
    made = shot([("square", [at(step * t / PER_METRE, 0, 0) for t in range(frames)])])
    first = noise()
    covered = shot_tracks(made)[1].mesh >= 0
    first[~covered[0]] = 90
    video = np.stack([np.where(covered[t, ..., None], np.roll(first, step * t, axis=1), 90) for t in range(frames)])
    return made, video.astype(np.uint8)


def test_places_of_a_sliding_square_are_exact():
    made, _ = sliding()
    tracks, surfaces = shot_tracks(made)
    for t in range(5):
        inside = surfaces.mesh[t] == 0
        expected = pixel_centers(made.size)[inside] - [2 * t, 0]
        assert np.abs(tracks.position[t][inside] - expected).max() < 1e-3


def test_the_warp_of_a_rigid_shift_is_exact():
    """And what never had a surface stays as it was; only the ground that the square leaves behind is made up."""
    made, video = sliding()
    tracks, surfaces = shot_tracks(made)
    found = warp_first_frame(video[0], tracks)
    left_behind = (surfaces.mesh < 0) & (surfaces.mesh[0] == 0)
    assert np.abs(found.video.astype(int) - video)[~left_behind].max() <= 1
    assert found.covered[surfaces.mesh == 0].all()
    assert not found.covered[surfaces.mesh < 0].any()
    assert not found.newly_visible.any()
    assert left_behind[4].sum() > 100


def test_hidden_points_are_newly_visible_and_not_warped():
    """A square in front moves aside: behind it comes up what nobody has seen."""
    steps = [at(0.06 * t - 0.3, 0, 1.5, scale=0.4) for t in range(6)]
    made = shot([("back", [np.eye(4)] * 6), ("front", steps)])
    tracks, surfaces = shot_tracks(made)
    first = np.where((surfaces.mesh[0] == 1)[..., None], [250, 0, 0], [0, 200, 0])
    found = warp_first_frame(first.astype(np.uint8), tracks)
    uncovered = (surfaces.mesh[5] == 0) & (surfaces.mesh[0] == 1)
    assert uncovered.sum() > 10
    assert found.newly_visible[5][uncovered].mean() > 0.95
    still_seen = (surfaces.mesh[5] == 0) & (surfaces.mesh[0] == 0)
    assert not found.newly_visible[5][still_seen].any()
    # Filled from what is around, and the front's red has not leaked into pixels that are known to be green.
    assert found.video[5][found.covered[5] & (surfaces.mesh[5] == 0)][:, 0].max() == 0


def test_tracks_of_a_tracking_video_are_better_than_8_bits():
    clip = generate_clip(3, (144, 96), 9, "moving-camera", split="held-out")
    exact, _ = shot_tracks(scene_shot(clip.scene, (144, 96)))
    found = video_tracks(clip.tracking)
    both = exact.tracked & found.tracked
    both[0] = False
    stepped = clip.tracking[..., :2] * (np.array([144, 96]) / 255)

    def error(place: np.ndarray) -> float:
        return float(np.linalg.norm((place - exact.position)[both], axis=-1).mean())

    assert error(found.position) < 0.6 * error(stepped)
    assert np.allclose(found.position[0], pixel_centers((144, 96)), atol=1e-3)


def test_clips_and_their_shots_have_one_tracking_video():
    clip = generate_clip(5, (96, 64), 5, "crowd", split="held-out")
    again = tracking_video(scene_shot(clip.scene, (96, 64)), threads=1).frames
    assert (np.abs(again.astype(int) - clip.tracking) <= 1).all()


def test_texture_strength_of_corners_edges_and_uniform_areas():
    frame = np.zeros((40, 60, 3), np.uint8)
    frame[:, 30:] = 100  # an edge
    assert texture_strength(frame).max() < 0.5
    frame[20:, :30] = 200  # now with a corner
    assert texture_strength(frame)[20, 30] > 10


def test_followed_points_move_with_the_image():
    video = np.stack([np.roll(noise(), (t, -2 * t), axis=(0, 1)) for t in range(6)])
    start = np.stack(np.meshgrid(np.arange(25.5, 75, 8), np.arange(20.5, 45, 8)), -1).reshape(-1, 2)
    found = follow_points(video, start)
    assert found.valid.mean() > 0.9
    expected = start[:, None] + np.arange(6)[:, None] * [-2, 1]
    assert np.abs(found.pixels - expected)[found.valid].max() < 0.3


def test_end_point_error_of_a_known_displacement():
    made, video = sliding(frames=6)
    points = shot_points(made, shot_tracks(made)[1], video[0])
    trust = find_trusted(follow_points(video, points.pixels[:, 0]), points, video.shape[2])
    assert len(points) > 50

    def error(shown: np.ndarray) -> float:
        return end_point_error(follow_points(shown, points.pixels[:, 0]), points, trust, 96)["end_px"]

    assert error(video) < 0.15
    assert error(np.broadcast_to(video[:1], video.shape)) == pytest.approx(np.mean([2, 4, 6, 8, 10]), abs=0.3)
    slower = np.stack([video[t // 2] for t in range(6)])  # 0, 0, 1, 1, 2, 2 instead of 0 to 5
    assert error(slower) == pytest.approx(2 * np.mean([1, 1, 2, 2, 3]), abs=0.3)


def test_points_of_a_tracking_video_are_those_of_the_shot():
    made, video = sliding(frames=6)
    points = tracking_video_points(video_tracks(tracking_video(made, threads=1).frames), video[0])
    moved = points.pixels - points.pixels[:, :1]
    expected = np.arange(6)[:, None] * [2.0, 0.0]
    assert points.visible[:, 1:].mean() > 0.6
    assert np.abs(moved - expected)[points.visible].mean() < 0.1


def cloud(seed: int = 0) -> np.ndarray:
    """[60, 3] points in a box 4 to 7 m in front of the first camera, metres."""
    return np.random.default_rng(seed).uniform([-1.5, -1, 4], [1.5, 1, 7], (60, 3))


def orbit(frames: int, degrees: float) -> np.ndarray:
    """[T, 4, 4] world to camera: around a point 5.5 m ahead."""
    poses = []
    for angle in np.radians(np.linspace(0, degrees, frames)):
        turn = cv2.Rodrigues(np.array([0.0, angle, 0.0]))[0]
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = turn, np.array([0, 0, 5.5]) - turn @ np.array([0, 0, 5.5])
        poses.append(pose)
    return np.stack(poses)


K = np.array([[150.0, 0, 72], [0, 150.0, 48], [0, 0, 1]])


def seen_from(world: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """[P, T, 2] px."""
    return np.stack([project(world @ m[:3, :3].T + m[:3, 3], K, False) for m in poses], axis=1)


def test_a_known_pose_is_found_among_outliers():
    world, pose = cloud(), orbit(2, 20)[1]
    pixels = seen_from(world, pose[None])[:, 0]
    pixels[:15] += 12
    found = solve_pose(world, pixels, K, 2.0)
    assert found is not None
    assert np.abs(found - pose).max() < 1e-4
    assert solve_pose(world[:10], pixels[:10], K, 2.0) is None


def test_camera_error_of_a_camera_that_turns_half_as_far():
    world, poses, half = cloud(), orbit(9, 24), orbit(9, 12)
    points = ReferencePoints(seen_from(world, poses), np.ones((60, 9), bool), world, np.ones(60, bool))
    intrinsics = np.repeat(K[None], 9, 0)
    everything = np.ones((60, 9), bool)

    def errors(seen: np.ndarray):
        return camera_errors(FollowedPoints(seen, everything), points, everything, poses, intrinsics, 144)

    truth = errors(points.pixels)
    right = mean_camera_errors(truth, truth)
    assert right["rotation"] < 1e-3
    assert right["translation"] < 0.1
    assert right["solved"] == right["camera_counted"] == 1
    wrong = mean_camera_errors(errors(seen_from(world, half)), truth)
    assert wrong["rotation"] == pytest.approx(np.mean(np.linspace(0, 24, 9)[1:] / 2), abs=0.05)
    # Half way around on the same circle: the chord's direction is off by a quarter of the angle.
    assert wrong["translation"] == pytest.approx(np.mean(np.linspace(0, 24, 9)[1:] / 4), abs=0.7)
    opposite = mean_camera_errors(errors(seen_from(world, orbit(9, -24))), truth)
    assert opposite["translation"] > 140


def test_frames_with_a_wrong_true_camera_are_ignored():
    nan = np.nan
    truth = CameraErrors(np.array([nan, 0.5, 11.0, nan, 1.0]), np.array([nan, 3.0, 4.0, nan, 40.0]))
    made = CameraErrors(np.array([nan, 2.0, 90.0, 90.0, nan]), np.array([nan, 8.0, 90.0, 90.0, 90.0]))
    found = mean_camera_errors(made, truth)
    assert tuple(found.values()) == (2.0, 8.0, 0.5, 0.5)
    nothing = mean_camera_errors(made, CameraErrors(np.full(5, nan), np.full(5, nan)))
    assert nothing["camera_counted"] == 0
    assert np.isnan([nothing[name] for name in ("rotation", "translation", "solved")]).all()


def test_moving_points_are_not_used_for_the_camera():
    world, poses = cloud(), orbit(5, 16)
    still = np.arange(60) >= 30
    pixels = seen_from(world, poses)
    pixels[:30] += np.arange(5)[:, None] * [3.0, 0]
    points = ReferencePoints(pixels, np.ones((60, 5), bool), world, still)
    everything = np.ones((60, 5), bool)
    found = camera_errors(FollowedPoints(pixels, everything), points, everything, poses, np.repeat(K[None], 5, 0), 144)
    assert np.nanmax(found.rotation) < 1e-3


def test_nearly_flat_points_keep_the_pose_near_the_previous_one():
    """Two cameras fit them almost alike; the one that goes on from the frame before is meant."""
    rng = np.random.default_rng(3)
    world = np.column_stack([rng.uniform(-1.2, 1.2, (40, 2)), rng.normal(0, 0.005, 40)])
    poses, everything = orbit(9, 5), np.ones((40, 9), bool)
    pixels = seen_from(world, poses) + rng.normal(0, 0.2, (40, 9, 2))
    alone = [solve_pose(world, pixels[:, t], K, 2.0) for t in range(1, 9)]
    turned = [rotation_angle(pose[:3, :3], poses[t, :3, :3]) for t, pose in enumerate(alone, 1) if pose is not None]
    assert max(turned) > 90
    points = ReferencePoints(pixels, everything, world, np.ones(40, bool))
    found = camera_errors(FollowedPoints(pixels, everything), points, everything, poses, np.repeat(K[None], 9, 0), 144)
    assert np.nanmax(found.rotation) < 15


def test_small_and_large_camera_motion():
    assert camera_motion(orbit(5, 4), cloud()).is_small
    assert not camera_motion(orbit(5, 30), cloud()).is_small
    assert not camera_motion(orbit(5, 0), cloud()).is_moving
    assert camera_motion(orbit(5, 30), cloud()).degrees == pytest.approx(30)
    assert rotation_angle(np.eye(3), orbit(2, 11)[1, :3, :3]) == pytest.approx(11)


def test_holes_are_filled_from_pixels_of_the_same_label():
    """Behind an object comes up its background, not its color; known pixels stay."""
    frame = np.zeros((30, 40, 3), np.uint8)
    kinds = np.zeros((30, 40), bool)
    kinds[10:20, 20:30] = True
    frame[~kinds], frame[kinds] = 200, 50
    known = np.ones((30, 40), bool)
    known[10:20, 10:20] = False  # where the object was
    known[12:14, 22:24] = False  # and a hole in it
    spoilt = np.where(known[..., None], frame, 0)
    assert np.array_equal(fill_smoothly(spoilt, known, kinds), frame)
    assert np.array_equal(fill_smoothly(spoilt, np.zeros_like(known), kinds), spoilt)  # nothing to fill from
