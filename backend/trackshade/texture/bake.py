# SPDX-License-Identifier: GPL-3.0-or-later
"""One mesh's texture: its texels gathered from a video, the rest filled in, and what is known of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trackshade.errors import ShotError
from trackshade.texture.fill import fill
from trackshade.texture.gather import Gathered, gather
from trackshade.texture.texels import Texels, outside, texels
from trackshade.texture.views import Views

LARGEST, SMALLEST = 8192, 64  # texels along a side
FINER = 1.5  # texels per pixel where the picture shows a surface largest, along a side


@dataclass(frozen=True, eq=False)
class Baked:
    """A mesh's texture of S × S, top row first.

    Attributes:
        colour: [S, S, 3] uint8, as the video has them; filled in where nothing was seen.
        covered: [S, S] bool, the texels that some frame shows.
        island: [S, S] bool, the texels that the mesh's coordinates cover.
        variation: [S, S] float32, see `Gathered`; NaN where it is not known.
        shared: share of the island's texels that several places of the mesh share.
    """

    colour: np.ndarray
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
    uv: np.ndarray,
    size: int,
    threads: int,
    progress: Callable[[float], None] = lambda share: None,
) -> Baked:
    """Bakes `video` [T, H, W, 3] uint8 onto a mesh of the shot, by coordinates `uv` [F, 3, 2] of its triangles.

    Raises:
        ShotError: the coordinates leave the unit square.
    """
    check_coordinates(views.shot.meshes[mesh].name, uv)
    found = texels(uv, size)
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress(done / max(1, len(found.target)))

    gathered = gather(views, video, mesh, found, threads, count)
    return _picture(found, gathered)


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
    colour = np.zeros((side * side, 3), np.float32)
    covered, island = np.zeros(side * side, bool), np.zeros(side * side, bool)
    variation = np.full(side * side, np.nan, np.float32)
    island[found.target] = True
    covered[found.target] = gathered.seen > 0
    colour[found.target] = gathered.colour
    variation[found.target] = gathered.variation
    square = (side, side)
    filled = fill(colour.reshape(side, side, 3), covered.reshape(square))
    levels = np.rint(np.clip(filled, 0, 255)).astype(np.uint8)
    return Baked(levels, covered.reshape(square), island.reshape(square), variation.reshape(square), found.shared)
