# SPDX-License-Identifier: GPL-3.0-or-later
"""Hair as surfaces: each strand is a tube with three sides, about as wide as the render draws it.

A tube is the same from every side, so that it keeps its shape under a moving camera; two crossed ribbons would need a
third more vertices.
"""

from __future__ import annotations

import itertools
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]

MOST = 1_000_000  # points of a particle system's hair; they are read one by one
_RADIUS = 0.01  # of hair curves that do not say theirs
_SIDES = 3
_WIDER = 2 * np.pi / (3 * np.sqrt(3))  # a triangle around a circle of this radius is as wide as the circle, on average
_numbers = itertools.count(1)


class Strands:
    """Tubes around strands, read as an evaluated mesh is.

    Args:
        points: [P, 3] object space, metres, strand after strand.
        radius: [P] metres.
        offsets: [S + 1] where each strand begins, and the number of points.
    """

    uv_layers = ()

    def __init__(self, points: Float32, radius: Float32, offsets: Int32) -> None:
        self.positions = _around(points, radius, offsets)
        self.vertices = range(len(self.positions))
        self.triangles = _triangles(offsets)
        self.counts = len(self.positions), 0, len(self.triangles) * 3, len(self.triangles)
        self._number = -next(_numbers)

    def as_pointer(self) -> int:
        """Like an address, and never that of anything else."""
        return self._number


def curves_strands(curves: Any) -> Strands | None:
    """The strands of evaluated hair curves; None where there are none."""
    count, points = len(curves.curves), len(curves.points)
    if not count or not points:
        return None
    offsets, positions = np.empty(count + 1, np.int32), np.empty((points, 3), np.float32)
    curves.curve_offset_data.foreach_get("value", offsets)
    curves.attributes["position"].data.foreach_get("vector", positions.reshape(-1))
    radius = np.full(points, _RADIUS, np.float32)
    attribute = curves.attributes.get("radius")
    if attribute is not None and attribute.domain == "POINT" and attribute.data_type == "FLOAT":
        attribute.data.foreach_get("value", radius)
    return Strands(positions, radius, offsets)


def curves_of_nodes(obj: bpy.types.Object, depsgraph: bpy.types.Depsgraph) -> Strands | None:
    """The strands that an object's geometry nodes make; None before Blender 4.5, which does not tell."""
    evaluated = obj.original.evaluated_get(depsgraph)
    if not hasattr(evaluated, "evaluated_geometry"):
        return None
    geometry = evaluated.evaluated_geometry()  # which owns the curves
    return None if geometry.curves is None else curves_strands(geometry.curves)


def particle_strands(
    obj: bpy.types.Object, system: bpy.types.ParticleSystem, depsgraph: bpy.types.Depsgraph
) -> Strands | None:
    """The strands of an evaluated object's hair, children as they render; None where there are none, or too many."""
    settings = system.settings
    parents, children = len(system.particles), len(system.child_particles)
    first = parents if children and not settings.use_parent_particles else 0
    step = settings.display_step if depsgraph.mode == "VIEWPORT" else settings.render_step
    count, length = parents + children - first, 2**step + 1
    if count <= 0 or count * length > MOST:
        return None
    read = system.co_hair
    places = (read(obj, particle_no=n, step=i) for n in range(first, first + count) for i in range(length))
    flat = np.fromiter(itertools.chain.from_iterable(places), np.float64, count * length * 3)
    inverse = np.array(_inverse(obj.matrix_world))
    points = (flat.reshape(-1, 3) @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.float32)
    along = np.linspace(0, 1, length)
    power = 1 + settings.shape if settings.shape < 0 else 1 / max(1 - settings.shape, 1e-3)
    thickness = settings.root_radius + (settings.tip_radius - settings.root_radius) * along**power
    radius = np.tile((0.5 * settings.radius_scale * thickness).astype(np.float32), count)
    return Strands(points, radius, np.arange(count + 1, dtype=np.int32) * length)


def _inverse(matrix: Matrix) -> Matrix:
    return matrix.inverted_safe()


def _around(points: Float32, radius: Float32, offsets: Int32) -> Float32:
    """[3 P, 3] three corners around each point."""
    lengths = np.diff(offsets)
    first, last = np.repeat(offsets[:-1], lengths), np.repeat(offsets[1:] - 1, lengths)
    own = np.arange(len(points))
    along = _unit(points[np.minimum(own + 1, last)] - points[np.maximum(own - 1, first)])
    # Across: the axis that the strand as a whole is least along, so that neighbors have the same sides.
    whole = np.abs(points[last] - points[first])
    axis = np.eye(3, dtype=np.float32)[whole.argmin(axis=1)]
    across = axis - (axis * along).sum(axis=1, keepdims=True) * along
    flat = np.linalg.norm(across, axis=1) < 1e-3
    across[flat] = np.cross(along[flat], along[flat][:, [1, 2, 0]] + (0.1, 0.2, 0.3))
    across = _unit(across)
    other = np.cross(along, across)
    corners = np.empty((len(points), _SIDES, 3), np.float32)
    for side in range(_SIDES):
        angle = 2 * np.pi * side / _SIDES
        corners[:, side] = points + (_WIDER * radius)[:, None] * (np.cos(angle) * across + np.sin(angle) * other)
    return corners.reshape(-1, 3)


def _unit(vectors: Float32) -> Float32:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(length > 0, vectors / np.maximum(length, 1e-30), np.array((0, 0, 1), np.float32))


def _triangles(offsets: Int32) -> Int32:
    """[F, 3] six triangles between each point of a strand and its next."""
    begins = np.ones(int(offsets[-1]), np.bool_)
    begins[offsets[1:][np.diff(offsets) > 0] - 1] = False  # the last points
    start = (np.flatnonzero(begins) * _SIDES).astype(np.int32)[:, None, None]
    side = np.arange(_SIDES, dtype=np.int32)
    near, far = np.stack([side, (side + 1) % _SIDES]), np.stack([side, (side + 1) % _SIDES]) + _SIDES
    faces = np.concatenate([np.stack([near[0], near[1], far[1]], 1), np.stack([near[0], far[1], far[0]], 1)])  # [6, 3]
    return np.ascontiguousarray((start + faces[None]).reshape(-1, 3).astype(np.int32))
