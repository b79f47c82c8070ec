# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the points of the first frame are now, for each mesh that an evaluated view layer shows."""

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
from .reference import Reference, Start, Surface, Surfaces, drawn

MANY = 20000  # vertices; to find the origins of so many on another topology takes longer than a frame may
KEPT = 8  # topologies of a mesh that are kept beside its first one


@dataclass(frozen=True)
class Thing:
    """A mesh to draw.

    Attributes:
        key: of what brought its positions; instances of one mesh share it.
        surface: its vertices and faces now.
        positions: [V, 3] object space, metres; None where they are `surface.first`.
        matrix_world: object to world.
    """

    key: InstanceKey
    start: Start
    surface: Surface
    positions: Float32 | None
    matrix_world: Matrix


@dataclass
class _MeshState:
    """A mesh as it was shown last.

    Attributes:
        start: its first topology.
        surface: the one that it had last.
        positions: [V, 3] that it had last.
        frame: of that.
        known: the latest topologies but the first one, the last of them last.
    """

    start: Surface
    surface: Surface
    positions: Float32
    frame: float
    known: list[Surface] = field(default_factory=list)


class Following:
    """Follows the points of one reference from redraw to redraw."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.waiting: dict[str, None] = {}  # names of what is left out, since it cannot be followed in time
        self._states: dict[InstanceKey, _MeshState] = {}

    def things(
        self, depsgraph: bpy.types.Depsgraph, space: bpy.types.SpaceView3D | None = None, hurry: bool = False
    ) -> Iterator[Thing]:
        """What is to be drawn of an evaluated view layer.

        Args:
            space: whose local view counts, if it has one.
            hurry: to leave out what takes long.
        """
        scene = depsgraph.scene
        # Not `frame_current_final`, which is the stretched time: the reference has frame numbers.
        reference, frame = self.reference, scene.frame_current + scene.frame_subframe
        # By surface and mesh, in this redraw.
        found: dict[tuple[int, int], tuple[InstanceKey, Surface, Float32 | None] | None] = {}
        fresh: Surfaces = {}
        self.waiting.clear()
        reference.materials.begin_sample(depsgraph)
        for seen in InstanceReader(depsgraph.view_layer).read(depsgraph):
            if seen.kind != "MESH" or not seen.visibility.visible or not _in_view(seen, space):
                continue
            mesh = seen.obj.data
            if mesh.is_editmode or not mesh.polygons:
                continue
            start = reference.starts.get(seen.key)
            if start is None or (seen.name in reference.late and frame < start.frame):
                start = reference.begin(frame, seen, fresh)
                if start is None:
                    continue
                reference.late.setdefault(seen.name)
            address = id(start.surface), mesh.as_pointer()
            if address not in found:
                found[address] = self._find(start.surface, frame, seen, hurry)
            place = found[address]
            if place is None:
                self.waiting.setdefault(seen.name)
            else:
                yield Thing(place[0], start, place[1], place[2], seen.item.matrix_world.copy())

    def _find(
        self, start: Surface, frame: float, seen: Instance, hurry: bool
    ) -> tuple[InstanceKey, Surface, Float32 | None] | None:
        """What a mesh that began as `start` shows now; None where that has to wait."""
        reader, mesh = self.reference.reader, seen.obj.data
        state = self._states.get(seen.key)
        if state is None or state.start is not start:
            state = self._states[seen.key] = _MeshState(start, start, start.first, frame)
        surface = next(
            (item for item in (state.surface, start, *state.known) if reader.has_topology(mesh, item.topology)), None
        )
        if surface is None:
            if hurry and len(mesh.vertices) > MANY:
                return None
            surface = self._carry(state, frame, seen)
        now = reader.positions(mesh)
        positions = None if same_bytes(now, surface.first) else np.array(now, np.float32)
        state.surface, state.frame = surface, frame
        state.positions = surface.first if positions is None else positions
        return seen.key, surface, positions

    def _carry(self, state: _MeshState, frame: float, seen: Instance) -> Surface:
        """The present topology of a mesh, whose points come from what it showed last."""
        reader, mesh = self.reference.reader, seen.obj.data
        last = state.surface
        births = np.zeros(len(last.first), np.int32) if last.births is None else last.births
        before = carrying.Surface(state.positions, last.faces, last.first, births)
        triangles, _ = reader.triangles(mesh)
        found = carrying.carry(before, reader.positions(mesh), triangles, round(frame))
        if abs(frame - state.frame) > 1 and np.any(found.births == round(frame)):
            # It may have been there since any frame between.
            self.reference.late.setdefault(seen.name)
        both, one = drawn(triangles, reader, seen, self.reference.materials)
        topology = reader.topology(mesh, by_counts=False)
        surface = Surface(found.origins, triangles, both, one, topology, found.births)
        state.known = [*state.known[1 - KEPT :], surface]
        return surface


def _in_view(seen: Instance, space: bpy.types.SpaceView3D | None) -> bool:
    if space is None or space.local_view is None:
        return True
    base = seen.item.parent if seen.item.is_instance and seen.item.parent is not None else seen.obj
    return base.original.local_view_get(space)
