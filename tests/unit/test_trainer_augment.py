# SPDX-License-Identifier: GPL-3.0-or-later
"""Changed clips stay true: mirrored ones lie on their tracks, thinned ones keep every point's color."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trackshade_lab.scenes import generate_clip
from trackshade_lab.training.diffusion import mirror, names_side, thin_tracks


@pytest.mark.parametrize(
    ("caption", "sided"),
    [
        ("a red box moves to the left", True),
        ("Right behind it a ball", True),
        ("turning clockwise", True),
        ("turning counter-clockwise on a floor", True),
        ("anticlockwise", True),
        ("leftwards", True),
        ("a bright red box, upright", False),
        ("a clock turning", False),
    ],
)
def test_captions_that_name_a_side(caption: str, sided: bool):
    assert names_side(caption) is sided


@settings(max_examples=4)
@given(seed=st.integers(0, 2**20))
def test_mirrored_tracks_encode_mirrored_positions(seed: int):
    clip = generate_clip(seed, size=(48, 32), num_frames=3)
    video, tracking = mirror(clip.video, clip.tracking)
    rows, columns = np.nonzero(tracking[0].any(axis=-1))
    place = np.stack([(columns + 0.5) / 48, (rows + 0.5) / 32], axis=1)
    # Where a color is rounded, one level; the shape's own exactness is the generator's.
    assert np.abs(tracking[0][rows, columns, :2] - 255 * place).max() <= 1.5
    again = mirror(video, tracking)
    np.testing.assert_array_equal(again[0], clip.video)
    np.testing.assert_array_equal(again[1].any(axis=-1), clip.tracking.any(axis=-1))
    np.testing.assert_array_equal(again[1], clip.tracking)


@settings(max_examples=6)
@given(seed=st.integers(0, 2**20), count=st.integers(5, 60))
@example(seed=524288, count=59)
def test_thinned_tracks_are_points_of_the_dense_ones(seed: int, count: int):
    dense = generate_clip(seed, size=(96, 64), num_frames=5).tracking
    thin = thin_tracks(dense, np.random.default_rng(seed), count, count)
    assert thin.shape == dense.shape
    assert thin[0].any()
    # A point keeps its color. It may first appear in a later frame: in the first one, a nearer square can cover it.
    points = {tuple(color) for color in thin.reshape(-1, 3) if color.any()}
    assert len(points) <= count
    assert points <= {tuple(color) for color in dense[0].reshape(-1, 3)}
    assert (thin.any(axis=-1)).mean() < (dense.any(axis=-1)).mean() or count > 40


def test_a_thinned_point_follows_its_surface():
    """A ramp that moves three pixels to the right each frame, one band of it hidden in the end."""
    height, width, frames = 32, 64, 4
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    ramp = np.stack([255 * (columns + 0.5) / width, 255 * (rows + 0.5) / height, np.full_like(rows, 99.0)], axis=-1)
    ramp = np.rint(ramp).astype(np.uint8)
    dense = np.zeros((frames, height, width, 3), np.uint8)
    for t in range(frames):
        dense[t, :, 3 * t :] = ramp[:, : width - 3 * t]
    dense[3, 20:] = 0
    thin = thin_tracks(dense, np.random.default_rng(0), 12, 12)
    followed = 0
    for color in {tuple(c) for c in thin[0].reshape(-1, 3) if c.any()}:
        places = [np.argwhere((thin[t] == color).all(axis=-1)) for t in (0, 2)]
        if len(places[1]) and 4 < places[1].mean(axis=0)[1] < width - 4:
            moved = places[1].mean(axis=0) - places[0].mean(axis=0)
            assert np.abs(moved - (0, 6)).max() <= 1
            followed += 1
    assert followed >= 3
    assert not thin[3, 24:].any()


def test_thinning_without_tracks():
    assert not thin_tracks(np.zeros((2, 8, 8, 3), np.uint8), np.random.default_rng(0)).any()
