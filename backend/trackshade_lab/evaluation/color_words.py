# SPDX-License-Identifier: GPL-3.0-or-later
"""Does a video show the color that the text names? The eight colors of the captions.

The middle color (the median, which a pattern's second color does not tint) of the main body over all frames is taken
in linear light. Shading scales it, so each named color is compared at the brightness that brings it nearest, within
what light and shadow do, in CIELAB with lightness counted half. Held-out videos themselves are named right nine times
in ten: reports print that beside the figure, as its ceiling.
"""

from __future__ import annotations

import cv2
import numpy as np

from trackshade.core.colors import srgb_to_linear
from trackshade_lab.scenes.captions import COLORS

NAMES = tuple(COLORS)
CHANCE = 1 / len(NAMES)
_EXPOSURES = np.geomspace(0.3, 1.3, 16)
_WEIGHTS = np.array([0.5, 1.0, 1.0])  # of lightness and the two axes of chroma
_LEAST = 30  # px of the body below which its color is not judged


def lab(linear: np.ndarray) -> np.ndarray:
    """[..., 3] CIELAB (D65) of linear RGB [..., 3] in 0..1."""
    shape = linear.shape
    return cv2.cvtColor(linear.reshape(1, -1, 3).astype(np.float32), cv2.COLOR_LRGB2Lab).reshape(shape)


def middle_color(video: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """[3] linear median color of [T, H, W, 3] uint8 within [T, H, W] bool, all frames; None where hardly any is."""
    if mask.sum() < _LEAST:
        return None
    return srgb_to_linear(np.median(video[mask], axis=0) / 255)


def nearest_name(linear: np.ndarray) -> str:
    """The named color that is nearest to a linear color [3] at some brightness."""
    named = srgb_to_linear(np.array(list(COLORS.values())))  # [8, 3]
    lit = named[:, None] * _EXPOSURES[:, None]  # [8, E, 3]
    distance = np.linalg.norm((lab(lit) - lab(linear)) * _WEIGHTS, axis=-1).min(axis=1)
    return NAMES[int(np.argmin(distance))]


def shown_color(video: np.ndarray, mask: np.ndarray) -> str | None:
    """The name of the color that a video shows within a mask; None where too little is seen."""
    middle = middle_color(video, mask)
    return None if middle is None else nearest_name(middle)
