# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures: covering a size, and PNG files that others read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from trackshade.errors import OutputError
from trackshade.pictures import cover, write_png

SIDES = st.integers(1, 40)
PICTURES = st.tuples(SIDES, SIDES).flatmap(lambda size: hnp.arrays(np.uint8, (*size, 3)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PICTURES)
def test_others_read_the_same_pixels(tmp_path: Path, picture: np.ndarray) -> None:
    write_png(tmp_path / "a.png", picture)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), picture)


@given(PICTURES, st.tuples(SIDES, SIDES))
def test_a_picture_is_covered_without_new_values(picture: np.ndarray, size: tuple[int, int]) -> None:
    made = cover(picture, size)
    assert made.shape == (size[1], size[0], 3)
    assert made.min() >= picture.min()
    assert made.max() <= picture.max()


@given(PICTURES)
def test_the_same_size_changes_nothing(picture: np.ndarray) -> None:
    assert cover(picture, (picture.shape[1], picture.shape[0])) is picture


def test_what_sticks_out_is_cut_evenly() -> None:
    picture = np.zeros((10, 30, 3), np.uint8)
    picture[:, 10:20] = 255
    assert np.all(cover(picture, (10, 10)) == 255)


def test_halving_is_near_the_mean_of_a_gradient() -> None:
    picture = np.repeat(np.arange(0, 200, 2, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(100, axis=0)
    made = cover(picture, (50, 50))
    assert np.abs(made[25, 2:-2, 0].astype(int) - (np.arange(50)[2:-2] * 4 + 1)).max() <= 1


def test_an_unwritable_place_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere"):
        write_png(tmp_path / "nowhere" / "a.png", np.zeros((1, 1, 3), np.uint8))
