# SPDX-License-Identifier: GPL-3.0-or-later
"""How far the main object is from where it should be, found by laying it over the made frame."""

from __future__ import annotations

import cv2
import numpy as np

REACH = 24  # px in a frame of 96; how far an object is searched for grows with the frame
_FINE = 4  # parts of a pixel
_LEAST = 30  # px of the object below which it is not looked for


def displacement(truth: np.ndarray, made: np.ndarray, mask: np.ndarray) -> float:
    """Mean over frames, in px; NaN where the object is hardly seen.

    Per frame of 8-bit [T, H, W, 3]: the object's true pixels (mask [T, H, W] bool) are laid over the made frame at
    every shift within reach, and the shift with the smallest squared difference is the displacement. Searched in
    whole pixels, then in quarters around the best.
    """
    shifts = [s for s in (_shift(*frame) for frame in zip(truth, made, mask, strict=True)) if s is not None]
    return float(np.mean(shifts)) if shifts else float("nan")


def _shift(truth: np.ndarray, made: np.ndarray, mask: np.ndarray) -> float | None:
    if mask.sum() < _LEAST:
        return None
    coarse = _best(truth, made, mask, REACH * truth.shape[1] // 96, (0, 0))
    fine_mask = np.repeat(np.repeat(mask, _FINE, 0), _FINE, 1)
    size = (truth.shape[1] * _FINE, truth.shape[0] * _FINE)
    fine = [cv2.resize(x, size, interpolation=cv2.INTER_LINEAR) for x in (truth, made)]
    x, y = _best(fine[0], fine[1], fine_mask, _FINE, (coarse[0] * _FINE, coarse[1] * _FINE))
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
