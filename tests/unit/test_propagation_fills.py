# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills of canvases: what is kept, what is promised of filled colors, healing, symmetry, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import canvases
from trackshade.core.errors import CancelledError, UsageError
from trackshade.propagation.fills import (
    FLAT,
    KNOWN,
    LATTICE,
    METHODS,
    OUTSIDE,
    PATCH_MATCH,
    PUSH_PULL,
    SYMMETRY,
    fill_canvas,
)
from trackshade.propagation.fills.lattice import find_lattice
from trackshade.propagation.fills.symmetry import find_symmetries


@st.composite
def small_canvases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random colors with random masks: single texels, empty masks and full ones are all possible."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    color = rng.random((height, width, 3)).astype(np.float32) * draw(st.sampled_from([1e-3, 1.0, 10.0]))
    known = rng.random((height, width)) < draw(st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]))
    inside = rng.random((height, width)) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    return color, known, inside


@settings(deadline=None, max_examples=80)
@given(small_canvases(), st.sampled_from(["plane", "atlas"]), st.sampled_from(METHODS))
def test_known_texels_stay_and_all_others_are_filled_within_their_range(canvas, kind, method) -> None:
    color, known, inside = canvas
    marked = np.where(known[..., None], color, np.nan).astype(np.float32)  # unknown colors are ignored
    filled = fill_canvas(marked, known, inside, kind=kind, method=method)
    kept = known & inside & ~filled.healed
    assert np.array_equal(filled.color[kept], color[kept])
    assert np.isfinite(filled.color).all()
    assert np.array_equal(filled.method == OUTSIDE, ~inside)
    assert np.array_equal(filled.method == KNOWN, kept)
    if (known & inside).any():
        low, high = color[known & inside].min(axis=0), color[known & inside].max(axis=0)
        assert (filled.color >= low * (1 - 1e-4)).all()
        assert (filled.color <= high * (1 + 1e-4)).all()


def test_an_exact_checker_continues_exactly() -> None:
    rows, columns = np.mgrid[:160, :200]
    odd = (rows // 16 + columns // 16) % 2
    color = np.where(odd[..., None], np.float32([0.8, 0.7, 0.6]), np.float32([0.1, 0.2, 0.3]))
    known = ~canvases.holes(200, 1)[:160]
    filled = fill_canvas(color, known, np.ones_like(known), kind="plane")
    assert np.abs(filled.color - color).max() < 1e-5
    assert (filled.method[~known] == LATTICE).all()
    assert not filled.healed.any()


@pytest.mark.parametrize("name", canvases.REPEATING)
def test_the_lattice_of_a_repeating_texture_is_found(name: str) -> None:
    color = canvases.render(name, 320)
    known = ~canvases.holes(320)
    lattice = find_lattice(np.sqrt(color), known)
    assert lattice is not None
    cell = {"checker": 2 * 37.3**2, "checker_turned": 2 * 22.7**2, "tiles": 48.6**2, "bricks": 21.4 * 58.2}[name]
    assert abs(np.linalg.det(lattice.vectors)) == pytest.approx(cell, rel=0.02)


@pytest.mark.parametrize("name", ["wood", "voronoi", "marble", "gravel"])
def test_what_does_not_repeat_has_no_lattice(name: str) -> None:
    assert find_lattice(np.sqrt(canvases.render(name, 256)), ~canvases.holes(256)) is None
