# SPDX-License-Identifier: GPL-3.0-or-later
"""Axes, units, pixels and colors: the only place where they are converted.

World: right-handed, Z up, metres. Camera: x right, y down, z forward (OpenCV). Matrices act on column vectors.
Pixel (row i, column j) has its center at (j + 0.5, i + 0.5); the origin is the image's top-left corner.
Color: 8-bit sRGB for pictures; tracking colors are data and never pass a view transform.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]

# Blender's camera looks along -z with y up; OpenCV's looks along +z with y down.
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def world_to_camera(matrix_world: ArrayLike) -> Matrix:
    """World to OpenCV camera space from a Blender camera's `matrix_world`.

    Args:
        matrix_world: [..., 4, 4] camera to world, Blender's axes. Its scale is ignored, as Blender ignores it.

    Returns:
        [..., 4, 4] float64.

    Raises:
        ValueError: an axis of the camera has length zero.
    """
    matrix = np.array(matrix_world, np.float64)
    length = np.linalg.norm(matrix[..., :3, :3], axis=-2, keepdims=True)  # [..., 1, 3] of each column
    if not np.all(length > 0):
        raise ValueError("a camera axis has length zero")
    matrix[..., :3, :3] /= length
    return _FLIP @ np.linalg.inv(matrix)


def camera_to_blender(world_to_camera_matrix: ArrayLike) -> Matrix:
    """The inverse of `world_to_camera`: [..., 4, 4] camera to world with Blender's camera axes."""
    return np.linalg.inv(_FLIP @ np.asarray(world_to_camera_matrix, np.float64))


def intrinsics(
    *,
    lens: float,
    sensor_width: float,
    sensor_height: float,
    sensor_fit: str,
    shift_x: float,
    shift_y: float,
    size: tuple[int, int],
    pixel_aspect: tuple[float, float] = (1.0, 1.0),
) -> Matrix:
    """Pinhole intrinsics of a Blender perspective camera.

    Follows Blender's `BKE_camera_params_compute_viewplane`: with sensor fit AUTO the sensor width spans the longer
    side, and a shift is a share of the fitted side.

    Args:
        lens, sensor_width, sensor_height: millimetres.
        sensor_fit: "AUTO", "HORIZONTAL" or "VERTICAL".
        size: rendered (width, height) in pixels.
        pixel_aspect: (x, y) as in Blender's output settings.

    Returns:
        [3, 3] float64, pixels.
    """
    horizontal = _fits_horizontally(sensor_fit, size, pixel_aspect)
    sensor = sensor_height if sensor_fit == "VERTICAL" else sensor_width
    return _matrix(lens / sensor, horizontal, shift_x, shift_y, size, pixel_aspect)


def orthographic_intrinsics(
    *,
    ortho_scale: float,
    sensor_fit: str,
    shift_x: float,
    shift_y: float,
    size: tuple[int, int],
    pixel_aspect: tuple[float, float] = (1.0, 1.0),
) -> Matrix:
    """Intrinsics of a Blender orthographic camera: [3, 3] float64, focal entries in pixels per metre."""
    horizontal = _fits_horizontally(sensor_fit, size, pixel_aspect)
    return _matrix(1.0 / ortho_scale, horizontal, shift_x, shift_y, size, pixel_aspect)


def lens_from_intrinsics(k: ArrayLike, size: tuple[float, float], sensor_width: float = 36.0) -> dict[str, Any]:
    """Blender perspective camera settings with these intrinsics (square pixels): keys of `bpy.types.Camera`."""
    matrix = np.asarray(k, np.float64)
    settings = _shift_settings(matrix, size)
    return settings | {
        "type": "PERSP",
        "lens": float(matrix[0, 0] * sensor_width / size[0]),
        "sensor_width": sensor_width,
    }


def ortho_from_intrinsics(k: ArrayLike, size: tuple[float, float]) -> dict[str, Any]:
    """Blender orthographic camera settings with these intrinsics (square pixels): keys of `bpy.types.Camera`."""
    matrix = np.asarray(k, np.float64)
    return _shift_settings(matrix, size) | {"type": "ORTHO", "ortho_scale": float(size[0] / matrix[0, 0])}


def project(points_camera: ArrayLike, k: ArrayLike, orthographic: bool) -> Matrix:
    """Camera-space points to pixels.

    Args:
        points_camera: [..., 3] OpenCV camera space, metres.
        k: [3, 3] pixels (pixels per metre where orthographic).

    Returns:
        [..., 2] float64 pixels; infinite or NaN where a perspective point lies in the camera's plane.
    """
    points = np.asarray(points_camera, np.float64)
    matrix = np.asarray(k, np.float64)
    plane = points[..., :2]
    if not orthographic:
        with np.errstate(divide="ignore", invalid="ignore"):
            plane = plane / points[..., 2:3]
    return plane * np.array([matrix[0, 0], matrix[1, 1]]) + matrix[:2, 2]


def to_uint8(color: ArrayLike) -> NDArray[np.uint8]:
    """Values 0..1 to 0..255, rounded to nearest, clipped."""
    return np.rint(np.clip(np.asarray(color), 0.0, 1.0) * 255.0).astype(np.uint8)


def srgb_to_linear(srgb: ArrayLike) -> NDArray[np.float64]:
    """IEC 61966-2-1 decoding, values 0..1."""
    value = np.asarray(srgb, np.float64)
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: ArrayLike) -> NDArray[np.float64]:
    """IEC 61966-2-1 encoding, values 0..1; negative light becomes 0."""
    value = np.maximum(np.asarray(linear, np.float64), 0.0)
    return np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)


def _fits_horizontally(sensor_fit: str, size: tuple[int, int], pixel_aspect: tuple[float, float]) -> bool:
    if sensor_fit == "AUTO":
        return size[0] * pixel_aspect[0] >= size[1] * pixel_aspect[1]
    return sensor_fit == "HORIZONTAL"


def _matrix(
    focal: float,
    horizontal: bool,
    shift_x: float,
    shift_y: float,
    size: tuple[int, int],
    pixel_aspect: tuple[float, float],
) -> Matrix:
    """`focal` is in units of the fitted side; the y axis has pixels of another height where the aspect is not 1."""
    aspect = pixel_aspect[1] / pixel_aspect[0]
    fitted = size[0] if horizontal else aspect * size[1]  # in pixel widths
    focal_x = focal * fitted
    return np.array(
        [
            [focal_x, 0.0, size[0] / 2 - shift_x * fitted],
            [0.0, focal_x / aspect, size[1] / 2 + shift_y * fitted / aspect],
            [0.0, 0.0, 1.0],
        ]
    )


def _shift_settings(matrix: Matrix, size: tuple[float, float]) -> dict[str, Any]:
    if not np.isclose(matrix[0, 0], matrix[1, 1], rtol=1e-9):
        raise ValueError("a Blender camera with square pixels needs equal focal lengths in x and y")
    return {
        "sensor_fit": "HORIZONTAL",
        "shift_x": float((size[0] / 2 - matrix[0, 2]) / size[0]),
        "shift_y": float((matrix[1, 2] - size[1] / 2) / size[0]),
    }


def size_in_words(count: int | None) -> str:
    """Bytes as people read them, in binary megabytes and gigabytes, which graphics cards are sold by."""
    if count is None:
        return "?"
    if 0 < count < 2**20:
        return f"{-(-count // 2**10)} KB"
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"


def number_in_words(count: int) -> str:
    """A count with its thousands apart."""
    return f"{count:,}".replace(",", "\u202f")
