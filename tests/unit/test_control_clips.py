# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips that video models follow: depth, and gray clay that is drawn or was rendered."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.helpers.result_shots import at, shot
from trackshade.control.clips import depth_clip, drawn_layout_clip, rendered_layout_clip
from trackshade.control.passes import BACKGROUND, clay_picture, depth_picture, frame_passes, measure_range
from trackshade.control.scene import ShotRaster
from trackshade.core.colors import linear_to_srgb, to_uint8
from trackshade.core.errors import ShotError
from trackshade.core.fitting import fit_size
from trackshade.shot import Shot

SIZE, COUNT = (48, 32), 4


@pytest.fixture(scope="module")
def moving() -> Shot:
    """A square that comes nearer and turns, with a smaller one before it."""
    tracks = [("Square", [at(0.1 * t, 0, 0.3 * t, 0.1 * t, scale=0.6) for t in range(COUNT)])]
    tracks.append(("Small", [at(-0.2 * t, 0.3, 1.0, scale=0.3) for t in range(COUNT)]))
    return shot(tracks, size=SIZE)


def covered(made: Shot) -> np.ndarray:
    """[T, H, W] bool, where a surface is seen."""
    raster = ShotRaster(made)
    return np.stack([np.isfinite(raster.draw(t).depth) for t in range(len(made.frame_numbers))])


def test_depth_is_inverse_depth_in_one_range_for_all_frames(moving: Shot) -> None:
    clip, limits = depth_clip(moving), measure_range(moving)
    assert clip.shape == (COUNT, SIZE[1], SIZE[0], 3)
    for t, passes in enumerate(frame_passes(moving, flow=False)):
        assert np.array_equal(clip[t], depth_picture(passes, limits))
    assert clip[3].max() > clip[0][covered(moving)[0]].min()
    assert not clip[~covered(moving)].any()


def test_the_drawn_layout_is_clay_under_a_light_beside_the_camera(moving: Shot) -> None:
    done: list[int] = []
    clip = drawn_layout_clip(moving, done.append)
    assert done == [1, 2, 3, 4]
    for t, passes in enumerate(frame_passes(moving, flow=False)):
        assert np.array_equal(clip[t], clay_picture(passes))


def test_clay_renders_become_gray_with_one_exposure(moving: Shot) -> None:
    """Colored light of levels that halve in time: the brightest becomes 0.6, and the background is no part of it."""
    color = np.array([0.9, 0.2, 0.4])

    def light(t: int) -> np.ndarray:
        image = np.full((16, 24, 3), color * 0.5**t)
        image[0] = 50.0  # a bright sky above
        return image

    fit = fit_size(SIZE, (1.0, 1.0), (SIZE,))
    clip = rendered_layout_clip(moving, light, fit)
    seen = covered(moving)
    assert not seen[:, :3].any()  # the sky is not on a surface
    assert (clip[~seen] == BACKGROUND).all()
    for t in range(COUNT):
        expected = to_uint8(linear_to_srgb(0.6 * 0.5**t))
        assert (clip[t][seen[t]] == expected).all()


def test_clay_renders_lie_where_the_frame_lies_in_the_models_image(moving: Shot) -> None:
    """The shot's frame in the middle of a wider image: a bright left half ends where the frame's does."""
    fit = fit_size(SIZE, (1.0, 1.0), ((96, 32),), "pad")
    wide = dataclasses.replace(
        moving, size=fit.size, camera=dataclasses.replace(moving.camera, intrinsics=fit.apply(moving.camera.intrinsics))
    )
    half = np.repeat(np.arange(24)[None] < 12, 16, axis=0)

    def light(_: int) -> np.ndarray:
        return np.where(half[..., None], 0.8, 0.2) * np.ones(3)

    clip, seen = rendered_layout_clip(wide, light, fit), covered(wide)
    gray = clip[0, :, :, 0]
    left, right = seen[0] & (np.arange(96) < 46), seen[0] & (np.arange(96) >= 50)
    assert left.sum() > 50
    assert right.sum() > 50
    assert (gray[left] == to_uint8(linear_to_srgb(0.6))).all()
    assert (gray[right] == to_uint8(linear_to_srgb(0.15))).all()


def test_clay_that_is_not_finite_is_refused(moving: Shot) -> None:
    with pytest.raises(ShotError, match="frame 1"):
        rendered_layout_clip(moving, lambda t: np.full((2, 3, 3), np.nan), fit_size(SIZE, (1.0, 1.0), (SIZE,)))


def test_surfaces_of_one_depth_are_white() -> None:
    flat = shot([("Square", [at(0, 0, 0)] * 2)], size=SIZE)
    assert (depth_clip(flat)[covered(flat)] == 255).all()
