# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures between a true and a generated video, both 8-bit [T, H, W, 3]."""

from __future__ import annotations

import cv2
import numpy as np

REACH = 24  # px: how far an object is searched for
_FINE = 4  # parts of a pixel


def psnr(truth: np.ndarray, made: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and frames given."""
    error = np.mean((truth.astype(np.float64) - made.astype(np.float64)) ** 2)
    return float(-10 * np.log10(max(error, 1e-6) / 255**2))


def displacement(truth: np.ndarray, made: np.ndarray, mask: np.ndarray) -> float:
    """Mean over frames of how far the masked object is from where it should be, in px; NaN where it is hardly seen.

    Per frame: the object's true pixels (mask [T, H, W] bool) are laid over the made frame at every shift up to
    `REACH`, and the
    shift with the smallest squared difference is the displacement. Searched in whole pixels, then in quarters
    around the best.
    """
    shifts = [s for s in (_shift(*frame) for frame in zip(truth, made, mask, strict=False)) if s is not None]
    return float(np.mean(shifts)) if shifts else float("nan")


def _shift(truth: np.ndarray, made: np.ndarray, mask: np.ndarray) -> float | None:
    if mask.sum() < 30:
        return None
    coarse = _best(truth, made, mask, REACH, (0, 0))
    up = [np.ascontiguousarray(np.repeat(np.repeat(x, _FINE, 0), _FINE, 1)) for x in (mask,)]
    size = (truth.shape[1] * _FINE, truth.shape[0] * _FINE)
    fine = [cv2.resize(x, size, interpolation=cv2.INTER_LINEAR) for x in (truth, made)]
    start = (coarse[0] * _FINE, coarse[1] * _FINE)
    x, y = _best(fine[0], fine[1], up[0], _FINE, start)
    return float(np.hypot(x, y)) / _FINE


def _best(truth: np.ndarray, made: np.ndarray, mask: np.ndarray, reach: int, start: tuple[int, int]) -> tuple[int, int]:
    """Shift (x, y) within `reach` of `start` at which the masked pixels of `truth` differ least from `made`."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    template = truth[top:bottom, left:right].astype(np.float32)
    weight = np.repeat(mask[top:bottom, left:right, None], 3, axis=2).astype(np.float32)
    border = reach + max(abs(start[0]), abs(start[1]))
    padded = cv2.copyMakeBorder(made, border, border, border, border, cv2.BORDER_REPLICATE).astype(np.float32)
    y0, x0 = top + border + start[1] - reach, left + border + start[0] - reach
    window = padded[y0 : y0 + (bottom - top) + 2 * reach, x0 : x0 + (right - left) + 2 * reach]
    cost = cv2.matchTemplate(window, template, cv2.TM_SQDIFF, mask=weight)
    # Among equals the smallest shift: a plain object on a plain ground must not look displaced.
    grid = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    cost = cost + 1e-3 * weight.sum() * np.hypot(grid[0] + start[1], grid[1] + start[0])
    y, x = np.unravel_index(np.argmin(cost), cost.shape)
    return int(x) - reach + start[0], int(y) - reach + start[1]


def bootstrap(values: np.ndarray, seed: int = 0, draws: int = 2000) -> tuple[float, float]:
    """95 % interval of the mean over clips, by resampling clips."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float("nan"), float("nan")
    picks = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
