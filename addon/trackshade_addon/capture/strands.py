# SPDX-License-Identifier: GPL-3.0-or-later
"""Hair as surfaces: each strand becomes a tube with three sides, about as wide as in the render.

A tube looks the same from every side, so it keeps its shape under a moving camera. Two crossed ribbons would need a
third more vertices.
"""

from __future__ import annotations

import itertools
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]

MAX_POINTS = 1_000_000  # of a particle system's hair, whose points are read one by one
_RADIUS = 0.01  # metres, of hair curves without a radius attribute
_SIDES = 3
_WIDTH = 2 * np.pi / (3 * np.sqrt(3))  # circumradius of a triangle that is, on average, as wide as a unit circle
_numbers = itertools.count(1)


class Strands:
    """Tubes around strands, which `MeshReader` reads like an evaluated mesh.

    Args:
        points: points in object space, metres, strand after strand.
        radius: radius at each point, metres.
        offsets: index of the first point of each strand, and the number of points.
    """

    uv_layers = ()

    def __init__(
        self,
        points: Float32,  # [P, 3]
        radius: Float32,  # [P]
        offsets: Int32,  # [S + 1]
    ) -> None:
        self.positions = _tubes(points, radius, offsets)
        self.vertices = range(len(self.positions))
        self.triangles = _triangles(offsets)
        self.counts = len(self.positions), 0, len(self.triangles) * 3, len(self.triangles)
        self._number = -next(_numbers)

    def as_pointer(self) -> int:
        """A unique number in place of a mesh's address."""
        return self._number


def curves_strands(curves: Any) -> Strands | None:
    """The strands of evaluated hair curves; None if there are none."""
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


def node_strands(obj: bpy.types.Object, depsgraph: bpy.types.Depsgraph) -> Strands | None:
    """The strands that an object's geometry nodes output; None before Blender 4.5, which does not expose them."""
    evaluated = obj.original.evaluated_get(depsgraph)
    if not hasattr(evaluated, "evaluated_geometry"):
        return None
    geometry = evaluated.evaluated_geometry()  # owns the curves
    return None if geometry.curves is None else curves_strands(geometry.curves)


def particle_strands(
    obj: bpy.types.Object, system: bpy.types.ParticleSystem, depsgraph: bpy.types.Depsgraph
) -> Strands | None:
    """The strands of an evaluated object's hair, with the children that render; None if there are none or too many."""
    settings = system.settings
    parents, children = len(system.particles), len(system.child_particles)
    first = parents if children and not settings.use_parent_particles else 0
    step = settings.display_step if depsgraph.mode == "VIEWPORT" else settings.render_step
    count, length = parents + children - first, 2**step + 1
    if count <= 0 or count * length > MAX_POINTS:
        return None
    read = system.co_hair
    places = (read(obj, particle_no=n, step=i) for n in range(first, first + count) for i in range(length))
    flat = np.fromiter(itertools.chain.from_iterable(places), np.float64, count * length * 3)
    inverse = np.array(obj.matrix_world.inverted_safe())
    points = (flat.reshape(-1, 3) @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.float32)
    along = np.linspace(0, 1, length)
    power = 1 + settings.shape if settings.shape < 0 else 1 / max(1 - settings.shape, 1e-3)
    thickness = settings.root_radius + (settings.tip_radius - settings.root_radius) * along**power
    radius = np.tile((0.5 * settings.radius_scale * thickness).astype(np.float32), count)
    return Strands(points, radius, np.arange(count + 1, dtype=np.int32) * length)


def _tubes(points: Float32, radius: Float32, offsets: Int32) -> Float32:
    """Three corners [3 P, 3] around each point."""
    lengths = np.diff(offsets)
    first, last = np.repeat(offsets[:-1], lengths), np.repeat(offsets[1:] - 1, lengths)
    index = np.arange(len(points))
    along = _unit(points[np.minimum(index + 1, last)] - points[np.maximum(index - 1, first)])
    # Start from the axis that the strand as a whole is least aligned with, so that neighbors face the same way.
    extent = np.abs(points[last] - points[first])
    axis = np.eye(3, dtype=np.float32)[extent.argmin(axis=1)]
    across = axis - (axis * along).sum(axis=1, keepdims=True) * along
    parallel = np.linalg.norm(across, axis=1) < 1e-3
    across[parallel] = np.cross(along[parallel], along[parallel][:, [1, 2, 0]] + (0.1, 0.2, 0.3))
    across = _unit(across)
    other = np.cross(along, across)
    corners = np.empty((len(points), _SIDES, 3), np.float32)
    for side in range(_SIDES):
        angle = 2 * np.pi * side / _SIDES
        corners[:, side] = points + (_WIDTH * radius)[:, None] * (np.cos(angle) * across + np.sin(angle) * other)
    return corners.reshape(-1, 3)


def _unit(vectors: Float32) -> Float32:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(length > 0, vectors / np.maximum(length, 1e-30), np.array((0, 0, 1), np.float32))


def _triangles(offsets: Int32) -> Int32:
    """Six triangles between each point of a strand and the next, [F, 3]."""
    begins = np.ones(int(offsets[-1]), np.bool_)
    begins[offsets[1:][np.diff(offsets) > 0] - 1] = False  # the last points of strands
    start = (np.flatnonzero(begins) * _SIDES).astype(np.int32)[:, None, None]
    side = np.arange(_SIDES, dtype=np.int32)
    near, far = np.stack([side, (side + 1) % _SIDES]), np.stack([side, (side + 1) % _SIDES]) + _SIDES
    faces = np.concatenate([np.stack([near[0], near[1], far[1]], 1), np.stack([near[0], far[1], far[0]], 1)])  # [6, 3]
    return np.ascontiguousarray((start + faces[None]).reshape(-1, 3).astype(np.int32))
