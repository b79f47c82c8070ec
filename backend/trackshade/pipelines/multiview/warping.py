# SPDX-License-Identifier: GPL-3.0-or-later
"""Reference pictures warped into cells along the exact tracks: a first estimate of every cell, nothing learned.

Every surface point of a cell takes the mean of its colors in all references that show it. References of the cell's own
frame count most, because the light there is the same, then those that are near in time. A point that no reference shows
takes the mean color of its mesh.

With clay renders, references are divided by the light of their own cell and multiplied by that of the cell they are
warped into, as in `trackshade.propagation`, so that light and shadow move as the scene's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trackshade.control.scene import ShotRaster
from trackshade.core.colors import linear_to_srgb
from trackshade.propagation.fallbacks import plain_colors
from trackshade.propagation.light import Relighting, light_of_points
from trackshade.propagation.pictures import SurfacePicture, surface_picture
from trackshade.propagation.poses import Pose, PoseTable, resize_shot
from trackshade.propagation.propagation import to_linear
from trackshade.propagation.surface import find_points, pull
from trackshade.shot import Shot
from trackshade.shot.track_colors import mesh_rule

SAME_FRAME = 30.0  # weight of a reference of the cell's own frame; of others it is 1 / their distance in frames
MOST_REFERENCES = 8  # that a cell reads
_SAMPLES = 2  # along each side of a pixel
_FULL_SHARE = 0.33  # of what `pictures.read` returns, from which a point counts as shown


@dataclass(frozen=True, eq=False)
class WarpedCells:
    """N cells as the references show them.

    Attributes:
        colors: [N, H, W, 3] float32 sRGB-coded, 0..1.
        visibility: [N, H, W] float32, how far a reference shows the pixel, 0 to 1.
        tracking: [N, H, W, 3] uint8 track colors, those of the shot's first sample; black where nothing is tracked.
        has_references: whether there was a reference.
    """

    colors: np.ndarray
    visibility: np.ndarray
    tracking: np.ndarray
    has_references: bool


class ReferenceWarp:
    """Warps pictures of some samples of a shot into others.

    Args:
        shot: an unrolled shot (`trackshade.shot.cameras.unroll_cameras`) at the size of the cells.
        relighting: the light of the shot's cells; colors keep the light of their reference if None.
    """

    def __init__(self, shot: Shot, relighting: Relighting | None = None) -> None:
        self.shot, self._relighting = shot, relighting
        width, height = shot.size
        self._table, self._raster, self._rule = PoseTable(shot), ShotRaster(shot), mesh_rule(shot)
        self._pictures: dict[tuple[int, int], tuple[np.ndarray, SurfacePicture]] = {}
        self._fine = ShotRaster(resize_shot(shot, (width * _SAMPLES, height * _SAMPLES)))

    @property
    def is_relit(self) -> bool:
        """Whether references are relit."""
        return self._relighting is not None

    def warp(self, references: Mapping[int, np.ndarray], samples: Sequence[int]) -> WarpedCells:
        """Warp references into cells.

        Args:
            references: pictures by sample, [H, W, 3] uint8 or float32 sRGB-coded; none leaves nothing visible.
            samples: the cells.
        """
        width, height = self.shot.size
        pictures = {t: self._picture(t, image) for t, image in references.items()}
        poses = {t: self._table.pose(t, self.shot.size) for t in pictures}
        plain = plain_colors(self.shot, list(pictures.values()))
        colors = np.zeros((len(samples), height, width, 3), np.float32)
        visibility = np.zeros((len(samples), height, width), np.float32)
        tracking = np.zeros((len(samples), height, width, 3), np.uint8)
        for n, t in enumerate(samples):
            self._raster.draw(t, self._rule, tracking[n])
            if pictures:
                linear, visibility[n] = self._warp_cell(t, pictures, poses, plain)
                colors[n] = linear_to_srgb(np.clip(linear, 0.0, 1.0))
        return WarpedCells(colors, visibility, tracking, bool(references))

    def _picture(self, t: int, image: np.ndarray) -> SurfacePicture:
        """Return a reference as what it shows; each picture is prepared once, and kept."""
        key = t, id(image)
        if key not in self._pictures:
            picture = surface_picture(self.shot, t, to_linear(image))
            if self._relighting is not None:
                picture, _ = self._relighting.unlit(t, picture, doubt_rims=False)
            self._pictures[key] = image, picture
        return self._pictures[key][1]

    def _warp_cell(
        self, t: int, pictures: Mapping[int, SurfacePicture], poses: Mapping[int, Pose], plain: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a cell in linear light [H, W, 3], and how far references show it [H, W]."""
        table, shot = self._table, self.shot
        buffers, frame, starts = self._fine.draw(t), table.pose(t, shot.size), table.face_starts(t)
        points = find_points(
            buffers.label, buffers.triangle, buffers.depth, 0, _SAMPLES, frame, table.still, table.triangles, starts
        )
        pulled = np.zeros((*buffers.label.shape, 5), np.float32)
        for sample in self._nearest(t, pictures):
            pose = poses[sample]
            if table.has_changes:
                pose = table.pose(sample, pictures[sample].size, faces_of=t)
            away = abs(sample // shot.views - t // shot.views)
            weight = SAME_FRAME if away == 0 else 1.0 / away
            pull(points, _SAMPLES, frame, pictures[sample], pose, table.still, table.triangles, starts, weight, pulled)
        # Of a pixel that shows one surface, only the first sample is filled in.
        blocks = _blocks(pulled)
        blocks = np.where(points.uniform[..., None, None], blocks[:, :, :1], blocks)
        share = np.minimum(1.0, blocks[..., 4] / _FULL_SHARE)
        rest = plain[_blocks(buffers.label[..., None])[..., 0]]
        seen = blocks[..., :3] / np.maximum(blocks[..., 3:4], 1e-12)
        colors = rest + share[..., None] * (seen - rest)
        if self._relighting is not None:
            light = light_of_points(points.label, points.level, self._relighting.clay(t))
            colors = colors * _blocks(light)
        return colors.mean(axis=2), share.mean(axis=2)

    def _nearest(self, t: int, pictures: Mapping[int, SurfacePicture]) -> list[int]:
        """Return the references that a cell reads: of its frame, then of cameras and then of frames nearby."""
        (frame, view), views = divmod(t, self.shot.views), self.shot.views
        order = sorted(pictures, key=lambda s: (s // views != frame, abs(s % views - view), abs(s // views - frame), s))
        return order[:MOST_REFERENCES]


def _blocks(
    image: np.ndarray,  # [H * S, W * S, C]
) -> np.ndarray:
    """Return the samples of each pixel, [H, W, S * S, C]."""
    height, width, channels = image.shape
    rows, columns = height // _SAMPLES, width // _SAMPLES
    split = image.reshape(rows, _SAMPLES, columns, _SAMPLES, channels)
    return split.transpose(0, 2, 1, 3, 4).reshape(rows, columns, _SAMPLES**2, channels)
