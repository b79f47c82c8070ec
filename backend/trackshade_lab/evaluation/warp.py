# SPDX-License-Identifier: GPL-3.0-or-later
"""The first frame warped along the tracks: the strongest video that can be made without knowing anything else.

A pixel whose point was seen in the first frame gets the color that the first frame has there, bilinearly and from
those of the four pixels around that show the same surface (their nearness agrees with the point's). The rest is
filled: what shows no surface now nor in the first frame stays as it was there, and holes are filled from what is
around them, smoothly and surfaces from surfaces, or inpainted, which is sharper and measures worse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .holes import inpainted, smoothed
from .tracks import DenseTracks

_LEAST = 0.5  # weight of the agreeing pixels below which a point does not count as seen


@dataclass(frozen=True)
class Warp:
    """The warped first frame.

    Attributes:
        video: [T, H, W, 3] uint8, holes filled smoothly.
        inpainted: [T, H, W, 3] uint8, holes inpainted.
        covered: [T, H, W] bool, the point was seen in the first frame.
        new: [T, H, W] bool, a surface whose point was hidden or out of frame then.
    """

    video: np.ndarray
    inpainted: np.ndarray
    covered: np.ndarray
    new: np.ndarray


def warp(first: np.ndarray, tracks: DenseTracks) -> Warp:
    """Move the first frame [H, W, 3] uint8 along its tracks."""
    moved, covered = sample_first(first, tracks)
    kept = ~tracks.tracked & ~tracks.first_tracked
    frames = np.where(kept[..., None], first, moved)
    known = covered | kept
    return Warp(
        np.stack([smoothed(*frame) for frame in zip(frames, known, tracks.tracked, strict=True)]),
        np.stack([inpainted(*frame) for frame in zip(frames, known, strict=True)]),
        covered,
        tracks.tracked & ~covered,
    )


def sample_first(first: np.ndarray, tracks: DenseTracks) -> tuple[np.ndarray, np.ndarray]:
    """[T, H, W, 3] uint8 colors of the first frame where each pixel's point was, and whether it was seen there
    [T, H, W] bool.
    """
    height, width = first.shape[:2]
    share, absolute = tracks.tolerance
    slope = _slopes(tracks.first_nearness, tracks.first_tracked)
    place = tracks.place - 0.5
    inside = (tracks.place >= 0).all(axis=-1) & (tracks.place <= [width, height]).all(axis=-1) & tracks.tracked
    low = np.floor(np.where(inside[..., None], place, 0.0)).astype(np.int32)
    rest = np.where(inside[..., None], place, 0.0) - low
    total, weight = np.zeros((*inside.shape, 3), np.float32), np.zeros(inside.shape, np.float32)
    for y in (0, 1):
        for x in (0, 1):
            row, column = np.clip(low[..., 1] + y, 0, height - 1), np.clip(low[..., 0] + x, 0, width - 1)
            part = np.abs(1 - x - rest[..., 0]) * np.abs(1 - y - rest[..., 1])
            allowed = share * tracks.nearness + absolute + 1.5 * slope[row, column]
            same = np.abs(tracks.first_nearness[row, column] - tracks.nearness) <= allowed
            part = (part * (same & tracks.first_tracked[row, column] & inside)).astype(np.float32)
            total += first[row, column] * part[..., None]
            weight += part
    covered = weight >= _LEAST
    color = total / np.maximum(weight, 1e-6)[..., None]
    return np.rint(np.where(covered[..., None], color, 0)).astype(np.uint8), covered


def _slopes(nearness: np.ndarray, tracked: np.ndarray) -> np.ndarray:
    """[H, W] change of nearness to the pixels beside and below, per pixel: of each axis the smaller of the two sides,
    which a silhouette does not spoil.
    """
    inf = np.where(tracked, nearness, np.inf)

    def least(axis: int) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            step = np.abs(np.diff(inf, axis=axis))
        step = np.where(np.isfinite(step), step, np.inf)
        ends = [(1, 0) if a == axis else (0, 0) for a in (0, 1)], [(0, 1) if a == axis else (0, 0) for a in (0, 1)]
        both = np.minimum(*(np.pad(step, end, constant_values=np.inf) for end in ends))
        return np.where(np.isfinite(both), both, 0.0)

    return least(0) + least(1)
