# SPDX-License-Identifier: GPL-3.0-or-later
"""Controls: identity destroyed, other signals, the color that a text names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.result_shots import at, shot
from trackshade.control import tracking_video
from trackshade.control.signals import control_signal
from trackshade.core.colors import linear_to_srgb, srgb_to_linear
from trackshade.core.errors import UsageError
from trackshade_lab.evaluation.clips import plan_clips
from trackshade_lab.evaluation.image_measures import COLOR_NAMES, dominant_color_name, nearest_color_name
from trackshade_lab.evaluation.variants import VARIANTS, destroy_identity, parse_variants
from trackshade_lab.scenes import generate_clip, scene_shot
from trackshade_lab.scenes.captions import COLORS

pytestmark = pytest.mark.slow


def clip():
    return generate_clip(12, (96, 64), 5, "moving-camera", split="held-out")


@pytest.mark.long
def test_destroyed_identity_keeps_silhouettes_and_depth_and_changes_places():
    made = clip()
    found = destroy_identity(made.tracking, made.object_index)
    covered = made.tracking.any(axis=-1)
    assert np.array_equal(found.any(axis=-1), covered)
    assert np.array_equal(found[..., 2], made.tracking[..., 2])
    moved = np.abs(found[..., :2].astype(int) - made.tracking[..., :2]).max(axis=-1)[covered]
    assert np.median(moved) > 20  # of 255: far away, not beside
    assert (moved > 0).mean() > 0.97


def test_destroyed_identity_is_the_same_in_every_frame():
    """A color becomes the same other color wherever and whenever it comes, within one object."""
    made = clip()
    found = destroy_identity(made.tracking, made.object_index)
    for body in np.unique(made.object_index[made.object_index >= 0]):
        own = (made.object_index == body) & made.tracking.any(axis=-1)
        before, after = made.tracking[own][:, :2], found[own][:, :2]
        pairs = np.unique(np.concatenate([before, after], axis=1), axis=0)
        assert len(pairs) == len(np.unique(before, axis=0))


def test_destroyed_identity_stays_within_the_object():
    """The places that an object gets are those of its own cells."""
    tracking = np.zeros((2, 36, 72, 3), np.uint8)
    objects = np.zeros((2, 36, 72), np.int16)
    objects[:, :, 36:] = 1
    tracking[..., 0] = np.rint(np.arange(0.5, 72) / 72 * 255)
    tracking[..., 1] = np.rint(np.arange(0.5, 36) / 36 * 255)[:, None]
    tracking[..., 2] = 77
    found = destroy_identity(tracking, objects)
    assert found[:, :, :36, 0].max() < 130
    assert found[:, :, 36:, 0].min() > 125
    assert not np.array_equal(found, tracking)


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.sampled_from([1 / 12, 1 / 36, 1 / 96]))
def test_destroyed_identity_never_makes_a_point_untracked(seed: int, cell: float):
    rng = np.random.default_rng(seed)
    tracking = rng.integers(0, 256, (2, 20, 30, 3)).astype(np.uint8)
    tracking[rng.random((2, 20, 30)) < 0.3] = 0
    objects = rng.integers(0, 3, (2, 20, 30)).astype(np.int16)
    found = destroy_identity(tracking, objects, seed, cell)
    assert np.array_equal(found.any(axis=-1), tracking.any(axis=-1))


def test_signals_of_a_shot():
    made = scene_shot(clip().scene, (96, 64))
    mesh, none, depth = (control_signal(made, name) for name in ("mesh", "none", "depth"))
    assert not none.any()
    assert np.array_equal(mesh, clip().tracking)
    assert (depth[..., 0] == depth[..., 1]).all()
    assert (depth[..., 0] == depth[..., 2]).all()
    assert depth.max() == 255
    few, many = (control_signal(made, f"tracks-{n}") for n in (60, 900))
    assert len(np.unique(few[0].reshape(-1, 3), axis=0)) <= 61  # one color a point, and black
    assert 200 < len(np.unique(many[0].reshape(-1, 3), axis=0)) <= 901
    # The points of the first frame say where they are, as the mesh rule does, but for the size of a rectangle.
    drawn = many[0].any(axis=-1) & mesh[0].any(axis=-1)
    assert np.abs(many[0].astype(int) - mesh[0])[drawn][:, :2].mean() < 4


def test_depth_is_brighter_where_it_is_nearer():
    made = shot([("far", [at(-0.5, 0, 0, scale=0.3)] * 2), ("near", [at(0.5, 0, 2, scale=0.3)] * 2)])
    depth = control_signal(made, "depth")
    seen = tracking_video(made, threads=1).object_index
    assert depth[seen == 1].min() == 255
    assert depth[seen == 0].max() == 0


def test_an_unknown_signal_is_refused():
    with pytest.raises(UsageError, match="tracks-0"):
        control_signal(shot([("square", [np.eye(4)] * 2)]), "tracks-0")


@pytest.mark.parametrize("name", COLOR_NAMES)
@pytest.mark.parametrize("light", [0.45, 1.0])
def test_named_colors_are_recognized_in_light_and_shadow(name: str, light: float):
    assert nearest_color_name(srgb_to_linear(np.array(COLORS[name])) * light) == name


def test_dominant_color_within_a_mask():
    video = np.zeros((2, 20, 20, 3), np.uint8)
    video[:] = np.rint(255 * np.array(COLORS["green"]))
    mask = np.zeros((2, 20, 20), bool)
    mask[:, 5:15, 5:15] = True
    video[mask] = np.rint(255 * linear_to_srgb(0.6 * srgb_to_linear(np.array(COLORS["purple"]))))
    assert dominant_color_name(video, mask) == "purple"
    assert dominant_color_name(video, ~mask) == "green"
    assert dominant_color_name(video, np.zeros_like(mask)) is None


def test_the_plan_spreads_clips_over_kinds_and_never_gives_a_clip_its_own_tracks():
    items = plan_clips(24, 5)
    assert len({item.kind for item in items[:12]}) == 12
    assert [item.kind for item in items[24:]] == ["spin"] * 5
    assert all(item.is_extra for item in items[24:])
    assert len({item.name for item in items}) == 29
    assert all(item.other != (item.kind, item.seed) for item in items)
    assert plan_clips(12, 0) == items[:12]
    with pytest.raises(UsageError, match="nonsense"):
        plan_clips(3, 0, ("nonsense",))


def test_variants_are_selected_by_name():
    assert parse_variants(None) == tuple(VARIANTS)
    assert parse_variants("warp, right") == ("truth", "right", "warp")
    with pytest.raises(UsageError, match="sideways"):
        parse_variants("right,sideways")
