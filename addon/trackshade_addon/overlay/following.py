# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the points of the first frame are now, for each mesh that an evaluated view layer shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Matrix

from ..capture.geometry import Float32, Topology
from ..capture.instances import Instances, Key, Seen
from ..capture.recording import same_bytes
from ..capture.topology import Attachment, attach
from .reference import Reference, Start, Surface, Surfaces

MANY = 4000  # points; to find so many again on another topology takes longer than a frame may


@dataclass(frozen=True)
class Thing:
    """A mesh to draw.

    Attributes:
        key: of what brought its positions; instances of one mesh share it.
        positions: [V, 3] object space, metres; None where they are the first frame's.
        matrix_world: object to world.
    """

    key: Key
    start: Start
    positions: Float32 | None
    matrix_world: Matrix


@dataclass
class _Ride:
    """Points on another topology than their own."""

    topology: Topology
    attachment: Attachment


class Following:
    """Follows the points of one reference from redraw to redraw."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.waiting: dict[str, None] = {}  # names of what is left out, since it cannot be followed in time
        self._rides: dict[Key, _Ride] = {}

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
        found: dict[tuple[int, int], tuple[Key, Float32 | None] | None] = {}  # in this redraw
        fresh: Surfaces = {}
        self.waiting.clear()
        reference.materials.begin(depsgraph)
        for seen in Instances(depsgraph.view_layer).of(depsgraph):
            if seen.kind != "MESH" or not seen.appearance.visible or not _in_view(seen, space):
                continue
            mesh = seen.obj.data
            if mesh.is_editmode:
                continue
            start = reference.starts.get(seen.key)
            if start is None or (seen.name in reference.late and frame < start.frame):
                start = reference.begin(frame, seen, fresh)
                if start is None:
                    continue
                reference.late.setdefault(seen.name)
            address = id(start.surface), mesh.as_pointer()
            if address not in found:
                found[address] = self._find(start.surface, seen, hurry)
            place = found[address]
            if place is None:
                self.waiting.setdefault(seen.name)
            else:
                yield Thing(place[0], start, place[1], seen.item.matrix_world.copy())

    def _find(self, surface: Surface, seen: Seen, hurry: bool) -> tuple[Key, Float32 | None] | None:
        """The points of a surface on a mesh; None where that has to wait."""
        reader, mesh = self.reference.reader, seen.obj.data
        if reader.has_topology(mesh, surface.topology):
            self._rides.pop(seen.key, None)
            now = reader.positions(mesh)
        else:
            if not mesh.polygons:
                return None
            ride = self._rides.get(seen.key)
            if ride is None or not reader.has_topology(mesh, ride.topology):
                if hurry and len(surface.first) > MANY:
                    return None
                triangles, _ = reader.triangles(mesh)
                there = reader.positions(mesh)
                ride = _Ride(reader.topology(mesh, by_counts=False), attach(surface.first, there, triangles))
                self._rides[seen.key] = ride
            now = ride.attachment.positions(reader.positions(mesh))
        return seen.key, None if same_bytes(now, surface.first) else np.array(now, np.float32)


def _in_view(seen: Seen, space: bpy.types.SpaceView3D | None) -> bool:
    if space is None or space.local_view is None:
        return True
    base = seen.item.parent if seen.item.is_instance and seen.item.parent is not None else seen.obj
    return base.original.local_view_get(space)
