# SPDX-License-Identifier: GPL-3.0-or-later
"""Points on the surfaces of a shot, followed over all frames, and their colors in the cells of each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trackshade.control.locate import Follower, LocatedPoints, SurfacePoints, points_at, shows_surface
from trackshade.control.scene import ShotRaster
from trackshade.results.cells.gather import GatheredColors, Weighting, gather_located
from trackshade.results.cells.images import CellImages
from trackshade.results.cells.leveling import Levels
from trackshade.shot import Shot

MATRIX = Weighting(power=0.5, soft=24.0)
"""How the cells of one frame are weighted: there are few, and their differences are mostly noise."""


class PointSet:
    """N points on the surfaces of a shot.

    Args:
        shot: the unrolled shot, of any size.
        points: the points.

    Attributes:
        shot: the shot.
        mesh: [N] int64, index into `Shot.meshes`.
    """

    def __init__(self, shot: Shot, points: SurfacePoints) -> None:
        self.shot, self.mesh = shot, np.asarray(points.mesh, np.int64)
        self._groups: list[tuple[int, np.ndarray, Follower]] = []
        order = np.argsort(self.mesh, kind="stable")
        meshes, first = np.unique(self.mesh[order], return_index=True)
        for mesh, numbers in zip(meshes.tolist(), np.split(order, first[1:]), strict=False):
            geometry = np.asarray(points.geometry)[numbers]
            follower = Follower(shot, mesh, geometry, points.corners[numbers], points.weights[numbers])
            self._groups.append((mesh, numbers, follower))

    def __len__(self) -> int:
        return len(self.mesh)

    def groups(self, t: int) -> Iterator[tuple[int, np.ndarray, LocatedPoints]]:
        """Yield each mesh, the numbers of its points, and the points on its geometry of sample `t`."""
        for mesh, numbers, follower in self._groups:
            yield mesh, numbers, follower.at(t)

    def gather(
        self,
        cells: CellImages,
        frame: int,
        levels: Levels | None = None,
        weighting: Weighting = MATRIX,
        threads: int = 1,
    ) -> GatheredColors:
        """Return the colors of all points in the cells of a frame.

        Args:
            cells: the pictures of the shot.
            frame: the frame.
            levels: gain, offset and trust of the pictures, if they were fitted.
            weighting: how samples are weighted; its gain, offset and trust are not used.
            threads: number of threads.
        """
        views, images = cells.column(frame)
        count = len(self)
        out = GatheredColors(
            np.full((count, 3), np.nan, np.float32), np.zeros(count, np.int32), np.full(count, np.nan, np.float32)
        )
        if not len(images):
            return out
        if levels is not None:
            weighting = levels.weighting(views.samples, weighting)
        for mesh, numbers, located in self.groups(int(views.samples[0])):
            found = gather_located(views, images, mesh, located, threads, weighting)
            for array, values in zip(
                (out.color, out.count, out.variation), (found.color, found.count, found.variation), strict=True
            ):
                array[numbers] = values
        return out


def points_of_pixels(raster: ShotRaster, t: int, pixels: np.ndarray | None = None) -> tuple[SurfacePoints, np.ndarray]:
    """Return the surface points of pixels of a sample, and their flat indices; pixels without a surface are left out.

    Args:
        raster: draws the unrolled shot at the size of the pixels.
        t: the sample.
        pixels: flat indices; all pixels if None.
    """
    raster.draw(t)
    shown = shows_surface(raster).ravel()
    pixels = np.flatnonzero(shown) if pixels is None else pixels[shown[pixels]]
    return points_at(raster, t, pixels), pixels
