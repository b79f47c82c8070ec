# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures: resampling, cutting back to the scene's frame, and PNG files that others read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from trackshade.core import resampling
from trackshade.core.errors import OutputError
from trackshade.core.fitting import fit_size
from trackshade.core.images import write_png
from trackshade.core.resampling import crop_to_frame, crop_to_frame_nearest, frame_coverage, resample

SIDES = st.integers(1, 40)
PICTURES = st.tuples(SIDES, SIDES).flatmap(lambda size: hnp.arrays(np.uint8, (*size, 3)))


def rounded(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PICTURES)
def test_others_read_the_same_pixels(tmp_path: Path, picture: np.ndarray) -> None:
    write_png(tmp_path / "a.png", picture)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), picture)


@given(PICTURES, st.tuples(SIDES, SIDES), st.floats(0.05, 20), st.floats(-30, 30))
def test_resampling_is_a_weighted_mean_of_near_pixels(picture, size, scale: float, offset: float) -> None:
    made = resample(picture, size, (scale, scale), (offset, offset))
    rows, columns = (_weights(old, new, scale, offset) for old, new in zip(picture.shape, size[::-1], strict=False))
    wanted = np.einsum("ih,jw,hwc->ijc", rows, columns, picture.astype(np.float64))
    np.testing.assert_allclose(made, wanted, atol=1e-9)
    assert made.min() >= picture.min() - 1e-9  # no ringing
    assert made.max() <= picture.max() + 1e-9


def _weights(old: int, new: int, scale: float, offset: float) -> np.ndarray:
    """[new, old] of a triangle as wide as the larger of an old and a new pixel, around each new pixel's center."""
    centers = np.clip((np.arange(new) + 0.5 - offset) / scale, 0.5, old - 0.5)
    weights = np.maximum(0, 1 - np.abs(centers[:, None] - np.arange(old) - 0.5) * min(scale, 1))
    return weights / weights.sum(axis=1, keepdims=True)


def test_many_rows_at_once_are_those_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.random.default_rng(0).random((300, 5, 3))
    given = (picture, (7, 41), (1.3, 0.11), (0.4, 3.0))
    whole = resample(*given)
    monkeypatch.setattr(resampling, "_BLOCK_ROWS", 3)
    np.testing.assert_allclose(resample(*given), whole, atol=1e-12)


def test_halving_is_near_the_mean_of_a_gradient() -> None:
    picture = np.repeat(np.arange(0, 200, 2, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(100, axis=0)
    made = resample(picture, (50, 50), (0.5, 0.5), (0, 0))
    assert np.abs(made[25, 2:-2, 0] - (np.arange(50)[2:-2] * 4 + 1)).max() <= 1e-9


def test_an_unwritable_place_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere"):
        write_png(tmp_path / "nowhere" / "a.png", np.zeros((1, 1, 3), np.uint8))


SOURCES = st.tuples(st.integers(8, 60), st.integers(8, 60))


@given(SOURCES, st.sampled_from(("pad", "crop")), st.sampled_from(((96, 64), (64, 96), (48, 48))))
def test_what_is_laid_into_the_models_frame_is_found_in_the_scenes_again(source, mode: str, size) -> None:
    fit = fit_size(source, (1.0, 1.0), (size,), mode)
    columns = np.linspace(40, 200, source[0])
    picture = np.rint(np.broadcast_to(columns[None, :, None], (source[1], source[0], 3))).astype(np.uint8)
    laid = rounded(resample(picture, fit.size, fit.scale, fit.offset))
    back = crop_to_frame(laid, fit, source)
    seen = frame_coverage(fit, source)
    assert back.shape == picture.shape
    assert seen.any()
    assert mode == "crop" or seen.all()
    step = 160 / (source[0] - 1)  # levels from one column to the next; a narrower frame loses some of them
    assert np.abs(back - picture)[seen].max() <= 1.5 + step * max(1.0, 1 / fit.scale[0])


@given(PICTURES)
def test_at_the_frames_own_size_nothing_is_touched(picture: np.ndarray) -> None:
    size = (picture.shape[1], picture.shape[0])
    fit = fit_size(size, (1.0, 1.0), (size,))
    assert np.array_equal(rounded(crop_to_frame(picture, fit, size)), picture)
    assert np.array_equal(crop_to_frame_nearest(picture, fit, size), picture)


def test_indices_are_never_mixed() -> None:
    index = np.array([[1, 7], [7, 1]])
    fit = fit_size((50, 50), (1.0, 1.0), ((2, 2),))
    found = crop_to_frame_nearest(index, fit, (25, 25))  # rendered at half the size
    assert set(np.unique(found)) == {1, 7}
    assert found[0, 0] == 1
    assert found[0, 24] == 7
