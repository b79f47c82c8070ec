# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera geometry: conversions between Blender's cameras and OpenCV's.

World: right-handed, Z up, metres. Camera: x right, y down, z forward (OpenCV). Matrices act on column vectors.
The pixel in row i and column j has its center at (j + 0.5, i + 0.5); the origin is the image's top-left corner.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]

# Blender's camera looks along -z with y up; OpenCV's looks along +z with y down.
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def world_to_camera(matrix_world: ArrayLike) -> Matrix:
    """Convert a Blender camera's `matrix_world` to a world-to-camera matrix with OpenCV's axes.

    Args:
        matrix_world: [..., 4, 4] camera to world with Blender's axes. Its scale is ignored, as Blender ignores it.

    Returns:
        [..., 4, 4] float64, world to OpenCV camera space.

    Raises:
        ValueError: An axis of the camera has length zero.
    """
    matrix = np.array(matrix_world, np.float64)
    length = np.linalg.norm(matrix[..., :3, :3], axis=-2, keepdims=True)  # [..., 1, 3] of each column
    if not np.all(length > 0):
        raise ValueError("a camera axis has length zero")
    matrix[..., :3, :3] /= length
    return _FLIP @ np.linalg.inv(matrix)


def camera_to_blender(world_to_camera_matrix: ArrayLike) -> Matrix:
    """Convert [..., 4, 4] world-to-camera matrices back to `matrix_world` with Blender's camera axes."""
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
    """Compute the pinhole intrinsics of a Blender perspective camera.

    Follows Blender's `BKE_camera_params_compute_viewplane`: with sensor fit AUTO the sensor width spans the longer
    side, and a shift is a share of the fitted side.

    Args:
        lens: Focal length in millimetres.
        sensor_width: Millimetres.
        sensor_height: Millimetres.
        sensor_fit: "AUTO", "HORIZONTAL" or "VERTICAL".
        shift_x: Horizontal shift, a share of the fitted side.
        shift_y: Vertical shift, a share of the fitted side.
        size: Rendered (width, height) in pixels.
        pixel_aspect: (x, y) as in Blender's output settings.

    Returns:
        [3, 3] float64, pixels.
    """
    sensor = sensor_height if sensor_fit == "VERTICAL" else sensor_width
    return _intrinsics(lens / sensor, sensor_fit, shift_x, shift_y, size, pixel_aspect)


def orthographic_intrinsics(*, ortho_scale: float, **frame: Any) -> Matrix:
    """Compute a Blender orthographic camera's intrinsics: [3, 3] float64, focal entries in pixels per metre.

    Args:
        ortho_scale: Metres that the fitted side spans.
        **frame: `sensor_fit`, `shift_x`, `shift_y`, `size` and `pixel_aspect` as in `intrinsics`.
    """
    return _intrinsics(1.0 / ortho_scale, **frame)


def perspective_camera_settings(k: ArrayLike, size: tuple[float, float], sensor_width: float = 36.0) -> dict[str, Any]:
    """Return properties of `bpy.types.Camera` that give these perspective intrinsics (square pixels)."""
    matrix = np.asarray(k, np.float64)
    lens = float(matrix[0, 0] * sensor_width / size[0])
    return _shift_settings(matrix, size) | {"type": "PERSP", "lens": lens, "sensor_width": sensor_width}


def orthographic_camera_settings(k: ArrayLike, size: tuple[float, float]) -> dict[str, Any]:
    """Return properties of `bpy.types.Camera` that give these orthographic intrinsics (square pixels)."""
    matrix = np.asarray(k, np.float64)
    return _shift_settings(matrix, size) | {"type": "ORTHO", "ortho_scale": float(size[0] / matrix[0, 0])}


def project(points_camera: ArrayLike, k: ArrayLike, orthographic: bool) -> Matrix:
    """Project camera-space points to pixels.

    Args:
        points_camera: [..., 3] in OpenCV camera space, metres.
        k: [3, 3] intrinsics in pixels (pixels per metre for an orthographic camera).
        orthographic: Whether the camera is orthographic.

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


def _intrinsics(
    focal: float,  # in units of the fitted side
    sensor_fit: str,
    shift_x: float,
    shift_y: float,
    size: tuple[int, int],
    pixel_aspect: tuple[float, float] = (1.0, 1.0),
) -> Matrix:
    is_wide = size[0] * pixel_aspect[0] >= size[1] * pixel_aspect[1]
    aspect = pixel_aspect[1] / pixel_aspect[0]
    is_horizontal = sensor_fit == "HORIZONTAL" or (sensor_fit == "AUTO" and is_wide)
    fitted = size[0] if is_horizontal else aspect * size[1]  # in pixel widths
    row_x = [focal * fitted, 0.0, size[0] / 2 - shift_x * fitted]
    row_y = [0.0, focal * fitted / aspect, size[1] / 2 + shift_y * fitted / aspect]
    return np.array([row_x, row_y, [0.0, 0.0, 1.0]])


def _shift_settings(matrix: Matrix, size: tuple[float, float]) -> dict[str, Any]:
    if not np.isclose(matrix[0, 0], matrix[1, 1], rtol=1e-9):
        raise ValueError("a Blender camera with square pixels needs equal focal lengths in x and y")
    return {
        "sensor_fit": "HORIZONTAL",
        "shift_x": float((size[0] / 2 - matrix[0, 2]) / size[0]),
        "shift_y": float((matrix[1, 2] - size[1] / 2) / size[0]),
    }
