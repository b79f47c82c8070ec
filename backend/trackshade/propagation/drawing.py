# SPDX-License-Identifier: GPL-3.0-or-later
"""What a frame is drawn from, and drawing it: on the processor by bands of rows, or on a graphics card.

Both ways read the same pictures at the same places; `gpu.drawing` says by how little they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from trackshade.control.raster import Buffers
from trackshade.propagation.composing import Fills, compose
from trackshade.propagation.pictures import SurfacePicture
from trackshade.propagation.poses import Pose, PoseTable
from trackshade.propagation.surface import Points, find_points, pull

_BAND = 24  # rows of a frame that a thread takes at a time


class Source(NamedTuple):
    """A picture that a frame is drawn from.

    Attributes:
        picture: the picture.
        pose: its sample, with the triangles of the frame.
        weight: factor of its weight.
    """

    picture: SurfacePicture
    pose: Pose
    weight: float


@dataclass(frozen=True, eq=False)
class FrameSources:
    """What a frame is drawn from.

    Attributes:
        buffers: what is visible at S × S samples for each pixel.
        frame: the frame's pose.
        starts: where each mesh's triangles begin, [M].
        keys: pictures that show colors.
        soft: pictures without detail, for what those do not show, or doubtfully.
        factors: pictures of factors of the colors.
        fills: colors of what no picture shows.
        light: the frame's clay render; None if colors have their light already.
    """

    buffers: Buffers
    frame: Pose
    starts: np.ndarray
    keys: Sequence[Source]
    soft: Sequence[Source]
    factors: Sequence[Source]
    fills: Fills
    light: SurfacePicture | None


class DrawnFrame(NamedTuple):
    """Pixels of a frame; see `propagation.PropagatedFrame`."""

    image: np.ndarray
    alpha: np.ndarray
    shown: np.ndarray


class Drawer(Protocol):
    """Draws frames. Thread-safe."""

    def draw(self, sources: FrameSources) -> DrawnFrame:
        """Draw a frame."""
        ...


class BandDrawer:
    """Draws frames on the processor, by bands of rows.

    Args:
        table: the shot's poses.
        samples: visibility samples along each side of a pixel.
        each: yields the results of a function for all items of a range, in any number of threads.
    """

    def __init__(
        self,
        table: PoseTable,
        samples: int,
        each: Callable[[Callable[[int], Any], range], Iterator[Any]],
    ) -> None:
        self._table, self._samples, self._each = table, samples, each
        self._holdout = np.array([mesh.holdout for mesh in table.shot.meshes], np.bool_)

    def draw(self, sources: FrameSources) -> DrawnFrame:
        """Draw a frame."""
        height, width = (length // self._samples for length in sources.buffers.label.shape)
        image, alpha = np.empty((height, width, 3), np.float32), np.empty((height, width), np.float32)
        shown = np.empty((height, width), np.float32)

        def work(row: int) -> None:
            rows = slice(row, min(row + _BAND, height))
            points = self._points(sources, rows)
            pulled = self._pull(points, sources, sources.keys)
            soft = self._pull(points, sources, sources.soft) if sources.soft else None
            factor = self._pull(points, sources, sources.factors) if sources.factors else None
            compose(
                points, self._samples, sources.frame, pulled, soft, sources.fills, self._table.triangles,
                sources.starts, factor, sources.light, self._holdout, image[rows], alpha[rows], shown[rows],
            )  # fmt: skip

        for _ in self._each(work, range(0, height, _BAND)):
            pass
        return DrawnFrame(image, alpha, shown)

    def _points(self, sources: FrameSources, rows: slice) -> Points:
        part, buffers = slice(rows.start * self._samples, rows.stop * self._samples), sources.buffers
        return find_points(
            buffers.label[part], buffers.triangle[part], buffers.depth[part], rows.start, self._samples, sources.frame,
            self._table.still, self._table.triangles, sources.starts,
        )  # fmt: skip

    def _pull(self, points: Points, sources: FrameSources, pictures: Sequence[Source]) -> np.ndarray:
        pulled = np.zeros((*points.label.shape, 5), np.float32)
        for picture, pose, weight in pictures:
            pull(
                points, self._samples, sources.frame, picture, pose, self._table.still, self._table.triangles,
                sources.starts, weight, pulled,
            )  # fmt: skip
        return pulled
