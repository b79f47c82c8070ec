# SPDX-License-Identifier: GPL-3.0-or-later
"""Colors of surface points over the frames of a shot: gathered frame by frame, made steady, and filled.

The cells of a frame agree after gathering, but the frames may not agree with each other where their pictures were made
independently. A color divided by the light of its frame, from clay renders, should be the same in all frames. So the
color is drawn to the mean of these, lit as the frame, by as much as its differences from it can be explained by how
much the cells of each frame disagree: steady pictures, whose highlights and reflections change in earnest, stay.

A point that no cell of a frame shows takes its colors of other frames, lit as the frame where its light is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trackshade.core.colors import linear_to_srgb, srgb_to_linear
from trackshade.results.cells.gather import Weighting
from trackshade.results.cells.images import CellImages
from trackshade.results.cells.leveling import Levels
from trackshade.results.cells.points import MATRIX, PointSet

DARKEST = 4.0  # levels of light below which colors are not divided by it
_BLOCK = 1 << 14  # points at a time
_LIGHT = Weighting(power=1.0, soft=24.0)


@dataclass(frozen=True, eq=False)
class ColorSeries:
    """Colors of N points in T frames.

    Attributes:
        color: [T, N, 3] float32, 8-bit values; NaN where no cell shows the point.
        count: [T, N] int16, number of cells that show it.
        variation: [T, N] float16, standard deviation between the cells, levels; NaN for fewer than two.
        light: [T, N, 3] float32, sRGB-coded light in 8-bit values, NaN where it is not known; None without clay
            renders.
    """

    color: np.ndarray
    count: np.ndarray
    variation: np.ndarray
    light: np.ndarray | None = None

    @property
    def disagreement(self) -> np.ndarray:
        """[N] root mean square of `variation` over the frames, levels; NaN where it is never known."""
        known = np.isfinite(self.variation)
        total = np.where(known, self.variation, 0).astype(np.float32) ** 2
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(total.sum(axis=0) / known.sum(axis=0)).astype(np.float32)


def gather_series(
    points: PointSet,
    cells: CellImages,
    frames: Sequence[int],
    *,
    levels: Levels | None = None,
    clay: CellImages | None = None,
    weighting: Weighting = MATRIX,
    threads: int = 1,
    progress: Callable[[float], None] = lambda fraction: None,
) -> ColorSeries:
    """Gather the colors of points in some frames.

    Args:
        points: the points.
        cells: the pictures.
        frames: the frames.
        levels: see `PointSet.gather`.
        clay: the light of the cells, see `CellImages.from_light`.
        weighting: see `PointSet.gather`.
        threads: number of threads.
        progress: called with the fraction that is done; may raise to cancel.
    """
    shape = len(frames), len(points)
    color = np.empty((*shape, 3), np.float32)
    count, variation = np.empty(shape, np.int16), np.empty(shape, np.float16)
    light = None if clay is None else np.empty((*shape, 3), np.float32)
    for n, frame in enumerate(frames):
        found = points.gather(cells, frame, levels, weighting, threads)
        color[n], count[n], variation[n] = found.color, found.count, found.variation
        if clay is not None and light is not None:
            light[n] = points.gather(clay, frame, None, _LIGHT, threads).color
        progress((n + 1) / len(frames))
    return ColorSeries(color, count, variation, light)


def finish_colors(series: ColorSeries, steady: float = 1.0) -> np.ndarray:
    """Return colors [T, N, 3] float32 in 8-bit values, steady and filled over time; NaN for points never seen.

    Args:
        series: gathered colors.
        steady: how much of the noise between the cells is taken to differ between frames; 0 leaves colors as they were
            gathered. Without light nothing is made steady, since that would freeze the light.
    """
    noise = frame_noise(series)
    out = np.empty_like(series.color)
    for first in range(0, series.color.shape[1], _BLOCK):
        part = np.s_[:, first : first + _BLOCK]
        light = None if series.light is None else series.light[part]
        out[part] = _finish(series.color[part], light, steady * noise)
    return out


def frame_noise(series: ColorSeries) -> np.ndarray:
    """Return the variance [T] of gathered colors that the differences between the cells let expect, levels squared."""
    noise = np.zeros(len(series.color))
    for t in range(len(noise)):
        several = series.count[t] > 1
        if several.any():
            # The median is not moved by highlights, which differ between cameras in earnest.
            variance = series.variation[t][several].astype(np.float64) ** 2
            noise[t] = float(np.median(variance / series.count[t][several]))
    return noise


def _finish(
    color: np.ndarray,  # [T, N, 3]
    light: np.ndarray | None,  # [T, N, 3]
    noise: np.ndarray,  # [T]
) -> np.ndarray:
    known = np.isfinite(color[..., 0])
    out = color.copy()
    if light is not None:
        is_lit = np.isfinite(light[..., 0])
        both = known & is_lit
        lit = srgb_to_linear(np.maximum(light, DARKEST) / 255)
        with np.errstate(invalid="ignore", divide="ignore"):
            albedo = np.where(both[..., None], srgb_to_linear(np.clip(color, 0, None) / 255) / lit, 0)
            weight = np.where(both, 1.0, 0.0)[..., None]
            mean = (weight * albedo).sum(axis=0) / weight.sum(axis=0)
            relit = 255 * linear_to_srgb(mean * lit)
            change = np.where(both[..., None], color - relit, 0)
            frames = both.sum(axis=0)
            variance = (change**2).mean(axis=2).sum(axis=0) / np.maximum(frames - 1, 1)
            expected = (noise[:, None] * both).sum(axis=0) / np.maximum(frames, 1)
            keep = np.maximum(variance - expected, 0) / np.maximum(variance, 1e-9)
            keep = np.where(frames > 1, keep, 1.0)
        out = np.where(both[..., None], relit + keep[None, :, None] * change, out)
        fill = ~known & is_lit & (frames > 0)
        out = np.where(fill[..., None], relit, out)
        known = known | fill
    return _hold(out, known)


def _hold(color: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill unknown colors [T, N, 3] from the frames before and after, by their distance in time."""
    times = np.arange(len(color))[:, None]
    before = np.maximum.accumulate(np.where(known, times, -1), axis=0)
    after = np.minimum.accumulate(np.where(known, times, len(color))[::-1], axis=0)[::-1]
    has_before, has_after = before >= 0, after < len(color)
    columns = np.arange(color.shape[1])[None]
    first = color[np.where(has_before, before, np.minimum(after, len(color) - 1)), columns]
    last = color[np.where(has_after, after, np.maximum(before, 0)), columns]
    span = np.maximum(after - before, 1)
    share = np.where(has_before & has_after, (times - before) / span, 0.0)[..., None]
    filled = first + share * (last - first)
    return np.where(known[..., None], color, filled).astype(np.float32)
