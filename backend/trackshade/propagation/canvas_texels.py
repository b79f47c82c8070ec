# SPDX-License-Identifier: GPL-3.0-or-later
"""The texels of a canvas: the surface points that they show, and their colors in pictures and on finer canvases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.ndimage import map_coordinates, uniform_filter

from trackshade.control.compiling import kernel
from trackshade.control.texels import draw_triangles
from trackshade.propagation.layout import face_normals
from trackshade.propagation.poses import NOWHERE, PoseTable
from trackshade.propagation.surface import Points, pull
from trackshade.propagation.survey import Picture
from trackshade.shot import Geometry

KNOWN_SHARE = 0.3  # see `pictures.read`
_BAND = 64  # rows of a canvas at a time
_SAMPLES = 2


@dataclass(frozen=True, eq=False)
class Canvas:
    """An image on a part of a mesh.

    Attributes:
        mesh: index into `Shot.meshes`.
        kind: "plane" or "atlas".
        faces: [N] int64, triangles of the mesh's geometry.
        uv: [N, 3, 2] float64, their corners, texels.
        size: (width, height), texels.
        density: texels per unit of the surface's own coordinates, whose unit is that of the object for a plane.
        origin: [2] float64, place of the first texel's corner in these coordinates.
        color: [h, w, 3] float32 linear light.
        known: [h, w] bool, texels that a picture shows.
        doubtful: [h, w] bool, texels of a plane that are shown, but at rims of light; see `light.doubt_light_rims`.
        inside: [h, w] bool, texels that belong to the surface.
        viewed: [h, w] bool, texels that some frame may look at.
        light: [h, w, 3] float32, light that the colors were divided by, or None.
        is_lit: whether it is a plane so large that outlines of shadows would be seen on it; see
            `light.doubt_light_rims`.
    """

    mesh: int
    kind: Literal["plane", "atlas"]
    faces: np.ndarray
    uv: np.ndarray
    size: tuple[int, int]
    density: float
    origin: np.ndarray
    color: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 3), np.float32))
    known: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    doubtful: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    inside: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    viewed: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    light: np.ndarray | None = None
    is_lit: bool = False

    def from_coarser(self, coarser: Canvas) -> tuple[float, np.ndarray]:
        """Return factor and offset [2] with which texels of a coarser canvas of the surface are texels of this one."""
        return self.density / coarser.density, (coarser.origin - self.origin) * self.density


def read_pictures(
    table: PoseTable, canvas: Canvas, pictures: Sequence[Picture]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the colors [h, w, 3] that pictures show on a canvas, how far they show them, and what it covers."""
    width, height = canvas.size
    color, share = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
    inside = np.zeros((height, width), np.bool_)
    starts = table.face_starts(0)
    for row in range(0, height, _BAND):
        rows = slice(row, min(row + _BAND, height))
        owner, weights = _owners(canvas, rows)
        label = np.where(owner >= 0, canvas.mesh, -2).astype(np.int32)
        out = np.zeros((*label.shape, 5), np.float32)
        whole = _blocks(label >= 0).all(axis=(1, 3))
        for picture, pose in pictures:
            if pose.where[canvas.mesh] == NOWHERE:
                continue
            turned = np.linalg.det(pose.to_camera[canvas.mesh, :3, :3]) < 0
            side = np.full(label.shape, 1 if turned else -1, np.int8)
            points = Points(label, owner, np.ones(label.shape, np.float32), weights, side, whole, 0)
            pull(points, _SAMPLES, pose, picture, pose, table.still, table.triangles, starts, 1.0, out)
        color[rows], share[rows] = _reduce(out, whole)
        inside[rows] = _blocks(label >= 0).any(axis=(1, 3))
    return color, share, inside


def find_places(geometry: Geometry, canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """Return the object-space positions and normals of the texels of an atlas, [h, w, 3] float32."""
    first = geometry.first.astype(np.float64)
    width, height = canvas.size
    positions, normals = (np.zeros((height, width, 3), np.float32) for _ in range(2))
    flat, _ = face_normals(first, geometry.triangles)
    owner, weights = _owners(canvas, slice(0, height))
    _write_places(owner, weights, first, geometry.triangles, flat, positions, normals)
    return positions, normals


def reduce_inset(inset: Canvas, canvas: Canvas) -> tuple[slice, slice, np.ndarray, np.ndarray]:
    """Return what a canvas takes from its inset.

    Returns:
        The rows and columns of the texels that the inset covers, their mean colors [h, w, 3], and which of them it has
        more than a smooth fill of, [h, w] bool.
    """
    factor, offset = inset.from_coarser(canvas)
    sides = []
    for start, length, whole in zip(offset, inset.size, canvas.size, strict=True):  # columns, then rows
        first, last = int(np.ceil(-start / factor)), int(np.floor((length - start) / factor))
        sides.append(slice(max(first, 0), max(min(last, whole), 0)))
    columns, rows = sides
    side = round(factor) // 2 * 2 + 1  # odd, as filters of even sizes move what they average
    x, y = (
        (np.arange(part.start, part.stop) + 0.5) * factor + start - 0.5
        for part, start in zip(sides, offset, strict=True)
    )
    places = np.stack(np.meshgrid(y, x, indexing="ij"))
    mean = [
        map_coordinates(uniform_filter(inset.color[..., k], side, mode="nearest"), places, order=1, mode="nearest")
        for k in range(3)
    ]
    filled = (inset.known | inset.viewed)[np.ix_(y.astype(int), x.astype(int))]
    return rows, columns, np.stack(mean, axis=-1), filled


def _owners(canvas: Canvas, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Return the triangle [h·S, w·S] of each sample of some rows of a canvas, -1 for none, and its weights [..., 2]."""
    corners = (canvas.uv - [0, rows.start]) * _SAMPLES
    size = canvas.size[0] * _SAMPLES, (rows.stop - rows.start) * _SAMPLES
    return draw_triangles(corners, canvas.faces.astype(np.int32), size)


def _blocks(values: np.ndarray) -> np.ndarray:
    """Return values [h·S, w·S] by texel: [h, S, w, S]."""
    rows, columns = values.shape
    return values.reshape(rows // _SAMPLES, _SAMPLES, columns // _SAMPLES, _SAMPLES)


def _reduce(out: np.ndarray, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return colors [h, w, 3], and how far pictures show them [h, w], from what `pull` has added up."""
    color, share = np.zeros((*whole.shape, 3), np.float32), np.zeros(whole.shape, np.float32)
    _average(out, whole, KNOWN_SHARE, color, share)
    return color, share


@kernel
def _write_places(owner, weights, first, triangles, flat, positions, normals):
    height, width = positions.shape[0], positions.shape[1]
    for i in range(height):
        for j in range(width):
            p = q = -1  # of the samples of a texel, any that a triangle covers
            for a in range(_SAMPLES * i, _SAMPLES * (i + 1)):
                for b in range(_SAMPLES * j, _SAMPLES * (j + 1)):
                    if owner[a, b] >= 0:
                        p, q = a, b
            if p < 0:
                continue
            face, b, c = owner[p, q], weights[p, q, 0], weights[p, q, 1]
            for axis in range(3):
                x, y, z = (
                    first[triangles[face, 0], axis],
                    first[triangles[face, 1], axis],
                    first[triangles[face, 2], axis],
                )
                positions[i, j, axis] = (1.0 - b - c) * x + b * y + c * z
                normals[i, j, axis] = flat[face, axis]


@kernel
def _average(out, whole, least, color, share):
    height, width = whole.shape
    for i in range(height):
        for j in range(width):
            top, left = _SAMPLES * i, _SAMPLES * j
            if whole[i, j]:  # the first sample stands for all
                share[i, j] = out[top, left, 4]
                if share[i, j] > 0.0:
                    for c in range(3):
                        color[i, j, c] = out[top, left, c] / out[top, left, 3]
                continue
            for p in range(top, top + _SAMPLES):
                for q in range(left, left + _SAMPLES):
                    share[i, j] = max(share[i, j], out[p, q, 4])
            count = 0
            for p in range(top, top + _SAMPLES):
                for q in range(left, left + _SAMPLES):
                    if out[p, q, 4] > 0.0 and out[p, q, 4] >= min(share[i, j], least):
                        count += 1
                        for c in range(3):
                            color[i, j, c] += out[p, q, c] / out[p, q, 3]
            for c in range(3):
                color[i, j, c] /= max(count, 1)
