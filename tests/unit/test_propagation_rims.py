# SPDX-License-Identifier: GPL-3.0-or-later
"""Own colors of surfaces at their rims, from pictures that mix them, against the colors that were mixed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from tests.helpers import propagation_reference as reference
from trackshade.core.colors import linear_to_srgb, srgb_to_linear
from trackshade.propagation import KeyPicture, Propagation
from trackshade.propagation.pictures import NOTHING, surface_picture
from trackshade.propagation.poses import resize_shot
from trackshade.propagation.rims import FILTER_WIDTH, SAMPLES, Rims, filter_weights

FINE = 8  # rays along each side of a pixel


def texture(mesh: int, points: np.ndarray) -> np.ndarray:
    """Fine waves, dark on the floor and bright on the box."""
    grain = np.sin(9 * points[:, :1]) * np.sin(8 * points[:, 1:2] + 1) * np.cos(7 * points[:, 2:])
    return (0.15 + 0.6 * mesh) * (1 + 0.3 * grain * [1.0, 0.8, 0.6])


def rendered(shot, t: int, width: float = 1.5) -> np.ndarray:
    """The picture as a renderer makes it: many rays for each pixel, weighted by a Blackman-Harris window."""
    columns, rows = shot.size
    large = reference.paint(shot, t, texture, (columns * FINE, rows * FINE))
    reach = int(np.ceil(width * FINE / 2))
    at = (np.arange(-reach, reach) + 0.5) / FINE
    phase = 2 * np.pi * (at / width + 0.5)
    window = 0.35875 - 0.48829 * np.cos(phase) + 0.14128 * np.cos(2 * phase) - 0.01168 * np.cos(3 * phase)
    window = np.where(np.abs(at) < width / 2, window, 0) / window[np.abs(at) < width / 2].sum()
    padded = np.pad(large, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    start = FINE // 2  # of the window of the first pixel in the padded picture
    for axis, count in ((0, rows), (1, columns)):
        slices = [
            padded.take(np.arange(start + k, start + k + count * FINE, FINE), axis) * window[k]
            for k in range(2 * reach)
        ]
        padded = np.sum(slices, axis=0)
    return padded


def at_rims(shot, t: int) -> np.ndarray:
    label = reference.look(shot, t, shot.size).mesh
    rims = np.zeros(label.shape, bool)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            rims |= np.roll(label, (down, right), (0, 1)) != label
    rims[[0, -1]] = rims[:, [0, -1]] = False
    return rims & (label >= 0)


def test_filter_weights():
    """Symmetric, of the sum 1, and narrower than the filter is wide."""
    weights = filter_weights(1.5)
    np.testing.assert_allclose(weights, weights[::-1, ::-1])
    np.testing.assert_allclose(weights, weights.T)
    assert weights.sum() == pytest.approx(1)
    at = (np.arange(len(weights)) + 0.5) / SAMPLES - len(weights) / 2 / SAMPLES
    assert np.abs(at).max() < 0.75
    assert np.sqrt((weights.sum(axis=0) * at**2).sum()) == pytest.approx(0.208, abs=0.02)
    assert len(filter_weights(FILTER_WIDTH)) / SAMPLES <= FILTER_WIDTH + 2 / SAMPLES


@pytest.mark.parametrize("orthographic", [False, True])
def test_own_colors_of_a_render(orthographic):
    """What is mixed at rims is taken apart, and pixels beside them keep their texture."""
    shot = reference.box_over_floor(1, orthographic)
    truth, image, rims = reference.paint(shot, 0, texture), rendered(shot, 0), at_rims(shot, 0)
    mixed = np.abs(image - truth).max(axis=2)[rims]
    own = np.abs(surface_picture(shot, 0, image).image - truth).max(axis=2)[rims]
    assert (mixed > 0.1).mean() > 0.08  # there is something to take apart
    assert own.mean() < 0.5 * mixed.mean()
    assert (own > 0.1).mean() < 0.4 * (mixed > 0.1).mean()
    replaced = surface_picture(shot, 0, image, Rims.PAINTED).image
    assert own.mean() < 0.7 * np.abs(replaced - truth).max(axis=2)[rims].mean()
    away = ~at_rims(shot, 0)
    label = reference.look(shot, 0, shot.size).mesh
    away &= label >= 0
    kept = surface_picture(shot, 0, image).image == image.astype(np.float32)
    assert kept[away].mean() > 0.99


def test_a_picture_without_antialiasing_stays():
    shot = reference.box_over_floor(1)
    image = reference.paint(shot, 0, texture)
    np.testing.assert_array_equal(surface_picture(shot, 0, image).image, image.astype(np.float32))


def test_painted_outlines_stay_on_no_surface():
    """Ink along the silhouettes is neither a mixture nor a surface's color: colors beside it take its place."""
    shot = reference.box_over_floor(1)
    truth, rims = reference.paint(shot, 0, texture), at_rims(shot, 0)
    truth = np.where(truth < 0.3, truth + 0.4, truth)
    found = surface_picture(shot, 0, np.where(rims[..., None], 0.0, truth)).image
    own = reference.look(shot, 0, shot.size).mesh >= 0
    assert np.percentile(np.abs(found - truth).max(axis=2)[rims & own], 90) < 0.35
    assert np.median(found[rims]) > 0.3


def test_no_outline_is_carried_to_another_place():
    """The box moves away: the floor beside where it was has the floor's colors, of both the picture and the fill."""
    shot = reference.box_over_floor(4, travel=0.0)
    propagation = Propagation(shot, [KeyPicture(0, linear_to_srgb(rendered(shot, 0)).astype(np.float32))], samples=4)
    propagation.prepare()
    frame = srgb_to_linear(propagation.frame(3).image)
    before, after = (reference.look(shot, t, shot.size).mesh for t in (0, 3))
    beside = at_rims(shot, 0) & (before == 0) & (after == 0) & ~at_rims(shot, 3)
    assert beside.sum() > 20
    assert frame[beside].max() < 0.3  # the box is brighter than 0.5


@pytest.mark.parametrize("orthographic", [False, True])
def test_ink_outside_of_a_silhouette_is_not_carried(orthographic):
    """A stroke of 3 pixels around the box is no part of the floor, which is filled there when the box is away."""
    shot = resize_shot(reference.box_over_floor(1, orthographic), (360, 240))
    picture = reference.paint(shot, 0, texture)
    label = reference.look(shot, 0, shot.size).mesh
    away = np.asarray(distance_transform_edt(label != 1))
    stroke = away <= 3
    picture[stroke & (label == 0)] = 0.01
    found = surface_picture(shot, 0, picture).label
    assert (found[stroke & (label == 0)] == NOTHING).mean() > 0.95
    far = away > 6
    np.testing.assert_array_equal(found[far], label[far])
    assert (found[label == 1] == 1).mean() > 0.99
    plain = surface_picture(shot, 0, reference.paint(shot, 0, texture)).label
    np.testing.assert_array_equal(plain, label)
