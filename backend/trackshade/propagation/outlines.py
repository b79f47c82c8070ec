# SPDX-License-Identifier: GPL-3.0-or-later
"""Outlines that are painted around a surface, over what is behind it.

A stroke along a silhouette covers some pixels on either side of it. Those outside belong to the surface in front, but
geometry says that they show what is behind: carried along its tracks, they would stay there as thin lines when the
surface in front moves away. How wide the outlines of a picture are is measured by the colors of these pixels.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

from trackshade.control.compiling import kernel
from trackshade.propagation.rims import Rims, Visible, is_continuous

WIDEST = 0.008  # outline, of the picture's width
_COMPARED, _LEAST_PIXELS = 20_000, 50  # pixels whose colors are compared; least of them at one distance
_ROWS = 4  # every which row tells how much the color of surfaces changes
_DARKEST = 0.01  # linear light
_CLEAR, _LEAST = 0.5, 2  # difference of the logarithm of colors of outlines in any picture; their least width, pixels
_SLIGHT = 0.05  # the same, in a picture whose rims are painted; shadows of contact are like that in renders
_UNLIKE = 1.5  # times the surface's own change of color over the same distance


def outline_pixels(image: np.ndarray, visible: Visible, near: np.ndarray, orthographic: bool, kind: Rims) -> np.ndarray:
    """Find the pixels of surfaces that are covered by outlines of surfaces in front of them.

    Args:
        image: [h, w, 3] float32, the picture in linear light.
        visible: What the geometry says that it shows.
        near: [h, w] bool, pixels at rims.
        orthographic: Whether levels are depths, which grow away from the camera.
        kind: How the picture's rims come about. A wide outline looks like the color of what is behind it.

    Returns:
        [h, w] bool. The background is left out.
    """
    covered = np.zeros(image.shape[:2], np.bool_)
    if not near.any():
        return covered
    reach = max(2, round(WIDEST * image.shape[1]))
    away = distance_transform_edt(~near)
    assert isinstance(away, np.ndarray)
    pixels = np.flatnonzero(away <= reach)
    chosen = pixels[:: max(1, len(pixels) // _COMPARED)]
    least = (_SLIGHT, 1) if kind is Rims.PAINTED else (_CLEAR, _LEAST)
    distance = _distances(visible, orthographic, reach, chosen)
    width = _outline_width(image, visible, away > reach, chosen, distance, reach, *least)
    if width:
        distance = _distances(visible, orthographic, width, pixels)
        covered.ravel()[pixels[distance > 0]] = True
    return covered


def _distances(visible: Visible, orthographic: bool, reach: int, pixels: np.ndarray) -> np.ndarray:
    """Return how many pixels the nearest surface in front of each pixel is away, or 0 for more than `reach`."""
    distance = np.zeros(len(pixels), np.uint8)
    _find_distances(*visible, orthographic, reach, pixels, distance)
    return distance


def _outline_width(
    image: np.ndarray,
    visible: Visible,
    is_pure: np.ndarray,
    pixels: np.ndarray,
    distance: np.ndarray,
    reach: int,
    least: float,
    narrowest: int,
) -> int:
    """Return up to which distance pixels differ from their surface beyond by more than `least` and its texture."""
    beyond, apart = np.full(len(pixels), -1, np.int64), np.zeros(len(pixels))
    _find_beyond(*visible, is_pure, reach, pixels, beyond, apart)
    found = (beyond >= 0) & (distance > 0)
    pixels, distance, beyond, apart = pixels[found], distance[found], beyond[found], apart[found]
    color = np.log(np.maximum(image, 0.0) + _DARKEST)
    flat = color.reshape(-1, 3)
    differs = np.abs(flat[pixels] - flat[beyond]).mean(axis=1)
    some = slice(None, None, _ROWS)
    color, label, wide = color[some], visible.label[some], (is_pure & (visible.label >= 0))[some]
    for width in range(reach, narrowest - 1, -1):
        at = distance == width
        if at.sum() < _LEAST_PIXELS:
            continue
        step = max(1, round(float(np.median(apart[at]))))
        same = wide[:, step:] & wide[:, :-step] & (label[:, step:] == label[:, :-step])
        texture = np.abs(color[:, step:] - color[:, :-step]).mean(axis=2)[same]
        if np.median(differs[at]) > _UNLIKE * (np.median(texture) if len(texture) else 0.0) + least:
            return width
    return 0


@kernel
def _find_beyond(label, level, slope, tolerance, is_pure, reach, pixels, beyond, apart):
    """Write the nearest pixel of the same surface that is pure, and how far away it is."""
    height, width = label.shape
    for n in range(pixels.size):
        i, j = pixels[n] // width, pixels[n] % width
        nearest = (2.0 * reach + 1.0) ** 2
        for a in range(max(0, i - 2 * reach), min(height, i + 2 * reach + 1)):
            for b in range(max(0, j - 2 * reach), min(width, j + 2 * reach + 1)):
                away = (a - i) ** 2 + (b - j) ** 2
                if not is_pure[a, b] or away >= nearest:
                    continue
                if is_continuous(label, level, slope, tolerance, i, j, a, b):
                    nearest, beyond[n] = away, a * width + b
        apart[n] = np.sqrt(nearest)


@kernel
def _find_distances(label, level, slope, tolerance, orthographic, reach, pixels, out):
    height, width = label.shape
    for n in range(pixels.size):
        i, j = pixels[n] // width, pixels[n] % width
        if label[i, j] < 0:
            continue
        nearest = reach**2 + 1
        for a in range(max(0, i - reach), min(height, i + reach + 1)):
            for b in range(max(0, j - reach), min(width, j + reach + 1)):
                away = (a - i) ** 2 + (b - j) ** 2
                if away >= nearest or label[a, b] < 0:
                    continue
                change = np.float64(level[a, b]) - level[i, j]
                if orthographic:
                    change = -change
                if change > 0.0 and not is_continuous(label, level, slope, tolerance, i, j, a, b):
                    nearest = away
        if nearest <= reach**2:
            out[n] = int(np.ceil(np.sqrt(nearest)))
