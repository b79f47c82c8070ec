# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of the surfaces as the cells show them together, through one of the cameras or any other one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trackshade.control.scene import ShotRaster
from trackshade.propagation.fills.push_pull import push_pull
from trackshade.propagation.poses import resize_shot
from trackshade.results.cells.images import CellImages
from trackshade.results.cells.leveling import Levels
from trackshade.results.cells.points import PointSet, points_of_pixels
from trackshade.results.cells.series import finish_colors, gather_series
from trackshade.shot import Shot

WINDOW = 4  # frames before and after
_WHOLE = 0.99  # share of a pixel's samples


@dataclass(frozen=True, eq=False)
class Look:
    """A picture of the surfaces of a shot.

    Attributes:
        image: [H, W, 3] float32, 8-bit values; what no cell of the frame shows is taken from other frames, or filled;
            the background is 0.
        known: [H, W] bool, pixels all of whose samples some cell of the frame shows.
        surface: [H, W] bool, pixels that surfaces cover wholly.
        disagreement: [H, W] float32, standard deviation between the cells, levels; NaN where fewer than two show it.
    """

    image: np.ndarray
    known: np.ndarray
    surface: np.ndarray
    disagreement: np.ndarray


def look(
    cells: CellImages,
    shot: Shot,
    sample: int,
    *,
    levels: Levels | None = None,
    clay: CellImages | None = None,
    steady: float = 1.0,
    samples: int = 2,
    frames: Sequence[int] | None = None,
    threads: int = 1,
) -> Look:
    """Return what the cells show of the surfaces in one sample.

    Args:
        cells: the pictures.
        shot: the shot of the cells, unrolled, through the same or other cameras. Pixels that no cell clearly shows keep
            nothing of the cell's own picture.
        sample: the sample of `shot`.
        levels: see `gather_series`.
        clay: see `gather_series`.
        steady: see `finish_colors`.
        samples: points along each side of a pixel.
        frames: frames whose cells are used; the sample's and `WINDOW` before and after it if None.
        threads: number of threads.
    """
    frame, (width, height) = sample // shot.views, shot.size
    size = width * samples, height * samples
    points, pixels = points_of_pixels(ShotRaster(resize_shot(shot, size)), sample)
    if frames is None:
        frames = range(max(0, frame - WINDOW), min(cells.frames, frame + WINDOW + 1))
    series = gather_series(PointSet(cells.shot, points), cells, frames, levels=levels, clay=clay, threads=threads)
    here = list(frames).index(frame)
    found = finish_colors(series, steady)[here]
    grid = np.zeros((size[1] * size[0], 6), np.float32)
    has_color = np.isfinite(found[:, 0])
    grid[pixels, :3] = np.where(has_color[:, None], found, 0)
    grid[pixels, 3], grid[pixels, 4], grid[pixels, 5] = has_color, 1, series.count[here] > 0
    mean = grid.reshape(height, samples, width, samples, 6).mean(axis=(1, 3))
    weight = mean[..., 3:4]
    image = mean[..., :3] / np.maximum(weight, 1e-6)
    filled = push_pull(np.where(weight > 0, image, 0).astype(np.float32), weight[..., 0] > 0)
    filled[mean[..., 4] == 0] = 0
    spread = np.full(size[0] * size[1], np.nan, np.float32)
    spread[pixels] = series.variation[here]
    middle = spread.reshape(height, samples, width, samples)[:, samples // 2, :, samples // 2]
    return Look(filled, mean[..., 5] > _WHOLE, mean[..., 4] > _WHOLE, middle)
