# SPDX-License-Identifier: GPL-3.0-or-later
"""Small things to put into a scene, and captures of them at one picture size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import bpy
import numpy as np

from trackshade.core.fitting import FrameMap, SizeFit, fit_frames, fit_size
from trackshade.shot import MeshTrack, Shot
from trackshade_addon.capture import capture

SIZE = (96, 64)
EEVEE = "BLENDER_EEVEE_NEXT" if bpy.app.version < (5, 0, 0) else "BLENDER_EEVEE"


def frames(count: int, start: float = 1, step: float = 1) -> FrameMap:
    return fit_frames(start, start + (count - 1) * step, step, 24.0, (count,))


def fit(scene: bpy.types.Scene, size: tuple[int, int] = SIZE, mode: str = "pad") -> SizeFit:
    render = scene.render
    source = (render.resolution_x, render.resolution_y)
    return fit_size(source, (render.pixel_aspect_x, render.pixel_aspect_y), (size,), mode)


def shoot(scene: bpy.types.Scene, count: int = 3, **options: object) -> Shot:
    """Captures frames 1 to `count`."""
    return capture(scene, frame_map=frames(count), size_fit=fit(scene), **options)  # type: ignore[arg-type]


def use_engine(scene: bpy.types.Scene, engine: str) -> None:
    """Sets the render engine. Without graphics hardware the shadows of EEVEE take nearly all of its time."""
    scene.render.engine = engine
    scene.eevee.taa_render_samples, scene.eevee.use_shadows = 16, False


def add(scene: bpy.types.Scene, name: str, data: bpy.types.ID | None) -> bpy.types.Object:
    obj = bpy.data.objects.new(name, data)
    scene.collection.objects.link(obj)
    return obj


def add_camera(scene: bpy.types.Scene, location: Sequence[float] = (0, -10, 0)) -> bpy.types.Object:
    """A camera that looks along +y."""
    camera = add(scene, "Camera", bpy.data.cameras.new("Camera"))
    camera.location = location
    camera.rotation_euler = (np.pi / 2, 0, 0)
    scene.camera = camera
    return camera


def mesh(name: str, vertices: Sequence[Sequence[float]], faces: Sequence[Sequence[int]]) -> bpy.types.Mesh:
    data = bpy.data.meshes.new(name)
    data.from_pydata([tuple(v) for v in vertices], [], [tuple(f) for f in faces])
    return data


def triangle(name: str = "Triangle") -> bpy.types.Mesh:
    return mesh(name, [(0, 0, 0), (1, 0, 0), (0, 0, 1)], [(0, 1, 2)])


def grid(name: str = "Grid", cells: int = 4) -> bpy.types.Mesh:
    """A square of side 2 in the xz plane, which faces the camera of `add_camera`."""
    line = np.linspace(-1, 1, cells + 1)
    vertices = [(x, 0.0, z) for z in line for x in line]
    row = cells + 1
    faces = [(a, a + 1, a + 1 + row, a + row) for z in range(cells) for a in range(z * row, z * row + cells)]
    return mesh(name, vertices, faces)


def key(holder: object, path: str, values: dict[float, object]) -> None:
    """Keys a property, by frame, without interpolation of its own."""
    for frame, value in values.items():
        setattr(holder, path, value)
        holder.keyframe_insert(path, frame=frame)  # type: ignore[attr-defined]


def track(shot: Shot, name: str) -> MeshTrack:
    found = [item for item in shot.meshes if item.name == name]
    assert len(found) == 1, [item.name for item in shot.meshes]
    return found[0]


def names(shot: Shot) -> list[str]:
    return sorted(item.name for item in shot.meshes)


def world(shot: Shot, name: str, t: int) -> np.ndarray:
    """[V, 3] world positions of the track of that name."""
    return shot.world_positions(shot.meshes.index(track(shot, name)), t)


@contextmanager
def node_group(name: str) -> Iterator[bpy.types.NodeTree]:
    """An empty geometry node group with geometry in and out: nodes "in" and "out"."""
    group = bpy.data.node_groups.new(name, "GeometryNodeTree")
    for side in ("INPUT", "OUTPUT"):
        group.interface.new_socket("Geometry", in_out=side, socket_type="NodeSocketGeometry")
    group.nodes.new("NodeGroupInput").name = "in"
    group.nodes.new("NodeGroupOutput").name = "out"
    yield group
