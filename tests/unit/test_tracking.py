# SPDX-License-Identifier: GPL-3.0-or-later
"""Footage becomes tracks: camera, points and what moves by itself, against ray-cast clips whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.footage import Card, Truth, arc, noise, render, room
from trackshade.cli import backend_tasks
from trackshade.control.raster import Buffers, draw, to_screen
from trackshade.core.errors import CancelledError, ShotError, UsageError
from trackshade.results.video import write_video
from trackshade.shot.lifted import LiftedScene
from trackshade.shot.track_request import TrackRequest
from trackshade.tracking import track_video
from trackshade.tracking.bundle import Observations, Solution, depths_from_motion
from trackshade.tracking.features import Features
from trackshade.tracking.photometric import Patches, patch_offsets, smoothed
from trackshade.tracking.points import point_grid
from trackshade_lab.evaluation.tracking.measures import measure_camera, measure_tracks, scene_tracks

pytestmark = pytest.mark.slow

SIZE = (192, 128)


@pytest.fixture(scope="module")
def clip() -> Truth:
    return render(room(3, moving=True), arc(12, 12.0), SIZE)


@pytest.fixture(scope="module")
def tracked(clip: Truth, tmp_path_factory: pytest.TempPathFactory) -> LiftedScene:
    path = tmp_path_factory.mktemp("footage") / "room.mp4"
    write_video(path, clip.images, 24, lossless=True)
    out = path.with_suffix(".lifted")
    request = TrackRequest(focal=clip.intrinsics[0, 0], spacing=4)
    result = backend_tasks.TASKS["track"](str(path), json.dumps(request.to_dict()), str(out))
    assert (result["out"], result["frames"], result["warnings"]) == (str(out), 12, [])
    return LiftedScene.load(out)


def test_the_camera_is_solved(clip: Truth, tracked: LiftedScene) -> None:
    errors = measure_camera(tracked.world_to_camera, clip.cameras)
    assert errors["rotation"] < 0.1
    assert errors["direction"] < 1.0
    assert (tracked.notes["camera"], tracked.notes["static_share"] > 0.8) == ("moves", True)


def test_points_are_where_they_are_seen(clip: Truth, tracked: LiftedScene) -> None:
    pixels, seen = scene_tracks(tracked)
    truth, visible, _ = clip.tracks(pixels[:, 0])
    figures = measure_tracks(pixels, seen, truth.swapaxes(0, 1), visible.T)
    assert figures["median_error"] < 0.3
    assert figures["delta"] > 0.9
    assert figures["occlusion_accuracy"] > 0.9
    # The median depth is the one that is promised, and triangles face the first camera.
    still = [mesh.positions[0, : mesh.positions.shape[1] - mesh.added] for mesh in tracked.meshes[:2]]
    place = np.concatenate(still) @ tracked.world_to_camera[0, :3, :3].T
    assert np.median(place[:, 2]) == pytest.approx(tracked.notes["median_depth"], rel=0.02)
    for mesh in tracked.meshes:
        faces = mesh.triangles
        if len(mesh.visible):  # what appears later is hidden, and may be folded
            faces = faces[mesh.visible[0][faces].all(axis=1)]
        a, b, c = (mesh.positions[0][faces] @ tracked.world_to_camera[0, :3, :3].T).swapaxes(0, 1)
        assert (np.einsum("fi,fi->f", np.cross(b - a, c - a), a) < 0).mean() > 0.95


def test_what_moves_keeps_its_own_tracks(clip: Truth, tracked: LiftedScene) -> None:
    *still, sky = [mesh for mesh in tracked.meshes if not mesh.name.startswith("Moving")]
    assert len(tracked.meshes) - len(still) - 1 >= 1
    assert sky.kind == "sky"
    pixels, _ = scene_tracks(tracked)
    own = pixels[sum(mesh.positions.shape[1] - mesh.added for mesh in still) :]
    truth, visible, card = clip.tracks(own[:, 0])
    assert (card == 4).mean() > 0.75
    error = np.linalg.norm(own.swapaxes(0, 1) - truth, axis=2)[1:]
    assert np.median(error[visible[1:] & (card == 4)]) < 0.5
    _, _, everything = clip.tracks(pixels[:, 0])
    assert (card == 4).sum() > 0.8 * (everything == 4).sum()


def test_surfaces_are_cut_and_continued(clip: Truth, tracked: LiftedScene) -> None:
    """No triangle joins two surfaces, each pixel shows its own, and a moved camera sees no hole."""
    *solid, _ = tracked.meshes
    assert [mesh.name for mesh in solid[:2]] == ["Static", "Static in Front"]
    pixels, _ = scene_tracks(tracked)
    start, whole, card = 0, [], np.zeros(0)
    for mesh in solid[:2]:
        own = mesh.positions.shape[1] - mesh.added
        _, _, card = clip.tracks(pixels[start : start + own, 0])
        corners = card[mesh.triangles[(mesh.triangles < own).all(axis=1)]]
        whole.append((corners >= 3).any(axis=1) == (corners >= 3).all(axis=1))  # floor and walls meet
        start += own
    assert np.concatenate(whole).mean() > 0.96
    _, _, everywhere = clip.tracks(pixels[:, 0])
    assert (card == 3).sum() > 0.4 * (everywhere == 3).sum()  # of the still board, in front
    for t, least in ((0, 0.93), (11, 0.85)):
        buffers = Buffers.empty(SIZE)
        for label, mesh in enumerate(solid):
            place, faces = mesh.positions[min(t, len(mesh.positions) - 1)].astype(np.float64), mesh.triangles
            if len(mesh.positions) > 1:
                faces = faces[mesh.visible[t][faces].any(axis=1)]
            screen = to_screen(place, tracked.world_to_camera[t], tracked.intrinsics, False)
            draw(buffers, screen, faces, label)
        assert (buffers.label >= 0).mean() > 0.99
        is_part = clip.cards_at(t) == 4
        assert ((buffers.label > 1) == is_part).mean() > least


def test_an_unknown_focal_length_is_solved_with_its_uncertainty(clip: Truth, tmp_path: Path) -> None:
    path = tmp_path / "room.mp4"
    write_video(path, clip.images[:11:2], 24, lossless=True)
    scene = track_video(path, TrackRequest(spacing=8))
    found = scene.intrinsics[0, 0] / clip.intrinsics[0, 0]
    assert abs(np.log(found)) < 3 * scene.notes["focal_error"]
    assert found == pytest.approx(1, abs=0.1)


def test_what_corners_say_of_the_focal_length_counts(clip: Truth) -> None:
    grays = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in clip.images])
    points = point_grid(SIZE, 6)[0]
    pixels, seen, card = clip.tracks(points)
    still = (card >= 0) & (card != 4) & (seen.sum(axis=0) > 6)
    features = Features(np.zeros(still.sum(), np.intp), pixels[:, still], seen[:, still])
    focal, center = clip.intrinsics[0, 0], clip.intrinsics[:2, 2]
    truth = Solution(clip.cameras[:, :3, :3], clip.cameras[:, :3, 3], focal, center, np.ones(still.sum()))
    inverse, _ = depths_from_motion(features, Observations.of(features), truth)
    patches = Patches(smoothed(grays, 0.7), points[still], patch_offsets(4, 2))
    shape = patches.refine(truth, np.c_[inverse, np.zeros((len(inverse), 2))], np.arange(1, 12), 6, 100.0)[0]

    def found(known: float, deviation: float) -> tuple[float, float]:
        solution, _, spread = patches.refine_cameras(truth, shape, seen[:, still], 6, (known * focal, deviation))
        return solution.focal / focal, spread

    assert found(1.04, 0.0) == (1.0, 0.0)  # it is given: that of the solution stays
    assert found(1.04, 1e-4)[0] == pytest.approx(1.04, abs=0.002)
    free, spread = found(1.04, 1e3)
    assert free == pytest.approx(1.0, abs=0.01)
    both, less = found(1.04, spread)
    assert free + 0.01 < both < 1.03
    assert less < spread


def test_near_and_far_are_not_exchanged(clip: Truth, tmp_path: Path) -> None:
    """Two frames with little parallax, which a wrong camera explains nearly as well."""
    path = tmp_path / "room.mp4"
    write_video(path, clip.images[:6:5], 24, lossless=True)
    scene = track_video(path, TrackRequest(focal=clip.intrinsics[0, 0], spacing=8))
    assert measure_camera(scene.world_to_camera, clip.cameras[:6:5])["direction"] < 1


def test_a_camera_that_turns_or_stands_is_said(tmp_path: Path) -> None:
    wall = [Card(np.array([-4.0, -3.0, 5.0]), np.array([8.0, 0, 0]), np.array([0, 6.0, 0]), noise(7, (400, 300)))]
    turning = np.repeat(np.eye(4)[None], 6, axis=0)
    for t in range(6):
        turning[t, :3, :3] = cv2.Rodrigues(np.array([0.0, 0.02 * t, 0.0]))[0]
    clip = render(wall, turning, (160, 96))
    for name, images, kind in (("turns", clip.images, "turns"), ("stands", clip.images[[0] * 6], "stands")):
        path = tmp_path / f"{name}.mp4"
        write_video(path, images, 24, lossless=True)
        scene = track_video(path, TrackRequest(focal=clip.intrinsics[0, 0], spacing=6))
        assert scene.notes["camera"] == kind
        assert any("depth cannot be seen" in warning for warning in scene.warnings)
        poses = clip.cameras if kind == "turns" else np.repeat(np.eye(4)[None], 6, axis=0)
        assert measure_camera(scene.world_to_camera, poses)["rotation_max"] < 0.2


def test_flat_footage_is_doubtful(tmp_path: Path) -> None:
    ramp = np.linspace(60, 180, 160, dtype=np.float32)[None] + np.zeros((96, 1), np.float32)
    images = np.stack([np.roll(ramp, 2 * t, axis=1) for t in range(5)])[..., None].repeat(3, axis=3).astype(np.uint8)
    path = tmp_path / "flat.mp4"
    write_video(path, images[:, :, 10:150], 24, lossless=True)
    assert any("doubtful" in warning or "too little" in warning for warning in track_video(path).warnings)


def test_masks_say_what_moves(clip: Truth, tmp_path: Path) -> None:
    path, mask = tmp_path / "room.mp4", tmp_path / "board.png"
    write_video(path, clip.images[:4], 24, lossless=True)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    _, _, card = clip.tracks(np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5)
    cv2.imwrite(str(mask), np.where(card == 4, 255, 0).astype(np.uint8).reshape(SIZE[::-1]))
    scene = track_video(path, TrackRequest(focal=clip.intrinsics[0, 0], masks=(str(mask),), spacing=8))
    assert [mesh.name for mesh in scene.meshes] == ["Static", "Static in Front", "Moving 1", "Sky"]
    for image in (np.zeros((10, 10), np.uint8), np.zeros(SIZE[::-1], np.uint8)):
        cv2.imwrite(str(mask), image)
        with pytest.raises(ShotError, match="mask"):
            track_video(path, TrackRequest(masks=(str(mask),)))


def test_tracking_is_cancelled(clip: Truth, tmp_path: Path) -> None:
    path = tmp_path / "room.mp4"
    write_video(path, clip.images, 24, lossless=True)
    stages: list[str] = []
    with pytest.raises(CancelledError):
        track_video(path, None, lambda stage, _: stages.append(stage), lambda: "Solving the camera" in stages)
    assert "Finding depth" not in stages


def test_requests_are_checked() -> None:
    request = TrackRequest(start=1.5, fov=60, masks=("a.png",), boxes=((1, 2, 30.5, 40),))
    assert TrackRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request
    for bad in (
        {"max_frames": 1}, {"fov": 60, "focal": 500}, {"tracker": "magic"}, {"start": -1}, {"size": [8, 8]},
        {"spacing": float("nan")}, {"speed": 1}, {"size": "large"},
        {"boxes": [[5, 5, 5, 9]]}, {"boxes": [[1, 2, 3]]}, {"boxes": [4]},
    ):  # fmt: skip
        with pytest.raises(UsageError):
            TrackRequest.from_dict(bad)
