# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills of canvases: what is kept, what is promised of filled colors, healing, symmetry, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree

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
    SurfacePoints,
    fill_canvas,
)
from trackshade.propagation.fills.lattice import find_lattice
from trackshade.propagation.fills.symmetry import MIN_COSINE, NearPoints, find_symmetries

pytestmark = pytest.mark.slow


@st.composite
def small_canvases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random colors with random masks: single texels, empty masks and full ones are all possible."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    color = rng.random((height, width, 3)).astype(np.float32) * draw(st.sampled_from([1e-3, 1.0, 10.0]))
    known = rng.random((height, width)) < draw(st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]))
    inside = rng.random((height, width)) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    return color, known, inside


@settings(max_examples=80)
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
    color = np.where(odd[..., None], [0.8, 0.7, 0.6], [0.1, 0.2, 0.3]).astype(np.float32)
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


@pytest.mark.parametrize("texture", ["checker", pytest.param("tiles", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("mark", "healed"),
    [
        ("rim", True),
        ("bounce", True),
        ("foot", True),
        ("decal", False),
        ("gray decal", False),
        ("stain", False),
        ("line", False),
    ],
)
def test_light_is_healed_and_marks_of_the_surface_stay(texture: str, mark: str, healed: bool) -> None:
    size = 320
    truth, known = canvases.render(texture, size), ~canvases.holes(size)
    y, x = np.mgrid[:size, :size] + 0.5
    radius = np.hypot(y - 150, x - 190)
    factor = np.ones_like(truth)
    color = truth.copy()
    region = radius < 22
    if mark == "rim":
        rim = canvases.ring(size, (150, 190), 80, 3)
        region, factor = rim > 0.3, np.repeat(1 - 0.3 * rim[..., None], 3, axis=2)
    elif mark == "bounce":
        soft = np.exp(-((radius / 45) ** 2))
        region, factor = soft > 0.5, 1 + soft[..., None] * np.array([0.22, 0.05, 0.03])
    elif mark == "foot":  # a shadow at the foot of a body that hides the floor
        known &= np.hypot(y - 180, x - 190) >= 25
        region = np.hypot(2 * (y - 200), x - 215) < 50
        factor = np.where(region, 0.6, 1.0)[..., None]
    elif mark == "stain":
        factor = np.where(region, 0.55, 1.0)[..., None]
    elif mark == "line":
        region = (np.abs(y - 150) < 3) & (np.abs(x - 190) < 50)
        color[region] = 0.02
    else:
        color[region] = [0.7, 0.05, 0.05] if mark == "decal" else [0.3, 0.3, 0.3]
    color = (color * factor).astype(np.float32)
    filled = fill_canvas(color, known, np.ones_like(known), kind="plane")
    region &= known
    assert filled.healed[region].mean() > 0.9 if healed else not filled.healed[region].any()
    assert filled.healed[known & ~region].mean() < 0.06
    if healed:
        before, after = (np.abs(image / truth - 1)[region].mean() for image in (color, filled.color))
        assert after < 0.5 * before
        kept = fill_canvas(color, known, np.ones_like(known), kind="plane", heal=False)
        assert np.array_equal(kept.color[known], color[known])


@pytest.mark.parametrize("is_shadow", [True, False])
def test_where_the_light_had_a_shadow_what_deviates_is_healed(is_shadow: bool) -> None:
    """A red, noisy region, as colored bounce light in a dark shadow leaves; without the shadow it is a stain."""
    size = 320
    truth, known = canvases.render("checker", size), ~canvases.holes(size)
    y, x = np.mgrid[:size, :size] + 0.5
    region = np.hypot(y - 150, x - 190) < 24
    grain = np.random.default_rng(0).normal(1, 0.2, (size, size, 1))
    color = np.where(region[..., None], truth * [1.9, 0.8, 0.8] * grain, truth).astype(np.float32)
    light = np.ones_like(truth)
    if is_shadow:
        light[region] = 0.3
    filled = fill_canvas(color, known, np.ones_like(known), kind="plane", light=light)
    region &= known
    if is_shadow:
        assert filled.healed[region].mean() > 0.9
        assert np.abs(filled.color / truth - 1)[region].mean() < 0.05
    else:
        assert not filled.healed[region].any()
    assert filled.healed[known & ~region].mean() < 0.06


def test_marks_of_the_surface_are_not_copied_into_holes() -> None:
    truth, known = canvases.render("tiles", 320), ~canvases.holes(320)
    color = truth.copy()
    y, x = np.mgrid[:320, :320] + 0.5
    color[np.hypot(y - 150, x - 190) < 22] = [0.7, 0.05, 0.05]
    filled = fill_canvas(color, known, np.ones_like(known), kind="plane").color[~known]
    assert (filled[:, 0] < 4 * filled[:, 1]).all()


@pytest.mark.parametrize("name", ["checker", "bricks", "wood"])
def test_fills_do_not_depend_on_the_scale_of_colors(name: str) -> None:
    color, known = canvases.render(name, 160), ~canvases.holes(160)
    inside = np.ones_like(known)
    one = fill_canvas(color, known, inside, kind="plane")
    many = fill_canvas(color * np.float32(16), known, inside, kind="plane")
    assert np.array_equal(one.method, many.method)
    np.testing.assert_allclose(many.color, 16 * one.color, rtol=1e-5)


def test_the_same_seed_gives_the_same_fill_and_another_one_another() -> None:
    color, known = canvases.render("voronoi", 128), ~canvases.holes(128)
    fills = [fill_canvas(color, known, np.ones_like(known), kind="plane", seed=seed) for seed in (3, 3, 4)]
    assert np.array_equal(fills[0].color, fills[1].color)
    assert not np.array_equal(fills[0].color, fills[2].color)
    assert (fills[0].method[~known] == PATCH_MATCH).all()


def test_patches_copy_known_colors() -> None:
    color, known = canvases.render("gravel", 96), ~canvases.holes(96)
    filled = fill_canvas(color, known, np.ones_like(known), kind="atlas", method="patch-match")
    copied = filled.color[filled.method == PATCH_MATCH]
    assert len(copied)
    assert KDTree(color[known]).query(copied)[0].max() < 1e-6


def test_patches_in_a_plane_have_the_level_of_what_is_beside_them() -> None:
    """Where all that is known but a strip beside the hole, too narrow for patches, is paler."""
    color = canvases.render("gravel", 128)
    color[:, 45:] *= 0.6
    known = np.ones((128, 128), bool)
    known[:, :40] = False
    copied, smooth = (
        fill_canvas(color, known, np.ones_like(known), kind="plane", method=method)
        for method in ("patch-match", "push-pull")
    )
    assert (copied.method[:, :40] == PATCH_MATCH).mean() > 0.9
    assert abs(copied.color[:, :40].mean() / smooth.color[:, :40].mean() - 1) < 0.05


def test_patches_have_the_grain_of_the_texture() -> None:
    """The patches of a fill are like those of the truth, and those of a smooth fill are not."""
    color, known = canvases.render("gravel", 160), ~canvases.holes(160)
    energy = {}
    for method in ("patch-match", "push-pull"):
        filled = fill_canvas(color, known, np.ones_like(known), kind="plane", method=method).color
        energy[method] = np.square(np.diff(filled, axis=0))[~known[1:]].sum()
    truth = np.square(np.diff(color, axis=0))[~known[1:]].sum()
    assert 0.7 < energy["patch-match"] / truth < 1.4
    assert energy["push-pull"] / truth < 0.3


def test_charts_are_filled_from_their_own_texels() -> None:
    color = np.zeros((40, 40, 3), np.float32)
    color[:, 20:] = 1
    inside = np.ones((40, 40), bool)
    inside[:, 19:21] = False
    known = inside.copy()
    known[10:30, 10:30] = False
    filled = fill_canvas(color, known, inside, kind="atlas", method="push-pull")
    assert (filled.color[:, :19] == 0).all()
    assert (filled.color[:, 21:] == 1).all()


def test_positions_carry_colors_to_charts_that_no_picture_shows() -> None:
    """Two charts side by side in space but far apart in the atlas, and a third one far from both."""
    inside = np.zeros((20, 60), bool)
    inside[:, :18] = inside[:, 21:39] = inside[:, 42:] = True
    rows, columns = np.mgrid[:20, :60].astype(np.float32)
    positions = np.stack([columns, rows, np.zeros_like(rows)], axis=-1)
    positions[:, 42:, 0] -= 42 - 18.5  # the third chart continues the first
    positions[:, 21:39, 0] += 1000
    color = np.zeros((20, 60, 3), np.float32)
    color[:, :18] = 0.2
    color[:, 21:39] = 0.9
    known = inside.copy()
    known[:, 42:] = False
    filled = fill_canvas(color, known, inside, kind="atlas", method="push-pull", positions=positions)
    np.testing.assert_allclose(filled.color[:, 42:], 0.2, atol=0.01)


@pytest.mark.parametrize("with_normals", [True, False])
def test_the_hidden_side_of_a_symmetric_body_is_mirrored(with_normals: bool) -> None:
    color, known, positions, normals = canvases.body(96)
    inside = np.ones_like(known)
    extra = {"positions": positions, "normals": normals if with_normals else None}
    mirrored = fill_canvas(color, known, inside, kind="atlas", **extra)
    smooth = fill_canvas(color, known, inside, kind="atlas", method="push-pull", **extra)
    hidden = mirrored.method == SYMMETRY
    assert hidden[~known].mean() > 0.5
    errors = [float(np.square(filled.color - color)[hidden].mean()) for filled in (mirrored, smooth)]
    assert errors[0] < 0.1 * errors[1]


def test_a_symmetry_that_disagrees_with_known_colors_is_not_used() -> None:
    color, known, positions, normals = canvases.body(64, lopsided=True)
    known |= positions[..., 0] > 0.9  # some of the other side is seen
    points, directions = positions.reshape(-1, 3).astype(float), normals.reshape(-1, 3).astype(float)
    found = find_symmetries(points, directions, color.reshape(-1, 3), known.ravel())
    across = [symmetry for symmetry in found if symmetry.matrix[1, 1] < -0.9 and symmetry.matrix[0, 0] > 0.9]
    assert not across


@given(
    seed=st.integers(0, 1000), count=st.integers(0, 60), limit=st.floats(0.01, 2.0), ranks=st.integers(1, 8),
    flat=st.booleans(), turned=st.booleans(),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_near_points_are_those_of_a_search_of_all(
    seed: int, count: int, limit: float, ranks: int, flat: bool, turned: bool
) -> None:
    rng = np.random.default_rng(seed)
    points, asked = rng.normal(size=(count, 3)), 1.5 * rng.normal(size=(30, 3))
    points[:, 2] *= not flat
    normals, directions = (rng.normal(size=(n, 3)) for n in (count, 30))
    normals, directions = (n / np.linalg.norm(n, axis=1, keepdims=True) for n in (normals, directions))
    near = NearPoints(points, normals if turned else None, limit)
    distance, index = near.nearest(asked, directions if turned else None, ranks)
    for n in range(30):
        away = np.linalg.norm(points - asked[n], axis=1)
        expected = [k for k in np.argsort(away)[:ranks].tolist() if away[k] < limit]
        assert index[n, : len(expected)].tolist() == expected
        assert not index[n, len(expected) :].any()
        is_turned = [turned and normals[k] @ directions[n] < MIN_COSINE for k in expected]
        np.testing.assert_allclose(distance[n, : len(expected)], np.where(is_turned, np.inf, away[expected]))
        assert np.isinf(distance[n, len(expected) :]).all()


def test_nothing_known_gives_gray_and_everything_known_stays() -> None:
    color = canvases.render("marble", 48)
    whole = np.ones((48, 48), bool)
    nothing = fill_canvas(np.full_like(color, np.nan), ~whole, whole, kind="plane")
    assert (nothing.method == FLAT).all()
    assert (nothing.color == nothing.color[0, 0]).all()
    everything = fill_canvas(color, whole, whole, kind="atlas")
    assert np.array_equal(everything.color, color)
    assert (everything.method == KNOWN).all()


def test_too_little_for_patches_is_filled_smoothly() -> None:
    color = np.linspace(0, 1, 30 * 30 * 3, dtype=np.float32).reshape(30, 30, 3)
    known = np.zeros((30, 30), bool)
    known[::7, ::7] = True
    filled = fill_canvas(color, known, np.ones_like(known), kind="plane")
    assert (filled.method[~known] == PUSH_PULL).all()


def test_progress_rises_to_one_and_can_cancel() -> None:
    color, known = canvases.render("wood", 96), ~canvases.holes(96)
    seen: list[float] = []
    fill_canvas(color, known, np.ones_like(known), kind="plane", progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1

    def cancel(fraction: float) -> None:
        if fraction > 0.4:
            raise CancelledError

    with pytest.raises(CancelledError):
        fill_canvas(color, known, np.ones_like(known), kind="plane", progress=cancel)


@pytest.mark.parametrize(
    "change",
    [
        {"color": np.full((8, 8, 3), np.nan, np.float32)},
        {"color": np.full((8, 8, 3), np.inf, np.float32)},
        {"color": np.zeros((8, 8), np.float32)},
        {"color": np.zeros((0, 8, 3), np.float32), "known": np.zeros((0, 8), bool), "inside": np.zeros((0, 8), bool)},
        {"known": np.ones((8, 9), bool)},
        {"inside": np.ones((9, 8), bool)},
        {"positions": np.zeros((4, 8, 3), np.float32)},
        {"kind": "sphere"},
        {"method": "magic"},
    ],
)
def test_bad_input_is_an_error(change: dict) -> None:
    given_ = {
        "color": np.zeros((8, 8, 3), np.float32),
        "known": np.ones((8, 8), bool),
        "inside": np.ones((8, 8), bool),
        "kind": "plane",
    }
    given_.update(change)
    with pytest.raises(UsageError, match="canvas"):
        fill_canvas(given_.pop("color"), given_.pop("known"), given_.pop("inside"), **given_)


def test_points_of_the_mesh_on_other_canvases_are_used() -> None:
    """The same body, of which the canvas holds the hidden half only, and the visible half is elsewhere."""
    color, known, positions, normals = canvases.body(96)
    canvas = ~known
    elsewhere = SurfacePoints(positions[known], normals[known], color[known])
    filled = fill_canvas(
        color, np.zeros_like(known), canvas, kind="atlas", positions=positions, normals=normals, others=elsewhere
    )
    mirrored = filled.method == SYMMETRY
    assert mirrored[canvas].mean() > 0.5
    assert np.abs(filled.color - color)[mirrored].mean() < 0.1 * color.mean()
