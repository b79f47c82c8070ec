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
from trackshade.fit import fit_size
from trackshade.pictures import cover, cut_back, lay, look_back, seen_back, to_levels, write_png

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


SOURCES = st.tuples(st.integers(8, 60), st.integers(8, 60))


@given(SOURCES, st.sampled_from(("pad", "crop")), st.sampled_from(((96, 64), (64, 96), (48, 48))))
def test_what_is_laid_into_the_models_frame_is_found_in_the_scenes_again(source, mode: str, size) -> None:
    fit = fit_size(source, (1.0, 1.0), (size,), mode)
    columns = np.linspace(40, 200, source[0])
    picture = np.rint(np.broadcast_to(columns[None, :, None], (source[1], source[0], 3))).astype(np.uint8)
    back = cut_back(lay(picture, fit), fit, source)
    seen = seen_back(fit, source)
    assert back.shape == picture.shape
    assert seen.any()
    assert mode == "crop" or seen.all()
    step = 160 / (source[0] - 1)  # levels from one column to the next; a narrower frame loses some of them
    assert np.abs(back - picture)[seen].max() <= 1.5 + step * max(1.0, 1 / fit.scale[0])


@given(PICTURES)
def test_at_the_frames_own_size_nothing_is_touched(picture: np.ndarray) -> None:
    size = (picture.shape[1], picture.shape[0])
    fit = fit_size(size, (1.0, 1.0), (size,))
    assert np.array_equal(lay(picture, fit), picture)
    assert np.array_equal(to_levels(cut_back(picture, fit, size)), picture)
    assert np.array_equal(look_back(picture, fit, size), picture)


def test_indices_are_never_mixed() -> None:
    index = np.array([[1, 7], [7, 1]])
    fit = fit_size((50, 50), (1.0, 1.0), ((2, 2),))
    found = look_back(index, fit, (25, 25))  # rendered at half the size
    assert set(np.unique(found)) == {1, 7}
    assert found[0, 0] == 1
    assert found[0, 24] == 7
