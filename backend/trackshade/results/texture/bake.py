# SPDX-License-Identifier: GPL-3.0-or-later
"""One mesh's texture: its texels gathered from a video, the rest filled in, and what is known of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from trackshade.core.errors import ShotError
from trackshade.results.texture.fill import fill
from trackshade.results.texture.gather import Gathered, gather
from trackshade.results.texture.texels import Texels, outside, texels
from trackshade.results.texture.views import Views

LARGEST, SMALLEST = 8192, 64  # texels along a side
FINER = 1.5  # texels per pixel where the picture shows a surface largest, along a side


@dataclass(frozen=True, eq=False)
class Baked:
    """A mesh's texture of S × S, top row first.

    Attributes:
        color: [S, S, 3] uint8, as the video has them; filled in where nothing was seen.
        covered: [S, S] bool, the texels that some frame shows.
        island: [S, S] bool, the texels that the mesh's coordinates cover.
        variation: [S, S] float32, see `Gathered`; NaN where it is not known.
        shared: share of the island's texels that several places of the mesh share.
    """

    color: np.ndarray
    covered: np.ndarray
    island: np.ndarray
    variation: np.ndarray
    shared: float

    @property
    def coverage(self) -> float:
        """Share of the island's texels that some frame shows, 0..1."""
        count = int(self.island.sum())
        return float(self.covered.sum() / count) if count else 0.0


def bake(
    views: Views,
    video: np.ndarray,
    mesh: int,
    uv: np.ndarray | Mapping[int, np.ndarray],
    size: int,
    threads: int,
    progress: Callable[[float], None] = lambda share: None,
) -> Baked:
    """Bakes `video` [T, H, W, 3] uint8 onto a mesh of the shot, by coordinates `uv` [F, 3, 2] of its triangles.

    A mesh whose topology changes has coordinates by geometry (index into `Shot.geometries`). Each geometry is baked
    from the samples that show it, and their colors are averaged, by the number of samples that each comes from.

    Raises:
        ShotError: the coordinates leave the unit square.
    """
    shot = views.shot
    uvs = uv if isinstance(uv, Mapping) else {shot.meshes[mesh].geometry: uv}
    pictures = []
    for place, (geometry, own) in enumerate(uvs.items()):
        check_coordinates(shot.meshes[mesh].name, own)
        found = texels(own, size)
        done = 0

        def count(more: int, place: int = place, found: Texels = found) -> None:
            nonlocal done
            done += more
            progress((place + done / max(1, len(found.target))) / len(uvs))

        pictures.append((found, gather(views, video, mesh, found, threads, count, geometry)))
    found, gathered = pictures[0] if len(pictures) == 1 else _averaged(pictures)
    return _picture(found, gathered)


def _averaged(pictures: list[tuple[Texels, Gathered]]) -> tuple[Texels, Gathered]:
    """What several geometries show on the same texture, made one."""
    size = pictures[0][0].size
    target = np.unique(np.concatenate([found.target for found, _ in pictures]))
    total, squares = np.zeros((len(target), 3)), np.zeros((len(target), 3))
    seen, inner, several = (np.zeros(len(target)) for _ in range(3))
    for found, gathered in pictures:
        has = gathered.seen > 0
        at, weight = np.searchsorted(target, found.target[has]), gathered.seen[has].astype(np.float64)
        color = gathered.color[has].astype(np.float64)
        total[at] += weight[:, None] * color
        squares[at] += weight[:, None] * color**2
        seen[at] += weight
        # Within each geometry the variation is that of its own samples.
        known = np.isfinite(gathered.variation[has])
        inner[at[known]] += (weight[known] - 1) * gathered.variation[has][known] ** 2
        several[at] += 1
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / seen[:, None]
        between = np.maximum(squares - seen[:, None] * mean**2, 0).mean(axis=1)
        variation = np.where(seen > 1, np.sqrt((inner + between) / (seen - 1)), np.nan)
    shared = max(found.shared for found, _ in pictures)
    none, empty = np.zeros(0, np.int32), np.zeros((0, 2), np.float32)
    together = Texels(target, np.zeros(len(target) + 1, np.int64), none, empty, size, shared)
    return together, Gathered(mean.astype(np.float32), seen.astype(np.int32), variation.astype(np.float32))


def check_coordinates(name: str, uv: np.ndarray) -> None:
    """Raises ShotError where texture coordinates [F, 3, 2] do not lie in one square, or are no numbers."""
    if not np.isfinite(uv).all():
        raise ShotError(
            "no-coordinates", f"The texture coordinates of '{name}' are not all numbers.", "Unwrap it again."
        )
    if outside(uv):
        raise ShotError(
            "udim-tiles",
            f"The texture coordinates of '{name}' leave the unit square, as UDIM tiles and repeated textures do, and "
            "a texture is baked into one square.",
            "Bake it from Blender, which unwraps such meshes on a UV map of their own.",
        )


def fitting_size(views: Views, mesh: int, uv: np.ndarray, largest: int) -> int:
    """A power of two with which the texture is a little finer than the picture that shows the mesh largest."""
    pixels = max((int((owner == mesh).sum()) for owner in views.owner), default=0)
    corners = uv.astype(np.float64)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = float(np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).sum() / 2)  # of the unit square
    # What a picture shows of a closed surface is about half of it.
    wanted = FINER * math.sqrt(2 * max(pixels, 1) / max(area, 1e-3))
    return int(min(largest, max(SMALLEST, 2 ** math.ceil(math.log2(wanted)))))


def _picture(found: Texels, gathered: Gathered) -> Baked:
    side = found.size
    color = np.zeros((side * side, 3), np.float32)
    covered, island = np.zeros(side * side, bool), np.zeros(side * side, bool)
    variation = np.full(side * side, np.nan, np.float32)
    island[found.target] = True
    covered[found.target] = gathered.seen > 0
    color[found.target] = gathered.color
    variation[found.target] = gathered.variation
    square = (side, side)
    filled = fill(color.reshape(side, side, 3), covered.reshape(square))
    levels = np.rint(np.clip(filled, 0, 255)).astype(np.uint8)
    return Baked(levels, covered.reshape(square), island.reshape(square), variation.reshape(square), found.shared)
