# SPDX-License-Identifier: GPL-3.0-or-later
"""Bakes the texture of one mesh: gathers its texels from a video and fills the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from trackshade.control.texels import Texels, find_texels
from trackshade.core.errors import ShotError
from trackshade.results.cells.gather import GatheredColors, gather_colors
from trackshade.results.cells.views import Views
from trackshade.results.texture.fill import fill

LARGEST, SMALLEST = 8192, 64  # texels along a side
TEXELS_PER_PIXEL = 1.5  # along a side, in the frame that shows the surface largest


@dataclass(frozen=True, eq=False)
class BakedTexture:
    """A mesh's texture of S × S texels, top row first."""

    color: np.ndarray  # [S, S, 3] uint8, as in the video; filled where no frame shows the texel
    covered: np.ndarray  # [S, S] bool, the texels that some frame shows
    island: np.ndarray  # [S, S] bool, the texels that the mesh's texture coordinates cover
    variation: np.ndarray  # [S, S] float32, see `GatheredColors`; NaN where it is not known
    shared: float  # fraction of the island's texels that several points of the mesh share

    @property
    def coverage(self) -> float:
        """Fraction of the island's texels that some frame shows."""
        count = int(self.island.sum())
        return float(self.covered.sum() / count) if count else 0.0


def bake_texture(
    views: Views,
    video: np.ndarray,  # [T, H, W, 3] uint8
    mesh: int,
    uv: np.ndarray | Mapping[int, np.ndarray],  # [F, 3, 2], or by geometry
    size: int,
    threads: int,
    progress: Callable[[float], None] = lambda fraction: None,
) -> BakedTexture:
    """Bake a video onto a mesh.

    Args:
        views: what the camera sees.
        video: the video, a frame for each sample of the shot.
        mesh: index into `Shot.meshes`.
        uv: texture coordinates of the triangles' corners. A mesh whose topology changes has them by geometry (index
            into `Shot.geometries`): each geometry is baked from the samples that show it, and their colors are
            averaged by the number of samples.
        size: texels along a side.
        threads: number of threads.
        progress: called with the fraction that is done.

    Raises:
        ShotError: the coordinates leave the unit square.
    """
    shot = views.shot
    uvs = uv if isinstance(uv, Mapping) else {shot.meshes[mesh].geometry: uv}
    parts = []
    for index, (geometry, coordinates) in enumerate(uvs.items()):
        check_coordinates(shot.meshes[mesh].name, coordinates)
        texels = find_texels(to_texels(coordinates, size), (size, size))
        done = 0

        def count(more: int, index: int = index, texels: Texels = texels) -> None:
            nonlocal done
            done += more
            progress((index + done / max(1, len(texels.target))) / len(uvs))

        parts.append((texels, gather_colors(views, video, mesh, texels, threads, count, geometry)))
    texels, colors = parts[0] if len(parts) == 1 else _average(parts)
    square = size, size
    color, variation = np.zeros((size * size, 3), np.float32), np.full(size * size, np.nan, np.float32)
    covered, island = np.zeros(size * size, bool), np.zeros(size * size, bool)
    island[texels.target] = True
    covered[texels.target] = colors.count > 0
    color[texels.target] = colors.color
    variation[texels.target] = colors.variation
    filled = fill(color.reshape(size, size, 3), covered.reshape(square))
    levels = np.rint(np.clip(filled, 0, 255)).astype(np.uint8)
    return BakedTexture(
        levels, covered.reshape(square), island.reshape(square), variation.reshape(square), texels.shared
    )


def to_texels(
    uv: np.ndarray,  # [F, 3, 2] texture coordinates
    size: int,
) -> np.ndarray:
    """Return where texture coordinates lie in a texture of `size` × `size` texels, [F, 3, 2] float64, top row first."""
    return np.stack([uv[..., 0], 1.0 - uv[..., 1].astype(np.float64)], axis=-1) * size


def _average(parts: list[tuple[Texels, GatheredColors]]) -> tuple[Texels, GatheredColors]:
    """Combine what several geometries show on the same texture."""
    target = np.unique(np.concatenate([texels.target for texels, _ in parts]))
    total, squares = np.zeros((len(target), 3)), np.zeros((len(target), 3))
    count, within = np.zeros(len(target)), np.zeros(len(target))
    for texels, colors in parts:
        has = colors.count > 0
        at, weight = np.searchsorted(target, texels.target[has]), colors.count[has].astype(np.float64)
        color = colors.color[has].astype(np.float64)
        total[at] += weight[:, None] * color
        squares[at] += weight[:, None] * color**2
        count[at] += weight
        # Within each geometry the variation is that of its own samples.
        known = np.isfinite(colors.variation[has])
        within[at[known]] += (weight[known] - 1) * colors.variation[has][known] ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / count[:, None]
        between = np.maximum(squares - count[:, None] * mean**2, 0).mean(axis=1)
        variation = np.where(count > 1, np.sqrt((within + between) / (count - 1)), np.nan)
    shared = max(texels.shared for texels, _ in parts)
    none, empty = np.zeros(0, np.int32), np.zeros((0, 2), np.float32)
    combined = Texels(target, np.zeros(len(target) + 1, np.int64), none, empty, shared)
    return combined, GatheredColors(mean.astype(np.float32), count.astype(np.int32), variation.astype(np.float32))


def check_coordinates(
    name: str,
    uv: np.ndarray,  # [F, 3, 2]
) -> None:
    """Raise ShotError if texture coordinates of a mesh are not finite, or leave the unit square."""
    if not np.isfinite(uv).all():
        fix = "Unwrap it again."
        raise ShotError("no-coordinates", f"The texture coordinates of '{name}' are not all numbers.", fix)
    if np.any((uv < -1e-4) | (uv > 1 + 1e-4)):
        raise ShotError(
            "udim-tiles",
            f"The texture coordinates of '{name}' leave the unit square, as UDIM tiles and repeated textures do, and "
            "a texture is baked into one square.",
            "Bake it from Blender, which unwraps such meshes on a UV map of their own.",
        )


def choose_size(
    views: Views,
    mesh: int,
    uv: np.ndarray,  # [F, 3, 2]
    largest: int,
) -> int:
    """Return a power of two with which the texture is a little finer than the frame that shows the mesh largest."""
    pixels = max((int((shown == mesh).sum()) for shown in views.clear_mesh), default=0)
    corners = uv.astype(np.float64)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = float(np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).sum() / 2)  # of the unit square
    # A frame shows about half of a closed surface.
    texels = TEXELS_PER_PIXEL * math.sqrt(2 * max(pixels, 1) / max(area, 1e-3))
    return int(min(largest, max(SMALLEST, 2 ** math.ceil(math.log2(texels)))))
