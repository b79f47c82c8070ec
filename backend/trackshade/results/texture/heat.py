# SPDX-License-Identifier: GPL-3.0-or-later
"""Heat: how much a surface's color varies through time, in colors. Dark is steady, bright is where it swims."""

from __future__ import annotations

import numpy as np

from trackshade.results.texture.fill import fill

LEVELS = 32.0  # standard deviation, in 8-bit levels, that is shown brightest; fixed, so that pictures compare
UNKNOWN = (70, 70, 78)  # where fewer than two frames show the surface

# Black through violet and orange to pale yellow; lightness rises evenly, so that it also reads without colors.
_STOPS = np.array(
    [[6, 4, 18], [52, 14, 92], [121, 28, 109], [189, 55, 84], [237, 105, 37], [251, 181, 32], [252, 255, 205]],
    np.float64,
)


def ramp(share: np.ndarray) -> np.ndarray:
    """[..., 3] uint8 of values 0..1; NaN is UNKNOWN."""
    share = np.asarray(share, np.float64)
    place = np.clip(np.nan_to_num(share), 0, 1) * (len(_STOPS) - 1)
    colors = np.stack([np.interp(place, np.arange(len(_STOPS)), stop) for stop in _STOPS.T], axis=-1)
    return np.where(np.isnan(share)[..., None], UNKNOWN, np.rint(colors)).astype(np.uint8)


def heat(variation: np.ndarray, island: np.ndarray) -> np.ndarray:
    """The heat map [S, S, 3] uint8 of a texture's variation [S, S], levels; its gutters are filled."""
    colors = ramp(variation / LEVELS)
    return np.rint(fill(colors.astype(np.float32), island)).astype(np.uint8)
