# SPDX-License-Identifier: GPL-3.0-or-later
"""Cuts the figure out of the crops around it, and sets it before plain gray, where the background is cluttered.

The motion model was trained before simple backgrounds and takes bars and leaves for limbs. Each pixel's probability is
said by its place in the crop, by its difference from the background that the frames around it have in common once the
camera's motion is taken out, and by colors that are learned over several frames, which keeps limbs from flickering.
GrabCut finds the outline between what is nearly certain.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import cv2
import numpy as np

Step = Callable[[float], None]

CUT_SIZE = (144, 192)  # (width, height) of the crops that are cut
GRAY = (140, 140, 145)
_FILL = np.array(GRAY, np.float32)
_CLUTTER = 0.12  # share of the background's pixels that stand out from those around them
_STANDS_OUT = 10  # levels
_AROUND = 5  # px of pictures a third of that size, the side of the window of a median
_REACH = 8  # frames before and after one that show its background
_UNKNOWN = 1000  # levels, where a frame does not show the background
_FEWEST = 4  # frames that have a background in common
_MOVED = 25.0  # levels
_CHUNK, _BESIDE = 8, 4  # frames whose colors are learned together, and frames before and after them that count as well
_ROUNDS = 4
_BINS = 16  # of each channel of colors
_LIKELY, _CERTAIN, _EXCLUDED = 0.4, 0.9, 0.04  # probabilities at which GrabCut starts, and which it keeps
_PART = 0.08  # of the largest part's area: what is smaller is no part of the figure
_LEAST, _MOST = 0.025, 0.40  # share of a crop that a figure covers
_BACKGROUND = -0.8  # logit of the place below which a pixel counts as background


def is_cluttered(
    crops: np.ndarray,  # [T, h, w, 3] uint8, of `CUT_SIZE`
) -> bool:
    """Return whether what is around the figure has more detail than the backgrounds of training.

    The measure is the share of pixels beside the figure that differ by more than 10 levels from the median of the 5 × 5
    pixels around them, in the usual frame at 48 × 64 pixels. Areas, gradients and straight edges hardly count.
    """
    small = [cv2.resize(crop, (CUT_SIZE[0] // 3, CUT_SIZE[1] // 3), interpolation=cv2.INTER_AREA) for crop in crops]
    beside = _place_logits((CUT_SIZE[1] // 3, CUT_SIZE[0] // 3)) < _BACKGROUND
    beside[:2] = beside[-2:] = False
    beside[:, :2] = beside[:, -2:] = False
    away = [cv2.absdiff(crop, cv2.medianBlur(crop, _AROUND)).max(axis=-1)[beside] for crop in small]
    return bool(np.median([np.mean(levels > _STANDS_OUT) for levels in away]) > _CLUTTER)


def cut_figure(
    crops: np.ndarray,  # [T, h, w, 3] uint8, in order, of `CUT_SIZE`
    pictures: Sequence[np.ndarray],  # each [T, H, W, 3] uint8
    step: Step = lambda fraction: None,
    known: Sequence[np.ndarray | None] | None = None,  # each [h, w] bool
) -> list[np.ndarray]:
    """Return pictures of a figure before plain gray where the background is cluttered, and as they are elsewhere.

    Args:
        crops: crops around the figure as `crops.crop` makes them, in which it is cut out.
        pictures: the same crops at other sizes.
        step: called with the fraction that is done; it may raise an error, such as CancelledError, to end.
        known: where the figure is seen in each of the crops, None for a crop where it is not known.

    Returns:
        The pictures, [T, H, W, 3] uint8 each; a frame whose cut is implausible is left as it was.
    """
    if not is_cluttered(crops):
        return list(pictures)
    if known is None or any(mask is None for mask in known):
        masks = list(figure_masks(crops, step))
        known = [own if mask is None else mask for own, mask in zip(masks, known or [None] * len(crops), strict=True)]
    masks = np.stack([mask for mask in known if mask is not None])
    return [_before_gray(images, masks) for images in pictures]


def _before_gray(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return images [T, H, W, 3] with plain gray outside of masks [T, h, w], where these are plausible."""
    result = images.copy()
    size = images.shape[2], images.shape[1]
    method = cv2.INTER_AREA if size[1] < CUT_SIZE[1] else cv2.INTER_LINEAR
    for t, mask in enumerate(masks):
        if _LEAST < mask.mean() < _MOST:
            soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7)
            cover = cv2.resize(soft, size, interpolation=method)[..., None]
            result[t] = (images[t] * cover + (1 - cover) * _FILL).round()
    return result


def figure_masks(
    crops: np.ndarray,  # [T, h, w, 3] uint8, in order
    step: Step = lambda fraction: None,
) -> np.ndarray:
    """Return where the figure is seen in crops around it, [T, h, w] bool; `step` as of `cut_figure`."""
    place = _place_logits((crops.shape[1], crops.shape[2]))
    evidence = place + _motion_logits(crops, place, step)
    bins = np.stack([_color_bins(crop) for crop in crops])
    masks = []
    for first in range(0, len(crops), _CHUNK):
        step(0.5 + 0.5 * first / len(crops))
        low = max(0, first - _BESIDE)
        near = slice(low, first + _CHUNK + _BESIDE)
        likely = _with_colors(evidence[near], bins[near])[first - low :]
        masks += [_outline(crop, share) for crop, share in zip(crops[first : first + _CHUNK], likely, strict=False)]
    return np.stack(masks)


def _place_logits(size: tuple[int, int]) -> np.ndarray:
    """Return how likely the figure of a crop of a (height, width) is in each place, logits [h, w] float32."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    x, y = np.abs((x + 0.5) / width - 0.5), (y + 0.5) / height
    away = np.hypot(x / 0.16, np.maximum(0, np.maximum(0.42 - y, y - 0.8)) / 0.25)  # from the trunk and the thighs
    is_border = (x > 0.46) | (y < 0.04) | (y > 0.95)
    return (np.clip(1.5 - 1.6 * away, -2.0, 1.5) - 8.0 * is_border).astype(np.float32)


def _motion_logits(crops: np.ndarray, place: np.ndarray, step: Step) -> np.ndarray:
    """Return what the difference from the frames' common background says, logits [T, h, w]; 0 for few frames."""
    if len(crops) < _FEWEST:
        return np.zeros(crops.shape[:3], np.float32)
    difference = _differences(crops, place, step)
    noise = np.median(difference[:, place < _BACKGROUND], axis=1)
    logits = 2.5 * np.tanh((difference - np.maximum(_MOVED, 4 * noise)[:, None, None]) / _MOVED)
    # Where the figure's middle moves before the background, all of it should; else what rests may be of the figure.
    moving = (logits[:, place > 0.3] > 0).mean(axis=1)[:, None, None]
    return np.where(logits < 0, (0.3 + 1.2 * moving) * logits, 1.3 * logits).astype(np.float32)


def _differences(crops: np.ndarray, place: np.ndarray, step: Step) -> np.ndarray:
    """Return by how many levels frames differ from the median of the frames around them, [T, h, w] float32.

    The camera's motion and that of the crops is taken out. Differences are the least to any neighboring pixel, so that
    a background that is a pixel off does not count.
    """
    count, height, width = crops.shape[:3]
    moves = [np.eye(3)]
    beside = (place < _BACKGROUND).astype(np.uint8)
    for one, other in itertools.pairwise(crops):
        moves.append(_background_move(one, other, beside) @ moves[-1])
    square = np.ones((3, 3), np.uint8)
    result = np.empty((count, height, width), np.float32)
    for t, crop in enumerate(crops):
        step(0.5 * t / count)
        views = []
        for other in range(max(0, t - _REACH), min(count, t + _REACH + 1)):
            if other == t:
                continue
            warp = (moves[other] @ np.linalg.inv(moves[t]))[:2]
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            view = cv2.warpAffine(crops[other], warp, (width, height), flags=flags).astype(np.int16)
            inside = cv2.warpAffine(np.full((height, width), 255, np.uint8), warp, (width, height), flags=flags)
            view[inside < 255] = _UNKNOWN
            views.append(view)
        stack = np.sort(np.stack(views), axis=0)
        shown = (stack[..., :1] < _UNKNOWN).sum(axis=0, keepdims=True)
        background = np.take_along_axis(stack, np.maximum(0, shown - 1) // 2, axis=0)[0].astype(np.float32)
        known = shown[0, ..., 0] > 0
        # How far the color is outside of what the neighboring pixels of the background span.
        above = crop - cv2.dilate(background, square)
        below = cv2.erode(background, square) - crop
        result[t] = np.maximum(0, np.maximum(above, below).max(axis=-1)) * known
    return result


def _background_move(one: np.ndarray, other: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """Return the map [3, 3] of pixels of one frame to those of the next, by corners beside the figure."""
    move = np.eye(3)
    gray = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (one, other)]
    corners = cv2.goodFeaturesToTrack(gray[0], 200, 0.01, 5, mask=beside)
    if corners is None or len(corners) < 8:
        return move
    there, found, _ = cv2.calcOpticalFlowPyrLK(gray[0], gray[1], corners, np.empty_like(corners))
    known = found[:, 0] > 0
    if known.sum() < 8:
        return move
    cv2.setRNGSeed(1)
    warp, agree = cv2.estimateAffinePartial2D(corners[known], there[known], ransacReprojThreshold=1.5)
    if warp is not None and agree.mean() > 0.3 and abs(np.linalg.det(warp[:, :2])) > 0.5:
        move[:2] = warp
    return move


def _color_bins(crop: np.ndarray) -> np.ndarray:
    """Return the bin of each pixel's color, [h, w]; lightness and both differences of color have as many."""
    lab = cv2.cvtColor(cv2.GaussianBlur(crop, (0, 0), 0.8), cv2.COLOR_RGB2LAB).astype(np.int32)
    tint = np.clip(2 * (lab[..., 1:] - 128) + 128, 0, 255)
    step = 256 // _BINS
    return (lab[..., 0] // step * _BINS + tint[..., 0] // step) * _BINS + tint[..., 1] // step


def _with_colors(evidence: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Return the probability of the figure [n, h, w], from logits and from the colors that these make likely."""
    likely = _sigmoid(evidence)
    for _ in range(_ROUNDS):
        figure, background = _histogram(bins, likely), _histogram(bins, 1 - likely)
        ratio = np.clip(np.log((figure + 1e-5) / (background + 1e-5)), -3, 3)
        logits = evidence + ratio[bins].astype(np.float32)
        likely = _sigmoid(np.stack([cv2.GaussianBlur(layer, (0, 0), 1.2) for layer in logits]))
    return likely


def _histogram(bins: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weights' shares of the bins of colors, each spread over its neighbors, [bins]."""
    counts = np.bincount(bins.ravel(), weights.ravel(), _BINS**3).reshape(_BINS, _BINS, _BINS)
    for axis in range(3):
        padded = np.pad(counts, [(int(other == axis),) * 2 for other in range(3)], mode="edge")
        before, middle, after = (np.take(padded, np.arange(_BINS) + shift, axis) for shift in range(3))
        counts = 0.25 * before + 0.5 * middle + 0.25 * after
    return counts.ravel() / max(1e-9, counts.sum())


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def _outline(crop: np.ndarray, likely: np.ndarray) -> np.ndarray:
    """Return the figure's mask by GrabCut, [h, w] bool, without specks."""
    labels = np.where(likely > _LIKELY, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[likely > _CERTAIN] = cv2.GC_FGD
    labels[likely < _EXCLUDED] = cv2.GC_BGD
    cv2.setRNGSeed(1)
    try:
        cv2.grabCut(crop, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 2, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    except cv2.error:  # too few pixels of one kind
        return np.zeros(labels.shape, bool)
    seen = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(seen)
    areas = stats[1:, cv2.CC_STAT_AREA]
    large = [part for part in range(1, count) if areas[part - 1] > _PART * areas.max()]
    return np.isin(parts, large)
