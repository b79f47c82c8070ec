# SPDX-License-Identifier: GPL-3.0-or-later
"""How a shot begins: the rule of its colors, and where each surface point is in the first frame.

The rule comes from a capture as every job's does, of as few frames as tell it. The points are those of the viewport's
own evaluation, since they are what is drawn on: its levels of subdivision may be others than the render's.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace

import bpy
import numpy as np
from numpy.typing import NDArray

from trackshade.core.fitting import FrameMap, SizeFit
from trackshade.shot.track_colors import MeshRule, mesh_rule

from ..capture import Capture
from ..capture.animation import curves, time_of
from ..capture.geometry import Float32, Int32, MeshReader, Topology
from ..capture.instances import Instance, InstanceKey, InstanceReader
from ..capture.materials import MaterialEvaluator, SlotAppearances
from ..capture.restore import preserve_scene
from ..capture.stepping import Stepper, Steps, finish

Row = tuple[float, ...]
_BLACK = (0.0, 0.0, 0.0, -1.0)


@dataclass(eq=False)
class Surface:
    """A mesh with one topology, as it was when it was first seen with it; instances share one.

    Attributes:
        first: [V, 3] object space, metres: the origins of the vertices (`trackshade.shot.Geometry.origins`). Those of
            a mesh's first topology are where they were first seen.
        faces: [F, 3] vertex indices of all triangles.
        triangles: [F, 3] those that are drawn from both sides.
        one_sided: [F, 3] those that are drawn only where they turn counter-clockwise, as one sees them.
        topology: what a later mesh must share for its vertices to be these.
        births: [V] the frame in which each vertex was first seen, rounded; None for the frame of the first topology.
    """

    first: Float32
    faces: Int32
    triangles: Int32
    one_sided: Int32
    topology: Topology
    births: Int32 | None = None


Surfaces = dict[tuple[int, SlotAppearances], Surface]  # by the mesh's address and how its materials are shown


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
        rule: of the colors.
        starts: by identity; things that nobody knew of are added when they are first met, which is as exact as the
            order in which frames are looked at.
        unseen: names of what is sent and not shown here, since the viewport hides it.
        late: names of what was met later than it was looked for.
        materials: say what the render shows through, which is asked when a thing is met.
    """

    rule: MeshRule
    starts: dict[InstanceKey, Start]
    materials: MaterialEvaluator
    unseen: tuple[str, ...] = ()
    late: dict[str, None] = field(default_factory=dict)
    reader: MeshReader = field(default_factory=MeshReader)
    matrices: dict[InstanceKey, NDArray[np.float64]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def meet(self, frame: float, things: Iterable[Instance]) -> None:
        """Takes the things of a frame that are not known yet."""
        surfaces: Surfaces = {}
        for seen in things:  # each is good until the next
            if seen.kind != "MESH":
                continue
            self.names.add(seen.name)
            self.matrices.setdefault(seen.key, np.array(seen.item.matrix_world, np.float64))
            if seen.key not in self.starts and seen.visibility.visible:
                self.begin(frame, seen, surfaces)

    def begin(self, frame: float, seen: Instance, surfaces: Surfaces) -> Start | None:
        """Takes a thing as it is now; None where the render shows nothing of it. `surfaces` are those of this frame."""
        mesh = seen.obj.data
        if mesh.is_editmode or not mesh.polygons:
            return None
        looks = self.materials.evaluate(seen.obj, mesh, seen.name)
        if looks and not any(look.is_shown for look in looks):
            return None
        key = mesh.as_pointer(), looks
        surface = surfaces.get(key)
        if surface is None:
            first = self.reader.positions(mesh, np.empty((len(mesh.vertices), 3), np.float32))
            triangles, _ = self.reader.triangles(mesh)
            both, one = drawn(triangles, self.reader, seen, self.materials)
            topology = self.reader.topology(mesh, seen.by_counts)
            surface = surfaces[key] = Surface(first, triangles, both, one, topology)
        matrix = self.matrices.setdefault(seen.key, np.array(seen.item.matrix_world, np.float64))
        x, y, z = (tuple(row) for row in self.rule.packed_parameters(matrix)[:12].reshape(3, 4).tolist())
        start = self.starts[seen.key] = Start(frame, surface, (x, y, _BLACK if seen.visibility.holdout else z))
        return start


def drawn(triangles: Int32, reader: MeshReader, seen: Instance, materials: MaterialEvaluator) -> tuple[Int32, Int32]:
    """Those of [F, 3] triangles that are drawn from both sides, and those from one, turned so that it is their front.

    Args:
        triangles: of the mesh that is seen.
    """
    looks = materials.evaluate(seen.obj, seen.obj.data, seen.name)
    if not looks:
        return triangles, triangles[:0]
    slots = reader.slots(seen.obj.data)
    of = np.zeros(len(triangles), np.int32) if slots is None else np.minimum(slots, len(looks) - 1)
    front, back = np.array([(look.front, look.back) for look in looks], np.bool_)[of].T
    one = np.concatenate([triangles[front & ~back], triangles[back & ~front][:, ::-1]])
    return np.ascontiguousarray(triangles[front & back]), np.ascontiguousarray(one)


def look(
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    frames: FrameMap,
    size: SizeFit,
    camera: bpy.types.Object | None = None,
    glass: str = "opaque",
) -> Reference:
    """The first frame of a shot, and of what appears later the frame in which it does; the scene is left as it was.

    See `looking`, which does it a little at a time.
    """
    return finish(looking(scene, view_layer, frames, size, camera, glass))


def looking(
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    frames: FrameMap,
    size: SizeFit,
    camera: bpy.types.Object | None = None,
    glass: str = "opaque",
) -> Generator[Steps, None, Reference]:
    """The first frame of a shot, and of what appears later the frame in which it does; the scene is left as it was.

    Yields the frames of simulations that were stepped, of how many.

    Args:
        frames, size: as `capture.fit_scene` gives them.
        camera: seen through in every frame; by default the scene's own.
        glass: "opaque" or "through", as `Capture` takes it.

    Raises:
        ShotError: what a capture would raise.
    """
    few = replace(frames, frame_numbers=tuple(frames.frame_numbers[t] for t in _beginnings(scene, view_layer, frames)))
    with Capture(scene, view_layer, frame_map=few, size_fit=size, camera=camera, glass=glass) as capture:
        while capture.done < capture.total:
            capture.step()
            if capture.simulated is not None:
                yield capture.simulated
    shot = capture.shot()
    reference = Reference(mesh_rule(shot), {}, MaterialEvaluator(view_layer, glass))
    things = InstanceReader(view_layer)
    with preserve_scene(scene) as changes:
        stepper = Stepper(scene, view_layer, few.frame_numbers, changes)
        for frame in few.frame_numbers:
            yield from stepper.to(frame)
            reference.materials.begin_sample(view_layer.depsgraph)
            reference.meet(frame, things.read(view_layer.depsgraph))
    reference.unseen = tuple(dict.fromkeys(mesh.name for mesh in shot.meshes if mesh.name not in reference.names))
    return reference


def _beginnings(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, frames: FrameMap) -> list[int]:
    """The first sample, and those in which something is switched on that was off before."""
    chosen = {0}
    times = [time_of(scene, frame) for frame in frames.frame_numbers]
    for obj in view_layer.objects:
        for curve in curves(obj):
            if curve.data_path == "hide_render":
                shown = [t for t, time in enumerate(times) if curve.evaluate(time) < 0.5]
                chosen.update(shown[:1])
    return sorted(chosen)
