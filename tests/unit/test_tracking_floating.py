# SPDX-License-Identifier: GPL-3.0-or-later
"""What moves against the camera looks like something nearer that stands still, and seems to float."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.helpers.footage import noise
from trackshade.tracking.bundle import Solution
from trackshade.tracking.floating import floating_pieces
from trackshade.tracking.flow import compute_flows
from trackshade.tracking.points import PointSolve, point_grid, with_depths

SIZE, COUNT, FOCAL = (192, 120), 10, 200.0
WALL, NEAR = 0.25, 0.75  # inverse depths
SHIFT = -8  # px by which the camera moves the picture of what is at an inverse depth of 1 in each frame
BOX = np.s_[30:78, 80:112]  # the thing, in the first frame


def inverse_depths(points: np.ndarray, foot: int) -> np.ndarray:
    """Return the inverse depths of a wall, of the floor before it, and of a thing that ends at a row."""
    x, y = points.T
    inverse = WALL + np.maximum(y - 70, 0) * 0.01
    is_thing = (x >= BOX[1].start) & (x < BOX[1].stop) & (y >= BOX[0].start) & (y < foot)
    return np.where(is_thing, NEAR, inverse)


def footage(foot: int, bobs: float) -> np.ndarray:
    """Return gray frames of a thing that moves as one at its depth would, and up and down besides, [T, H, W]."""
    textures = [cv2.cvtColor(noise(seed, (SIZE[0] + 120, SIZE[1]), 1.5), cv2.COLOR_RGB2GRAY) for seed in (3, 4)]
    x, y = np.meshgrid(np.arange(SIZE[0], dtype=np.float32), np.arange(SIZE[1], dtype=np.float32))
    rows = WALL + np.maximum(y + 0.5 - 70, 0) * 0.01
    images = []
    for t in range(COUNT):
        image = cv2.remap(textures[0], x - SHIFT * t * rows.astype(np.float32), y, cv2.INTER_LINEAR)
        place = x - SHIFT * t * NEAR, y - np.float32(bobs * np.sin(1.2 * t))
        shown = (place[0] >= BOX[1].start) & (place[0] < BOX[1].stop) & (place[1] >= BOX[0].start) & (place[1] < foot)
        image[shown] = cv2.remap(textures[1], *place, cv2.INTER_LINEAR)[shown]
        images.append(image)
    return np.stack(images)


def solve(grays: np.ndarray, foot: int) -> PointSolve:
    """Return points that are all taken to stand still."""
    translations = np.zeros((COUNT, 3))
    translations[:, 0] = SHIFT * np.arange(COUNT) / FOCAL
    solution = Solution(np.tile(np.eye(3), (COUNT, 1, 1)), translations, FOCAL, np.array(SIZE) / 2, np.zeros(0))
    points, grid = point_grid(SIZE, 6)
    pixels, alike = np.repeat(points[None], COUNT, axis=0), np.zeros((COUNT, len(points)))
    unset = PointSolve(
        solution, points, grid, np.ones((len(points), 3)), pixels, alike, np.full(len(points), 30.0), 0.0
    )
    return with_depths(grays, unset, np.arange(len(points)), inverse_depths(points, foot))


@pytest.mark.parametrize(
    ("foot", "bobs", "moves"), [(78, 2.5, True), (78, 0.0, False), (120, 2.5, False)], ids=["walks", "hangs", "stands"]
)
def test_what_floats_and_has_a_motion_of_its_own_moves(foot: int, bobs: float, moves: bool) -> None:
    grays = footage(foot, bobs)
    solved = solve(grays, foot)
    pixels, alive = compute_flows(grays, 1, lambda fraction: None).follow(solved.points)
    nothing = np.zeros(len(solved.points), bool)
    found = floating_pieces(grays, solved, pixels, alive, nothing)
    assert len(found) == moves
    if moves:
        x, y = solved.points.T
        is_thing = (x >= BOX[1].start) & (x < BOX[1].stop) & (y >= BOX[0].start) & (y < foot)
        piece = np.isin(np.arange(len(x)), found[0])
        assert (piece & is_thing).sum() / (piece | is_thing).sum() > 0.8
        assert not floating_pieces(grays, solved, pixels, alive, piece)  # what is known already


def test_points_get_other_depths() -> None:
    grays = footage(78, 0.0)
    solved = solve(grays, 78)
    right = inverse_depths(solved.points, 78)
    chosen = np.flatnonzero(right == NEAR)
    wrong = with_depths(grays, solved, chosen, np.full(len(chosen), WALL))
    others = np.setdiff1d(np.arange(len(right)), chosen)
    np.testing.assert_array_equal(wrong.shape[others], solved.shape[others])
    np.testing.assert_array_equal(wrong.pixels[:, others], solved.pixels[:, others])
    np.testing.assert_array_equal(wrong.alike[:, others], solved.alike[:, others])
    np.testing.assert_allclose(
        wrong.pixels[:, chosen, 0], solved.points[chosen, 0] + SHIFT * WALL * np.arange(COUNT)[:, None]
    )
    assert np.median(wrong.alike[2:, chosen]) < 0.4
    assert np.median(solved.alike[2:, chosen]) > 0.8
    again = with_depths(grays, wrong, chosen, right[chosen])
    np.testing.assert_allclose(again.pixels, solved.pixels)
    assert with_depths(grays, solved, chosen[:0], right[chosen[:0]]) is solved
