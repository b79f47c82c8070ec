# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts what an evaluation of a scene shows: objects, vertices, bytes, what is in view, and what materials hide."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import bpy
import numpy as np

from trackshade.core import geometry
from trackshade.core.fitting import SizeFit
from trackshade.shot import CameraTrack

from ..capture.camera import camera_intrinsics, sees
from ..capture.geometry import keeps_topology, surface
from ..capture.instances import InstanceKey, InstanceReader
from ..capture.materials import MaterialEvaluator, MaterialNotes
from ..capture.request import ShotRequest

CAMERA_TYPES = ("PERSP", "ORTHO")
_STATIC_MODIFIERS = {
    *("ARRAY", "BEVEL", "DECIMATE", "EDGE_SPLIT", "MASK", "MIRROR", "MULTIRES", "SCREW", "SKIN", "SOLIDIFY"),
    *("SUBSURF", "TRIANGULATE", "UV_PROJECT", "WELD", "WEIGHTED_NORMAL", "WIREFRAME"),
}
_REBUILDING_MODIFIERS = {"EXPLODE", "FLUID", "REMESH"}


@dataclass
class Census:
    """What is visible in one frame, or in several."""

    objects: dict[InstanceKey, str] = field(default_factory=dict)  # name by instance
    vertices: dict[InstanceKey, int] = field(default_factory=dict)  # number of vertices by instance
    seen: set[InstanceKey] = field(default_factory=set)  # instances in view of the camera
    meshes: dict[int, int] = field(default_factory=dict)  # bytes that are sent, by address of the evaluated mesh
    changing: dict[str, None] = field(default_factory=dict)  # names of objects whose vertices change
    left_out: dict[str, None] = field(default_factory=dict)  # names of objects without a surface that renders show
    notes: MaterialNotes = field(default_factory=MaterialNotes)  # what there is to say about materials
    whole: bool = True  # whether everything was counted

    def add(self, other: Census) -> None:
        """Adds what another frame shows."""
        for key in self.vertices.keys() & other.vertices.keys():
            if self.vertices[key] != other.vertices[key]:
                self.changing[self.objects[key]] = None
        self.objects |= other.objects
        self.vertices |= other.vertices
        self.seen |= other.seen
        self.changing |= other.changing
        self.left_out |= other.left_out
        self.notes.add(other.notes)
        self.whole &= other.whole
        if sum(other.meshes.values()) > sum(self.meshes.values()):
            self.meshes = other.meshes


def count_visible(
    view_layer: bpy.types.ViewLayer,
    depsgraph: bpy.types.Depsgraph,
    camera: bpy.types.Object | None,
    size: SizeFit,
    samples: int,
    request: ShotRequest,
    limit: float | None,
) -> Census:
    """Counts what an evaluation shows, as much of it as `limit` seconds allow."""
    census = Census()
    track = None if camera is None else _camera_track(camera, depsgraph, size)
    until = None if limit is None else time.perf_counter() + limit
    for seen in InstanceReader(view_layer).read(depsgraph):
        if until is not None and time.perf_counter() > until:
            census.whole = False
            break
        if not seen.visibility.visible:
            continue
        if seen.kind != "MESH":
            if seen.kind not in ("HAIR", "CURVES") or request.hair == "none":
                census.left_out.setdefault(seen.name)
            continue
        with surface(seen.obj) as mesh:
            if not mesh.polygons:
                continue
            original = seen.obj.original
            census.objects[seen.key] = seen.name
            census.vertices[seen.key] = len(mesh.vertices)
            address = seen.obj.data.as_pointer()
            if address not in census.meshes:
                census.meshes[address] = _mesh_bytes(mesh, samples if may_deform(original) else 1)
                if may_rebuild(original):
                    census.changing[seen.name] = None
        corners = np.array([tuple(corner) for corner in seen.obj.bound_box], np.float64)  # [8, 3] object space
        matrix = np.array(seen.item.matrix_world)
        world = corners @ matrix[:3, :3].T + matrix[:3, 3]
        if track is None or sees(track, size.size, 0, world):
            census.seen.add(seen.key)
    _read_materials(census, view_layer, depsgraph, request, until)
    return census


def _read_materials(
    census: Census,
    view_layer: bpy.types.ViewLayer,
    depsgraph: bpy.types.Depsgraph,
    request: ShotRequest,
    until: float | None,
) -> None:
    """Removes fully transparent objects from a census, and adds findings about materials, as far as there is time."""
    materials = MaterialEvaluator(view_layer, request.glass)
    materials.begin_sample(depsgraph)
    for seen in InstanceReader(view_layer).read(depsgraph):
        if until is not None and time.perf_counter() > until:
            break
        if seen.key in census.objects and seen.kind == "MESH":
            looks = materials.evaluate(seen.obj, seen.obj.data, seen.name)
            if looks and not any(look.is_shown for look in looks):
                del census.objects[seen.key]
                census.vertices.pop(seen.key)
                census.seen.discard(seen.key)
    census.notes = materials.notes


def _camera_track(camera: bpy.types.Object, depsgraph: bpy.types.Depsgraph, size: SizeFit) -> CameraTrack | None:
    """Returns the camera in this one frame; None where it cannot see anything."""
    evaluated = camera.evaluated_get(depsgraph)
    data = evaluated.data
    if not isinstance(data, bpy.types.Camera) or data.type not in CAMERA_TYPES:
        return None
    matrix = np.array(evaluated.matrix_world, np.float64)
    if not np.isfinite(matrix).all() or not matrix[:3, :3].any(axis=0).all():
        return None
    return CameraTrack(
        name=camera.name,
        sources=(camera.name,),
        intrinsics=camera_intrinsics(data, camera.name, size)[None],
        world_to_camera=geometry.world_to_camera(matrix)[None],
        orthographic=np.array([data.type == "ORTHO"]),
        clip=np.array([[data.clip_start, data.clip_end]], np.float64),
    )


def _mesh_bytes(mesh: bpy.types.Mesh, samples: int) -> int:
    """Returns the size of a mesh as it is sent: positions, triangles, texture coordinates."""
    triangles = len(mesh.loops) - 2 * len(mesh.polygons)
    return 12 * samples * len(mesh.vertices) + triangles * (12 + (24 if mesh.uv_layers else 0))


def may_deform(obj: bpy.types.Object) -> bool:
    """Returns whether an original object's mesh may have other positions in other frames, judging by its settings."""
    if obj.type != "MESH" or obj.data is None:
        return True  # curves, text and metaballs are evaluated anew
    animated = obj.data.animation_data is not None or obj.data.shape_keys is not None
    deformed = any(item.type not in _STATIC_MODIFIERS for item in obj.modifiers)
    return animated or deformed or obj.parent_type == "ARMATURE"


def may_rebuild(obj: bpy.types.Object) -> bool:
    """Returns whether an original object certainly has other vertices in other frames."""
    rebuilds = any(item.type in _REBUILDING_MODIFIERS and item.show_render for item in obj.modifiers)
    return rebuilds and not keeps_topology(obj)
