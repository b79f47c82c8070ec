# SPDX-License-Identifier: GPL-3.0-or-later
"""Resamples images, and maps the model's image back to the scene's frame. Numpy only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackshade.core.fitting import SizeFit

_BLOCK_ROWS = 64  # rows of the source that are converted and filtered at a time


def crop_to_frame(image: NDArray[Any], fit: SizeFit, size: tuple[int, int]) -> NDArray[np.float64]:
    """Resample an image of the model's size to the scene's frame.

    Args:
        image: [h, w, C] of the model's size.
        fit: How the model's image lies over the scene's frame.
        size: (width, height) that the frame is rendered at, pixels.

    Returns:
        [height, width, C]. Pixels that the model did not see repeat the image's edges.
    """
    scale, offset = _model_to_frame(fit, size)
    return resample(image, size, scale, offset)


def crop_to_frame_nearest(image: NDArray[Any], fit: SizeFit, size: tuple[int, int]) -> NDArray[Any]:
    """Do the same with the nearest pixel: for depths and indices, which must not be mixed."""
    columns, rows = _model_coordinates(fit, size)
    height, width = image.shape[:2]
    return image[np.clip(rows, 0, height - 1).astype(int)][:, np.clip(columns, 0, width - 1).astype(int)]


def frame_coverage(fit: SizeFit, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Compute which pixels of the scene's frame, rendered at `size`, lie in the model's image: [height, width]."""
    columns, rows = _model_coordinates(fit, size)
    return ((rows > 0) & (rows < fit.size[1]))[:, None] & ((columns > 0) & (columns < fit.size[0]))[None, :]


def _model_coordinates(fit: SizeFit, size: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where the centers of the frame's columns [width] and rows [height] lie in the model's image, pixels."""
    (sx, sy), (ox, oy) = _model_to_frame(fit, size)
    return (np.arange(size[0]) + 0.5 - ox) / sx, (np.arange(size[1]) + 0.5 - oy) / sy


def _model_to_frame(fit: SizeFit, size: tuple[int, int]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return (scale, offset) from the model's pixels to those of the frame rendered at `size`."""
    sx, sy = fit.scale[0] * fit.source[0] / size[0], fit.scale[1] * fit.source[1] / size[1]
    return (1 / sx, 1 / sy), (-fit.offset[0] / sx, -fit.offset[1] / sy)


def resample(
    image: NDArray[Any],
    size: tuple[int, int],
    scale: tuple[float, float],
    offset: tuple[float, float],
    values: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
) -> NDArray[np.float64]:
    """Resample an image with a triangle filter, as wide as the larger of an old and a new pixel.

    Args:
        image: [H, W, C].
        size: (width, height) of the result, pixels.
        scale: (x, y): new coordinates are old ones times `scale` plus `offset`.
        offset: (x, y), new pixels.
        values: Converts some rows [h, W, C] to the values that are averaged, such as linear light. By default the
            image's values are averaged as they are.

    Returns:
        [height, width, C]. Beyond the image, its edges are repeated.
    """
    columns = _resample_rows(image, size[1], scale[1], offset[1], values)
    rows = _resample_rows(columns.transpose(1, 0, 2), size[0], scale[0], offset[0])
    return np.ascontiguousarray(rows.transpose(1, 0, 2))


def _resample_rows(
    image: NDArray[Any],
    new: int,
    scale: float,
    offset: float,
    values: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
) -> NDArray[np.float64]:
    """Resample the rows of [H, W, C] to [new, W, C].

    A block of old rows at a time is converted and added to the new rows that it touches.
    """
    old = len(image)
    centers = np.clip((np.arange(new) + 0.5 - offset) / scale, 0.5, old - 0.5)  # ascending
    reach = max(1.0, 1.0 / scale)
    result, shape, total = None, (), np.zeros(new)
    for start in range(0, old, _BLOCK_ROWS):
        end = min(start + _BLOCK_ROWS, old)
        first, last = np.searchsorted(centers, (start + 0.5 - reach, end - 0.5 + reach))
        block = np.asarray(image[start:end] if values is None else values(image[start:end]), np.float64)
        if result is None:
            shape = block.shape[1:]
            result = np.zeros((new, shape[0] * shape[1]))
        distances = np.abs(centers[first:last, None] - (np.arange(start, end) + 0.5))
        weights = np.maximum(0.0, 1.0 - distances / reach)
        total[first:last] += weights.sum(axis=1)
        result[first:last] += weights @ block.reshape(end - start, -1)
    assert result is not None
    result /= total[:, None]
    return result.reshape(new, *shape)
