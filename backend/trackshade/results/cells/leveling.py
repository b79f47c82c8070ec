# SPDX-License-Identifier: GPL-3.0-or-later
"""Differences of exposure and color between the cells of a frame: gain and offset of each, and how far it is trusted.

Surface points that several cells of a frame show have one color. Gain and offset of each cell and channel bring its
values to the mean of the cells, which is found again from the values that result; points that differ much count less.
The mean of all gains is 1, that of all offsets 0, so that the cells as a whole stay as they are. What is left of the
differences says how much a cell agrees with the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from trackshade.control.locate import LocatedPoints, points_at
from trackshade.control.scene import ShotRaster
from trackshade.results.cells.gather import Weighting, read_samples
from trackshade.results.cells.images import CellImages

POINTS = 6000  # of a frame
ROUNDS = 12
SOFT = 10.0  # levels, beyond which a difference counts less
STIFF = 50.0  # variance, levels squared, that the gain is drawn to 1 with
LEAST_SPREAD = 2.0  # levels of difference that every cell is thought to have


@dataclass(frozen=True, eq=False)
class Levels:
    """Gain and offset of the cells of a shot.

    Attributes:
        gain: [T, 3] float64, factors of the 8-bit values of each sample's picture.
        offset: [T, 3] float64, levels added after that.
        spread: [T] float64, root mean square of what is left of the differences to the other cells, levels; NaN for a
            cell that shares no surface with another one.
    """

    gain: np.ndarray
    offset: np.ndarray
    spread: np.ndarray

    def weighting(self, samples: np.ndarray, weighting: Weighting) -> Weighting:
        """Return a weighting with the gain, offset and trust of some samples."""
        spread = np.nan_to_num(self.spread[samples], nan=0.0)
        trust = 1 / (spread**2 + LEAST_SPREAD**2)
        return replace(
            weighting, gain=self.gain[samples], offset=self.offset[samples], trust=trust / max(trust.max(), 1e-12)
        )


def fit_levels(cells: CellImages, seed: int = 0) -> Levels:
    """Fit gain and offset of all cells, frame by frame.

    Args:
        cells: the pictures.
        seed: of the choice of points.
    """
    count = len(cells.shot.frame_numbers)
    levels = Levels(np.ones((count, 3)), np.zeros((count, 3)), np.full(count, np.nan))
    raster, rng = ShotRaster(cells.shot), np.random.default_rng(seed)
    for frame in range(cells.frames):
        samples = cells.samples(frame)
        if len(samples) > 1:
            values, seen = _read_points(cells, raster, frame, rng)
            gain, offset, spread = _fit(values, seen)
            levels.gain[samples], levels.offset[samples], levels.spread[samples] = gain, offset, spread
    return levels


def _read_points(
    cells: CellImages, raster: ShotRaster, frame: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the values [N, S, 3] of points in all cells of a frame, and which cells show them [N, S]."""
    views, images = cells.column(frame)
    found = []
    for n, t in enumerate(views.samples.tolist()):
        clear = np.flatnonzero(views.clear_mesh[n].ravel() >= 0)
        pixels = rng.permutation(clear)[: -(-POINTS // len(images))]
        raster.draw(t)
        points = points_at(raster, t, pixels)
        for mesh in np.unique(points.mesh).tolist():
            here = points.mesh == mesh
            located = LocatedPoints(points.corners[here], points.weights[here], np.ones(int(here.sum()), np.bool_))
            found.append(read_samples(views, images, mesh, located))
    none = np.zeros((0, len(images), 3), np.float32), np.zeros((0, len(images)), np.float32)
    values, weights = (np.concatenate(parts) for parts in zip(none, *found, strict=True))
    return values.astype(np.float64), weights > 0


def _fit(
    values: np.ndarray,  # [N, S, 3]
    seen: np.ndarray,  # [N, S]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return gain [S, 3], offset [S, 3] and spread [S] of the cells of a frame."""
    several = seen.sum(axis=1) > 1
    values, seen = values[several], seen[several]
    cells = values.shape[1]
    gain, offset = np.ones((cells, 3)), np.zeros((cells, 3))
    share = seen[..., None] / np.maximum(seen.sum(axis=1), 1)[:, None, None]
    usable = seen.sum(axis=0) > 30
    left = np.zeros_like(values)
    for _ in range(ROUNDS):
        mapped = values * gain + offset
        mean = (mapped * share).sum(axis=1)
        left = mapped - mean[:, None]
        weight = seen[..., None] / (1 + (left / SOFT) ** 2)
        for n in np.flatnonzero(usable):
            w, x = weight[:, n], values[:, n]
            total = w.sum(axis=0)
            mean_x, mean_y = (w * x).sum(axis=0) / total, (w * mean).sum(axis=0) / total
            both = (w * (x - mean_x) * (mean - mean_y)).sum(axis=0) / total
            alone = (w * (x - mean_x) ** 2).sum(axis=0) / total
            gain[n] = (both + STIFF) / (alone + STIFF)
            offset[n] = mean_y - gain[n] * mean_x
        if usable.any():
            usual, shift = gain[usable].mean(axis=0), offset[usable].mean(axis=0)
            gain[usable] /= usual
            offset[usable] = (offset[usable] - shift) / usual
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = (np.minimum(left**2, (3 * SOFT) ** 2).mean(axis=2) * seen).sum(axis=0) / seen.sum(axis=0)
    # The mean has part of each cell's own error.
    return gain, offset, np.sqrt(np.where(usable, squares, np.nan))
