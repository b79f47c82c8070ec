# SPDX-License-Identifier: GPL-3.0-or-later
"""The sRGB transfer function and 8-bit values. Profiles of image files: see `color_profiles`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def to_uint8(color: ArrayLike) -> NDArray[np.uint8]:
    """Convert values 0..1 to 0..255, rounded to nearest and clipped."""
    return np.rint(np.clip(np.asarray(color), 0.0, 1.0) * 255.0).astype(np.uint8)


def srgb_to_linear(srgb: ArrayLike) -> NDArray[np.float64]:
    """Decode sRGB values 0..1 to linear light (IEC 61966-2-1)."""
    value = np.asarray(srgb, np.float64)
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: ArrayLike) -> NDArray[np.float64]:
    """Encode linear light 0..1 as sRGB values (IEC 61966-2-1); negative light becomes 0."""
    value = np.maximum(np.asarray(linear, np.float64), 0.0)
    return np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)
