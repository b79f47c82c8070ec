# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracks of surface points as arrays and drawings: Wan-Move, ATI, LTX Motion-Track.

Pixel coordinates are continuous: pixel (row i, column j) has its center at (j + 0.5, i + 0.5), so that the cell of a
point is the integer part of its coordinates, as these systems compute it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from trackshade.control.tracks import Tracks

ATI_SCALE = 8  # that ATI divides all its values by
LTX_TRAIL = 50  # frames before the current one that a trail shows
LTX_RADII = (2.0, 8.0)  # pixels, of the oldest and the newest circle …
LTX_SHORT_SIDE = 1080  # … in a drawing with this short side, which is then scaled
_AGE_COLORS = ((0, 0, 1), (0, 1, 0), (1, 1, 0), (1, 0, 0))  # RGB, from the oldest to the newest


def write_wan_move(tracks: Tracks, folder: Path) -> None:
    """Write `tracks.npy` [1, F, N, 2] float32, x and y in pixels, and `visibility.npy` [1, F, N] bool.

    Source: Wan-Move (arXiv 2512.08765), `wan/wan_move.py` and `wan/modules/trajectory.py` of ali-vilab/Wan-Move.
    """
    np.save(folder / "tracks.npy", tracks.pixels[None].astype(np.float32), allow_pickle=False)
    np.save(folder / "visibility.npy", tracks.visible[None], allow_pickle=False)


def write_ati(tracks: Tracks, folder: Path) -> None:
    """Write `tracks.pth`: bytes of an .npz file, saved by torch, whose `array` is [N, 121, 1, 3] float32.

    Its values are x, y in pixels and whether the point is visible, all times 8.

    Source: ATI (arXiv 2505.22944), `wan/utils/motion.py` of bytedance/ATI.
    """
    import torch

    values = np.concatenate([tracks.pixels, tracks.visible[..., None]], axis=-1) * ATI_SCALE
    data = io.BytesIO()
    np.savez_compressed(data, array=values.transpose(1, 0, 2)[:, :, None].astype(np.float32))
    torch.save(data.getvalue(), folder / "tracks.pth")


def draw_ltx_tracks(tracks: Tracks, size: tuple[int, int], out_size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Draw the reference of LTX's Motion-Track control, frame by frame.

    Each point leaves circles that grow from 2 to 8 pixels and turn from blue over green and yellow to red, from the
    oldest of 50 frames to now. What is newer lies above what is older.

    Args:
        tracks: the tracks.
        size: (width, height) of the image that their pixels belong to.
        out_size: (width, height) of the drawing; it is drawn with a short side of 1080 pixels and scaled linearly.

    Yields:
        [H, W, 3] uint8, with the channels in the order blue, green, red, as the published node gives them.

    Source: `sparse_tracks.py` (LTXVDrawTracks) of Lightricks/ComfyUI-LTXVideo.
    """
    short = min(size)
    width, height = (side * LTX_SHORT_SIDE // short for side in size)
    scale = np.array([width, height]) / size
    centers = np.rint(tracks.pixels * scale - 0.5)
    inside = np.abs(centers).max(axis=-1) < 1e6
    ages = np.arange(LTX_TRAIL + 1)
    shares = 1.0 - ages / LTX_TRAIL
    radii = LTX_RADII[0] + (LTX_RADII[1] - LTX_RADII[0]) * shares
    stops = np.linspace(0, 1, len(_AGE_COLORS))
    colors = np.stack([np.interp(shares, stops, channel) for channel in zip(*_AGE_COLORS, strict=True)], axis=1)
    discs = [_disc(radius) for radius in radii]
    for t in range(len(centers)):
        image = np.zeros((height, width, 3), np.float32)
        for age in reversed(range(min(t, LTX_TRAIL) + 1)):
            drawn = tracks.visible[t - age] & inside[t - age]
            places = (centers[t - age, drawn].astype(np.int64)[:, None] + discs[age]).reshape(-1, 2)
            places = places[((places >= 0) & (places < (width, height))).all(axis=1)]
            image[places[:, 1], places[:, 0]] = colors[age]
        scaled = cv2.resize(image, out_size, interpolation=cv2.INTER_LINEAR)
        yield np.rint(scaled[..., ::-1] * 255).astype(np.uint8)


def _disc(radius: float) -> np.ndarray:
    """Return the (x, y) offsets [K, 2] of the pixels in a disc."""
    reach = np.arange(-int(radius), int(radius) + 1)
    x, y = np.meshgrid(reach, reach)
    return np.stack([x, y], axis=-1)[x * x + y * y <= radius * radius]
