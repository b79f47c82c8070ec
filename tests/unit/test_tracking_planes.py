# SPDX-License-Identifier: GPL-3.0-or-later
"""Depth of tracked points without texture: planes of the scene, and surfaces that end where another begins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackshade.tracking.planes import apply_planes
from trackshade.tracking.smoothing import fill_depth, sharpen_steps

GRID, SPACING = (32, 48), 6.0
FLOOR, BOX = np.array([120.0, 180.0, 200.0]), np.array([200.0, 90.0, 60.0])


def places() -> np.ndarray:
    """[N, 2] pixels of the points."""
    rows, columns = GRID
    return np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2) * SPACING + 3.0


def plane(constant: float, right: float, down: float) -> np.ndarray:
    """[N] inverse depths."""
    return constant + places() @ [right, down]


def box() -> np.ndarray:
    """[N] bool: the points that show a box before the floor."""
    x, y = places().T
    return (x > 120) & (x < 200) & (y > 40) & (y < 110)


def room() -> tuple[np.ndarray, np.ndarray]:
    """Inverse depths and colors of a floor, and a box that stands on it."""
    rng = np.random.default_rng(0)
    inverse = np.where(box(), 1.1, plane(0.3, 0, 0.003))
    colors = np.where(box()[:, None], BOX, FLOOR) + rng.normal(0, 4, (len(inverse), 3))
    return inverse, colors


def test_what_has_no_texture_takes_the_depth_of_its_plane() -> None:
    true, colors = room()
    x, y = places().T
    known = np.random.default_rng(1).random(len(true)) < 0.5
    known &= ~((x < 100) & (y > 120))  # a corner without any texture
    found = np.where(known, true, 0.05)
    changed, deviations = apply_planes(found, np.where(known, 0.01, np.inf), colors, places(), GRID)
    unsure = ~known & ~box()
    np.testing.assert_allclose(changed[unsure], true[unsure], rtol=0.02)
    assert (deviations[unsure] < 0.05).all()
    inside = known & box()
    np.testing.assert_allclose(changed[inside], true[inside], rtol=1e-6)
    # Without the plane, depth is continued from what is near, and the corner goes wrong.
    corner = unsure & (x < 40) & (y > 160)
    plain = fill_depth(found, np.where(known, 0.01, np.inf), colors, GRID, SPACING)[:, 0]
    better = fill_depth(changed, deviations, colors, GRID, SPACING)[:, 0]
    assert np.abs(better / true - 1)[corner].max() < min(0.02, np.abs(plain / true - 1)[corner].max())


def test_points_beside_a_thing_leave_its_depth_for_the_plane_of_their_color() -> None:
    true, colors = room()
    x, y = places().T
    true = np.where(box(), 1.1 + 0.4 * np.sin(x / 8) * np.sin(y / 8), true)  # round: no plane itself
    beside = (x > 200) & (x < 206) & (y > 40) & (y < 110) & (np.arange(len(x)) // GRID[1] % 3 == 0)
    found = np.where(beside, 1.1, true)
    changed, _ = apply_planes(found, np.full(len(true), 0.01), colors, places(), GRID)
    assert beside.any()
    np.testing.assert_allclose(changed[beside], true[beside], rtol=0.02)
    np.testing.assert_array_equal(changed[box()], true[box()])


def test_where_there_is_no_plane_nothing_changes() -> None:
    rng = np.random.default_rng(2)
    inverse = rng.uniform(0.2, 2, len(places()))
    deviations = np.where(rng.random(len(inverse)) < 0.5, 0.01, np.inf)
    colors = rng.uniform(0, 255, (len(inverse), 3))
    changed, after = apply_planes(inverse, deviations, colors, places(), GRID)
    np.testing.assert_array_equal(changed, inverse)
    np.testing.assert_array_equal(after, deviations)
    changed, after = apply_planes(inverse, np.full(len(inverse), np.inf), colors, places(), GRID)
    np.testing.assert_array_equal(changed, inverse)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_a_ramp_between_two_surfaces_becomes_a_step(width: int) -> None:
    column = np.arange(GRID[1])
    line = np.interp(column, [20 - width, 20], [1.0, 0.6])
    inverse = np.tile(line, GRID[0])
    colors = np.where((places()[:, :1] > 20 * SPACING - 1), FLOOR, BOX)
    left, right = np.diff(line, prepend=line[0]), np.diff(line, append=line[-1])
    slopes = np.tile(np.where(abs(left) < abs(right), left, right) / SPACING, GRID[0])  # as they are made from depth
    sharp = sharpen_steps(np.stack([inverse, slopes, 0 * slopes], axis=1), colors, GRID, SPACING)
    picture = sharp[:, 0].reshape(GRID)
    np.testing.assert_allclose(picture[:, :20], 1.0, atol=0.02)
    np.testing.assert_allclose(picture[:, 20:], 0.6, atol=0.02)


@given(
    constant=st.floats(0.5, 2), right=st.floats(-0.0005, 0.0005), down=st.floats(0, 0.004), seed=st.integers(0, 1000)
)
def test_a_plane_stays_as_it_is(constant: float, right: float, down: float, seed: int) -> None:
    inverse = plane(constant, right, down)
    colors = np.random.default_rng(seed).uniform(0, 255, (len(inverse), 3))
    shape = np.stack([inverse, np.full_like(inverse, right), np.full_like(inverse, down)], axis=1)
    np.testing.assert_allclose(sharpen_steps(shape, colors, GRID, SPACING), shape, atol=1e-9)
