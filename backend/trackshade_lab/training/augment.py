# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of a clip that leave it true: mirrored, or its tracks thinned to points."""

from __future__ import annotations

import re

import numpy as np

# Words that a mirrored picture would make untrue.
_SIDED = re.compile(r"\b(left|right|leftwards?|rightwards?|(anti|counter-?)?-?clockwise)\b", re.IGNORECASE)
_DEPTH = 8  # levels of inverse depth that two samples of one surface point may lie apart


def names_a_side(caption: str) -> bool:
    """Whether a caption would be wrong for the mirrored clip."""
    return _SIDED.search(caption) is not None


def mirror(video: np.ndarray, tracking: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both [T, H, W, 3] 8-bit mirrored left to right.

    The tracking video's red is where a point was across the first frame, so it becomes 255 - red where a track is.
    """
    flipped = tracking[:, :, ::-1].copy()
    covered = flipped.any(axis=-1)
    flipped[..., 0] = np.where(covered, 255 - flipped[..., 0], 0)
    return video[:, :, ::-1].copy(), flipped


def thin_tracks(tracking: np.ndarray, rng: np.random.Generator, least: int = 60, most: int = 1500) -> np.ndarray:
    """A dense tracking video [T, H, W, 3] 8-bit as a point tracker would give it, of the same shape.

    Random points of the first frame are drawn as small squares where their color is seen; `least` to `most` of them
    (log-uniform), half as wide as they lie apart. A point whose color is nowhere to be seen is hidden, and not drawn.
    """
    frames, height, width, _ = tracking.shape
    found = np.zeros_like(tracking)
    covered = np.flatnonzero(tracking[0].any(axis=-1))
    if not len(covered):
        return found
    count = min(len(covered), round(float(np.exp(rng.uniform(np.log(least), np.log(most))))))
    chosen = rng.choice(covered, count, replace=False)
    colors = tracking[0].reshape(-1, 3)[chosen]  # [N, 3]
    order = np.argsort(colors[:, 2], kind="stable")  # blue is inverse depth: the nearest is drawn last
    colors, first = colors[order], chosen[order]
    side = int(np.clip(round(0.5 * np.sqrt(len(covered) / count)), 1, 5))
    offsets = np.stack(np.meshgrid(*[np.arange(side) - side // 2] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    for t in range(frames):
        place = first if t == 0 else _find(tracking[t], colors)
        seen = np.flatnonzero(place >= 0)
        rows, columns = np.divmod(place[seen], width)
        rows = np.clip(rows[:, None] + offsets[:, 0], 0, height - 1)  # [N, side * side]
        columns = np.clip(columns[:, None] + offsets[:, 1], 0, width - 1)
        found[t, rows, columns] = colors[seen][:, None]
    return found


def _find(frame: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """[N] the pixel of [H, W, 3] that shows each color of [N, 3] best, -1 where none is near."""
    reach = int(np.clip(np.ceil(127.5 / min(frame.shape[:2])), 1, 3))  # half a pixel of the first frame, in levels
    flat, wanted = frame.reshape(-1, 3), colors.astype(np.int64)
    side = 256 + 2 * reach
    table = np.full((side, side), -1)  # pixel by red and green, a border around
    shown = np.flatnonzero(flat.any(axis=-1))
    table[flat[shown, 0].astype(np.int64) + reach, flat[shown, 1].astype(np.int64) + reach] = shown
    best, least = np.full(len(colors), -1), np.full(len(colors), np.inf)
    for red in range(-reach, reach + 1):
        for green in range(-reach, reach + 1):
            pixel = table[wanted[:, 0] + reach + red, wanted[:, 1] + reach + green]
            depth = np.abs(flat[pixel, 2].astype(np.int64) - wanted[:, 2])
            distance = abs(red) + abs(green) + 0.2 * depth
            better = (pixel >= 0) & (depth <= _DEPTH) & (distance < least)
            best, least = np.where(better, pixel, best), np.where(better, distance, least)
    return best
