# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of what moves: each is one piece of the first frame, and limbs that appear later are added to them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.footage import noise
from trackshade.control.raster import Buffers, draw
from trackshade.core.errors import ShotError
from trackshade.results.video import write_video
from trackshade.shot.lifted import LiftedMesh
from trackshade.shot.track_request import TrackRequest
from trackshade.tracking import track_video
from trackshade.tracking.bundle import Solution
from trackshade.tracking.figures import Figures, Part, find_figures
from trackshade.tracking.flow import compute_flows
from trackshade.tracking.points import PointSolve, point_grid
from trackshade.tracking.surface import moving_meshes

SIZE, COUNT = (160, 96), 12
BODY, ARM = np.s_[20:76, 40:76], np.s_[36:50, 44:72]  # in the first frame, which shows nothing of the arm
WALKS, REACHES = 2, 4  # px by which the body moves in each frame, and the arm beside it in the first frames
UPPER, LOWER, SIDES = slice(16, 48), slice(48, 80), slice(30, 90)
SPOT, SLIDES = np.s_[33:42, 55:64], 4  # and px by which the spot and the lower half move in each frame
FAR = 7  # frames in which the arm reaches out


def clip() -> tuple[np.ndarray, np.ndarray]:
    """A body that walks and reaches out with an arm from behind itself: frames, and the part that each pixel shows."""
    still = noise(21, SIZE, 1.5)
    textures = [np.clip(noise(22 + n, SIZE, 1.5) * (0.8, 0.3, 0.3) + (40 * n, 0, 60 * n), 0, 255) for n in (0, 1)]
    images, labels = [], []
    for t in range(COUNT):
        image, label = still.copy(), np.full(SIZE[::-1], -1)
        for number, (rows, columns), shift in ((1, ARM, (WALKS + REACHES) * min(t, FAR) + WALKS * max(t - FAR, 0)),
                                               (0, BODY, WALKS * t)):  # fmt: skip
            there = np.s_[rows, columns.start + shift : columns.stop + shift]
            image[there], label[there] = textures[number][rows, columns], number
        images.append(image)
        labels.append(label)
    return np.stack(images), np.stack(labels)


def find(images: np.ndarray, covers: np.ndarray) -> Figures:
    """Divide what moves before a camera that stands still."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    still = np.tile(np.stack([x, y], axis=-1), (COUNT, 1, 1, 1))
    grays = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images])
    flows = compute_flows(grays, 1, lambda fraction: None)
    return find_figures(images, covers, covers, still, [], flows, flows.follow)


@pytest.fixture(scope="module")
def figures() -> Figures:
    images, labels = clip()
    return find(images, labels >= 0)


def shown(part: Part, t: int) -> np.ndarray:
    """Return the pixels that a part's mesh covers in a frame, [h, w] bool."""
    buffers = Buffers.empty(SIZE)
    faces = part.outline.triangles[part.visible[t][part.outline.triangles].any(axis=1)]
    draw(buffers, np.c_[part.pixels[t], np.ones((len(part.pixels[t]), 2))], faces, 0)
    return buffers.label == 0


def depth_range(meshes: list[LiftedMesh]) -> tuple[float, float]:
    """Return the least and the largest depth of meshes in all frames."""
    depths = np.concatenate([mesh.positions[..., 2].ravel() for mesh in meshes])
    return float(depths.min()), float(depths.max())


def test_limbs_that_appear_later_are_added_where_they_move(figures: Figures) -> None:
    _, labels = clip()
    first = [number for number, part in enumerate(figures.parts) if part.first == 0]
    later = [number for number, part in enumerate(figures.parts) if part.first > 0]
    assert later
    assert np.isin(figures.owners[later], first).all()  # so that they take the colors of what they belong to
    assert (figures.owners[first] == first).all()
    for t in (0, FAR, COUNT - 1):
        arm, body = labels[t] == 1, labels[t] == 0
        found = np.any([shown(figures.parts[number], t) for number in later], axis=0)
        if t == 0:
            assert not found.any()
        else:
            assert (found & arm).sum() > 0.8 * arm.sum()
            assert (found & ~arm & ~body).sum() < 0.1 * arm.sum()
    part = figures.parts[max(later, key=lambda number: shown(figures.parts[number], FAR).sum())]
    moved = np.median(part.pixels[COUNT - 1] - part.pixels[FAR], axis=0)
    np.testing.assert_allclose(moved, (WALKS * (COUNT - 1 - FAR), 0), atol=0.7)


def test_each_part_is_one_piece_of_the_first_frame() -> None:
    # The lower half of a box slides along the upper one, and so does a spot of that.
    still = noise(31, SIZE, 1.5)
    textures = [(noise(seed, SIZE, 1.5) * (0.9, 0.3, 0.3)).astype(np.uint8) for seed in (32, 33)]
    images, covers = [], []
    for t in range(COUNT):
        image, cover = still.copy(), np.zeros(SIZE[::-1], bool)
        for rows, columns, speed, number in ((LOWER, SIDES, SLIDES, 0), (UPPER, SIDES, WALKS, 0), (*SPOT, SLIDES, 1)):
            there = np.s_[rows, columns.start + speed * t : columns.stop + speed * t]
            image[there], cover[there] = textures[number][rows, columns], True
        images.append(image)
        covers.append(cover)
    found = find(np.stack(images), np.stack(covers))
    first = [shown(part, 0) for part in found.parts if part.first == 0]
    assert len(first) > 1
    for mask in first:
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        assert stats[1:, cv2.CC_STAT_AREA].max() > 0.98 * mask.sum()


def test_cards_are_in_front_of_what_is_behind_them(figures: Figures) -> None:
    points, grid = point_grid(SIZE, 6)
    x, y = points.astype(int).T
    moving = figures.labels[y, x] >= 0
    wall = np.full(len(points), 0.4)
    inverse = np.where(moving | (points[:, 1] > BODY[0].stop - 6), 0.1, wall)  # wrong for what moves and the floor
    count = len(points)
    solution = Solution(np.tile(np.eye(3), (COUNT, 1, 1)), np.zeros((COUNT, 3)), 150.0, np.array(SIZE) / 2, np.zeros(0))
    solved = PointSolve(
        solution, points, grid, np.c_[inverse, np.zeros((count, 2))], np.repeat(points[None], COUNT, axis=0),
        np.ones((COUNT, count)), np.full(count, 30.0), 0.0,
    )  # fmt: skip
    meshes = moving_meshes(figures, solved, moving, wall, SIZE, 1.0, np.eye(3))
    assert depth_range(meshes)[1] < 1 / 0.4


def test_boxes_say_what_moves(tmp_path: Path) -> None:
    images, labels = clip()
    path, box = tmp_path / "walk.mp4", (36.0, 16.0, 82.0, 80.0)
    write_video(path, images[:5], 24, lossless=True)
    scene = track_video(path, TrackRequest(focal=150.0, boxes=(box, box)), threads=1)  # what overlaps counts once
    assert [mesh.name for mesh in scene.meshes] == ["Static", "Moving 1", "Sky"]
    (moving,) = (mesh for mesh in scene.meshes if mesh.name == "Moving 1")
    places = (moving.positions[0] @ scene.world_to_camera[0][:3, :3].T) @ scene.intrinsics.T
    x, y = (places[:, :2] / places[:, 2:]).T
    rows, columns = np.nonzero(labels[0] >= 0)
    assert box[0] - 1 < x.min() < columns.min() + 2 < columns.max() - 1 < x.max() < box[2] + 1
    assert box[1] - 1 < y.min() < rows.min() + 2 < rows.max() - 1 < y.max() < box[3] + 1
    with pytest.raises(ShotError) as caught:
        track_video(path, TrackRequest(focal=150.0, boxes=((100, 5, 130, 25),)), threads=1)
    assert caught.value.code == "empty-box"
