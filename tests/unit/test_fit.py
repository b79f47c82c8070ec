# SPDX-License-Identifier: GPL-3.0-or-later
"""Fitting frames and size: what the rules promise, for any range and any size."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackshade.core.errors import ShotError
from trackshade.core.fitting import FRAME_RULES, SizeFit, fit_frames, fit_size
from trackshade.core.geometry import intrinsics

COUNTS = st.lists(st.integers(2, 60), min_size=1, max_size=3, unique=True)
SIZES = st.tuples(st.integers(1, 4096), st.integers(1, 4096))


@given(st.integers(-100, 100), st.integers(1, 200), st.sampled_from([0.25, 0.5, 1, 2, 3]), COUNTS,
       st.sampled_from(FRAME_RULES))  # fmt: skip
def test_the_model_gets_a_count_that_it_takes_inside_the_range(start, length, step, counts, rule) -> None:
    try:
        fitted = fit_frames(start, start + length, step, 24.0, counts, rule)
    except ShotError as error:
        assert error.code == "too-few-frames"  # noqa: PT017 - a refusal is one of two right answers
        return
    assert len(fitted.frame_numbers) in counts
    assert fitted.frame_numbers[0] == start
    assert fitted.frame_numbers[-1] <= start + length + 1e-6
    distances = np.diff(fitted.frame_numbers)
    assert np.all(distances > 0)
    assert np.allclose(distances, distances[0], atol=2e-6)
    assert math.isclose(fitted.fps * distances[0], 24.0, rel_tol=1e-4)  # real time stays real time
    assert fitted.statement.endswith(".")
    json.dumps(fitted.to_dict())


def test_a_range_that_fits_is_kept_whatever_the_rule() -> None:
    for rule in FRAME_RULES:
        fitted = fit_frames(1, 49, 1, 24, (9, 49), rule)
        assert fitted.rule == "exact"
        assert fitted.frame_numbers == tuple(map(float, range(1, 50)))
        assert fitted.fps == 24


def test_choose_takes_the_first_frames() -> None:
    fitted = fit_frames(10, 40, 1, 24, (9,), "choose")
    assert fitted.frame_numbers == tuple(map(float, range(10, 19)))


def test_step_widens_by_a_whole_factor() -> None:
    fitted = fit_frames(1, 40, 1, 24, (9,), "step")
    assert fitted.frame_numbers == (1, 5, 9, 13, 17, 21, 25, 29, 33)
    assert fitted.fps == 6
    assert fitted.statement == "9 of the 40 frames 1 to 40: one in 4, to frame 33."


def test_resample_reaches_both_ends() -> None:
    fitted = fit_frames(0, 30, 1, 24, (9,), "resample")
    assert fitted.frame_numbers == (0, 3.75, 7.5, 11.25, 15, 18.75, 22.5, 26.25, 30)
    assert fitted.fps == 6.4


def test_auto_stretches_a_short_range() -> None:
    fitted = fit_frames(1, 5, 1, 24, (9,))
    assert fitted.frame_numbers == (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((5, 1, 1, 24, (9,)), "bad-range"),
        ((math.nan, 1, 1, 24, (9,)), "bad-range"),
        ((1, math.inf, 1, 24, (9,)), "bad-range"),
        ((1, 9, 0, 24, (9,)), "bad-step"),
        ((1, 9, -1, 24, (9,)), "bad-step"),
        ((1, 9, 1, 0, (9,)), "bad-step"),
        ((1, 1, 1, 24, (9,)), "too-few-frames"),
        ((1, 5, 1, 24, (9,), "choose"), "too-few-frames"),
        ((1, 5, 1, 24, (9,), "step"), "too-few-frames"),
        ((1, 9, 1, 24, (9,), "guess"), "bad-frame-rule"),
    ],
)
def test_what_cannot_be_fitted_is_a_sentence(arguments, code: str) -> None:
    with pytest.raises(ShotError) as caught:
        fit_frames(*arguments)
    assert caught.value.code == code
    assert caught.value.exit_code == 3


@given(SIZES, st.tuples(st.floats(0.25, 4), st.floats(0.25, 4)), st.sampled_from(["pad", "crop"]))
def test_pad_contains_the_frame_and_crop_is_contained(source, aspect, mode) -> None:
    fitted = fit_size(source, aspect, [(96, 64), (64, 96)], mode)
    left, top, right, bottom = fitted.frame_in_model()
    width, height = fitted.size
    slack = 1e-6 * max(fitted.size)
    inside = left >= -slack and top >= -slack and right <= width + slack and bottom <= height + slack
    outside = left <= slack and top <= slack and right >= width - slack and bottom >= height - slack
    assert inside if mode == "pad" else outside
    touches = math.isclose(right - left, width, rel_tol=1e-6) or math.isclose(bottom - top, height, rel_tol=1e-6)
    assert touches
    assert math.isclose((left + right) / 2, width / 2, abs_tol=slack)
    assert math.isclose((top + bottom) / 2, height / 2, abs_tol=slack)


@given(SIZES, st.tuples(st.floats(0.25, 4), st.floats(0.25, 4)), st.sampled_from(["pad", "crop"]))
def test_the_models_pixels_are_square(source, aspect, mode) -> None:
    k = intrinsics(
        lens=50, sensor_width=36, sensor_height=24, sensor_fit="AUTO", shift_x=0.1, shift_y=-0.2,
        size=source, pixel_aspect=aspect,
    )  # fmt: skip
    fitted = fit_size(source, aspect, [(96, 64)], mode)
    model = fitted.apply(k)
    assert math.isclose(model[0, 0], model[1, 1], rel_tol=1e-9)
    expected = np.array([k[0, 2], k[1, 2]]) * fitted.scale + fitted.offset
    assert np.allclose(model[:2, 2], expected)


def test_the_size_nearest_in_aspect_is_taken() -> None:
    assert fit_size((1080, 1920), (1, 1), [(96, 64), (64, 96)]).size == (64, 96)
    assert fit_size((1920, 1080), (1, 1), [(96, 64), (192, 128), (64, 96)]).size == (192, 128)


@given(SIZES, st.sampled_from(["pad", "crop"]))
def test_size_fit_survives_json(source, mode) -> None:
    fitted = fit_size(source, (1, 1), [(96, 64)], mode)
    assert SizeFit.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted


def test_bad_sizes_are_sentences() -> None:
    for arguments in (((0, 10), (1, 1), [(96, 64)]), ((10, 10), (1, 1), [(96, 64)], "stretch")):
        with pytest.raises(ShotError):
            fit_size(*arguments)  # pyright: ignore[reportArgumentType]
