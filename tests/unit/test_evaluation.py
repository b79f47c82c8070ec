# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures against cases whose answers are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from trackshade.errors import UsageError
from trackshade.evaluation import evaluate
from trackshade.evaluation.measures import bootstrap, displacement, psnr
from trackshade.models.loading import load_pipeline
from trackshade.registry import spec


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


def test_displacement_is_not_a_number_where_nothing_is_seen():
    truth, mask = disc(48, 32)
    assert np.isnan(displacement(truth[None], truth[None], np.zeros_like(mask)[None]))


def test_psnr_of_a_known_error():
    truth = np.full((2, 8, 8, 3), 100, np.uint8)
    assert psnr(truth, truth + 10) == pytest.approx(20 * np.log10(25.5))


def test_bootstrap_contains_the_mean_and_narrows():
    values = np.random.default_rng(0).normal(5, 1, 400)
    few, many = bootstrap(values[:20]), bootstrap(values)
    assert many[0] < values.mean() < many[1]
    assert many[1] - many[0] < few[1] - few[0]


def test_the_report_on_the_embedded_model(tmp_path):
    """One pass over few clips: a row per kind and a total, values of each clip in the file."""
    pipeline = load_pipeline(spec("mini"), "cpu")
    report = evaluate(pipeline, clips=3, steps=1, kinds=("vehicle", "deform"), out=tmp_path / "report.json")
    assert [row["kind"] for row in report.rows()] == ["vehicle", "deform", "all"]
    assert [row["clips"] for row in report.rows()] == [2, 1, 3]
    total = report.rows()[-1]
    assert total["psnr_bound"] > total["psnr_right"] > total["psnr_other"]
    assert report.table().count("\n| vehicle |") == 1
    stored = json.loads((tmp_path / "report.json").read_text())
    assert stored["psnr"]["right"] == pytest.approx(report.psnr["right"])


def test_one_clip_is_too_few():
    with pytest.raises(UsageError, match="too few"):
        evaluate(load_pipeline(spec("mini"), "cpu"), clips=1)
