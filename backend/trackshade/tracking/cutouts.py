# SPDX-License-Identifier: GPL-3.0-or-later
"""Cuts what moves out along edges of the picture, where nothing is known of what is behind it.

A clean plate tells what moves from what is behind it only where some frame shows that. Elsewhere the colors decide:
those of what surely moves and of what surely does not, and a graph cut along edges (Rother et al., GrabCut, 2004).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

_BESIDE = 2  # px outside of a mask that may belong to it
_AROUND = 15  # px around it whose colors are those of what stands still
_FEWEST = 50  # pixels that have to be sure of each kind
_LEAST_LEFT = 0.4  # of a mask: if less is left, colors do not tell what moves from what is around it


def cut_out(images: np.ndarray, covers: np.ndarray, certain: np.ndarray, threads: int) -> np.ndarray:
    """Return masks that follow edges of the picture where they are not certain, [T, h, w] bool.

    Args:
        images: [T, h, w, 3] uint8.
        covers: [T, h, w] what seems to move.
        certain: [T, h, w] that of it which surely does.
        threads: number of threads.
    """
    with ThreadPoolExecutor(threads) as pool:
        return np.stack(list(pool.map(_cut_one, images, covers, certain)))


def _cut_one(image: np.ndarray, cover: np.ndarray, certain: np.ndarray) -> np.ndarray:
    core = cv2.erode(certain.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    if core.sum() < _FEWEST:
        return cover
    beside, around = (cv2.dilate(cover.astype(np.uint8), np.ones((2 * reach + 1,) * 2, np.uint8)) > 0
                      for reach in (_BESIDE, _AROUND))  # fmt: skip
    labels = np.full(cover.shape, cv2.GC_BGD, np.uint8)
    labels[beside] = cv2.GC_PR_BGD
    labels[cover] = cv2.GC_PR_FGD
    labels[core] = cv2.GC_FGD
    rows, columns = (np.flatnonzero(around.any(axis=axis)) for axis in (1, 0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    own = np.ascontiguousarray(labels[window])
    if (own == cv2.GC_BGD).sum() < _FEWEST:
        return cover
    cv2.setRNGSeed(0)
    model = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(image[window]), own, None, *model, 1, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    out = np.zeros_like(cover)
    out[window] = (own == cv2.GC_FGD) | (own == cv2.GC_PR_FGD)
    return out if out.sum() > _LEAST_LEFT * cover.sum() else cover
