# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the meshes of a lifted scene from depth and surfaces in the picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trackshade.lifting.camera import PhotoCamera
from trackshade.lifting.cuts import EXACT, NOTHING, CutRule, DepthLattice, cut_edges
from trackshade.lifting.meshing import mesh_lattice
from trackshade.shot.lifted import LiftedMesh, MeshKind

_BASELINE = 0.2  # of the median depth: how far the camera may move until errors of flat cells are seen
_SEEN = 0.1  # pixels of such an error
_FOOT_SHARE = 0.02  # of an object's points: the lowest, which stand on the ground
_REACH, _WIDEST = 0.75, math.tan(math.radians(75))  # of the picture's side; from the camera's axis: no farther
_COLUMNS = 16  # of lattice points on each side beyond the picture
_BAND = 0.12  # of the lattice at the border, whose slope is continued
_ALONG = 9  # lattice points along the border over which slopes are smoothed
_LEAST, _MOST = 0.3, 3.5  # times the inverse depth at the border: how far it changes beyond it
_IN_FRONT = 1.001  # inverse depth of an object in relation to that of the background behind it


@dataclass(frozen=True)
class Surface:
    """What one label of a lattice becomes."""

    name: str
    kind: MeshKind
    one_sided: bool = False


def tolerance_of(inverse: NDArray[np.float64], focal: float) -> float | None:
    """Return the error of inverse depth that is not seen in pictures of a camera that moves moderately."""
    known = inverse[inverse > 0]
    return float(_SEEN / (focal * _BASELINE) * np.median(known)) if known.size else None


def build_meshes(
    camera: PhotoCamera,
    lattice: DepthLattice,
    surfaces: dict[int, Surface],
    rule: CutRule | None,
    stride: int,
    tolerance: float | None = None,
    planes: Mapping[int, NDArray[np.float64]] | None = None,
) -> list[LiftedMesh]:
    """Mesh the surfaces of a lattice; those that no triangle shows are left out.

    Args:
        camera: the picture's camera.
        lattice: inverse depth and labels.
        surfaces: what each label becomes, in the order of the result.
        rule: see `mesh_lattice`.
        stride: see `mesh_lattice`.
        tolerance: see `mesh_lattice`.
        planes: vector [3] of labels that are planes, whose product with a scene ray is 1 / z: their vertices lie on
            them exactly.
    """
    if not (lattice.labels != NOTHING).any():
        return []
    mesh = mesh_lattice(lattice, rule, stride, tolerance)
    result = []
    for label, surface in surfaces.items():
        part = mesh.part(label)
        if not len(part.triangles):
            continue
        inverse = part.inverse
        if planes is not None and label in planes:
            exact = camera.scene_rays(*part.points.T) @ planes[label]
            inverse = np.where(exact > 0, exact, inverse)
        positions = camera.to_world(part.points[:, 0], part.points[:, 1], inverse)
        result.append(
            LiftedMesh(
                name=surface.name,
                kind=surface.kind,
                positions=positions.astype(np.float32)[None],
                triangles=part.triangles,
                visible=np.zeros((0, len(positions)), bool),
                pivot=_pivot(positions, surface.kind),
                one_sided=surface.one_sided,
            )
        )
    return result


def _pivot(positions: NDArray[np.float64], kind: MeshKind) -> NDArray[np.float64]:
    """Return where an object touches the ground, and otherwise a surface's center."""
    if kind != "object":
        return (positions.min(axis=0) + positions.max(axis=0)) / 2
    lowest = positions[np.argsort(positions[:, 2])[: max(1, int(_FOOT_SHARE * len(positions)))]]
    return np.append(np.median(lowest[:, :2], axis=0), lowest[:, 2].min())


def bordered(lattice: DepthLattice, size: tuple[int, int]) -> DepthLattice:
    """Return a lattice with one more row and column on each side, beyond the border of a picture of (width, height).

    The planes of the outermost points are continued, so that the surfaces cover the whole picture.
    """
    x, y = (_extended(axis, side) for axis, side in zip((lattice.x, lattice.y), size, strict=True))
    labels = np.pad(lattice.labels, 1, mode="edge")
    inverse = _continued(_continued(lattice.inverse, lattice.labels, lattice.x, x).T, np.pad(
        lattice.labels, ((0, 0), (1, 1)), mode="edge").T, lattice.y, y).T  # fmt: skip
    return DepthLattice(x, y, inverse, labels)


def _extended(axis: NDArray[np.float64], side: float) -> NDArray[np.float64]:
    """Return coordinates with one more at each end, as far beyond the border as the first lies within it."""
    return np.concatenate([[-max(axis[0], 0.5)], axis, [2 * side - min(axis[-1], side - 0.5)]])


def _continued(inverse: np.ndarray, labels: np.ndarray, x: np.ndarray, extended: np.ndarray) -> np.ndarray:
    """Return [h, w + 2] values: the first and the last column are continued along their rows."""
    ends = []
    for first, second, new in ((0, 1, 0), (-1, -2, -1)):
        slope = (inverse[:, first] - inverse[:, second]) / (x[first] - x[second])
        value = inverse[:, first] + slope * (extended[new] - x[first])
        joined = (labels[:, first] == labels[:, second]) & (
            np.abs(value / np.maximum(inverse[:, first], 1e-12) - 1) < 0.1
        )
        ends.append(np.where(joined, value, inverse[:, first]))
    return np.column_stack([ends[0], inverse, ends[1]])


def beyond(lattice: DepthLattice, size: tuple[int, int], focal: float) -> DepthLattice:
    """Return a lattice that continues beyond the picture.

    Surfaces are continued along the slope that they have near the border, up to a few times their inverse depth there,
    and keep their labels. They come nearer by no more than the depth that is seen of them: what the border cuts off
    would otherwise grow into a wall before the camera.

    Args:
        lattice: inverse depth and labels; its outermost points lie on or beyond the border.
        size: (width, height) of the picture, pixels.
        focal: focal length, pixels.
    """
    wide = _beyond_sides(lattice, size[0], focal)
    return _beyond_sides(wide.transposed(), size[1], focal).transposed()


def _beyond_sides(lattice: DepthLattice, side: int, focal: float) -> DepthLattice:
    """Return a lattice with more columns before the first and after the last one."""
    reach = min(_REACH * side, max(0.0, _WIDEST * focal - side / 2))
    away = np.unique(np.geomspace(2.0, max(reach, 3.0), _COLUMNS).round())
    cuts, _ = cut_edges(lattice, EXACT)
    parts = []
    for towards in (1, -1):
        x, inverse, cut = lattice.x[::towards], lattice.inverse[:, ::towards], cuts[:, ::towards]
        own = np.logical_and.accumulate(np.pad(~cut, ((0, 0), (1, 0)), constant_values=True), axis=1)
        inner = np.unique(np.linspace(2, min(_BAND * len(x), len(x) - 1), 12).astype(int))
        slopes = (inverse[:, :1] - inverse[:, inner]) / np.abs(x[inner] - x[0])
        slopes = np.where(own[:, inner], slopes, np.nan)
        slopes[np.isnan(slopes).all(axis=1)] = 0.0
        edge = inverse[:, 0]
        seen = 1 / np.min(inverse, axis=1, where=own, initial=np.inf) - 1 / edge  # depth
        nearest = 1 / np.maximum(1 / edge - seen, 1 / (_MOST * edge))
        slope, nearest = (
            ndimage.median_filter(item, _ALONG, mode="nearest") for item in (np.nanmedian(slopes, axis=1), nearest)
        )
        slope = ndimage.gaussian_filter1d(slope, _ALONG / 3, mode="nearest")[:, None]
        nearest, edge = np.maximum(nearest, edge)[:, None], edge[:, None]
        parts.append(np.clip(edge + slope * away, _LEAST * edge, nearest))
    x = np.concatenate([lattice.x[0] - away[::-1], lattice.x, lattice.x[-1] + away])
    inverse = np.concatenate([parts[0][:, ::-1], lattice.inverse, parts[1]], axis=1)
    labels = np.pad(lattice.labels, ((0, 0), (len(away), len(away))), "edge")
    return DepthLattice(x, lattice.y, inverse, labels)


def behind(background: NDArray[np.float64], objects: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the objects' inverse depth, nowhere behind the background: the picture stays as it is."""
    return np.maximum(objects, background * _IN_FRONT)
