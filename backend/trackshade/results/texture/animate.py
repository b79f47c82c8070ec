# SPDX-License-Identifier: GPL-3.0-or-later
"""Bakes a texture of a mesh for each frame of a shot, from the cells of all cameras."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trackshade.control.texels import TargetPoints, find_texels
from trackshade.core.errors import ShotError
from trackshade.propagation.layout import unwrap
from trackshade.results.cells.gather import GatheredColors, gather_colors
from trackshade.results.cells.images import CellImages
from trackshade.results.cells.leveling import Levels
from trackshade.results.cells.points import MATRIX
from trackshade.results.cells.series import ColorSeries, finish_colors
from trackshade.results.texture.bake import check_coordinates, choose_size, to_texels
from trackshade.results.texture.fill import fill

LARGEST = 2048  # texels along a side, unless a size is given


@dataclass(frozen=True, eq=False)
class AnimatedTexture:
    """A mesh's texture of S × S texels in F frames, top row first.

    Attributes:
        mesh: index into `Shot.meshes`.
        uv: [N, 3, 2] float32 texture coordinates by geometry (index into `Shot.geometries`).
        frames: the frames, [F].
        color: [F, S, S, 3] uint8, as in the pictures; filled where no cell ever shows the texel.
        covered: [F, S, S] bool, texels that some cell of the frame shows.
        known: [S, S] bool, texels that some cell of some frame shows.
        disagreement: [S, S] float32, standard deviation between the cells of a frame, levels; NaN where it is not
            known.
    """

    mesh: int
    uv: Mapping[int, np.ndarray]
    frames: Sequence[int]
    color: np.ndarray
    covered: np.ndarray
    known: np.ndarray
    disagreement: np.ndarray

    def still(self) -> np.ndarray:
        """Return one texture for all frames, [S, S, 3] uint8: the mean of all."""
        return np.rint(self.color.mean(axis=0, dtype=np.float64)).astype(np.uint8)


def animate_texture(
    cells: CellImages,
    mesh: int,
    *,
    frames: Sequence[int] | None = None,
    size: int | None = None,
    levels: Levels | None = None,
    clay: CellImages | None = None,
    steady: float = 1.0,
    threads: int = 1,
    progress: Callable[[float], None] = lambda fraction: None,
) -> AnimatedTexture:
    """Bake a mesh's texture of each frame.

    Where the mesh has no texture coordinates, or ones that overlap, it is unwrapped.

    Args:
        cells: the pictures.
        mesh: index into `Shot.meshes`.
        frames: the frames; all if None.
        size: texels along a side; None for a little more than the pictures resolve, at most 2048.
        levels: gain and offset of the cells, if they were fitted.
        clay: the light of the cells; see `finish_colors`.
        steady: see `finish_colors`.
        threads: number of threads.
        progress: called with the fraction that is done; may raise to cancel.

    Raises:
        ShotError: the mesh has too many triangles to be unwrapped.
    """
    frames = range(cells.frames) if frames is None else frames
    uv = texture_coordinates(cells, mesh)
    largest = max(uv.values(), key=len)
    if size is None:
        size = max((choose_size(cells.column(t).views, mesh, largest, LARGEST) for t in frames), default=64)
    texels = {index: find_texels(to_texels(item, size), (size, size)) for index, item in uv.items()}
    target = np.unique(np.concatenate([item.target for item in texels.values()]))
    shape = len(frames), len(target)
    color, light = np.full((*shape, 3), np.nan, np.float32), None
    count, variation = np.zeros(shape, np.int16), np.full(shape, np.nan, np.float16)
    if clay is not None:
        light = np.full((*shape, 3), np.nan, np.float32)
    for n, frame in enumerate(frames):
        index = _shown(cells, mesh, frame, uv)
        if index is not None:
            at = np.searchsorted(target, texels[index].target)
            found = _gather(cells, mesh, frame, index, texels[index], levels, threads)
            color[n, at], count[n, at], variation[n, at] = found.color, found.count, found.variation
            if clay is not None and light is not None:
                light[n, at] = _gather(clay, mesh, frame, index, texels[index], None, threads).color
        progress((n + 1) / len(frames))
    series = ColorSeries(color, count, variation, light)
    finished = finish_colors(series, steady)
    square = (size, size)
    known = np.zeros(size * size, np.bool_)
    known[target] = np.isfinite(finished[0, :, 0])
    images = np.zeros((len(frames), size, size, 3), np.uint8)
    covered = np.zeros((len(frames), size * size), np.bool_)
    for n in range(len(frames)):
        texture = np.zeros((size * size, 3), np.float32)
        texture[target] = np.nan_to_num(finished[n])
        filled = fill(texture.reshape(*square, 3), known.reshape(square))
        images[n] = np.rint(np.clip(filled, 0, 255)).astype(np.uint8)
        covered[n, target] = count[n] > 0
    disagreement = np.full(size * size, np.nan, np.float32)
    disagreement[target] = series.disagreement
    return AnimatedTexture(
        mesh, uv, tuple(frames), images, covered.reshape(-1, *square), known.reshape(square),
        disagreement.reshape(square),
    )  # fmt: skip


def texture_coordinates(cells: CellImages, mesh: int) -> dict[int, np.ndarray]:
    """Return texture coordinates [N, 3, 2] float32 of each geometry of a mesh, which do not overlap.

    Raises:
        ShotError: a geometry has too many triangles to be unwrapped.
    """
    shot = cells.shot
    track, found = shot.meshes[mesh], {}
    for index in track.geometries:
        geometry = shot.geometries[index]
        same = next((k for k in found if shot.geometries[k].same_points(geometry)), None)
        uv = found[same] if same is not None else unwrap(geometry, np.arange(len(geometry.triangles)))
        if uv is None:
            raise ShotError(
                "no-coordinates",
                f"'{track.name}' has no texture coordinates, and too many faces to be unwrapped here.",
                "Unwrap it in Blender.",
            )
        check_coordinates(track.name, uv)
        found[index] = uv.astype(np.float32)
    return found


def _shown(cells: CellImages, mesh: int, frame: int, uv: Mapping[int, np.ndarray]) -> int | None:
    """Return the geometry that a mesh has in a frame; None if it is hidden."""
    t, track = frame * cells.cameras, cells.shot.meshes[mesh]
    index = track.geometry_at(t)
    return index if track.visible[t] and index in uv else None


def _gather(
    cells: CellImages, mesh: int, frame: int, geometry: int, texels: TargetPoints, levels: Levels | None, threads: int
) -> GatheredColors:
    views, images = cells.column(frame)
    count = len(texels.target)
    if not len(images):
        return GatheredColors(
            np.full((count, 3), np.nan, np.float32), np.zeros(count, np.int32), np.full(count, np.nan, np.float32)
        )
    weighting = MATRIX if levels is None else levels.weighting(views.samples, MATRIX)
    return gather_colors(views, images, mesh, texels, threads, geometry=geometry, weighting=weighting)
