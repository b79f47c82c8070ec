# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds figures in footage without a trained network: by a plain background, by what moves before it, and by outline.

Three kinds of evidence are used, in this order: what differs from a smooth background; what differs from the background
that the frames have in common once the camera's motion is taken out; and OpenCV's detector of upright people, which
goes by histograms of gradients. GrabCut completes what only moves in part. What is found is linked over time.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 256  # px, the longer side of the pictures that are searched
_LEAST, _MOST = 0.006, 0.75  # share of the picture that a figure covers
_PLAIN = 7.0  # levels that a smooth background may vary at the picture's border
_SMALLER = 0.3  # of the largest figure's height: what is smaller is no figure beside it
_PERSON = 0.55  # least certainty of a person in one frame
_PEOPLE_SIDE = 400  # px, the longer side of the pictures that people are searched in

Boxes = np.ndarray  # [..., 4]: left, top, right, bottom


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure in some frames of footage.

    Attributes:
        boxes: [N, 4] left, top, right and bottom in pixels of the frames; NaN where it was not found.
        is_person: whether the detector of people has found it.
    """

    boxes: Boxes
    is_person: bool

    @property
    def found(self) -> np.ndarray:
        """[N] whether it was found in a frame."""
        return np.isfinite(self.boxes[:, 0])

    @property
    def box(self) -> Boxes:
        """[4] its usual box."""
        return np.nanmedian(self.boxes, axis=0)

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of its usual box, rounded."""
        left, top, right, bottom = (float(number) for number in self.box.round(1))
        return left, top, right, bottom


def find_figures(
    frames: np.ndarray,  # [N, H, W, 3] uint8 sRGB, evenly spread over the footage
) -> list[Figure]:
    """Return the figures that most frames show, from left to right; none if there is none."""
    height, width = frames.shape[1:3]
    scale = min(1.0, SIDE / max(height, width))
    size = max(8, round(width * scale)), max(8, round(height * scale))
    small = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])
    ratio = np.array([width / size[0], height / size[1]] * 2)
    masks = _plain_masks(small)
    is_plain = masks is not None
    if masks is None:
        masks = _moving_masks(small)
    figures = _link([_boxes_of(mask) for mask in masks])
    figures = [Figure(figure.boxes * ratio, False) for figure in figures]
    if is_plain:
        figures = [figure for figure in figures if not _reaches_in(figure, width)] or figures
    # A figure before a plain background needs no detector, which takes outlines of anything for people at times. But
    # what reaches in from a side or from above may be furniture, or somebody and furniture in one.
    # People are cropped by its boxes, which do not follow arms and noise; silhouettes are for what it does not know.
    if not is_plain or len(figures) != 1 or _reaches_in(figures[0], width):
        people = _link(_people(frames))
        figures = [Figure(person.boxes, True) for person in people] or figures
    if not figures:
        outlines = [_boxes_of(_cut_out(image, None)) for image in small]
        figures = [Figure(figure.boxes * ratio, False) for figure in _link(outlines)]
    return _distinct(figures)


def _reaches_in(figure: Figure, width: int) -> bool:
    """Return whether a figure touches the left, right or upper border of pictures of a width in most frames."""
    left, top, right, _ = figure.boxes[figure.found].T
    return bool(np.mean((left < 1) | (top < 1) | (right > width - 1)) > 0.5)


def _plain_masks(images: np.ndarray) -> np.ndarray | None:
    """Return what differs from a smooth background, [N, h, w] bool, or None if the background is not smooth."""
    height, width = images.shape[1:3]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)
    ring = np.ones((height, width), bool)
    margin = max(2, round(0.06 * min(height, width)))
    ring[margin:-margin, margin:-margin] = False
    ring = ring.reshape(-1)
    masks, plain = [], 0
    for image in images:
        colors = cv2.GaussianBlur(image, (0, 0), 0.8).reshape(-1, 3).astype(np.float64)
        weights, away = ring.astype(np.float64), np.zeros(len(ring))
        for _ in range(4):  # what stands at the border counts less and less
            fitted = terms @ np.linalg.lstsq(terms * weights[:, None], colors * weights[:, None], rcond=None)[0]
            away = np.abs(colors - fitted).max(axis=1)
            weights = ring * np.exp(-((away / 12.0) ** 2))
        spread = float(np.median(away[ring]))
        plain += spread < _PLAIN and np.mean(away[ring] < 25) > 0.8
        masks.append(np.greater(away, max(22.0, 5 * spread)).reshape(height, width))
    return np.stack([_cleaned(mask) for mask in masks]) if plain > 0.7 * len(images) else None


def _moving_masks(images: np.ndarray) -> np.ndarray:
    """Return what differs from the background that the frames have in common, [N, h, w] bool."""
    count, height, width = images.shape[:3]
    if count < 3:
        return np.zeros((count, height, width), bool)
    middle = count // 2
    warps = [_camera_move(images[middle], image) for image in images]
    moved = np.stack([
        cv2.warpAffine(image, warp, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        for image, warp in zip(images, warps, strict=True)
    ])  # fmt: skip
    inside = np.stack([
        cv2.warpAffine(np.full((height, width), 255, np.uint8), warp, (width, height), flags=cv2.WARP_INVERSE_MAP) > 250
        for warp in warps
    ])  # fmt: skip
    values = np.where(inside[..., None], moved.astype(np.float32), np.nan)
    with np.errstate(invalid="ignore"):
        background = np.nan_to_num(np.nanmedian(values, axis=0))
    away = np.abs(moved - background).max(axis=-1) * inside
    noise = float(np.median(away))
    masks = []
    for image, warp, difference in zip(images, warps, away, strict=True):
        there = _cleaned(difference > max(24.0, 6 * noise))
        back = cv2.warpAffine(there.astype(np.uint8), warp, (width, height), flags=cv2.INTER_NEAREST) > 0
        masks.append(_cut_out(image, back) if back.any() else back)
    return np.stack(masks)


def _camera_move(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the affine map [2, 3] of pixels of one picture to those of another, by corners of their backgrounds."""
    gray = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (one, other)]
    corners = cv2.goodFeaturesToTrack(gray[0], 200, 0.01, 6)
    if corners is None or len(corners) < 8:
        return np.eye(2, 3)
    there, known, _ = cv2.calcOpticalFlowPyrLK(gray[0], gray[1], corners, np.empty_like(corners))
    known = known[:, 0] > 0
    if known.sum() < 8:
        return np.eye(2, 3)
    cv2.setRNGSeed(1)
    warp, agree = cv2.estimateAffinePartial2D(corners[known], there[known], ransacReprojThreshold=1.5)
    if warp is None or agree.mean() < 0.3:
        return np.eye(2, 3)
    corner = np.array([[0, 0], [one.shape[1], one.shape[0]]])
    still = np.abs(corner @ warp[:, :2].T + warp[:, 2] - corner).max() < 0.7
    return np.eye(2, 3) if still else warp


def _cut_out(
    image: np.ndarray,  # [h, w, 3] uint8
    seed: np.ndarray | None,  # [h, w] bool
) -> np.ndarray:
    """Return a figure's silhouette by GrabCut, [h, w] bool: around what is known of it, else what the border is not."""
    height, width = image.shape[:2]
    labels = np.full((height, width), cv2.GC_BGD, np.uint8)
    if seed is None:
        x, y = max(2, round(0.06 * width)), max(2, round(0.04 * height))
        labels[y:-y, x:-x] = cv2.GC_PR_FGD
    else:
        for left, top, right, bottom in _boxes_of(seed).round().astype(int):
            grow_x, grow_y = max(6, int(0.35 * (bottom - top))), max(6, int(0.35 * (right - left)))
            area = labels[max(0, top - grow_y) : bottom + grow_y, max(0, left - grow_x) : right + grow_x]
            area[area == cv2.GC_BGD] = cv2.GC_PR_BGD
        labels[seed] = cv2.GC_PR_FGD
        inner = cv2.erode(seed.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        labels[inner] = cv2.GC_FGD
    if not np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).any() or not (labels == cv2.GC_BGD).any():
        return np.zeros((height, width), bool) if seed is None else seed
    cv2.setRNGSeed(1)
    try:
        cv2.grabCut(image, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    except cv2.error:  # too few pixels of one kind
        return np.zeros((height, width), bool) if seed is None else seed
    mask = _cleaned(np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)))
    if seed is None:
        return mask if _is_silhouette(mask) else np.zeros_like(mask)
    is_part = (mask & seed).sum() > 0.5 * seed.sum() and mask.mean() < _MOST
    return mask if is_part else seed


def _is_silhouette(mask: np.ndarray) -> bool:
    """Return whether a mask is one compact thing that hardly touches the picture's border."""
    share = mask.mean()
    if not _LEAST < share < 0.5:
        return False
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    largest = stats[1:, cv2.CC_STAT_AREA].max()
    border = np.r_[mask[0], mask[:, 0], mask[:, -1]]
    box = _boxes_of(mask)
    tall = len(box) > 0 and (box[:, 3] - box[:, 1]).max() > 0.25 * len(mask)
    return bool(largest > 0.7 * mask.sum() and border.mean() < 0.15 and tall)


def _cleaned(mask: np.ndarray) -> np.ndarray:
    """Return a mask without specks, whose parts that nearly touch are joined."""
    side = max(3, round(0.025 * max(mask.shape)) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    out = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    return cv2.morphologyEx(out, cv2.MORPH_CLOSE, kernel) > 0


def _boxes_of(mask: np.ndarray) -> Boxes:
    """Return the boxes of a mask's parts that are large enough to be figures, [n, 4]; parts that overlap are joined."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    boxes = [
        np.array([left, top, left + width, top + height], np.float64)
        for left, top, width, height, area in stats[1:count]
        if area > _LEAST * mask.size
    ]
    joined: list[np.ndarray] = []
    for box in sorted(boxes, key=lambda item: -(item[2] - item[0]) * (item[3] - item[1])):
        for other in joined:
            overlap = min(box[2], other[2]) - max(box[0], other[0])
            gap = max(box[1], other[1]) - min(box[3], other[3])
            if overlap > 0.3 * (box[2] - box[0]) and gap < 0.15 * (other[3] - other[1]):
                other[:2], other[2:] = np.minimum(box[:2], other[:2]), np.maximum(box[2:], other[2:])
                break
        else:
            joined.append(box)
    return np.array(joined).reshape(-1, 4)


def _people(frames: np.ndarray, most: int = 7) -> list[Boxes]:
    """Return boxes of upright people in some frames, [n, 4] in pixels for each frame; none in the other frames."""
    detector = cv2.HOGDescriptor()
    detector.setSVMDetector(np.array(cv2.HOGDescriptor.getDefaultPeopleDetector()))
    height, width = frames.shape[1:3]
    scale = _PEOPLE_SIDE / max(height, width)
    chosen = {*np.linspace(0, len(frames) - 1, min(most, len(frames))).round().astype(int).tolist()}
    out = []
    for number, frame in enumerate(frames):
        if number not in chosen:
            out.append(np.zeros((0, 4)))
            continue
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = cv2.resize(
            frame, (max(64, round(width * scale)), max(128, round(height * scale))), interpolation=method
        )
        found, weights = detector.detectMultiScale(image, winStride=(8, 8), padding=(16, 16), scale=1.06)
        boxes = np.array(found, np.float64).reshape(-1, 4)[np.ravel(weights) > _PERSON]
        boxes[:, 2:] += boxes[:, :2]
        inset = np.array([0.16, 0.07, -0.16, -0.07]) * np.tile(boxes[:, 2:] - boxes[:, :2], 2)  # the detector's margin
        ratio = np.array([width / image.shape[1], height / image.shape[0]] * 2)
        out.append((boxes + inset) * ratio)
    return out


def _link(boxes: list[Boxes]) -> list[Figure]:
    """Link boxes of consecutive frames, [n, 4] each, to figures that at least half of the frames with boxes show."""
    chains: list[dict[int, np.ndarray]] = []
    searched = sum(len(found) > 0 for found in boxes)
    for t, found in enumerate(boxes):
        free, waiting = {*range(len(found))}, list(chains)
        while free and waiting:  # the nearest pair first
            pairs = [(_distance(chain[max(chain)], found[index]), n, index)
                     for n, chain in enumerate(waiting) for index in free]  # fmt: skip
            cost, n, index = min(pairs)
            if cost >= 1.0 + 0.1 * (t - max(waiting[n])):
                break
            waiting.pop(n)[t] = found[index]
            free.remove(index)
        chains += [{t: found[index]} for index in free]
    kept = [chain for chain in chains if len(chain) >= max(1, 0.5 * searched)]
    figures = []
    for chain in kept:
        track = np.full((len(boxes), 4), np.nan)
        for t, box in chain.items():
            track[t] = box
        figures.append(Figure(track, False))
    return figures


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return how far the centers of two boxes are apart, in units of their size, plus how much their sizes differ."""
    size = max(one[3] - one[1], other[3] - other[1], 0.5 * (one[2] - one[0]), 1.0)
    apart = np.abs(one[:2] + one[2:] - other[:2] - other[2:]).max() / 2
    return float(apart / size + 0.5 * abs(np.log((one[3] - one[1] + 1) / (other[3] - other[1] + 1))))


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the area that two boxes share, as a share of the smaller one."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(max(0.0, width) * max(0.0, height) / max(1e-9, min(areas)))


def _distinct(figures: list[Figure]) -> list[Figure]:
    """Return figures without doubles and without what is far smaller than the largest one, from left to right."""
    figures = sorted(figures, key=lambda figure: -(figure.box[3] - figure.box[1]))
    out: list[Figure] = []
    for figure in figures:
        is_double = any(_overlap(figure.box, other.box) > 0.55 for other in out)
        is_small = bool(out) and figure.box[3] - figure.box[1] < _SMALLER * (out[0].box[3] - out[0].box[1])
        if not is_double and not is_small:
            out.append(figure)
    return sorted(out, key=lambda figure: figure.box[0] + figure.box[2])
