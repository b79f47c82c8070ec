# SPDX-License-Identifier: GPL-3.0-or-later
"""How a shot begins: the rule of its colours, and where each surface point is in the first frame.

The rule comes from a capture as every job's does, of as few frames as tell it. The points are those of the viewport's
own evaluation, since they are what is drawn on: its levels of subdivision may be others than the render's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import bpy
import numpy as np
from numpy.typing import NDArray

from trackshade.colours import MeshRule, mesh_rule
from trackshade.fit import FrameMap, SizeFit

from ..capture import Capture
from ..capture.animation import curves
from ..capture.geometry import Float32, Int32, MeshReader, Topology
from ..capture.instances import WITHOUT_SURFACE, Instances, Key, Seen
from ..capture.restore import set_frame, undisturbed

Row = tuple[float, ...]
_BLACK = (0.0, 0.0, 0.0, -1.0)


@dataclass(eq=False)
class Surface:
    """A mesh with one topology, as it was when it was first seen with it; instances share one.

    Attributes:
        first: [V, 3] object space, metres: the origins of the vertices (`trackshade.shot.Geometry.origins`). Those of
            a mesh's first topology are where they were first seen.
        triangles: [F, 3] vertex indices.
        topology: what a later mesh must share for its vertices to be these.
        births: [V] the frame in which each vertex was first seen, rounded; None for the frame of the first topology.
    """

    first: Float32
    triangles: Int32
    topology: Topology
    births: Int32 | None = None


@dataclass(eq=False)
class Start:
    """How one thing of the scene began.

    Attributes:
        frame: in which it was first seen.
        rows: of the matrix from object space to the camera of the shot's first frame, by where the thing was then. A
            holdout's put it behind the camera, where everything is black.
    """

    frame: float
    surface: Surface
    rows: tuple[Row, Row, Row]


@dataclass(eq=False)
class Reference:
    """The first frame of a shot.

    Attributes:
        rule: of the colours.
        starts: by identity; things that nobody knew of are added when they are first met, which is as exact as the
            order in which frames are looked at.
        unseen: names of what is sent and not shown here, since the viewport hides it.
        late: names of what was met later than it was looked for.
    """

    rule: MeshRule
    starts: dict[Key, Start]
    unseen: tuple[str, ...] = ()
    late: dict[str, None] = field(default_factory=dict)
    reader: MeshReader = field(default_factory=MeshReader)
    matrices: dict[Key, NDArray[np.float64]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def meet(self, frame: float, things: Iterable[Seen]) -> None:
        """Takes the things of a frame that are not known yet."""
        surfaces: dict[int, Surface] = {}
        for seen in things:  # each is good until the next
            if seen.obj.type in WITHOUT_SURFACE:
                continue
            self.names.add(seen.name)
            self.matrices.setdefault(seen.key, np.array(seen.item.matrix_world, np.float64))
            if seen.key not in self.starts and seen.appearance.visible:
                self.begin(frame, seen, surfaces)

    def begin(self, frame: float, seen: Seen, surfaces: dict[int, Surface]) -> Start | None:
        """Takes a thing as it is now; None where it has no surface. `surfaces` are those of this frame, by address."""
        mesh = seen.obj.data
        if mesh.is_editmode or not mesh.polygons:
            return None
        surface = surfaces.get(mesh.as_pointer())
        if surface is None:
            first = self.reader.positions(mesh, np.empty((len(mesh.vertices), 3), np.float32))
            triangles, _ = self.reader.triangles(mesh)
            surface = Surface(first, triangles, self.reader.topology(mesh, seen.by_counts))
            surfaces[mesh.as_pointer()] = surface
        matrix = self.matrices.setdefault(seen.key, np.array(seen.item.matrix_world, np.float64))
        x, y, z = (tuple(row) for row in self.rule.numbers(matrix)[:12].reshape(3, 4).tolist())
        start = self.starts[seen.key] = Start(frame, surface, (x, y, _BLACK if seen.appearance.holdout else z))
        return start


def look(
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    frames: FrameMap,
    size: SizeFit,
    camera: bpy.types.Object | None = None,
) -> Reference:
    """The first frame of a shot, and of what appears later the frame in which it does; the scene is left as it was.

    Args:
        frames, size: as `capture.plan` gives them.
        camera: seen through in every frame; by default the scene's own.

    Raises:
        ShotError: what a capture would raise.
    """
    few = replace(frames, frames=tuple(frames.frames[t] for t in _beginnings(view_layer, frames)))
    with Capture(scene, view_layer, frame_map=few, size_fit=size, camera=camera) as capture:
        while capture.done < capture.total:
            capture.step()
    shot = capture.shot()
    reference = Reference(mesh_rule(shot), {})
    things = Instances(view_layer)
    with undisturbed(scene):
        for frame in few.frames:
            set_frame(scene, frame)
            reference.meet(frame, things.of(view_layer.depsgraph))
    reference.unseen = tuple(dict.fromkeys(mesh.name for mesh in shot.meshes if mesh.name not in reference.names))
    return reference


def _beginnings(view_layer: bpy.types.ViewLayer, frames: FrameMap) -> list[int]:
    """The first sample, and those in which something is switched on that was off before."""
    chosen = {0}
    for obj in view_layer.objects:
        for curve in curves(obj):
            if curve.data_path == "hide_render":
                shown = [t for t, frame in enumerate(frames.frames) if curve.evaluate(frame) < 0.5]
                chosen.update(shown[:1])
    return sorted(chosen)
