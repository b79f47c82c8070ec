# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera moves in words and of paths, as azimuths and elevations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackshade.core.errors import ShotError, UsageError
from trackshade.motion.camera_words import (
    EXAMPLES,
    CameraAngles,
    angles_of_path,
    camera_matrices,
    parse_camera_words,
    relative_to_first,
)
from trackshade.motion.framing import CENTER_HEIGHT, DISTANCE, project


@pytest.mark.parametrize(
    ("words", "azimuths", "elevations"),
    [
        ("static", (0, 0), (10, 10)),
        ("The camera circles to the left", (0, -90), (10, 10)),
        ("orbits right by 90 degrees", (0, 90), (10, 10)),
        ("circles around the figure to the right by 45°", (0, 45), (10, 10)),
        ("circles to the left by a full circle", (0, -360), (10, 10)),
        ("rises by 20 degrees", (0, 0), (10, 30)),
        ("sinks", (0, 0), (10, -10)),
        ("from above", (0, 0), (40, 40)),
        ("at eye level", (0, 0), (0, 0)),
        ("30 degrees to the right", (30, 30), (10, 10)),
        ("from 20 degrees to the left, circles to the right by 20 degrees and rises", (-20, 0), (10, 30)),
        ("circles left by 40 degrees then circles right by 40 degrees", (0, 0), (10, 10)),
    ],
)
def test_words_name_a_move(words: str, azimuths: tuple[float, float], elevations: tuple[float, float]) -> None:
    angles = parse_camera_words(words, 9)
    assert not angles.is_absolute
    np.testing.assert_allclose(angles.azimuths[[0, -1]], azimuths, atol=1e-9)
    np.testing.assert_allclose(angles.elevations[[0, -1]], elevations, atol=1e-9)


@pytest.mark.parametrize(
    ("words", "azimuth"),
    [("from the front", 0), ("from behind", 180), ("from the left", 90), ("from the right side", -90)],
)
def test_sides_are_those_of_the_figure(words: str, azimuth: float) -> None:
    angles = parse_camera_words(words, 3)
    assert angles.is_absolute
    np.testing.assert_allclose(angles.azimuths, azimuth)


def test_parts_follow_each_other() -> None:
    angles = parse_camera_words("circles left by 40 degrees then circles right by 60 degrees", 9)
    np.testing.assert_allclose(angles.azimuths, [0, -10, -20, -30, -40, -25, -10, 5, 20])
    swings = parse_camera_words("swings by 30 degrees", 9).azimuths
    assert (swings.max(), swings.min(), swings[0]) == pytest.approx((30, -30, 0))


@pytest.mark.parametrize("words", EXAMPLES)
def test_the_examples_are_understood(words: str) -> None:
    assert len(parse_camera_words(words, 5).azimuths) == 5


@pytest.mark.parametrize("words", ["zooms in", "circles", "left", "circles to the left, dances", "rises left", "by 90"])
def test_unknown_words_list_the_known_ones(words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_camera_words(words, 5)
    assert caught.value.code == "unknown-camera-words"
    assert all(example in str(caught.value) for example in EXAMPLES)


@pytest.mark.parametrize("words", ["circles to the left by 99999 degrees", "circles left then from behind"])
def test_moves_that_cannot_be_made_are_refused(words: str) -> None:
    with pytest.raises(UsageError):
        parse_camera_words(words, 5)


@given(st.text(max_size=60))
def test_any_text_is_a_move_or_an_error_of_ours(text: str) -> None:
    try:
        angles = parse_camera_words(text, 4)
    except UsageError:
        return
    assert np.isfinite(angles.azimuths).all()
    assert (np.abs(angles.elevations) <= 90).all()


def test_the_path_of_a_camera_has_the_angles_that_made_it() -> None:
    angles = parse_camera_words("from behind, circles to the left by a full circle and rises by 30 degrees", 41)
    matrices = camera_matrices(angles, 4.0)
    center = np.array([1.0, 2.0, 3.0])
    shift = np.eye(4)
    shift[:3, 3] = -center
    found = angles_of_path(matrices @ shift, center)
    np.testing.assert_allclose(found.azimuths, angles.azimuths, atol=1e-9)
    np.testing.assert_allclose(found.elevations, angles.elevations, atol=1e-9)
    assert relative_to_first(found).azimuths[0] == 0
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # the figure turns to its left by 90 degrees
    turned = angles_of_path(matrices @ shift, center, np.tile(quarter, (41, 1, 1)))
    np.testing.assert_allclose(turned.azimuths - angles.azimuths, -90, atol=1e-9)
    with pytest.raises(ShotError, match="where the figure is"):
        angles_of_path(matrices @ shift, center - matrices[0, :3, :3].T @ matrices[0, :3, 3])


def test_cameras_see_what_the_model_was_trained_on() -> None:
    """The convention of azimuths is that of the training clips."""
    angles = CameraAngles(np.array([0.0, 35.0, 120.0]), np.array([0.0, 15.0, -5.0]))
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 6, 3)) + np.array([0, 0, CENTER_HEIGHT])
    places, depths = project(points, np.radians(angles.azimuths), np.radians(angles.elevations))
    matrices = camera_matrices(angles, DISTANCE)
    local = np.einsum("tij,tpj->tpi", matrices[:, :3, :3], points - [0, 0, CENTER_HEIGHT]) + matrices[:, None, :3, 3]
    np.testing.assert_allclose(local[..., 2], depths, atol=1e-9)
    np.testing.assert_allclose(local[..., :2] / local[..., 2:], places, atol=1e-9)
