# SPDX-License-Identifier: GPL-3.0-or-later
"""Steady crops around a figure and its hands, of the shape that the motion model takes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from trackshade.motion.framing import HAND_WIDTH, VISIBLE_HEIGHT

FILL = 0.78  # share of the crop's height that a standing figure takes
FLOOR = 0.91  # share of the crop's height above the figure's feet
_WIDE = 0.96  # largest share of the crop's width
_BESIDE, _UNUSUAL = 5, 2.2  # boxes before and after one, and by how much its size differs if it is none of the figure
_STEADY, _SIZE = 0.35, 3.0  # seconds over which the crop's center and its size are smoothed


@dataclass(frozen=True, eq=False)
class CropPath:
    """Where the crop of each frame is.

    Attributes:
        centers: [T, 2] (x, y), pixels of the footage.
        heights: [T] pixels of the footage.
    """

    centers: np.ndarray
    heights: np.ndarray


def crop_path(
    times: np.ndarray,  # [T] seconds
    boxes: np.ndarray,  # [N, 4] left, top, right, bottom; NaN where the figure was not found
    box_times: np.ndarray,  # [N] seconds, ascending
    aspect: float,
) -> CropPath:
    """Return a crop for each frame that follows the figure smoothly and hardly changes its size.

    Args:
        times: times of the frames.
        boxes: boxes of the figure in some frames.
        box_times: times of these.
        aspect: width / height of the crops.
    """
    known = np.isfinite(boxes[:, 0])
    boxes, box_times = boxes[known], box_times[known]
    sizes = boxes[:, 2:] - boxes[:, :2]
    heights = np.maximum(sizes[:, 1] / FILL, sizes[:, 0] / (_WIDE * aspect))
    usual = _is_usual(heights)
    boxes, box_times, heights = boxes[usual], box_times[usual], heights[usual]
    # The largest size nearby: a raised arm must not be cut, and a crouch must not be enlarged.
    near = np.abs(box_times[:, None] - box_times[None]) <= _SIZE
    heights = np.array([heights[row].max() for row in near])
    weights = np.exp(-0.5 * ((times[:, None] - box_times[None]) / _SIZE) ** 2)
    size = weights @ heights / weights.sum(axis=1)
    middle = _smoothed(box_times, (boxes[:, 0] + boxes[:, 2]) / 2, times, _STEADY)
    floor = _smoothed(box_times, boxes[:, 3], times, _STEADY)
    return CropPath(np.stack([middle, floor - (FLOOR - 0.5) * size], axis=1), size)


def _is_usual(heights: np.ndarray) -> np.ndarray:
    """Return which boxes are about as large as those beside them, [N]: others hold more than the figure, or less."""
    count = len(heights)
    usual = np.array([np.median(heights[max(0, n - _BESIDE) : n + _BESIDE + 1]) for n in range(count)])
    return (heights < _UNUSUAL * usual) & (heights > usual / _UNUSUAL)


def crop(
    image: np.ndarray,  # [H, W, 3] uint8
    center: np.ndarray,  # [2] (x, y), pixels
    height: float,
    size: tuple[int, int],
) -> np.ndarray:
    """Return a part of an image at a (width, height), [h, w, 3] uint8; beyond the image its border is continued."""
    scale = size[1] / height
    while scale < 0.5:  # halved by area first, so that nothing flickers
        half = max(1, image.shape[1] // 2), max(1, image.shape[0] // 2)
        center = center * (half[0] / image.shape[1], half[1] / image.shape[0])
        height *= half[1] / image.shape[0]
        image = cv2.resize(image, half, interpolation=cv2.INTER_AREA)
        scale = size[1] / height
    shift = np.array([size[0] / 2, size[1] / 2]) - scale * np.asarray(center)
    warp = np.array([[scale, 0, shift[0] + 0.5 * scale - 0.5], [0, scale, shift[1] + 0.5 * scale - 0.5]])
    return cv2.warpAffine(image, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def crop_mask(mask: np.ndarray, center: np.ndarray, height: float, size: tuple[int, int]) -> np.ndarray:
    """Return a part of a mask [H, W] at a (width, height), [h, w] bool, as `crop` does; nothing is beyond the mask."""
    scale = size[1] / height
    shift = np.array([size[0] / 2, size[1] / 2]) - scale * np.asarray(center)
    warp = np.array([[scale, 0, shift[0] + 0.5 * scale - 0.5], [0, scale, shift[1] + 0.5 * scale - 0.5]])
    return cv2.warpAffine(mask.astype(np.float32), warp, size, flags=cv2.INTER_LINEAR) > 0.5


def crop_hands(
    crops: np.ndarray,  # [T, h, w, 3] uint8
    places: np.ndarray,  # [T, 2, 2] pixels of the crops; NaN where a hand is not seen
    side: int,
) -> np.ndarray:
    """Return square crops around hands, [T, 2, side, side, 3] uint8; black where a hand is not seen.

    Args:
        crops: crops around the figure.
        places: middles of the left and the right hand.
        side: side of the square crops, pixels.
    """
    height, width = crops.shape[1:3]
    scale = side / (height * HAND_WIDTH / VISIBLE_HEIGHT)
    out = np.zeros((len(crops), 2, side, side, 3), np.uint8)
    for t, hand in np.ndindex(len(crops), 2):
        x, y = places[t, hand]
        if 0 <= x < width and 0 <= y < height:
            warp = np.array([[scale, 0, side / 2 - scale * x + 0.5 * scale - 0.5],
                             [0, scale, side / 2 - scale * y + 0.5 * scale - 0.5]])  # fmt: skip
            method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            out[t, hand] = cv2.warpAffine(crops[t], warp, (side, side), flags=method, borderMode=cv2.BORDER_REPLICATE)
            out[t, hand, 0, 0] = np.maximum(out[t, hand, 0, 0], 1)  # a black one is told from one that is not seen
    return out


def _smoothed(known: np.ndarray, values: np.ndarray, times: np.ndarray, seconds: float) -> np.ndarray:
    """Return values at other times, by a local straight line with weights that fall off within some seconds."""
    out = np.empty(len(times))
    filled = np.interp(times, known, values)
    for t, time in enumerate(times):
        weights = np.exp(-0.5 * ((times - time) / seconds) ** 2)
        around = times - time
        total, slope = weights.sum(), (weights * around).sum()
        spread = (weights * around**2).sum() * total - slope**2
        mean = (weights * filled).sum()
        if spread < 1e-9:
            out[t] = mean / total
        else:
            out[t] = (mean * (weights * around**2).sum() - slope * (weights * around * filled).sum()) / spread
    return out
