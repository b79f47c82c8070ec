# SPDX-License-Identifier: GPL-3.0-or-later
"""The first frame warped along the tracks: the strongest baseline that knows nothing but the first frame.

A pixel whose surface point was visible in the first frame gets its color there, bilinearly and only from neighboring
pixels of the same surface (their inverse depth agrees with the point's). Pixels without a surface, now and in the first
frame, keep the first frame's color. The remaining holes are filled smoothly, surfaces from surfaces only, or inpainted,
which is sharper and measures worse.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .tracks import DenseTracks

_MIN_WEIGHT = 0.5  # of the agreeing neighbors, below which a point counts as hidden
_INPAINT_RADIUS = 3  # px
_MIN_KNOWN = 8  # px, below which a label borrows from the others


@dataclass(frozen=True)
class Warp:
    """The warped first frame."""

    video: np.ndarray  # [T, H, W, 3] uint8, holes filled smoothly
    inpainted: np.ndarray  # [T, H, W, 3] uint8, holes inpainted
    covered: np.ndarray  # [T, H, W] bool, the surface point was visible in the first frame
    newly_visible: np.ndarray  # [T, H, W] bool, a surface whose point was hidden or out of frame


def warp_first_frame(
    first_frame: np.ndarray,  # [H, W, 3] uint8
    tracks: DenseTracks,
) -> Warp:
    """Warp the first frame along the tracks."""
    warped, covered = sample_first_frame(first_frame, tracks)
    unchanged = ~tracks.tracked & ~tracks.first_tracked
    frames = np.where(unchanged[..., None], first_frame, warped)
    known = covered | unchanged
    return Warp(
        video=np.stack([fill_smoothly(*frame) for frame in zip(frames, known, tracks.tracked, strict=True)]),
        inpainted=np.stack([inpaint(*frame) for frame in zip(frames, known, strict=True)]),
        covered=covered,
        newly_visible=tracks.tracked & ~covered,
    )


def sample_first_frame(
    first_frame: np.ndarray,  # [H, W, 3] uint8
    tracks: DenseTracks,
) -> tuple[np.ndarray, np.ndarray]:
    """Sample the first frame at each pixel's place in it.

    Returns:
        Colors [T, H, W, 3] uint8, and whether the point is visible there [T, H, W] bool.
    """
    height, width = first_frame.shape[:2]
    relative, absolute = tracks.tolerance
    slope = _min_slope(tracks.first_inverse_depth, tracks.first_tracked)
    inside = (tracks.position >= 0).all(axis=-1) & (tracks.position <= [width, height]).all(axis=-1) & tracks.tracked
    position = np.where(inside[..., None], tracks.position - 0.5, 0.0)
    corner = np.floor(position).astype(np.int32)
    fraction = position - corner
    colors, weights = np.zeros((*inside.shape, 3), np.float32), np.zeros(inside.shape, np.float32)
    for y in (0, 1):
        for x in (0, 1):
            row, column = np.clip(corner[..., 1] + y, 0, height - 1), np.clip(corner[..., 0] + x, 0, width - 1)
            weight = np.abs(1 - x - fraction[..., 0]) * np.abs(1 - y - fraction[..., 1])
            allowed = relative * tracks.inverse_depth + absolute + 1.5 * slope[row, column]
            same = np.abs(tracks.first_inverse_depth[row, column] - tracks.inverse_depth) <= allowed
            weight = (weight * (same & tracks.first_tracked[row, column] & inside)).astype(np.float32)
            colors += first_frame[row, column] * weight[..., None]
            weights += weight
    visible = weights >= _MIN_WEIGHT
    colors = colors / np.maximum(weights, 1e-6)[..., None]
    return np.rint(np.where(visible[..., None], colors, 0)).astype(np.uint8), visible


def _min_slope(inverse_depth: np.ndarray, tracked: np.ndarray) -> np.ndarray:
    """Return the change of inverse depth per pixel [H, W]: on each axis the smaller of both sides, for silhouettes."""
    values = np.where(tracked, inverse_depth, np.inf)

    def along(axis: int) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            step = np.abs(np.diff(values, axis=axis))
        step = np.where(np.isfinite(step), step, np.inf)
        paddings = ([sides if a == axis else (0, 0) for a in (0, 1)] for sides in ((1, 0), (0, 1)))
        smaller = np.minimum(*(np.pad(step, padding, constant_values=np.inf) for padding in paddings))
        return np.where(np.isfinite(smaller), smaller, 0.0)

    return along(0) + along(1)


def inpaint(
    frame: np.ndarray,  # [H, W, 3] uint8
    known: np.ndarray,  # [H, W] bool
) -> np.ndarray:
    """Inpaint the unknown pixels (Telea 2004)."""
    if known.all() or not known.any():
        return frame
    return cv2.inpaint(np.ascontiguousarray(frame), (~known).astype(np.uint8), _INPAINT_RADIUS, cv2.INPAINT_TELEA)


def fill_smoothly(
    frame: np.ndarray,  # [H, W, 3] uint8
    known: np.ndarray,  # [H, W] bool
    labels: np.ndarray,  # [H, W]
) -> np.ndarray:
    """Fill the unknown pixels by push-pull (Gortler et al. 1996), each from known pixels of its label.

    What is behind an object thus does not get the object's color.
    """
    filled = frame.copy()
    for label in np.unique(labels[~known]):
        has_label = labels == label
        source = known & has_label
        if source.sum() < _MIN_KNOWN:
            source = known
        if source.any():
            holes = has_label & ~known
            filled[holes] = np.rint(_push_pull(frame, source)).clip(0, 255).astype(np.uint8)[holes]
    return filled


def _push_pull(frame: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the frame [H, W, 3] float32 with unknown pixels from ever coarser averages of the known ones."""
    levels: list[tuple[np.ndarray, np.ndarray]] = [
        (frame * known[..., None].astype(np.float32), known.astype(np.float32))
    ]
    while max(levels[-1][1].shape) > 1:
        width, height = ((side + 1) // 2 for side in levels[-1][1].shape[::-1])
        colors, weight = (cv2.resize(x, (width, height), interpolation=cv2.INTER_AREA) for x in levels[-1])
        levels.append((colors.reshape(height, width, 3), weight.reshape(height, width)))
    filled = _normalize(*levels[-1])
    for colors, weight in levels[-2::-1]:
        coarse = cv2.resize(filled, weight.shape[::-1], interpolation=cv2.INTER_LINEAR).reshape(*weight.shape, 3)
        filled = _normalize(colors, weight) * weight[..., None] + coarse * (1 - weight[..., None])
    return filled


def _normalize(colors: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return colors / np.maximum(weight, 1e-6)[..., None]
