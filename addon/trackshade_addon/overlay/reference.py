# SPDX-License-Identifier: GPL-3.0-or-later
"""The first frame of a shot, as the overlay needs it: the rule of the colors, and where each surface point is.

The rule comes from a capture, as that of every job, of as few frames as determine it. The points are those of the
viewport's evaluation, since the colors are drawn on that: its levels of subdivision may differ from the render's.
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
from ..capture.stepping import Stepper, Steps

Row = tuple[float, ...]
_BLACK = (0.0, 0.0, 0.0, -1.0)


@dataclass(eq=False)
class OverlayMesh:
    """A mesh with one topology, as it was when it was first seen with it; instances share one."""

    # [V, 3] object space, meters: where each vertex was when it was first seen (`trackshade.shot.Geometry.origins`)
    origins: Float32
    triangles: Int32  # [F, 3] vertex indices of all triangles
    two_sided: Int32  # [F, 3] triangles that are visible from both sides
    one_sided: Int32  # [F, 3] triangles that are visible only from the side on which they are counter-clockwise
    topology: Topology  # topology that a mesh must have for its vertices to be these
    # [V] the frame in which each vertex was first seen, rounded; None for the frame of the first topology
    births: Int32 | None = None


MeshCache = dict[tuple[int, SlotAppearances], OverlayMesh]  # by the mesh's address and how its materials are shown


@dataclass(eq=False)
class InstanceStart:
    """An instance when it was first seen."""

    frame: float  # the frame in which it was first seen
    mesh: OverlayMesh  # its mesh in that frame
    # Rows of the matrix from its object space to the camera of the shot's first frame. A holdout's rows put it behind
    # the camera, where everything is black.
    rows: tuple[Row, Row, Row]


@dataclass(eq=False)
class Reference:
    """The first frame of a shot."""

    rule: MeshRule  # rule of the colors
    # By instance, how it was first seen. Instances that were not known are added when they are first drawn, which is
    # exact if frames are looked at in order.
    starts: dict[InstanceKey, InstanceStart]
    materials: MaterialEvaluator  # tells what renders show of a material
    hidden: tuple[str, ...] = ()  # names of objects that are part of the shot but hidden in the viewport
    # names of instances that may have been first seen later than they appeared
    late: dict[str, None] = field(default_factory=dict)
    reader: MeshReader = field(default_factory=MeshReader)
    matrices: dict[InstanceKey, NDArray[np.float64]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def add_all(self, frame: float, instances: Iterable[Instance]) -> None:
        """Add the instances of a frame that are not known yet."""
        meshes: MeshCache = {}
        for seen in instances:  # each is valid only until the next
            if seen.kind != "MESH":
                continue
            self.names.add(seen.name)
            self.matrices.setdefault(seen.key, np.array(seen.item.matrix_world, np.float64))
            if seen.key not in self.starts and seen.visibility.visible:
                self.add(frame, seen, meshes)

    def add(self, frame: float, seen: Instance, meshes: MeshCache) -> InstanceStart | None:
        """Add an instance as it is in the current frame, in which `meshes` are known already.

        Returns:
            Its start; None where renders show nothing of it.
        """
        mesh = seen.obj.data
        if mesh.is_editmode or not mesh.polygons:
            return None
        looks = self.materials.evaluate(seen.obj, mesh, seen.name)
        if looks and not any(look.is_shown for look in looks):
            return None
        key = mesh.as_pointer(), looks
        known = meshes.get(key)
        if known is None:
            origins = self.reader.positions(mesh, np.empty((len(mesh.vertices), 3), np.float32))
            triangles, _ = self.reader.triangles(mesh)
            topology = self.reader.topology(mesh, seen.by_counts)
            known = OverlayMesh(origins, triangles, *self.split_by_sides(triangles, seen), topology)
            meshes[key] = known
        matrix = self.matrices.setdefault(seen.key, np.array(seen.item.matrix_world, np.float64))
        x, y, z = (tuple(row) for row in self.rule.packed_parameters(matrix)[:12].reshape(3, 4).tolist())
        start = self.starts[seen.key] = InstanceStart(frame, known, (x, y, _BLACK if seen.visibility.holdout else z))
        return start

    def split_by_sides(
        self,
        triangles: Int32,  # [F, 3] of the mesh of the instance
        seen: Instance,
    ) -> tuple[Int32, Int32]:
        """Return the triangles visible from both sides, and those visible from one, turned to face it."""
        looks = self.materials.evaluate(seen.obj, seen.obj.data, seen.name)
        if not looks:
            return triangles, triangles[:0]
        slots = self.reader.slots(seen.obj.data)
        indices = np.zeros(len(triangles), np.int32) if slots is None else np.minimum(slots, len(looks) - 1)
        front, back = np.array([(look.front, look.back) for look in looks], np.bool_)[indices].T
        one_sided = np.concatenate([triangles[front & ~back], triangles[back & ~front][:, ::-1]])
        return np.ascontiguousarray(triangles[front & back]), np.ascontiguousarray(one_sided)


def read_reference_steps(
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    frames: FrameMap,
    size: SizeFit,
    camera: bpy.types.Object | None = None,
    glass: str = "opaque",
) -> Generator[Steps, None, Reference]:
    """Read the first frame of a shot, and of objects that appear later the frame in which they do, in steps.

    The scene is left as it was. Yields how many frames of simulations were stepped, and of how many.

    Args:
        scene: The scene.
        view_layer: The view layer of the shot.
        frames: Frames of the shot, as from `capture.fit_scene`.
        size: Size of the shot, as from `capture.fit_scene`.
        camera: Camera of all frames; by default the scene's.
        glass: "opaque" or "through", as for `Capture`.

    Raises:
        ShotError: The scene cannot be captured.
    """
    numbers = tuple(frames.frame_numbers[t] for t in _first_appearances(scene, view_layer, frames))
    few = replace(frames, frame_numbers=numbers)
    with Capture(scene, view_layer, frame_map=few, size_fit=size, camera=camera, glass=glass) as capture:
        while capture.done < capture.total:
            capture.step()
            if capture.simulated is not None:
                yield capture.simulated
    shot = capture.shot()
    reference = Reference(mesh_rule(shot), {}, MaterialEvaluator(view_layer, glass))
    instances = InstanceReader(view_layer)
    with preserve_scene(scene) as changes:
        stepper = Stepper(scene, view_layer, numbers, changes)
        for frame in numbers:
            yield from stepper.to(frame)
            reference.materials.begin_sample(view_layer.depsgraph)
            reference.add_all(frame, instances.read(view_layer.depsgraph))
    reference.hidden = tuple(dict.fromkeys(mesh.name for mesh in shot.meshes if mesh.name not in reference.names))
    return reference


def _first_appearances(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, frames: FrameMap) -> list[int]:
    """Return the index of the first sample, and of those in which an object becomes visible in renders."""
    chosen = {0}
    times = [time_of(scene, frame) for frame in frames.frame_numbers]
    for obj in view_layer.objects:
        for curve in curves(obj):
            if curve.data_path == "hide_render":
                visible = [t for t, time in enumerate(times) if curve.evaluate(time) < 0.5]
                chosen.update(visible[:1])
    return sorted(chosen)
