# SPDX-License-Identifier: GPL-3.0-or-later
"""Colors for surfaces that have no canvas: those that are small in all frames, very fine, or of a changing topology."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from trackshade.propagation.fills.push_pull import NEIGHBORS, average_points
from trackshade.propagation.pictures import SurfacePicture
from trackshade.propagation.poses import PoseTable
from trackshade.propagation.surface import shown_points
from trackshade.shot import Shot

_POINTS = 20_000  # known points of a mesh that are kept
_KEPT = 2_000_000  # vertices whose colors are kept, 12 bytes each
_FINE = 16.0  # pixels of a frame that a triangle covers on average, up to which vertices tell colors well
_MOST_FINE = 400  # meshes


def plain_colors(shot: Shot, pictures: Sequence[SurfacePicture]) -> np.ndarray:
    """Return one color for each mesh and, last, the background: [M + 1, 3] float32 linear light.

    It is the mean over the pixels that show the mesh in any picture; of a mesh that none shows, the mean over the
    meshes with its geometry, else over all meshes.
    """
    count = len(shot.meshes) + 1
    total, number = np.zeros((count, 3)), np.zeros(count)
    for picture in pictures:
        weight = picture.trust.ravel().astype(np.float64)
        label = np.where(picture.label < 0, count - 1, picture.label).ravel()
        number += np.bincount(label, weight, count)
        for k in range(3):
            total[:, k] += np.bincount(label, weight * picture.image[..., k].ravel(), count)
    geometry = np.array([mesh.geometry for mesh in shot.meshes] + [len(shot.geometries)])
    shared, weight = np.zeros((len(shot.geometries) + 1, 3)), np.bincount(geometry, number, len(shot.geometries) + 1)
    for k in range(3):
        shared[:, k] = np.bincount(geometry, total[:, k], len(shared))
    mean = total.sum(axis=0) / max(number.sum(), 1e-9)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_geometry = np.where(weight[:, None] > 0, shared / weight[:, None], mean)
        return np.where(number[:, None] > 0, total / number[:, None], by_geometry[geometry]).astype(np.float32)


def finely_meshed(
    mesh: np.ndarray,  # [N] index of the mesh that a surveyed pixel shows
    face: np.ndarray,  # [N] its triangle
    pixels: float,
) -> set[int]:
    """Return the meshes whose visible triangles are small: the largest ones, if there are many.

    Parts that are too small for a canvas, such as slivers at the edge of another mesh, would otherwise have the mean
    color of their mesh.

    Args:
        mesh: index of the mesh that each surveyed pixel shows.
        face: its triangle.
        pixels: full pixels that each surveyed one stands for, divided by the number of surveyed frames.
    """
    meshes, points = np.unique(mesh, return_counts=True)
    most = int(face.max(initial=0)) + 1
    faces = np.bincount(np.unique(mesh.astype(np.int64) * most + face) // most)[meshes]
    is_fine = points * pixels <= _FINE * faces
    largest = np.argsort(-points[is_fine], kind="stable")[:_MOST_FINE]
    return set(meshes[is_fine][largest].tolist())


class VertexColors:
    """Colors of vertices, from what pictures show of their mesh near them, by the positions of their first sample.

    A surface point has the same position of its first sample in all geometries of its mesh, so that it has the same
    color in all frames. Thread-safe.

    Args:
        table: the shot's poses.
        points: what pictures show of each mesh: positions [N, 3] of the first sample, object space, and colors [N, 3].

    Attributes:
        points: the same.
    """

    def __init__(self, table: PoseTable, points: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> None:
        self._table, self.points = table, points
        self._trees = {mesh: KDTree(positions) for mesh, (positions, _) in points.items()}
        self._colors: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def from_pictures(
        cls, table: PoseTable, pictures: Sequence[tuple[SurfacePicture, int]], meshes: Iterable[int]
    ) -> VertexColors:
        """Return the colors of meshes, given by their indices, by pictures and their samples."""
        shown = shown_points(table, pictures, set(meshes))
        return cls(table, {mesh: average_points(x.positions, x.colors, _POINTS) for mesh, x in shown.items()})

    def at(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Return where the colors of each mesh begin, [M] int64, -1 if it has none, and colors [N, 3] float32."""
        shot = self._table.shot
        start, parts, total = np.full(len(shot.meshes), -1, np.int64), [np.zeros((0, 3), np.float32)], 0
        for mesh in self._trees:
            if shot.meshes[mesh].visible[t]:
                start[mesh] = total
                parts.append(self._of(mesh, shot.meshes[mesh].geometry_at(t)))
                total += len(parts[-1])
        return start, np.concatenate(parts)

    def _of(self, mesh: int, geometry: int) -> np.ndarray:
        key = mesh, geometry
        with self._lock:
            if key in self._colors:
                self._colors.move_to_end(key)
                return self._colors[key]
        tree, (_, means) = self._trees[mesh], self.points[mesh]
        ranks: Any = range(1, min(NEIGHBORS, len(means)) + 1)
        distance, index = tree.query(self._table.shot.geometries[geometry].first, k=ranks)
        weight = 1 / np.maximum(distance, 1e-9 + 1e-6 * float(distance.max())) ** 2
        colors = np.einsum("nk,nkc->nc", weight / weight.sum(axis=1, keepdims=True), means[index]).astype(np.float32)
        with self._lock:
            self._colors[key] = colors
            while sum(map(len, self._colors.values())) > _KEPT and len(self._colors) > 1:
                self._colors.popitem(last=False)
        return colors
