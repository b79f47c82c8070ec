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
_WARMEST, _WHITE = -12.0, 240.0  # levels of blue over red of a sky that is not white; levels of white
_BELOW, _MOST_BELOW = 0.03, 0.05  # tangent of an angle below the horizon, and the share of a sky that may lie there


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
    height_above = cv2.resize(above_horizon.astype(np.float32), size)
    above = height_above > 0
    none = np.zeros((height, width), bool)
    gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gradient = np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
    smooth = cv2.GaussianBlur(gradient, (0, 0), 2) < _ROUGHEST
    below = float(gray[~above].mean()) if (~above).any() else float(gray.mean())
    blue = small[..., 2].astype(np.float32) - small[..., 0]
    candidates = smooth & ((gray > below * _BRIGHTER) | (blue > _BLUER)) & ((blue > _WARMEST) | (gray > _WHITE))
    seeds = _without_walls(candidates, height_above) & above
    if seeds.mean() < _LEAST_SHARE or not (~seeds).any():
        return none
    mask = np.where(above, cv2.GC_PR_BGD, cv2.GC_BGD).astype(np.uint8)
    mask[seeds] = cv2.GC_PR_FGD
    mask[cv2.erode(seeds.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0] = cv2.GC_FGD
    if (mask == cv2.GC_FGD).any() and np.isin(mask, (cv2.GC_BGD, cv2.GC_PR_BGD)).any():
        cv2.grabCut(small, mask, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    sky = _touching_the_top(np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)))
    if sky.mean() < _LEAST_SHARE:
        return none
    return follow_edges(sky, colors) & (above_horizon > 0)


def _without_walls(candidates: np.ndarray, height_above: np.ndarray) -> NDArray[np.bool_]:
    """Return the parts that touch the top border and do not continue below the horizon, as walls and ceilings do."""
    labels = np.asarray(cv2.connectedComponents(candidates.astype(np.uint8))[1], np.intp)
    area = np.bincount(labels.ravel())
    below = np.bincount(labels.ravel(), weights=(height_above < -_BELOW).ravel())
    is_sky = below < _MOST_BELOW * area
    is_sky[0] = False
    return _touching_the_top(is_sky[labels])


def _touching_the_top(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels = cv2.connectedComponents(mask.astype(np.uint8))[1]
    top = np.unique(labels[:3])
    return np.isin(labels, top[top > 0])
