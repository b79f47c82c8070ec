# SPDX-License-Identifier: GPL-3.0-or-later
"""Following the points of the first frame: where they are now on each mesh that the view layer shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import bpy
import numpy as np
from mathutils import Matrix

from trackshade.shot import carrying
from trackshade.shot.arrays import same_bytes

from ..capture.geometry import Float32
from ..capture.instances import Instance, InstanceKey, InstanceReader
from .reference import InstanceStart, MeshCache, OverlayMesh, Reference

SLOW_VERTICES = 20000  # with so many, finding the origins on a new topology takes longer than a frame may
KEPT_TOPOLOGIES = 8  # of a mesh, beside its first one


@dataclass(frozen=True)
class DrawItem:
    """A mesh to draw."""

    key: InstanceKey  # instance that brought its positions; instances of one mesh share it
    start: InstanceStart  # how the instance was first seen
    mesh: OverlayMesh  # the mesh with its present topology
    positions: Float32 | None  # [V, 3] object space, meters; None where they are `mesh.origins`
    matrix_world: Matrix  # object space to world space


@dataclass
class _MeshState:
    """A mesh when it was drawn last."""

    first: OverlayMesh  # the mesh with its first topology
    latest: OverlayMesh  # the mesh with its latest topology
    positions: Float32  # [V, 3] its latest positions
    frame: float  # the frame in which it had them
    # the mesh with its other recent topologies, the latest last
    topologies: list[OverlayMesh] = field(default_factory=list)


class PointTracker:
    """Follows the points of one reference from redraw to redraw.

    Attributes:
        reference: The reference.
        skipped: Names of objects that were left out of the latest redraw, since following them takes too long.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.skipped: dict[str, None] = {}
        self._states: dict[InstanceKey, _MeshState] = {}

    def draw_items(
        self, depsgraph: bpy.types.Depsgraph, space: bpy.types.SpaceView3D | None = None, skip_slow: bool = False
    ) -> Iterator[DrawItem]:
        """Return what to draw of an evaluated view layer.

        The local view of the 3D viewport `space` counts. With `skip_slow`, meshes that take long are left out.
        """
        scene = depsgraph.scene
        # Not `frame_current_final`, which is the stretched time: the reference has frame numbers.
        reference, frame = self.reference, scene.frame_current + scene.frame_subframe
        # By first mesh and present mesh, in this redraw.
        found: dict[tuple[int, int], tuple[InstanceKey, OverlayMesh, Float32 | None] | None] = {}
        new_meshes: MeshCache = {}
        self.skipped.clear()
        reference.materials.begin_sample(depsgraph)
        for seen in InstanceReader(depsgraph.view_layer).read(depsgraph):
            if seen.kind != "MESH" or not seen.visibility.visible or not _is_in_view(seen, space):
                continue
            mesh = seen.obj.data
            if mesh.is_editmode or not mesh.polygons:
                continue
            start = reference.starts.get(seen.key)
            if start is None or (seen.name in reference.late and frame < start.frame):
                start = reference.add(frame, seen, new_meshes)
                if start is None:
                    continue
                reference.late.setdefault(seen.name)
            address = id(start.mesh), mesh.as_pointer()
            if address not in found:
                found[address] = self._follow(start.mesh, frame, seen, skip_slow)
            item = found[address]
            if item is None:
                self.skipped.setdefault(seen.name)
            else:
                yield DrawItem(item[0], start, item[1], item[2], seen.item.matrix_world.copy())

    def _follow(
        self, first: OverlayMesh, frame: float, seen: Instance, skip_slow: bool
    ) -> tuple[InstanceKey, OverlayMesh, Float32 | None] | None:
        """Return the present state of a mesh; None where it is skipped."""
        reader, mesh = self.reference.reader, seen.obj.data
        state = self._states.get(seen.key)
        if state is None or state.first is not first:
            state = self._states[seen.key] = _MeshState(first, first, first.origins, frame)
        known = (state.latest, first, *state.topologies)
        present = next((item for item in known if reader.has_topology(mesh, item.topology)), None)
        if present is None:
            if skip_slow and len(mesh.vertices) > SLOW_VERTICES:
                return None
            present = self._carry(state, frame, seen)
        now = reader.positions(mesh)
        positions = None if same_bytes(now, present.origins) else np.array(now, np.float32)
        state.latest, state.frame = present, frame
        state.positions = present.origins if positions is None else positions
        return seen.key, present, positions

    def _carry(self, state: _MeshState, frame: float, seen: Instance) -> OverlayMesh:
        """Return a mesh with a new topology; the origins of its points are carried over from its latest positions."""
        reader, mesh = self.reference.reader, seen.obj.data
        latest = state.latest
        births = np.zeros(len(latest.origins), np.int32) if latest.births is None else latest.births
        before = carrying.Surface(state.positions, latest.triangles, latest.origins, births)
        triangles, _ = reader.triangles(mesh)
        carried = carrying.carry(before, reader.positions(mesh), triangles, round(frame))
        if abs(frame - state.frame) > 1 and np.any(carried.births == round(frame)):
            # Its new points may have been there in any of the frames between.
            self.reference.late.setdefault(seen.name)
        sides, topology = self.reference.split_by_sides(triangles, seen), reader.topology(mesh, by_counts=False)
        result = OverlayMesh(carried.origins, triangles, *sides, topology, carried.births)
        state.topologies = [*state.topologies[1 - KEPT_TOPOLOGIES :], result]
        return result


def _is_in_view(seen: Instance, space: bpy.types.SpaceView3D | None) -> bool:
    if space is None or space.local_view is None:
        return True
    base = seen.item.parent if seen.item.is_instance and seen.item.parent is not None else seen.obj
    return base.original.local_view_get(space)
