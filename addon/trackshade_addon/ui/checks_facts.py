# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is to know of a scene before a job, without changing it.

`look` reads what Blender has evaluated for the present frame, within a limit of time, so that a timer may call it while
somebody works. `look_at_frames` steps to the shot's first, middle and last frame, as a capture does, and puts all back.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from trackshade import conventions, registry
from trackshade.errors import TrackshadeError
from trackshade.fit import FrameMap, SizeFit
from trackshade.registry import ModelSpec
from trackshade.shot import CameraTrack

from .. import backend
from ..capture.camera import camera_intrinsics, sees
from ..capture.geometry import keeps_topology
from ..capture.instances import Instances, Key
from ..capture.plan import plan
from ..capture.render_state import RenderState
from ..capture.restore import fix_camera, set_frame, undisturbed
from ..chosen import RESULTS, preferences
from ..job import What
from ..place.colour import inverse_space
from . import words
from .checks import Facts

LIMIT = 0.006  # seconds that a look at the present frame may take
NAMES = 20  # objects that are remembered by name
_STATIC = {"ARRAY", "BEVEL", "DECIMATE", "EDGE_SPLIT", "MASK", "MIRROR", "MULTIRES", "SCREW", "SKIN", "SOLIDIFY",
           "SUBSURF", "TRIANGULATE", "UV_PROJECT", "WELD", "WEIGHTED_NORMAL", "WIREFRAME"}  # fmt: skip
_REBUILDS = {"EXPLODE", "FLUID", "REMESH"}


@dataclass
class Census:
    """What is visible in one frame, or in several."""

    objects: dict[Key, str] = field(default_factory=dict)  # name by instance
    vertices: dict[Key, int] = field(default_factory=dict)
    seen: set[Key] = field(default_factory=set)
    meshes: dict[int, int] = field(default_factory=dict)  # bytes that are sent, by evaluated mesh
    changing: dict[str, None] = field(default_factory=dict)
    whole: bool = True

    def add(self, other: Census) -> None:
        """What another frame shows."""
        for key in self.vertices.keys() & other.vertices.keys():
            if self.vertices[key] != other.vertices[key]:
                self.changing[self.objects[key]] = None
        self.objects |= other.objects
        self.vertices |= other.vertices
        self.seen |= other.seen
        self.changing |= other.changing
        self.whole &= other.whole
        if sum(other.meshes.values()) > sum(self.meshes.values()):
            self.meshes = other.meshes


def look(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, what: What) -> Facts:
    """The facts of the present frame, as the viewport has evaluated it; never waits long."""
    view_layer.update()  # what a script has removed since may still be in the evaluation, pointing to freed memory
    facts, frames, size = _settled(scene, what)
    depsgraph = view_layer.depsgraph
    if depsgraph is None or frames is None or size is None:
        return facts
    camera = _camera_of(scene, what, facts)
    census = _census(view_layer, depsgraph, camera, size, len(frames.frames), LIMIT)
    now = scene.frame_current + scene.frame_subframe
    first = abs(now - frames.frames[0]) < 1e-3
    facts = _counted(facts, census, (now,), len(census.seen) if first else None, frames)
    return facts if census.objects else replace(facts, unrendered=_unrendered(view_layer))


def look_at_frames(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, what: What) -> Facts:
    """The facts of the shot's first, middle and last frame; the scene is as it was afterwards. Takes Blender's time."""
    facts, frames, size = _settled(scene, what)
    if frames is None or size is None:
        return facts
    samples = [frames.frames[t] for t in sorted({0, len(frames.frames) // 2, len(frames.frames) - 1})]
    census, seen_first = Census(), 0
    with undisturbed(scene) as changes:
        if what.camera is not None and what.camera in scene.objects:
            fix_camera(changes, scene, scene.objects[what.camera])
        state = RenderState(changes, scene, view_layer, lambda sentence: None)
        for sample in samples:
            set_frame(scene, sample)
            depsgraph = view_layer.depsgraph
            state.follow(depsgraph)
            found = _census(view_layer, depsgraph, scene.camera, size, len(frames.frames), None)
            if sample == samples[0]:
                seen_first = len(found.seen)
            census.add(found)
    facts = _counted(facts, census, tuple(samples), seen_first, frames)
    return facts if census.objects else replace(facts, unrendered=_unrendered(view_layer))


def _settled(scene: bpy.types.Scene, what: What) -> tuple[Facts, FrameMap | None, SizeFit | None]:
    """What does not depend on the frame."""
    spec, frames, size, error = None, None, None, ""
    try:
        spec = registry.spec(what.model)
        sized = spec if what.size is None else replace(spec, sizes=(what.size,))
        frames, size = plan(scene, sized, *what.frames, frame_rule=what.frame_rule, size_mode=what.size_mode)
    except TrackshadeError as found:
        error = words.told(found)
    camera = _camera_name(scene, what)
    own = preferences()
    picture = None if what.first_frame in ("render", "none") else what.first_frame
    facts = Facts(
        camera=None if camera is None else camera.name,
        camera_kind=camera.data.type if camera is not None and isinstance(camera.data, bpy.types.Camera) else "",
        plan="" if frames is None else frames.statement,
        plan_error=error,
        rule="exact" if frames is None else frames.rule,
        memory_free=free_memory(),
        saved=bool(bpy.data.filepath),
        relative=(own.results if own is not None else RESULTS).startswith("//"),
        picture=picture,
        picture_there=picture is None or Path(picture).is_file(),
        colour=tuple(inverse_space(scene)[1]),
    )
    return (facts if spec is None else replace(facts, **_of_model(spec))), frames, size


def _of_model(spec: ModelSpec) -> dict[str, Any]:
    state = backend.state()
    here = bool(backend.choice().address) or registry.is_present(spec)
    loaded = state.kind == "ready" and spec.shipped  # the little model is loaded with the backend
    free = None if loaded else state.free_bytes
    return {"model": spec.title, "model_here": here, "model_memory": spec.memory_bytes, "device_free": free}


def _counted(facts: Facts, census: Census, frames: tuple[float, ...], seen_first: int | None, plan: FrameMap) -> Facts:
    unseen = dict.fromkeys(name for key, name in census.objects.items() if key not in census.seen)
    matrices = 128 * len(plan.frames) * len(census.objects)
    return replace(
        facts,
        frames=frames,
        first=seen_first is not None,
        objects=len(census.objects),
        vertices=sum(census.vertices.values()),
        sent=sum(census.meshes.values()) + matrices,
        whole=census.whole,
        seen=len(census.seen),
        seen_first=seen_first or 0,
        unseen=tuple(unseen)[:NAMES],
        changing=tuple(census.changing)[:NAMES],
    )


def _camera_name(scene: bpy.types.Scene, what: What) -> bpy.types.Object | None:
    """The camera that the first frame is seen through."""
    if what.camera is not None and what.camera in scene.objects:
        return scene.objects[what.camera]
    return scene.camera or next((marker.camera for marker in scene.timeline_markers if marker.camera), None)


def _camera_of(scene: bpy.types.Scene, what: What, facts: Facts) -> bpy.types.Object | None:
    return _camera_name(scene, what) if facts.camera_kind in ("PERSP", "ORTHO") else None


def _census(
    view_layer: bpy.types.ViewLayer,
    depsgraph: bpy.types.Depsgraph,
    camera: bpy.types.Object | None,
    size: SizeFit,
    samples: int,
    limit: float | None,
) -> Census:
    """What the present evaluation shows, as much of it as `limit` seconds allow if that is given."""
    census = Census()
    track = None if camera is None else _track(camera, depsgraph, size)
    things = Instances(view_layer)
    began = time.perf_counter()
    for seen in things.of(depsgraph):
        if limit is not None and time.perf_counter() - began > limit:
            census.whole = False
            break
        if not seen.appearance.visible or seen.obj.type != "MESH":
            continue
        mesh = seen.obj.data
        if not mesh.polygons:
            continue
        original = seen.obj.original
        census.objects[seen.key] = seen.name
        census.vertices[seen.key] = len(mesh.vertices)
        address = mesh.as_pointer()
        if address not in census.meshes:
            census.meshes[address] = _bytes(mesh, samples if may_deform(original) else 1)
            if may_rebuild(original):
                census.changing[seen.name] = None
        corners = np.array([tuple(corner) for corner in seen.obj.bound_box], np.float64)  # [8, 3] object space
        matrix = np.array(seen.item.matrix_world)
        world = corners @ matrix[:3, :3].T + matrix[:3, 3]
        if track is None or sees(track, size.size, 0, world):
            census.seen.add(seen.key)
    return census


def _track(camera: bpy.types.Object, depsgraph: bpy.types.Depsgraph, size: SizeFit) -> CameraTrack | None:
    """The camera in this one frame; None where it cannot see."""
    evaluated = camera.evaluated_get(depsgraph)
    data = evaluated.data
    if not isinstance(data, bpy.types.Camera) or data.type not in ("PERSP", "ORTHO"):
        return None
    matrix = np.array(evaluated.matrix_world, np.float64)
    if not np.isfinite(matrix).all() or not matrix[:3, :3].any(axis=0).all():
        return None
    return CameraTrack(
        name=camera.name,
        sources=(camera.name,),
        intrinsics=camera_intrinsics(data, camera.name, size)[None],
        world_to_camera=conventions.world_to_camera(matrix)[None],
        orthographic=np.array([data.type == "ORTHO"]),
        clip=np.array([[data.clip_start, data.clip_end]], np.float64),
    )


def _bytes(mesh: bpy.types.Mesh, samples: int) -> int:
    """Of a mesh as it is sent: positions, triangles, texture coordinates."""
    triangles = len(mesh.loops) - 2 * len(mesh.polygons)
    return 12 * samples * len(mesh.vertices) + triangles * (12 + (24 if mesh.uv_layers else 0))


def may_deform(obj: bpy.types.Object) -> bool:
    """Whether an original object's mesh may have other positions in other frames, as far as its settings tell."""
    if obj.type != "MESH" or obj.data is None:
        return True  # curves, text and balls are made anew
    animated = obj.data.animation_data is not None or obj.data.shape_keys is not None
    return animated or obj.parent_type == "ARMATURE" or any(item.type not in _STATIC for item in obj.modifiers)


def may_rebuild(obj: bpy.types.Object) -> bool:
    """Whether an original object's vertices are sure to be other ones in other frames."""
    return any(item.type in _REBUILDS and item.show_render for item in obj.modifiers) and not keeps_topology(obj)


def _unrendered(view_layer: bpy.types.ViewLayer) -> tuple[str, ...]:
    """Names of objects with a surface that are to be seen in the viewport, and not in renders."""
    found: Iterable[bpy.types.Object] = view_layer.objects
    return tuple(
        obj.name for obj in found if obj.type in ("MESH", "CURVE", "SURFACE", "FONT", "META") and obj.hide_render
        and obj.visible_get(view_layer=view_layer)
    )[:NAMES]  # fmt: skip


def free_memory() -> int | None:
    """Main memory that programs may still take, bytes; None where the system does not say."""
    if sys.platform == "win32":
        return _free_on_windows()
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2  # macOS compresses and swaps early
    except (OSError, ValueError, AttributeError):
        return None


def _free_on_windows() -> int | None:
    class Status(ctypes.Structure):
        _fields_ = [
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "a", "b", "c", "d", "e")),
        ]

    status = Status()
    status.length = ctypes.sizeof(Status)
    call = getattr(ctypes, "windll").kernel32.GlobalMemoryStatusEx  # noqa: B009 - only Windows has it
    return status.free if call(ctypes.byref(status)) else None
