# SPDX-License-Identifier: GPL-3.0-or-later
"""Means over clips with 95 % intervals, by resampling clips (percentile bootstrap)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

DRAWS = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean over clips.

    Attributes:
        mean: NaN where there is no clip to take it over.
        low, high: 95 % interval; NaN where there are fewer than two clips.
        clips: how many clips had a value.
    """

    mean: float
    low: float
    high: float
    clips: int


def estimate(values: Iterable[float | None], seed: int = 0) -> Estimate:
    """Mean and interval of what is a number among `values`."""
    array = np.array([np.nan if value is None else value for value in values], np.float64)
    array = array[np.isfinite(array)]
    if not len(array):
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    low, high = bootstrap(array, seed)
    return Estimate(float(array.mean()), low, high, len(array))


def paired(values: Iterable[float | None], others: Iterable[float | None], seed: int = 0) -> Estimate:
    """Mean and interval of the differences clip by clip, over clips that have both."""
    both = [(a, b) for a, b in zip(values, others, strict=True) if a is not None and b is not None]
    return estimate([a - b for a, b in both], seed)


def bootstrap(values: np.ndarray, seed: int = 0, draws: int = DRAWS) -> tuple[float, float]:
    """95 % interval of the mean of `values` [N]."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float("nan"), float("nan")
    picks = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
