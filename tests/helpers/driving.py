# SPDX-License-Identifier: GPL-3.0-or-later
"""Driving footage with known truth: puppets of capsules before plain or textured backgrounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trackshade.core.images import write_png

SKIN, SHIRT, TROUSERS = (205, 150, 120), (170, 40, 50), (40, 60, 140)
_Y, _X = 0, 1


def puppet(
    image: np.ndarray,  # [H, W, 3] uint8, which is drawn on
    feet: tuple[float, float],
    height: float,
    swing: float = 0.0,
) -> np.ndarray:
    """Draw a figure that stands at a pixel (x, y), `height` pixels tall; `swing` moves its limbs. Return its mask."""
    unit = height / 8
    x, y = feet

    def at(right: float, up: float) -> tuple[float, float]:
        return x + right * unit, y - up * unit

    hand = 1.2 + 1.2 * np.sin(swing), 4.0 + 2.0 * (1 - np.cos(swing))
    parts = [
        (at(-0.5, 3.8), at(-0.6 - 0.5 * np.sin(swing), 0.25), 0.45, TROUSERS),
        (at(0.5, 3.8), at(0.6 + 0.5 * np.sin(swing), 0.25), 0.45, TROUSERS),
        (at(0, 3.9), at(0, 5.9), 0.95, SHIRT),
        (at(-0.9, 6.0), at(-1.3, 3.9), 0.32, SKIN),
        (at(0.9, 6.0), at(*hand), 0.32, SKIN),
        (at(0, 7.2), at(0, 7.25), 0.72, SKIN),
    ]
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    mask = np.zeros(image.shape[:2], bool)
    for (x0, y0), (x1, y1), radius, color in parts:
        along = ((columns - x0) * (x1 - x0) + (rows - y0) * (y1 - y0)) / max(1e-9, (x1 - x0) ** 2 + (y1 - y0) ** 2)
        along = along.clip(0, 1)
        near = np.hypot(columns - x0 - along * (x1 - x0), rows - y0 - along * (y1 - y0)) < radius * unit
        shade = np.where(columns < x0 + along * (x1 - x0), 1.0, 0.8)
        image[near] = (np.array(color) * shade[near][:, None]).astype(np.uint8)
        mask |= near
    return mask


def box_of(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def wave(
    count: int,
    size: tuple[int, int] = (160, 120),
    background: np.ndarray | None = None,  # [H, W, 3] uint8; plain if None
    travel: float = 0.0,
    height: float = 84.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return frames [T, H, W, 3] uint8 of a waving puppet that travels so many pixels, and its masks [T, H, W]."""
    width, rows = size
    plain = np.full((rows, width, 3), (120, 135, 150), np.uint8)
    frames, masks = [], []
    for t in range(count):
        frame = (plain if background is None else background[:rows, :width]).copy()
        share = t / max(1, count - 1)
        masks.append(puppet(frame, (width / 2 + travel * (share - 0.5), rows - 14), height, 2 * np.pi * share))
        frames.append(frame)
    return np.stack(frames), np.stack(masks)


def write_frames(folder: Path, frames: np.ndarray) -> Path:
    """Write frames as a folder of pictures, and return the folder."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, 1):
        write_png(folder / f"frame {number}.png", frame)
    return folder
