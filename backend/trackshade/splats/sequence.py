# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats of all frames of a shot, from the pictures of its cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.spatial import cKDTree

from trackshade.results.cells.images import CellImages
from trackshade.results.cells.leveling import fit_levels
from trackshade.results.cells.points import PointSet
from trackshade.results.cells.series import finish_colors, gather_series
from trackshade.shot import Shot
from trackshade.splats.frame import SplatFrame
from trackshade.splats.motion import SplatMotion
from trackshade.splats.sampling import choose_points

COUNT = 200_000
_NEIGHBORS = 8
GRAY = 118.0  # level of splats of a shot of which nothing is shown


class SplatSequence:
    """The splats of a shot. Splat n is the same surface point in all frames.

    Args:
        points: the surface points.
        spacing: [N], see `SplatPoints`.
        colors: [F, N, 3] 8-bit values, NaN for points that no cell ever shows.
        disagreement: [N] how much the cells of a frame differ at each splat, see `ColorSeries`.
        views: number of cameras of the unrolled shot.

    Attributes:
        points: the surface points.
        seen: [N] bool, which points some cell shows in some frame.
        disagreement: see above.
    """

    def __init__(
        self, points: PointSet, spacing: np.ndarray, colors: np.ndarray, disagreement: np.ndarray, views: int
    ) -> None:
        self.points, self._spacing, self._views = points, spacing, views
        self.seen = np.isfinite(colors[0, :, 0])
        self.disagreement = disagreement
        self._colors = _fill_unseen(colors, self.seen, points, spacing, views)

    def __len__(self) -> int:
        return len(self._spacing)

    @property
    def shot(self) -> Shot:
        """The unrolled shot."""
        return self.points.shot

    @property
    def frame_count(self) -> int:
        """Number of frames."""
        return len(self._colors)

    def frames(self) -> Iterator[SplatFrame]:
        """Yield all frames in their order."""
        motion = SplatMotion(self.points, self._spacing, self._views)
        for t, colors in enumerate(self._colors):
            position, rotation, size, exists = motion.frame(t)
            number = float(self.shot.frame_numbers[t * self._views])
            yield SplatFrame(number, position, rotation, size, np.clip(colors / 255, 0, None), exists)


def build_splats(
    cells: CellImages,
    count: int = COUNT,
    *,
    clay: CellImages | None = None,
    steady: float = 1.0,
    level: bool = True,
    seed: int = 0,
    threads: int = 1,
    progress: Callable[[float, str], None] = lambda fraction, stage: None,
) -> SplatSequence:
    """Build the splats of a shot.

    Args:
        cells: the pictures.
        count: number of splats.
        clay: the light of all cells, with which colors are made steady over time.
        steady: see `finish_colors`.
        level: whether gain and offset of the cells are fitted first.
        seed: of the choice of points.
        threads: number of threads.
        progress: called with the fraction that is done and what is being done; may raise to cancel.

    Raises:
        UsageError: the number of splats is out of range.
        ShotError: the shot shows no surface, or a picture cannot be read.
    """
    progress(0.0, "splats")
    chosen = choose_points(cells, count, seed)
    points = PointSet(cells.shot, chosen.surface)
    progress(0.2, "exposure of the pictures")
    levels = fit_levels(cells, seed) if level else None
    series = gather_series(
        points, cells, range(cells.frames), levels=levels, clay=clay, threads=threads,
        progress=lambda part: progress(0.3 + 0.65 * part, "colors"),
    )  # fmt: skip
    colors = finish_colors(series, steady)
    progress(1.0, "splats")
    return SplatSequence(points, chosen.spacing, colors, series.disagreement, cells.cameras)


def _fill_unseen(colors: np.ndarray, seen: np.ndarray, points: PointSet, spacing: np.ndarray, views: int) -> np.ndarray:
    """Give points [F, N, 3] that no cell shows the mean of the nearest points of their mesh, else of any; in place."""
    if seen.all():
        return colors
    if not seen.any():
        return np.full_like(colors, GRAY)
    position, _, _, exists = SplatMotion(points, spacing, views).frame(0)
    for mesh in np.unique(points.mesh[~seen]).tolist():
        wanted = np.flatnonzero((points.mesh == mesh) & ~seen)
        known = np.flatnonzero((points.mesh == mesh) & seen)
        if len(known) < _NEIGHBORS:
            known = np.flatnonzero(seen & exists) if (seen & exists).any() else np.flatnonzero(seen)
        most = min(_NEIGHBORS, len(known))
        nearest = cKDTree(position[known]).query(position[wanted], most)[1].reshape(len(wanted), most)
        for t in range(len(colors)):
            colors[t, wanted] = colors[t, known[nearest]].mean(axis=1)
    return colors
