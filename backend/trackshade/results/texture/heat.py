# SPDX-License-Identifier: GPL-3.0-or-later
"""Heat maps of how much a surface's colors vary through time: dark is steady, bright flickers."""

from __future__ import annotations

import numpy as np

from trackshade.results.texture.fill import fill

LEVELS = 32.0  # standard deviation, in 8-bit levels, that is shown brightest; fixed, so that images compare
UNKNOWN = (70, 70, 78)  # where fewer than two frames show the surface

# Black through violet and orange to pale yellow; lightness rises evenly, so that it also reads without colors.
_STOPS = np.array(
    [[6, 4, 18], [52, 14, 92], [121, 28, 109], [189, 55, 84], [237, 105, 37], [251, 181, 32], [252, 255, 205]],
    np.float64,
)


def color_map(
    values: np.ndarray,  # [...] 0..1 or NaN
) -> np.ndarray:
    """Return the colors [..., 3] uint8 of values; NaN becomes `UNKNOWN`."""
    values = np.asarray(values, np.float64)
    position = np.clip(np.nan_to_num(values), 0, 1) * (len(_STOPS) - 1)
    colors = np.stack([np.interp(position, np.arange(len(_STOPS)), stop) for stop in _STOPS.T], axis=-1)
    return np.where(np.isnan(values)[..., None], UNKNOWN, np.rint(colors)).astype(np.uint8)


def heat_map(
    variation: np.ndarray,  # [S, S] levels
    island: np.ndarray,  # [S, S] bool
) -> np.ndarray:
    """Return the heat map of a texture's variation, [S, S, 3] uint8, with filled gutters."""
    colors = color_map(variation / LEVELS)
    return np.rint(fill(colors.astype(np.float32), island)).astype(np.uint8)
