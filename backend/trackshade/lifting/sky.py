# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the sky of a picture: smooth, bright or blue, above the horizon and up to the top border."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from trackshade.lifting.cutouts import follow_edges

_SIDE = 320  # pixels of the longer side in which it is found
_ROUGHEST = 14.0  # levels per pixel of the smoothed gradient
_LEAST_SHARE = 0.03  # of the picture
_BRIGHTER, _BLUER = 1.15, 25.0  # than what is below the horizon; levels of blue over red


def find_sky(colors: NDArray[np.uint8], above_horizon: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Find the sky.

    Args:
        colors: [h, w, 3] sRGB.
        above_horizon: [h, w] positive above the horizon.

    Returns:
        [h, w], false everywhere if there is no sky.
    """
    height, width = colors.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = max(2, round(width * scale)), max(2, round(height * scale))
    small = cv2.resize(colors, size, interpolation=cv2.INTER_AREA)
    above = cv2.resize(above_horizon.astype(np.float32), size) > 0
    none = np.zeros((height, width), bool)
    gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gradient = np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
    smooth = cv2.GaussianBlur(gradient, (0, 0), 2) < _ROUGHEST
    below = float(gray[~above].mean()) if (~above).any() else float(gray.mean())
    blue = small[..., 2].astype(np.float32) - small[..., 0]
    seeds = _touching_the_top(above & smooth & ((gray > below * _BRIGHTER) | (blue > _BLUER)))
    if seeds.mean() < _LEAST_SHARE or not (~seeds).any():
        return none
    mask = np.where(above, cv2.GC_PR_BGD, cv2.GC_BGD).astype(np.uint8)
    mask[seeds] = cv2.GC_PR_FGD
    mask[cv2.erode(seeds.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0] = cv2.GC_FGD
    if (mask == cv2.GC_FGD).any() and np.isin(mask, (cv2.GC_BGD, cv2.GC_PR_BGD)).any():
        cv2.grabCut(small, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    sky = _touching_the_top(np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)))
    if sky.mean() < _LEAST_SHARE:
        return none
    return follow_edges(sky, colors) & (above_horizon > 0)


def _touching_the_top(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels = cv2.connectedComponents(mask.astype(np.uint8))[1]
    top = np.unique(labels[:3])
    return np.isin(labels, top[top > 0])
