# SPDX-License-Identifier: GPL-3.0-or-later
"""Material slots of a mesh for the rasterizer: which sides are drawn, and the images of cut-outs.

`Slots` is a plain tuple of arrays, so that kernels can take it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from trackshade.control.compiling import inlined, kernel
from trackshade.shot import Shot
from trackshade.shot.parts import EXTENSIONS

REPEAT, EXTEND, CLIP, MIRROR = range(len(EXTENSIONS))


class Slots(NamedTuple):
    """The surfaces of one mesh in one sample."""

    slots: np.ndarray  # [F] i32, slot of each triangle
    front: np.ndarray  # [S] bool, whether the slot's triangles are drawn from the front
    back: np.ndarray  # [S] bool, and from the back
    cutouts: np.ndarray  # [S] i32, index into `sizes`, `rules`, `opaque`; -1 for none
    layers: np.ndarray  # [S] i32, index into `uv`
    uv: np.ndarray  # [L, F, 3, 2] f32, texture coordinates of the corners
    sizes: (
        np.ndarray
    )  # [C, 5] i64: start of the image in `texels`, height, width, extension, whether it is interpolated
    rules: np.ndarray  # [C, 2, 3] f64, texture coordinates to image coordinates
    opaque: np.ndarray  # [C, 256] bool, which values are drawn
    texels: np.ndarray  # [N] u8, all images one after the other


NO_SLOTS = Slots(
    np.zeros(0, np.int32), np.zeros(0, np.bool_), np.zeros(0, np.bool_), np.zeros(0, np.int32), np.zeros(0, np.int32),
    np.zeros((0, 0, 3, 2), np.float32), np.zeros((0, 5), np.int64), np.zeros((0, 2, 3), np.float64),
    np.zeros((0, 256), np.bool_), np.zeros(0, np.uint8),
)  # fmt: skip
"""Slots of a mesh without surfaces; nothing reads them."""


class ShotSlots:
    """Makes the slots of a shot's meshes, once for all meshes and samples that share them."""

    def __init__(self, shot: Shot) -> None:
        self._shot = shot
        self._images: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None = None
        self._corners: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def of(self, mesh: int, t: int) -> Slots | None:
        """Return the slots of a mesh in sample `t`; None if both sides of all its triangles are drawn."""
        track = self._shot.meshes[mesh]
        if track.surfaces is None:
            return None
        surfaces = self._shot.surfaces[track.surfaces]
        front, back = surfaces.at(t)
        key = track.geometry_at(t), track.surfaces
        if key not in self._corners:
            self._corners[key] = self._read_corners(*key)
        if self._images is None:
            self._images = self._pack_cutouts()
        slots, uv = self._corners[key]
        # Copies: numba would compile once more for arrays that cannot be written.
        return Slots(
            slots, front.copy(), back.copy(), surfaces.cutouts.copy(), surfaces.uv_layers.copy(), uv, *self._images
        )

    def _read_corners(self, geometry: int, surfaces: int) -> tuple[np.ndarray, np.ndarray]:
        """Return slots [F], those beyond the last one counted as it, and texture coordinates [L, F, 3, 2]."""
        item, last = self._shot.geometries[geometry], len(self._shot.surfaces[surfaces].cutouts) - 1
        count = len(item.triangles)
        slots = np.zeros(count, np.int32) if item.materials is None else np.clip(item.materials, 0, last)
        if not (self._shot.surfaces[surfaces].cutouts >= 0).any():
            return slots, np.zeros((1, 0, 3, 2), np.float32)
        first = np.zeros((count, 3, 2), np.float32) if item.uv is None else item.uv
        return slots, np.stack([first, *item.more_uv])

    def _pack_cutouts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        cutouts = self._shot.cutouts
        sizes, start = np.zeros((len(cutouts), 5), np.int64), 0
        for index, cutout in enumerate(cutouts):
            height, width = cutout.alpha.shape
            sizes[index] = start, height, width, EXTENSIONS.index(cutout.extension), cutout.smooth
            start += height * width
        return (
            sizes,
            np.array([cutout.transform for cutout in cutouts], np.float64).reshape(-1, 2, 3),
            np.array([cutout.opaque for cutout in cutouts], np.bool_).reshape(-1, 256),
            np.concatenate([np.zeros(0, np.uint8), *(cutout.alpha.ravel() for cutout in cutouts)]),
        )


@inlined
def _texel(texels, start, height, width, extension, row, column):
    """Return the value of a texel; outside the image by its extension."""
    if extension == CLIP:
        if row < 0 or row >= height or column < 0 or column >= width:
            return 0.0
    elif extension == EXTEND:
        row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
    elif extension == REPEAT:
        row, column = row % height, column % width
    else:
        row, column = row % (2 * height), column % (2 * width)
        row, column = min(row, 2 * height - 1 - row), min(column, 2 * width - 1 - column)
    return np.float64(texels[start + row * width + column])


@kernel
def is_opaque(sizes, rules, opaque, texels, cutout, u, v):
    """Return whether a cut-out draws the surface point with texture coordinates (u, v)."""
    # Element by element: a row of an array would be an object of its own, for each pixel.
    start, height, width = sizes[cutout, 0], sizes[cutout, 1], sizes[cutout, 2]
    extension, smooth = sizes[cutout, 3], sizes[cutout, 4]
    x = (rules[cutout, 0, 0] * u + rules[cutout, 0, 1] * v + rules[cutout, 0, 2]) * width
    y = (rules[cutout, 1, 0] * u + rules[cutout, 1, 1] * v + rules[cutout, 1, 2]) * height
    if not (abs(x) < 1e9 and abs(y) < 1e9):
        return True
    if smooth == 0:
        value = _texel(texels, start, height, width, extension, math.floor(y), math.floor(x))
        return opaque[cutout, int(value)]
    x, y = x - 0.5, y - 0.5
    column, row = math.floor(x), math.floor(y)
    right, up = x - column, y - row
    if row >= 0 and row + 1 < height and column >= 0 and column + 1 < width:  # none of it is outside the image
        at = start + row * width + column
        low = (1.0 - right) * texels[at] + right * texels[at + 1]
        high = (1.0 - right) * texels[at + width] + right * texels[at + width + 1]
        return opaque[cutout, int((1.0 - up) * low + up * high + 0.5)]
    low = (1.0 - right) * _texel(texels, start, height, width, extension, row, column) + right * _texel(
        texels, start, height, width, extension, row, column + 1
    )
    high = (1.0 - right) * _texel(texels, start, height, width, extension, row + 1, column) + right * _texel(
        texels, start, height, width, extension, row + 1, column + 1
    )
    return opaque[cutout, int((1.0 - up) * low + up * high + 0.5)]
