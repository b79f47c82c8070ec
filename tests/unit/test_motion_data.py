# SPDX-License-Identifier: GPL-3.0-or-later
"""Generated clips of figures in motion: what they state is exact, and training and held-out clips are apart."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from trackshade.core.errors import UsageError
from trackshade.motion.bvh import write_bvh
from trackshade.motion.framing import DISTANCE, LANDMARKS, focal_length, project
from trackshade.motion.pose_fit import fit_rotations
from trackshade.motion.retargeting import motion_of_rotations
from trackshade.motion.skeleton import JOINTS, NUM_JOINTS, PARENTS, REST_OFFSETS, orientations, positions
from trackshade_lab.motion.clips import FRAME_SIZE, HELD_OUT_AZIMUTHS, ClipOptions, Clips, sample_clips
from trackshade_lab.motion.figures import CAPSULE_ENDS, POINTS, average_figure, sample_figures
from trackshade_lab.motion.motions import FPS, HELD_OUT_MOTIONS, MOTIONS, load_motions, sample_motions
from trackshade_lab.motion.raster import find_visible


def clips(seed: int = 1, count: int = 6, **options) -> Clips:
    return sample_clips(np.random.default_rng(seed), count, ClipOptions(**options))


def rotation(axis: str, degrees: float) -> np.ndarray:
    """Return a rotation about an axis by the formula of Rodrigues."""
    direction = np.eye(3)["xyz".index(axis)]
    cross = np.cross(direction, np.eye(3)).T
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def test_parents_come_before_their_children() -> None:
    assert PARENTS[0] == -1
    assert all(0 <= parent < joint for joint, parent in enumerate(PARENTS) if joint)


def test_a_child_moves_with_its_parent() -> None:
    """A left arm lifted forward by 90 degrees holds the hand before the shoulder; nothing else moves."""
    local = np.broadcast_to(np.eye(3), (NUM_JOINTS, 3, 3)).copy()
    local[JOINTS.index("upper_arm_l")] = rotation("x", -90)
    rest, lifted = positions(np.broadcast_to(np.eye(3), local.shape)), positions(local)
    shoulder, hand = JOINTS.index("upper_arm_l"), JOINTS.index("hand_l")
    length = -REST_OFFSETS[[JOINTS.index("forearm_l"), hand], 2].sum()
    np.testing.assert_allclose(lifted[hand], lifted[shoulder] + [0, -length, 0], atol=1e-12)
    others = [JOINTS.index(name) for name in JOINTS if name not in ("forearm_l", "hand_l", "fingers_l")]
    np.testing.assert_allclose(lifted[others], rest[others], atol=1e-12)
    np.testing.assert_allclose(orientations(local)[hand], rotation("x", -90), atol=1e-12)


@pytest.mark.parametrize("motion", [*MOTIONS, *HELD_OUT_MOTIONS])
def test_motions_are_rotations_and_the_root_does_not_turn(motion: str) -> None:
    local = sample_motions(np.random.default_rng(3), 5, motion=motion)
    np.testing.assert_allclose(local @ local.swapaxes(-1, -2), np.broadcast_to(np.eye(3), local.shape), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(local), 1, atol=1e-9)
    np.testing.assert_array_equal(local[:, :, 0], np.broadcast_to(np.eye(3), local[:, :, 0].shape))
    assert np.abs(np.diff(local, axis=1)).max() > 0.05


def test_motions_are_taken_from_bvh_files(tmp_path: Path) -> None:
    local = sample_motions(np.random.default_rng(3), 1)[0]
    write_bvh(tmp_path / "dance.bvh", motion_of_rotations(local, FPS))
    library = load_motions(tmp_path, 1.0)
    np.testing.assert_allclose(library.windows, local[None], atol=1e-4)
    taken = sample_motions(np.random.default_rng(4), 3, library=library)
    np.testing.assert_array_equal(taken, np.repeat(library.windows, 3, axis=0))
    with pytest.raises(UsageError, match="no BVH files"):
        load_motions(tmp_path / "elsewhere", 1.0)


def test_pictures_of_skeletons_are_thin_bones_between_landmarks() -> None:
    made = clips(targets=False, skeletons=True)
    assert made.driving is not None
    lit = made.driving.max(axis=-1) > 0.1
    assert 0.01 < lit.mean() < 0.12
    knee = made.driving_landmarks[:, :, LANDMARKS.index("shin_l")].astype(int)
    assert np.mean([lit[n, t, y, x] for n in range(6) for t, (x, y) in enumerate(knee[n])]) > 0.9


def test_walking_swings_the_legs_in_opposite_directions() -> None:
    local = sample_motions(np.random.default_rng(4), 20, motion="walk")
    forward = [local[:, :, JOINTS.index(name), 1, 2] for name in ("thigh_l", "thigh_r")]  # sine of the flexion
    left, right = (angle - angle.mean(axis=1, keepdims=True) for angle in forward)
    assert (left * right).sum() < -0.8 * np.sqrt((left**2).sum() * (right**2).sum())


def test_landmarks_are_the_projected_joints() -> None:
    """Up to the framing of a clip (zoom and place), which is the same in all of its frames."""
    made = clips(targets=False)
    plane, _ = project(made.body_landmarks, made.azimuth, made.elevation)
    expected = plane * focal_length(FRAME_SIZE[1]) + np.array(FRAME_SIZE) / 2
    for said, true in zip(expected, made.landmarks, strict=True):
        said, true = said.reshape(-1, 2), true.reshape(-1, 2)
        zoom = np.ptp(true, axis=0) / np.ptp(said, axis=0)
        assert 0.94 < zoom[0] < 1.03
        np.testing.assert_allclose(zoom[0], zoom[1], rtol=1e-9)
        np.testing.assert_allclose(true - true.mean(0), (said - said.mean(0)) * zoom, atol=1e-9)


def test_joint_rotations_and_build_give_the_landmarks() -> None:
    rng = np.random.default_rng(5)
    figures, local = sample_figures(rng, 3), sample_motions(rng, 3)
    points = figures.pose(local)
    joints = positions(local, figures.offsets[:, None])
    shift = points[:, :, 0] - joints[:, :, 0]  # to the floor
    np.testing.assert_allclose(points[:, :, :NUM_JOINTS], joints + shift[:, :, None], atol=1e-12)
    np.testing.assert_allclose(shift[..., :2], 0, atol=1e-12)
    feet = [POINTS.index(name) for name in ("foot_l", "foot_r", "toe_l", "toe_r", "shin_l", "shin_r")]
    np.testing.assert_allclose(points[:, :, feet, 2].min(axis=2), 0.05, atol=1e-12)


def test_rotations_are_fitted_to_landmarks() -> None:
    """From those of the next frame the limbs come to where they are; rotations that already fit stay."""
    local, other = sample_motions(np.random.default_rng(6), 8)[:, :2].swapaxes(0, 1)
    made = average_figure().pose(local[:, None])[:, 0]
    landmarks = made[:, [POINTS.index(name) for name in LANDMARKS]]
    fitted = average_figure().pose(fit_rotations(other, landmarks, 0.02)[:, None])[:, 0]
    limbs = [POINTS.index(f"{name}_{side}") for name in ("forearm", "hand", "shin", "foot") for side in "lr"]
    following = average_figure().pose(other[:, None])[:, 0]
    assert np.linalg.norm(following - made, axis=-1)[:, limbs].mean() > 0.08
    np.testing.assert_allclose(fitted[:, limbs, :2], made[:, limbs, :2], atol=0.03)
    np.testing.assert_allclose(fit_rotations(local, landmarks), local, atol=0.05)


def test_the_figure_is_drawn_where_its_landmarks_are() -> None:
    made = clips(count=12)
    assert made.coverage is not None
    width, height = FRAME_SIZE
    covered = []
    for name in ("neck", "thigh_l", "thigh_r", "shin_l", "forearm_r"):
        place = made.landmarks[:, :, LANDMARKS.index(name)].astype(int)
        inside = (place >= 0).all(-1) & (place < (width, height)).all(-1)
        clip, frame = np.nonzero(inside)
        x, y = place[inside].T
        covered.append(made.coverage[clip, frame, y, x])
    assert np.concatenate(covered).mean() > 0.97
    assert 0.03 < made.coverage.mean() < 0.3


def test_hidden_landmarks_are_behind_the_body() -> None:
    """From the left an arm hides nothing of its own, and the right one is behind the body, until it is raised."""
    figure = average_figure()
    local = np.broadcast_to(np.eye(3), (1, 2, NUM_JOINTS, 3, 3)).copy()
    local[0, 1, JOINTS.index("upper_arm_r")] = rotation("x", -90)  # forward
    points = figure.pose(local)[0]
    plane, depth = project(points, np.full(2, np.pi / 2), np.zeros(2))
    focal = focal_length(FRAME_SIZE[1])
    places = plane * focal + np.array(FRAME_SIZE) / 2
    names = ("forearm_l", "hand_l", "forearm_r", "hand_r")
    visible = find_visible(
        places, depth + DISTANCE, np.full(2, focal), CAPSULE_ENDS, np.repeat(figure.radii, 2, axis=0),
        np.array([POINTS.index(name) for name in names]), FRAME_SIZE,
    )  # fmt: skip
    assert visible[0].tolist() == [True, True, False, False]
    assert visible[1].tolist() == [True, True, True, True]
    moved = find_visible(
        places + 1000, depth + DISTANCE, np.full(2, focal), CAPSULE_ENDS, np.repeat(figure.radii, 2, axis=0),
        np.arange(len(POINTS)), FRAME_SIZE,
    )  # fmt: skip
    assert not moved.any()  # beside the picture


def test_azimuths_are_about_the_body_and_to_its_left() -> None:
    """From 0 degrees the left hand is at the right of the picture; from 90 degrees the toes point to its left."""
    points = average_figure().pose(np.broadcast_to(np.eye(3), (1, 1, NUM_JOINTS, 3, 3)))[0, 0]
    front, _ = project(points, np.array(0.0), np.array(0.0))
    side, depth = project(points, np.array(np.pi / 2), np.array(0.0))
    left, right, toe, foot = (POINTS.index(name) for name in ("hand_l", "hand_r", "toe_l", "foot_l"))
    assert front[left, 0] > 0 > front[right, 0]
    assert side[toe, 0] < side[foot, 0]
    assert depth[left] < depth[right]


def test_the_driver_is_at_the_asked_angle_from_the_target() -> None:
    made = clips(azimuth_difference=60, targets=False, drivers=False)
    difference = np.degrees(made.driving_azimuth - made.azimuth)
    np.testing.assert_allclose(np.abs(difference), 60, atol=1e-9)
    single = clips(cross_view=0.0, targets=False, drivers=False)
    np.testing.assert_array_equal(single.driving_azimuth, single.azimuth)


def test_a_seed_determines_every_array() -> None:
    first, second, other = (clips(seed) for seed in (7, 7, 8))
    for entry in dataclasses.fields(Clips):
        np.testing.assert_array_equal(getattr(first, entry.name), getattr(second, entry.name), err_msg=entry.name)
    assert np.abs(first.local - other.local).max() > 0.1
    assert first.target is not None
    assert other.target is not None
    assert np.abs(first.target - other.target).max() > 0.1


def test_training_never_sees_what_is_held_out() -> None:
    options = {"targets": False, "drivers": False, "moving": 0.5}

    def held_out(azimuth: np.ndarray) -> np.ndarray:
        degrees = (np.degrees(azimuth) + 180) % 360 - 180
        return np.any([(degrees > low) & (degrees < high) for low, high in HELD_OUT_AZIMUTHS], axis=0)

    training, others = clips(count=400, **options), clips(count=100, split="held-out", moving=0.0, targets=False)
    assert not held_out(training.azimuth).any()
    assert not held_out(training.reference_azimuth).any()
    assert held_out(others.azimuth).all()
    rng = np.random.default_rng(9)
    ranges = {}
    for split in ("training", "held-out"):
        figures = sample_figures(rng, 300, split)
        hips = figures.offsets[:, JOINTS.index("thigh_l")]
        ranges[split] = hips[:, 0] / -hips[:, 2]
    assert not set(MOTIONS) & set(HELD_OUT_MOTIONS)
    with pytest.raises(AssertionError):  # the builds differ
        np.testing.assert_allclose(np.ptp(ranges["training"]), np.ptp(ranges["held-out"]), rtol=0.05)


def test_a_clip_keeps_its_background() -> None:
    made = clips(count=4, apart=1.0)
    assert made.target is not None
    assert made.reference is not None
    assert made.background is not None
    assert made.coverage is not None
    bare = made.coverage == 0
    difference = np.abs(made.target - made.background[:, None])
    assert difference[bare].max() < 1e-6
    assert (np.abs(made.reference - made.background) < 1e-6).all(-1).mean() > 0.6
