# SPDX-License-Identifier: GPL-3.0-or-later
"""Cuts objects out of a picture by boxes around them, with GrabCut at a reduced size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from trackshade.shot.lifted import Rectangle

_PIXELS = 160_000  # of the region that is cut, at most
_MARGIN = 0.5  # of the box's size, around it: what the background looks like
_ROUNDS = 3
_LEAST_SIDE = 4  # pixels of a box
_EDGE_WEIGHT = 0.002  # squared levels (0 to 1) below which the guided filter takes differences for noise


def cut_out_boxes(
    colors: NDArray[np.uint8], boxes: Sequence[Rectangle], model: str | None
) -> Iterator[NDArray[np.bool_] | None]:
    """Cut what boxes hold out of a picture, one after the other, by GrabCut, or by a network if there is one.

    Args:
        colors: [h, w, 3] sRGB.
        boxes: left, top, right and bottom, pixels of `colors`.
        model: folder or identifier of a mask network.

    Yields:
        [h, w] where the thing in each box is seen; None if there is none.

    Raises:
        ModelError: the network cannot be used.
    """
    if model is None or not boxes:
        yield from (cut_out(colors, box) for box in boxes)
        return
    from trackshade.lifting.mask_models import segment

    yield from segment(colors, boxes, model)


def cut_out(colors: NDArray[np.uint8], box: Rectangle) -> NDArray[np.bool_] | None:
    """Cut an object out of a picture.

    Args:
        colors: [h, w, 3] sRGB.
        box: left, top, right and bottom around the object, pixels of `colors`.

    Returns:
        [h, w] where it is seen; None if the box holds nothing that differs from its surroundings.
    """
    height, width = colors.shape[:2]
    left, top, right, bottom = _inside(box, width, height)
    if right - left < _LEAST_SIDE or bottom - top < _LEAST_SIDE:
        return None
    across, down = _MARGIN * (right - left), _MARGIN * (bottom - top)
    outer = _inside((left - across, top - down, right + across, bottom + down), width, height)
    region = colors[outer[1] : outer[3], outer[0] : outer[2]]
    scale = min(1.0, math.sqrt(_PIXELS / (region.shape[0] * region.shape[1])))
    small = np.ascontiguousarray(
        cv2.resize(region, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else region
    )
    mask = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
    rows = slice(math.floor((top - outer[1]) * scale), math.ceil((bottom - outer[1]) * scale))
    columns = slice(math.floor((left - outer[0]) * scale), math.ceil((right - outer[0]) * scale))
    mask[rows, columns] = cv2.GC_PR_FGD
    if (mask == cv2.GC_BGD).any():
        cv2.setRNGSeed(0)
        cv2.grabCut(small, mask, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS, cv2.GC_INIT_WITH_MASK)
    seen = _largest(cv2.morphologyEx((mask == cv2.GC_PR_FGD).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3))))
    if not seen.any():
        return None
    result = np.zeros((height, width), bool)
    inside = follow_edges(seen, region) if scale < 1 else seen
    result[outer[1] : outer[3], outer[0] : outer[2]] = inside
    return result if inside.any() else None


def _inside(box: Rectangle, width: int, height: int) -> tuple[int, int, int, int]:
    left, top, right, bottom = box
    return (
        max(0, math.floor(left)),
        max(0, math.floor(top)),
        min(width, math.ceil(right)),
        min(height, math.ceil(bottom)),
    )


def _largest(mask: np.ndarray) -> NDArray[np.bool_]:
    """Return the largest connected part of a mask."""
    count, labels, facts, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return np.zeros(mask.shape, bool)
    return labels == 1 + int(facts[1:, cv2.CC_STAT_AREA].argmax())


def follow_edges(mask: NDArray[np.bool_], colors: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Enlarge a mask to a picture's size, with its border on the picture's edges (guided filter, He et al. 2010).

    Args:
        mask: [h, w] of a reduced picture.
        colors: [H, W, 3] sRGB.
    """
    height, width = colors.shape[:2]
    if mask.shape == (height, width):
        return mask
    soft = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    guide = cv2.cvtColor(colors, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    size = 2 * math.ceil(width / mask.shape[1]) + 1

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, (size, size))

    of_guide, of_soft = mean(guide), mean(soft)
    slope = (mean(guide * soft) - of_guide * of_soft) / (mean(guide * guide) - of_guide**2 + _EDGE_WEIGHT)
    offset = of_soft - slope * of_guide
    return mean(slope) * guide + mean(offset) > 0.5
