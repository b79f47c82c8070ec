# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads evaluated meshes into arrays: positions, triangles, UV maps, material slots and topology."""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections.abc import Iterator
from dataclasses import dataclass

import bpy
import numpy as np
from numpy.typing import NDArray

from .animation import has_frame_scripts
from .strands import Strands

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Readable = bpy.types.Mesh | Strands

# Modifiers that move vertices or write attributes, but never add or remove a vertex or a face.
_KEEPS_TOPOLOGY = frozenset(
    {
        "ARMATURE", "CAST", "CLOTH", "COLLISION", "CORRECTIVE_SMOOTH", "CURVE", "DATA_TRANSFER", "DISPLACE",
        "DYNAMIC_PAINT_BRUSH", "HOOK", "LAPLACIANDEFORM", "LAPLACIANSMOOTH", "LATTICE", "MESH_DEFORM",
        "NORMAL_EDIT", "PARTICLE_SYSTEM", "SHRINKWRAP", "SIMPLE_DEFORM", "SMOOTH", "SOFT_BODY", "SURFACE",
        "SURFACE_DEFORM", "UV_PROJECT", "UV_WARP", "VERTEX_WEIGHT_EDIT", "VERTEX_WEIGHT_MIX",
        "VERTEX_WEIGHT_PROXIMITY", "WARP", "WAVE", "WEIGHTED_NORMAL",
    }
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Topology:
    """What two samples must have in common for their vertices to correspond by index.

    Attributes:
        counts: numbers of vertices, edges, face corners and faces.
        corners: [L] vertex index of each face corner; None if the counts suffice (`keeps_topology`).
    """

    counts: tuple[int, int, int, int]
    corners: Int32 | None


def keeps_topology(obj: bpy.types.Object) -> bool:
    """Whether an object's mesh has the same vertices and faces in every frame by construction.

    If scripts run on frame changes, this is never assumed, since they may rebuild meshes.
    """
    return not has_frame_scripts() and all(modifier.type in _KEEPS_TOPOLOGY for modifier in obj.modifiers)


@contextlib.contextmanager
def surface(obj: bpy.types.Object) -> Iterator[bpy.types.Mesh]:
    """Yields the mesh of an evaluated mesh object; in Edit Mode, when its arrays are empty, a temporary one."""
    if not obj.data.is_editmode:
        yield obj.data
        return
    try:
        yield obj.to_mesh()
    finally:
        obj.to_mesh_clear()


def empty(dtype: type[np.generic], *shape: int) -> np.ndarray:
    """Allocates an array like `numpy.empty`, aligned so that a large one lies in huge pages.

    Apart from Blender's evaluation, most of a capture's time is the system's allocation of memory in small pages.
    numpy requests huge pages from 4 MiB on, and they begin at multiples of 2 MiB.
    """
    page = 1 << 21
    size = np.dtype(dtype).itemsize * math.prod(shape)
    if size < page // 2:
        return np.empty(shape, dtype)
    block = np.empty(max(size, page) + page, np.uint8)
    start = -block.ctypes.data % page
    return block[start : start + size].view(dtype).reshape(shape)


class _Scratch:
    """Memory for one array at a time, as large as the largest so far."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def array(self, dtype: type[np.generic], *shape: int) -> np.ndarray:
        size = np.dtype(dtype).itemsize * math.prod(shape)
        if len(self._bytes) < size:
            self._bytes = empty(np.uint8, size)
        return self._bytes[:size].view(dtype).reshape(shape)


class MeshReader:
    """Reads evaluated meshes into arrays.

    Positions and face corners that are not read into the caller's array are valid until the next call.
    """

    def __init__(self) -> None:
        self._positions = _Scratch()
        self._corners = _Scratch()

    def positions(self, mesh: Readable, out: Float32 | None = None) -> Float32:
        """Reads positions [V, 3] in object space, metres, into `out` or a temporary array."""
        if isinstance(mesh, Strands):
            if out is None:
                return mesh.positions
            out[...] = mesh.positions
            return out
        if out is None:
            out = self._positions.array(np.float32, len(mesh.vertices), 3)
        mesh.attributes["position"].data.foreach_get("vector", out.reshape(-1))
        return out

    def corners(self, mesh: Readable) -> Int32:
        """Reads the vertex index of each face corner [L] into a temporary array."""
        if isinstance(mesh, Strands):
            return mesh.triangles.reshape(-1)
        corners = self._corners.array(np.int32, len(mesh.loops))
        if len(corners):
            mesh.attributes[".corner_vert"].data.foreach_get("value", corners)
        return corners

    def topology(self, mesh: Readable, by_counts: bool) -> Topology:
        """Reads the topology, without the face corners if `by_counts`."""
        return Topology(counts(mesh), None if by_counts else self.corners(mesh).copy())

    def has_topology(self, mesh: Readable, topology: Topology) -> bool:
        """Whether a mesh has this topology."""
        if counts(mesh) != topology.counts:
            return False
        return topology.corners is None or np.array_equal(self.corners(mesh), topology.corners)

    def triangles(self, mesh: Readable) -> tuple[Int32, Float32 | None]:
        """Reads the vertices [F, 3] of each triangle, and their UVs [F, 3, 2] in the map that renders use, if any."""
        if isinstance(mesh, Strands):
            return mesh.triangles, None
        triangles = triangle_corners(mesh)  # [F, 3] face corners
        vertices = empty(np.int32, *triangles.shape)
        _gather(self.corners(mesh), triangles, vertices)
        layer = next((layer for layer in mesh.uv_layers if layer.active_render), None)
        if layer is None:
            return vertices, None
        corner_uv = self._corners.array(np.float32, len(mesh.loops), 2)
        layer.uv.foreach_get("vector", corner_uv.reshape(-1))
        uv = empty(np.float32, *triangles.shape, 2)
        # As one 8-byte item per pair, which numpy gathers several times faster than rows of two.
        _gather(corner_uv.view(np.float64)[:, 0], triangles, uv.view(np.float64)[..., 0])
        return vertices, uv

    def slots(self, mesh: Readable) -> Int32 | None:
        """Reads the material slot [F] of each triangle; None if all have the first."""
        if isinstance(mesh, Strands):
            return None
        attribute = mesh.attributes.get("material_index")
        if attribute is None or attribute.domain != "FACE" or attribute.data_type != "INT" or not mesh.polygons:
            return None
        by_face = np.empty(len(mesh.polygons), np.int32)
        attribute.data.foreach_get("value", by_face)
        if not by_face.any():
            return None
        mesh.calc_loop_triangles()
        faces = np.empty(len(mesh.loop_triangles), np.int32)
        mesh.loop_triangle_polygons.foreach_get("value", faces)
        return np.maximum(by_face, 0)[faces]

    def uv_map(self, mesh: Readable, name: str) -> Float32 | None:
        """Reads the UVs [F, 3, 2] of a map by name; None if there is no such map."""
        layer = None if isinstance(mesh, Strands) else mesh.uv_layers.get(name)
        if layer is None or isinstance(mesh, Strands):
            return None
        corners = np.empty((len(mesh.loops), 2), np.float32)
        layer.uv.foreach_get("vector", corners.reshape(-1))
        return corners[triangle_corners(mesh)]


def _gather(source: np.ndarray, index: Int32, out: np.ndarray) -> None:
    """Computes out = source[index] in pieces, since numpy makes a wider copy of the indices."""
    piece = 1 << 14
    for start in range(0, len(index), piece):
        # Mode "raise" would write to a temporary array first.
        np.take(source, index[start : start + piece], out=out[start : start + piece], mode="clip")


def counts(mesh: Readable) -> tuple[int, int, int, int]:
    """Numbers of vertices, edges, face corners and faces."""
    if isinstance(mesh, Strands):
        return mesh.counts
    return len(mesh.vertices), len(mesh.edges), len(mesh.loops), len(mesh.polygons)


def triangle_corners(mesh: bpy.types.Mesh) -> Int32:
    """The face corners [F, 3] of each triangle, in memory that is valid no longer than the mesh.

    Blender stores exactly this array, but `foreach_get` copies it through a getter per triangle, which for a large mesh
    takes longer than the rest of a capture. So the memory is read directly if it has the expected layout.
    """
    mesh.calc_loop_triangles()
    items = mesh.loop_triangles
    count = len(items)
    if count > 1 and items[1].as_pointer() - items[0].as_pointer() == 12:
        memory = ctypes.cast(items[0].as_pointer(), ctypes.POINTER(ctypes.c_int32))
        view = np.ctypeslib.as_array(memory, (count, 3))
        if all(tuple(view[i]) == tuple(items[i].loops) for i in (0, 1, count // 2, count - 1)):
            return view
    corners = np.empty((count, 3), np.int32)
    items.foreach_get("loops", corners.reshape(-1))
    return corners
