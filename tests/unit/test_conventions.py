# SPDX-License-Identifier: GPL-3.0-or-later
"""Axes, intrinsics and colors against formulas written down from Blender's and the standards' own definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trackshade.core import colors, text
from trackshade.core import geometry as conv

UNIT = st.floats(-1, 1)
SIZES = st.tuples(st.integers(1, 4096), st.integers(1, 4096))
ASPECTS = st.tuples(st.floats(0.25, 4), st.floats(0.25, 4))
FITS = st.sampled_from(["AUTO", "HORIZONTAL", "VERTICAL"])


@st.composite
def poses(draw: st.DrawFn) -> np.ndarray:
    """A Blender camera's matrix_world: any rotation, place and scale."""
    q = np.array(draw(st.tuples(UNIT, UNIT, UNIT, UNIT)))
    assume(np.linalg.norm(q) > 0.1)
    w, x, y, z = q / np.linalg.norm(q)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * draw(st.tuples(*[st.floats(0.1, 10)] * 3))
    matrix[:3, 3] = draw(st.tuples(*[st.floats(-100, 100)] * 3))
    return matrix


def viewplane(camera: dict[str, Any], size: tuple[int, int], aspect: tuple[float, float]) -> tuple[float, ...]:
    """(left, right, bottom, top) at distance 1, as BKE_camera_params_compute_viewplane works it out."""
    width, height = size
    ax, ay = aspect
    fit = camera["sensor_fit"]
    if fit == "AUTO":
        fit = "HORIZONTAL" if ax * width >= ay * height else "VERTICAL"
    viewfac = width if fit == "HORIZONTAL" else ay / ax * height
    sensor = camera["sensor_height"] if camera["sensor_fit"] == "VERTICAL" else camera["sensor_width"]
    pixsize = sensor / camera["lens"] / viewfac
    shift_x, shift_y = camera["shift_x"] * viewfac, camera["shift_y"] * viewfac
    ycor = ay / ax
    return (
        pixsize * (-0.5 * width + shift_x),
        pixsize * (0.5 * width + shift_x),
        pixsize * (-0.5 * ycor * height + shift_y),
        pixsize * (0.5 * ycor * height + shift_y),
    )


cameras = st.fixed_dictionaries(
    {
        "lens": st.floats(5, 300),
        "sensor_width": st.floats(5, 60),
        "sensor_height": st.floats(5, 60),
        "sensor_fit": FITS,
        "shift_x": UNIT,
        "shift_y": UNIT,
    }
)


@given(cameras, SIZES, ASPECTS)
def test_the_corners_of_the_view_are_the_corners_of_the_image(camera, size, aspect) -> None:
    left, right, bottom, top = viewplane(camera, size, aspect)
    k = conv.intrinsics(**camera, size=size, pixel_aspect=aspect)
    corners = np.array([[left, -top, 1], [right, -top, 1], [right, -bottom, 1], [left, -bottom, 1]])  # y down
    pixels = conv.project(corners, k, orthographic=False)
    expected = [[0, 0], [size[0], 0], list(size), [0, size[1]]]
    assert np.allclose(pixels, expected, atol=1e-6 * max(size) * 10)


@given(st.floats(0.01, 100), FITS, UNIT, UNIT, SIZES)
def test_an_orthographic_view_spans_its_scale(scale, fit, shift_x, shift_y, size) -> None:
    k = conv.orthographic_intrinsics(ortho_scale=scale, sensor_fit=fit, shift_x=shift_x, shift_y=shift_y, size=size)
    fitted = max(size) if fit == "AUTO" else size[0] if fit == "HORIZONTAL" else size[1]
    pixels = conv.project([[0, 0, 1], [scale, 0, 5]], k, orthographic=True)
    assert math.isclose(pixels[1, 0] - pixels[0, 0], fitted, rel_tol=1e-9)
    assert np.allclose(pixels[0], [size[0] / 2 - shift_x * fitted, size[1] / 2 + shift_y * fitted])


@given(poses())
def test_the_camera_looks_along_minus_z_of_blender(matrix) -> None:
    forward = -matrix[:3, 2] / np.linalg.norm(matrix[:3, 2])
    up = matrix[:3, 1] / np.linalg.norm(matrix[:3, 1])
    view = conv.world_to_camera(matrix)
    ahead = view @ np.append(matrix[:3, 3] + 3 * forward, 1)
    above = view @ np.append(matrix[:3, 3] + 3 * forward + up, 1)
    assert np.allclose(ahead[:3], [0, 0, 3], atol=1e-9)
    assert np.allclose(above[:3], [0, -1, 3], atol=1e-9)


@given(poses())
def test_camera_axes_go_there_and_back(matrix) -> None:
    back = conv.camera_to_blender(conv.world_to_camera(matrix))
    unscaled = matrix.copy()
    unscaled[:3, :3] /= np.linalg.norm(matrix[:3, :3], axis=0)
    assert np.allclose(back, unscaled, atol=1e-9)


def test_a_camera_without_size_is_refused() -> None:
    with pytest.raises(ValueError, match="length zero"):
        conv.world_to_camera(np.diag([1.0, 0.0, 1.0, 1.0]))


@given(cameras, SIZES)
def test_settings_from_intrinsics_give_the_same_intrinsics(camera, size) -> None:
    k = conv.intrinsics(**camera, size=size)
    settings = conv.perspective_camera_settings(k, size)
    assert settings.pop("type") == "PERSP"
    assert np.allclose(conv.intrinsics(**settings, sensor_height=24.0, size=size), k, rtol=1e-9, atol=1e-6)


@given(st.floats(0.01, 100), FITS, UNIT, UNIT, SIZES)
def test_orthographic_settings_give_the_same_intrinsics(scale, fit, shift_x, shift_y, size) -> None:
    k = conv.orthographic_intrinsics(ortho_scale=scale, sensor_fit=fit, shift_x=shift_x, shift_y=shift_y, size=size)
    settings = conv.orthographic_camera_settings(k, size)
    assert settings.pop("type") == "ORTHO"
    assert np.allclose(conv.orthographic_intrinsics(**settings, size=size), k, rtol=1e-9, atol=1e-6)


def test_settings_need_square_pixels() -> None:
    with pytest.raises(ValueError, match="square pixels"):
        conv.perspective_camera_settings(np.diag([100.0, 90.0, 1.0]), (96, 64))


def test_a_point_beside_the_camera_is_not_a_pixel() -> None:
    assert not np.isfinite(conv.project([[1, 1, 0]], np.eye(3), orthographic=False)).any()


def test_bytes_are_rounded_and_clipped() -> None:
    assert colors.to_uint8([-1, 0, 0.5 / 255 - 1e-9, 0.5 / 255 + 1e-9, 1, 2]).tolist() == [0, 0, 0, 1, 255, 255]
    assert colors.to_uint8(np.arange(256) / 255).tolist() == list(range(256))


def test_srgb_against_the_standards_own_figures() -> None:
    assert np.allclose(colors.srgb_to_linear([0.0, 0.04045, 0.5, 1.0]), [0, 0.0031308, 0.21404114, 1], atol=1e-6)


@given(st.floats(0, 1))
def test_srgb_there_and_back(value: float) -> None:
    assert math.isclose(colors.linear_to_srgb(colors.srgb_to_linear(value)), value, abs_tol=1e-5)


def test_sizes_and_counts_in_words() -> None:
    words = [text.format_size(count) for count in (None, 0, 1, 300_000, 2**20, 3 * 2**30)]
    assert words == ["?", "0 MB", "1 KB", "293 KB", "1 MB", "3.0 GB"]
    assert text.format_count(1234567) == "1\u202f234\u202f567"
