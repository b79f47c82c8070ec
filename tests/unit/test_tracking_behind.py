# SPDX-License-Identifier: GPL-3.0-or-later
"""What moves before a camera that moves: the depth behind it, the parts of it that rest, and its silhouette."""

from __future__ import annotations

import cv2
import numpy as np

from tests.helpers.footage import noise
from trackshade.tracking.behind import behind_figures
from trackshade.tracking.bundle import Solution
from trackshade.tracking.camera import CameraSolve
from trackshade.tracking.cutouts import cut_out
from trackshade.tracking.features import Features
from trackshade.tracking.flow import Flows
from trackshade.tracking.plate import cover_masks
from trackshade.tracking.points import PointSolve, point_grid

SIZE, COUNT, FOCAL = (192, 120), 12, 200.0
WALL, FIGURE = 0.2, 0.3  # inverse depths at the left
SHIFT, WALKS, RESTS = -2, 1, -2.5  # px by which the pictures of the wall and of a figure's parts move in each frame


def solution(inverse_depths: np.ndarray) -> Solution:
    """A camera that goes sideways, before which what is at an inverse depth of 1 moves by SHIFT."""
    translations = np.zeros((COUNT, 3))
    translations[:, 0] = SHIFT * np.arange(COUNT) / FOCAL
    return Solution(np.tile(np.eye(3), (COUNT, 1, 1)), translations, FOCAL, np.array(SIZE) / 2, inverse_depths)


def wall(x: np.ndarray) -> np.ndarray:
    """Return inverse depths of a wall that recedes to the right."""
    return WALL * (1 - 0.3 * x / SIZE[0])


def test_depth_behind_a_figure_and_its_parts_that_rest() -> None:
    points, grid = point_grid(SIZE, 6)
    x, y = points.T
    body = (np.abs(x - 96) < 20) & (y > 20) & (y < 100)
    moving = body & (y < 50)  # the legs rest
    apart = (np.abs(x - 20) < 8) & (np.abs(y - 60) < 20)  # a board that stands elsewhere
    inverse = np.where(body | apart, FIGURE, wall(x))
    shape = np.c_[inverse, np.zeros((len(points), 2))]
    alike = np.where(moving, 0.2, 0.9) * np.ones((COUNT, 1))
    pixels = np.repeat(points[None], COUNT, axis=0)
    solved = PointSolve(solution(np.zeros(0)), points, grid, shape, pixels, alike, np.full(len(points), 20.0), 0.0)
    # Corners of the wall behind the figure, found in frame 8.
    rng = np.random.default_rng(0)
    start = rng.uniform((80, 25), (112, 95), (30, 2))
    rho = wall(start[:, 0])
    tracks = np.repeat(start[None], COUNT, axis=0)
    tracks[..., 0] += SHIFT * np.arange(COUNT)[:, None] * rho
    hosts, seen = np.full(30, 8), np.repeat((np.arange(COUNT) >= 5)[:, None], 30, axis=1)
    camera = CameraSolve("moves", solution(rho), Features(hosts, tracks, seen), 0.1, 0.0, np.ones(30, bool))
    behind, figure, around = behind_figures(solved, camera, moving)
    assert np.abs(behind / wall(x) - 1)[body].max() < 0.03
    assert (figure == body).all()
    assert around[body].all()
    np.testing.assert_array_equal(behind[~around], inverse[~around])


def clip() -> tuple[np.ndarray, np.ndarray, Flows]:
    """A figure before a wall, half of which has no texture: frames, masks, and flow that is dragged along beside it.

    Its upper part walks; its lower part rests in front of the wall.
    """
    width, height = SIZE
    wide = noise(5, (width - SHIFT * COUNT, height), 1.5)
    wide[:, 100:] = (60, 160, 90)
    texture = (noise(6, (30, 60), 1.5) * (0.9, 0.4, 0.3)).astype(np.uint8)
    images, masks, fields = [], [], []
    for t in range(COUNT):
        image, mask = wide[:, -SHIFT * t : -SHIFT * t + width].copy(), np.zeros((height, width), bool)
        field = np.full((height, width, 2), (SHIFT, 0), np.float32)
        for top, speed in ((0, WALKS), (30, RESTS)):
            left, part = 95 + round(speed * t), np.zeros((height, width), np.uint8)
            image[30 + top : 60 + top, left : left + 30] = texture[top : top + 30]
            part[30 + top : 60 + top, left : left + 30] = 1
            field[cv2.dilate(part, np.ones((1, 17), np.uint8)) > 0, 0] = round(speed * (t + 1)) - round(speed * t)
            mask |= part > 0
        images.append(image)
        masks.append(mask)
        fields.append(field)
    backward = []
    for t, field in enumerate(fields[:-1]):
        back = np.full_like(field, (-SHIFT, 0))
        for top, speed in ((0, WALKS), (30, RESTS)):
            left, move = 95 + round(speed * (t + 1)), round(speed * (t + 1)) - round(speed * t)
            back[30 + top : 60 + top, left - 8 : left + 38, 0] = -move
        backward.append(back)
    return np.stack(images), np.stack(masks), Flows(np.ones(2), np.stack(fields[:-1]), np.stack(backward))


def test_what_moves_is_covered_and_parts_of_it_that_rest() -> None:
    images, truth, flows = clip()
    hidden = cv2.dilate(truth[0].astype(np.uint8), np.ones((21, 21), np.uint8)) > 0
    covers, certain, still = cover_masks(
        images, flows, solution(np.zeros(0)), np.ones(SIZE[::-1]), hidden, truth[0], near=hidden, given=None
    )
    both, either = (covers & truth).sum(axis=(1, 2)), (covers | truth).sum(axis=(1, 2))
    assert (both / either).min() > 0.8
    assert (certain & ~truth).sum() < 0.08 * truth.sum()
    assert not (certain & ~covers).any()
    np.testing.assert_allclose(still[3, 50, 80], (80.5 + 3 * SHIFT, 50.5), atol=1e-3)


def test_masks_end_at_edges_of_the_picture() -> None:
    image = noise(7, SIZE, 1.5, 15.0)
    disc = cv2.circle(np.zeros(SIZE[::-1], np.uint8), (96, 60), 30, (1,), -1) > 0
    image[disc] = (noise(8, SIZE, 1.5, 15.0)[disc] * (1.0, 0.4, 0.2)).astype(np.uint8)
    wide = cv2.dilate(disc.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    core = cv2.erode(disc.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    frames, covers = np.stack([image, image]), np.stack([wide, wide])
    found = cut_out(frames, covers, np.stack([core, np.zeros_like(core)]), 2)
    assert (found[0] & disc).sum() / (found[0] | disc).sum() > 0.95
    np.testing.assert_array_equal(found[1], wide)  # nothing is sure


def test_masks_stay_where_colors_do_not_tell_what_moves() -> None:
    cover = cv2.circle(np.zeros(SIZE[::-1], np.uint8), (96, 60), 30, (1,), -1) > 0
    sure = cv2.circle(np.zeros(SIZE[::-1], np.uint8), (86, 60), 7, (1,), -1) > 0
    found = cut_out(noise(7, SIZE, 1.5)[None], cover[None], sure[None], 1)  # the same texture everywhere
    assert (found[0] & cover).sum() / (found[0] | cover).sum() > 0.8
