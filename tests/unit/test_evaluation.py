# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures of pictures against cases whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from trackshade.core.images import psnr
from trackshade_lab.evaluation.image_measures import displacement, gradient_energy, pixel_variance, ratio, ssim
from trackshade_lab.evaluation.summary import bootstrap_interval, estimate_difference, estimate_mean


def disc(x: float, y: float, background: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A shaded disc of radius 9 at (x, y): frame [64, 96, 3] and its mask."""
    rows, columns = np.mgrid[:64, :96] + 0.5
    inside = np.hypot(columns - x, rows - y) < 9
    frame = np.full((64, 96, 3), background, np.uint8)
    frame[inside] = np.stack([150 + 8 * (columns - x), 120 + 6 * (rows - y), 200 + 0 * rows], -1)[inside].clip(0, 255)
    return frame, inside


@pytest.mark.parametrize("shift", [(0, 0), (3, 0), (0, -4), (6, 8), (-15, 5)])
def test_displacement_finds_a_known_shift(shift: tuple[int, int]):
    truth, mask = disc(48, 32)
    made, _ = disc(48 + shift[0], 32 + shift[1])
    assert displacement(truth[None], made[None], mask[None]) == pytest.approx(np.hypot(*shift), abs=0.3)


def test_displacement_of_half_a_pixel():
    truth, mask = disc(48, 32)
    made = ((truth.astype(int) + np.roll(truth, 1, axis=1)) // 2).astype(np.uint8)
    assert displacement(truth[None], made[None], mask[None]) == pytest.approx(0.5, abs=0.3)


def test_displacement_at_the_edge_of_the_frame():
    truth, mask = disc(4, 32)
    made, _ = disc(9, 32)
    assert displacement(truth[None], made[None], mask[None]) == pytest.approx(5, abs=0.5)


def test_displacement_of_an_invisible_object_is_nan():
    truth, mask = disc(48, 32)
    assert np.isnan(displacement(truth[None], truth[None], np.zeros_like(mask)[None]))


def test_psnr_of_a_known_error():
    truth = np.full((2, 8, 8, 3), 100, np.uint8)
    assert psnr(truth, truth + 10) == pytest.approx(20 * np.log10(25.5))


def test_psnr_within_a_mask():
    truth = np.full((2, 8, 8, 3), 100, np.uint8)
    made, mask = truth.copy(), np.zeros((2, 8, 8), bool)
    made[:, :4] += 10
    mask[:, :4] = True
    assert psnr(truth, made, mask) == pytest.approx(20 * np.log10(25.5))
    assert psnr(truth, made, ~mask) > 100
    assert np.isnan(psnr(truth, made, np.zeros_like(mask)))


def ssim_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    """The definition, window by window: slow and plain."""
    place = np.arange(11) - 5
    line = np.exp(-(place**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    values = []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            x, y = a[i : i + 11, j : j + 11].astype(float), b[i : i + 11, j : j + 11].astype(float)
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            cov = (window * (x - mx) * (y - my)).sum()
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            values.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return float(np.mean(values))


def test_ssim_matches_its_definition():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (16, 19)).astype(np.uint8)
    b = np.clip(a + rng.normal(0, 30, a.shape), 0, 255).astype(np.uint8)
    videos = [np.repeat(x[None, ..., None], 3, axis=-1) for x in (a, b)]
    assert ssim(*videos) == pytest.approx(ssim_by_hand(a, b), abs=1e-4)
    assert ssim(videos[0], videos[0]) == pytest.approx(1)


def test_ssim_of_two_uniform_images():
    """Without texture it is the luminance term alone."""
    a, b = np.full((1, 20, 20, 3), 100, np.uint8), np.full((1, 20, 20, 3), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(a, b) == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1), abs=1e-5)


def test_ssim_rejects_small_images():
    small = np.zeros((1, 8, 30, 3), np.uint8)
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(small, small)


def test_gradients_and_variance_of_stripes():
    video = np.zeros((2, 8, 8, 3), np.uint8)
    video[:, :, ::2] = 10
    assert gradient_energy(video) == pytest.approx(100)
    assert pixel_variance(video) == pytest.approx(25)
    assert ratio(50.0, 100.0) == 0.5
    assert np.isnan(ratio(1.0, 0.0))


def test_blur_costs_gradient_energy():
    noise = np.random.default_rng(0).integers(0, 256, (2, 20, 20, 3)).astype(np.uint8)
    soft = ((noise.astype(int) + np.roll(noise, 1, 2)) // 2).astype(np.uint8)
    assert ratio(gradient_energy(soft), gradient_energy(noise)) < 0.8


def test_bootstrap_contains_the_mean_and_narrows():
    values = np.random.default_rng(0).normal(5, 1, 400)
    few, many = bootstrap_interval(values[:20]), bootstrap_interval(values)
    assert many[0] < values.mean() < many[1]
    assert many[1] - many[0] < few[1] - few[0]


def test_bootstrap_coverage():
    rng = np.random.default_rng(1)
    spans = [bootstrap_interval(rng.normal(5, 1, 60), resamples=400) for _ in range(200)]
    assert 0.88 < np.mean([low < 5 < high for low, high in spans]) < 0.995


def test_missing_values_are_ignored():
    found = estimate_mean([1.0, None, 3.0, float("nan")])
    assert (found["mean"], found["clips"]) == (2.0, 2)
    assert np.isnan(estimate_mean([None])["mean"])


def test_paired_differences():
    """The clips differ far more than the ways do, and that is not the ways' doing."""
    rng = np.random.default_rng(0)
    base = rng.normal(25, 8, 50)
    found = estimate_difference(list(base + rng.normal(1, 0.1, 50)), list(base))
    assert 0.9 < found["low"] < found["mean"] < found["high"] < 1.1
    assert estimate_difference([1.0, None], [0.5, 2.0])["clips"] == 1
