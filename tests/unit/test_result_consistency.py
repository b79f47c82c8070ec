# SPDX-License-Identifier: GPL-3.0-or-later
"""The consistency figure on shots where its value is known."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.result_shots import at, flat, grid, paint, shot, texture
from trackshade.results.consistency import measure, sample_points, spread
from trackshade.shot import Geometry

T = 9
SLIDE = [at(-0.6 + 0.15 * t, 0.05 * t, 0, turn=0.1 * t) for t in range(T)]


@pytest.mark.parametrize("orthographic", [False, True])
def test_texture_on_the_surface_varies_little(orthographic: bool) -> None:
    moving = shot([("Square", SLIDE)], orthographic=orthographic)
    made = paint(moving, {0: texture()})
    figure = measure(moving, made, made.frames, made.frames)
    assert figure.points > 1000
    assert figure.frames_per_point > 5
    assert figure.result is not None
    assert figure.result < 1.0
    assert figure.input_render == figure.result


def test_a_still_picture_over_a_moving_surface_varies_much() -> None:
    moving = shot([("Square", SLIDE)])
    made = paint(moving, {0: texture()})
    still = np.repeat(made.frames[:1], T, 0)
    figure = measure(moving, made, still)
    assert figure.result is not None
    assert figure.result > 20
    assert figure.result == figure.first_frame_held
    assert figure.input_render is None


def test_the_figure_is_the_standard_deviation_in_levels() -> None:
    """A surface that changes as a whole: every point has the standard deviation of the levels."""
    levels = np.array([100, 110, 90, 120, 80, 100, 100, 130, 95.0])
    resting = shot([("Square", [at(0, 0, 0)] * T)])
    made = paint(resting, {0: np.stack([flat(level) for level in levels])})
    figure = measure(resting, made, made.frames)
    assert figure.result == pytest.approx(levels.std(ddof=1), abs=1e-3)
    assert figure.frames_per_point == T
    assert figure.first_frame_held == 0


def test_points_are_not_seen_behind_an_occluder_nor_at_its_edge() -> None:
    passing = [at(-2.0 + 0.5 * t, 0, 0.1, scale=0.4) for t in range(T)]
    both = shot([("Square", [at(0, 0, 0)] * T), ("Occluder", passing)])
    made = paint(both, {0: flat(60), 1: flat(250)})
    figure = measure(both, made, made.frames)
    assert figure.result == 0
    assert figure.frames_per_point < T


def test_the_far_side_of_a_thin_sheet_is_not_the_near_one() -> None:
    """Two squares back to back, nearer than the depth tolerance, that exchange places: each is seen half the
    time.
    """
    above, below = at(0, 0, 0.001), at(0, 0, -0.001)
    flips = [t % 2 == 0 for t in range(T)]
    pair = shot([
        ("A", [above if up else below for up in flips]),
        ("B", [below if up else above for up in flips]),
    ])  # fmt: skip
    made = paint(pair, {0: flat(50), 1: flat(200)})
    assert measure(pair, made, made.frames).result == 0


def test_a_card_that_turns_over_shows_two_sides() -> None:
    turned = np.diag([1.0, -1.0, -1.0, 1.0])
    card = shot([("Card", [turned if t > 4 else np.eye(4) for t in range(T)])])
    colors = np.stack([flat(200 if t > 4 else 50) for t in range(T)])
    made = paint(card, {0: colors})
    assert measure(card, made, made.frames).result == 0


def test_a_mesh_that_covers_itself_is_not_seen_through() -> None:
    """One mesh of two sheets; the upper one slides over the lower: same mesh, same side, another depth."""
    sheet = grid()
    count = sheet.positions.shape[1]
    upper = [sheet.positions[0] * 0.4 + np.array([-2 + 0.5 * t, 0, 0.3], np.float32) for t in range(T)]
    both = np.stack([np.concatenate([sheet.positions[0], part]) for part in upper])
    triangles = np.concatenate([sheet.triangles, sheet.triangles + count])
    folded = shot([("Fold", [np.eye(4)] * T)], geometry=Geometry(both, triangles))
    made = paint(folded, {0: np.concatenate([flat(60), flat(250)])})
    figure = measure(folded, made, made.frames)
    assert figure.result == 0
    assert figure.frames_per_point < T


def test_a_pixels_color_is_that_of_its_center() -> None:
    y, x = np.mgrid[0:8, 0:12]
    ramp = np.stack([10 * x, 20 * y, x + y], axis=-1).astype(np.uint8)
    video = np.stack([ramp, np.zeros_like(ramp)])
    place = np.array([[[3.5, 2.5]] * 2, [[4.25, 2.5]] * 2])  # the center of pixel (2, 3), and beside it
    expected = [np.array([30, 40, 5]), np.array([37.5, 40, 5.75])]
    wanted = np.mean([np.sqrt((color**2 / 2).mean()) for color in expected])
    assert spread(video, place, np.ones((2, 2), bool)) == pytest.approx(wanted, abs=1e-3)


def test_holdouts_are_not_measured() -> None:
    held = shot([("Square", SLIDE), ("Hole", [at(0, 0, 0.5, scale=0.5)] * T)], holdouts=("Hole",))
    assert set(sample_points(held).mesh) == {0}


def test_a_surface_that_is_seen_once_gives_no_figure() -> None:
    away = shot([("Square", [at(50 if t else 0, 0, 0) for t in range(T)])])
    made = paint(away, {0: texture()})
    figure = measure(away, made, made.frames)
    assert figure.points == 0
    assert figure.result is None


def test_the_points_are_the_same_at_every_call() -> None:
    moving = shot([("Square", SLIDE)])
    first, second = sample_points(moving), sample_points(moving)
    assert np.array_equal(first.corners, second.corners)
    assert np.array_equal(first.weights, second.weights)


@pytest.mark.parametrize("orthographic", [False, True])
def test_weights_lead_back_to_the_pixel_that_was_drawn(orthographic: bool) -> None:
    from trackshade.core.geometry import project

    moving = shot([("Square", SLIDE[:1])], orthographic=orthographic)
    points = sample_points(moving)
    geometry = moving.geometries[0]
    corners = geometry.at(0)[points.corners].astype(float)
    world = np.einsum("pc,pcx->px", points.weights, corners) @ SLIDE[0][:3, :3].T + SLIDE[0][:3, 3]
    matrix = moving.camera.world_to_camera[0]
    pixels = project(world @ matrix[:3, :3].T + matrix[:3, 3], moving.camera.intrinsics[0], orthographic)
    assert np.allclose((pixels - 0.5) % 1.0 + 0.5, 1.0, atol=0.5)
    assert np.abs(pixels - np.floor(pixels) - 0.5).max() < 1e-5
