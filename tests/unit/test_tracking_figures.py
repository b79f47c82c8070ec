# SPDX-License-Identifier: GPL-3.0-or-later
"""A jointed figure is divided into parts that move as its limbs do, with the silhouette of every frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.helpers.footage import noise
from trackshade.control.raster import Buffers, draw, to_screen
from trackshade.results.video import write_video
from trackshade.shot.lifted import LiftedScene
from trackshade.shot.track_request import TrackRequest
from trackshade.tracking import track_video
from trackshade_lab.evaluation.tracking.measures import scene_tracks

SIZE, COUNT = (192, 128), 16
BODY, ARM = np.array([[40, 34], [78, 34], [78, 92], [40, 92]]), np.array([[70, 40], [80, 40], [80, 82], [70, 82]])


def motions() -> np.ndarray:
    """Return how the body and the arm move: affine maps of places in the first frame, [2, T, 2, 3]."""
    out = np.zeros((2, COUNT, 2, 3))
    for t in range(COUNT):
        shift = np.array([4.0 * t, 0.8 * t])
        out[0, t] = np.c_[np.eye(2), shift]
        turn = cv2.getRotationMatrix2D((75.0, 42.0), 6.0 * t, 1.0)
        out[1, t] = np.c_[turn[:, :2], turn[:, 2] + shift]
    return out


def puppet() -> tuple[np.ndarray, np.ndarray]:
    """Return the frames, and the part that each pixel shows: -1 for the background, 0 the body, 1 the arm."""
    still = noise(11, SIZE, 1.5)
    images, labels = [], []
    for t in range(COUNT):
        image, label = still.copy(), np.full(SIZE[::-1], -1)
        for number, corners in enumerate((BODY, ARM)):
            texture = np.clip(noise(12 + number, SIZE, 1.5) * (0.7, 0.4, 0.9) + (60, 10, 0)[number], 0, 255)
            mask = cv2.fillConvexPoly(np.zeros(SIZE[::-1], np.uint8), corners, (255,))
            matrix = motions()[number, t].copy()
            matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
            shown = cv2.warpAffine(mask, matrix, SIZE) > 127
            image[shown] = cv2.warpAffine(texture.astype(np.uint8), matrix, SIZE)[shown]
            label[shown] = number
        images.append(image)
        labels.append(label)
    return np.stack(images), np.stack(labels)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> LiftedScene:
    path = tmp_path_factory.mktemp("footage") / "puppet.mp4"
    write_video(path, puppet()[0], 24, lossless=True)
    return track_video(path, TrackRequest(focal=190.0, spacing=6))


def test_limbs_are_parts_with_their_own_motion(tracked: LiftedScene) -> None:
    _, labels = puppet()
    names = [mesh.name for mesh in tracked.meshes]
    assert 2 <= sum(name.startswith("Moving") for name in names) <= 6
    pixels, _ = scene_tracks(tracked)
    own = pixels[sum(m.positions.shape[1] - m.added for m in tracked.meshes if m.name.startswith("Static")) :]
    x, y = np.clip(own[:, 0].astype(int), 0, np.array(SIZE) - 1).T
    for number in (0, 1):
        chosen = own[cv2.erode((labels[0] == number).astype(np.uint8), np.ones((3, 3)))[y, x] > 0]
        truth = np.einsum("tij,pj->pti", motions()[number], np.c_[chosen[:, 0], np.ones(len(chosen))])
        assert len(chosen) > 10
        assert np.median(np.linalg.norm(chosen - truth, axis=2)) < 1.5


def test_silhouettes_and_order_are_those_of_each_frame(tracked: LiftedScene) -> None:
    _, labels = puppet()
    for t in (0, 4, COUNT - 1):
        buffers = Buffers.empty(SIZE)
        moving = []
        for number, mesh in enumerate(tracked.meshes):
            place = mesh.positions[min(t, len(mesh.positions) - 1)].astype(np.float64)
            faces = mesh.triangles
            if mesh.name.startswith("Moving"):
                moving.append(number)
                faces = faces[mesh.visible[t][faces].any(axis=1)]
            draw(buffers, to_screen(place, tracked.world_to_camera[t], tracked.intrinsics, False), faces, number)
        shown, true = np.isin(buffers.label, moving), labels[t] >= 0
        assert (shown & true).sum() / (shown | true).sum() > 0.85
