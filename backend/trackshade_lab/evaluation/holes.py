# SPDX-License-Identifier: GPL-3.0-or-later
"""Filling what is not known of a picture from what is."""

from __future__ import annotations

import cv2
import numpy as np

_RADIUS = 3  # px: of inpainting
_FEW = 8  # px known: with fewer, a kind of pixels borrows from the others


def inpainted(frame: np.ndarray, known: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 with the pixels that are not `known` [H, W] bool inpainted (Telea 2004)."""
    if known.all() or not known.any():
        return frame
    return cv2.inpaint(np.ascontiguousarray(frame), (~known).astype(np.uint8), _RADIUS, cv2.INPAINT_TELEA)


def smoothed(frame: np.ndarray, known: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 with what is not `known` [H, W] bool filled smoothly (push and pull, Gortler et al. 1996), each
    kind of pixels [H, W] from known ones of its kind: what is behind an object does not take the object's color.
    """
    filled = frame.copy()
    for kind in np.unique(kinds[~known]):
        own = kinds == kind
        source = known & own
        if source.sum() < _FEW:
            source = known
        if source.any():
            holes = own & ~known
            filled[holes] = np.rint(_push_pull(frame, source)).clip(0, 255).astype(np.uint8)[holes]
    return filled


def _push_pull(frame: np.ndarray, known: np.ndarray) -> np.ndarray:
    """[H, W, 3] float32: known pixels averaged to ever coarser levels, and the coarse filled into the fine."""
    levels: list[tuple[np.ndarray, np.ndarray]] = [
        (frame * known[..., None].astype(np.float32), known.astype(np.float32))
    ]
    while max(levels[-1][1].shape) > 1:
        size = tuple((side + 1) // 2 for side in levels[-1][1].shape[::-1])
        halved = [cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in levels[-1]]
        levels.append((halved[0].reshape(size[1], size[0], 3), halved[1].reshape(size[1], size[0])))
    below = _mean(*levels[-1])
    for colors, weight in levels[-2::-1]:
        size = weight.shape[::-1]
        above = cv2.resize(below, size, interpolation=cv2.INTER_LINEAR).reshape(*weight.shape, 3)
        share = weight[..., None]
        below = _mean(colors, weight) * share + above * (1 - share)
    return below


def _mean(colors: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return colors / np.maximum(weight, 1e-6)[..., None]
