# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that say where hands are in driving footage: the motion model reads hands from crops of their own."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.core.atomic_files import write_json
from trackshade.core.errors import ShotError

SIDES = ("left", "right")
"""The hands, in the order of the arrays: the figure's own left and right."""
_GAP = 0.3  # seconds between two known places up to which a hand moves evenly
_FORMAT = '{"times": [0, 0.1], "left": [[0.4, 0.5], null], "right": [null, null]}'


@dataclass(frozen=True, eq=False)
class HandPlaces:
    """Where the middles of both hands are in some frames of footage.

    Attributes:
        times: [N] seconds from the footage's beginning, ascending.
        places: [N, 2, 2] (x, y) of the left and the right hand as shares of the frame's width and height, from its top
            left corner; NaN where a hand is not seen.
    """

    times: np.ndarray
    places: np.ndarray

    def at(self, times: np.ndarray) -> np.ndarray:
        """Return the places at other times, [T, 2, 2]; NaN where no frame nearby shows the hand."""
        out = np.full((len(times), 2, 2), np.nan)
        for side in range(2):
            known = np.isfinite(self.places[:, side, 0])
            if not known.any():
                continue
            own, places = self.times[known], self.places[known, side]
            after = np.searchsorted(own, times).clip(0, len(own) - 1)
            before = (after - 1).clip(0)
            nearest = np.minimum(np.abs(own[after] - times), np.abs(own[before] - times))
            is_near = (nearest <= _GAP / 2) & ((own[after] - own[before] <= _GAP) | (nearest <= _GAP / 4))
            for axis in range(2):
                out[is_near, side, axis] = np.interp(times[is_near], own, places[:, axis])
        return out


def read_hands(path: Path) -> HandPlaces:
    """Read a JSON file of hands, such as `trackshade hands` writes.

    Raises:
        ShotError: it cannot be read, or its lists do not fit each other.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        times = np.array(found["times"], np.float64)
        places = np.stack([_read_side(found[side]) for side in SIDES], axis=1)
        if times.ndim != 1 or len(times) != len(places) or not len(times):
            raise ValueError("its lists are of different lengths, or empty")
        if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise ValueError("its times do not ascend")
    except (OSError, KeyError, TypeError, ValueError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ShotError(
            "bad-hands",
            f"The file of hands {path} cannot be read: {what}.",
            f"Write it with 'trackshade hands', or as {_FORMAT}: shares of the frame's width and height.",
        ) from error
    return HandPlaces(times, places)


def write_hands(path: Path, hands: HandPlaces) -> None:
    """Write the JSON file that `read_hands` reads. Raise OutputError."""
    sides = {
        side: [None if math.isnan(x) else [round(x, 5), round(y, 5)] for x, y in hands.places[:, index].tolist()]
        for index, side in enumerate(SIDES)
    }
    write_json(path, {"times": [round(time, 5) for time in hands.times.tolist()], **sides})


def _read_side(values: Sequence[Any]) -> np.ndarray:
    """Return the places of one hand, [N, 2]. Raise TypeError or ValueError."""
    places = np.array([(math.nan, math.nan) if place is None else place for place in values], np.float64)
    if places.ndim != 2 or places.shape[1] != 2 or np.isinf(places).any():
        raise ValueError("a place is neither null nor [x, y]")
    return places
