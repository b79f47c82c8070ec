# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is to know of a scene before a job, without changing it.

`look` reads what Blender has evaluated for the present frame, within a limit of time, so that a timer may call it while
somebody works. `look_at_frames` steps to the shot's first, middle and last frame, as a capture does, and puts all back.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from trackshade.config import registry
from trackshade.config.registry import ModelSpec
from trackshade.core import geometry
from trackshade.core.errors import TrackshadeError
from trackshade.core.fitting import FrameMap, SizeFit
from trackshade.core.image_files import PictureHeader
from trackshade.shot import CameraTrack
from trackshade.shot.given_image import place_picture

from .. import backend
from ..capture.camera import camera_intrinsics, sees
from ..capture.completeness import Gap, find_gaps
from ..capture.geometry import keeps_topology, surface
from ..capture.given_image import IMAGE, read_given_header
from ..capture.instances import InstanceKey, InstanceReader
from ..capture.materials import MaterialEvaluator, MaterialNotes
from ..capture.render_state import RenderState
from ..capture.request import ShotRequest
from ..capture.restore import fix_camera, preserve_scene
from ..capture.scene_settings import fit_scene
from ..capture.stepping import Stepper, Steps
from ..messages import texts
from ..placement.color import inverse_space
from ..properties.chosen import RESULTS, preferences, unsaved_results_folder
from .checks import Facts

LIMIT = 0.006  # seconds that a look at the present frame may take
SHARE = 0.005  # of the time, at most, that goes into looking for what is missing while somebody works
RENEWAL = 5.0  # seconds after which that is looked for again, at the earliest
NAMES = 20  # objects that are remembered by name
_STATIC = {"ARRAY", "BEVEL", "DECIMATE", "EDGE_SPLIT", "MASK", "MIRROR", "MULTIRES", "SCREW", "SKIN", "SOLIDIFY",
           "SUBSURF", "TRIANGULATE", "UV_PROJECT", "WELD", "WEIGHTED_NORMAL", "WIREFRAME"}  # fmt: skip
_REBUILDS = {"EXPLODE", "FLUID", "REMESH"}


@dataclass
class Census:
    """What is visible in one frame, or in several."""

    objects: dict[InstanceKey, str] = field(default_factory=dict)  # name by instance
    vertices: dict[InstanceKey, int] = field(default_factory=dict)
    seen: set[InstanceKey] = field(default_factory=set)
    meshes: dict[int, int] = field(default_factory=dict)  # bytes that are sent, by evaluated mesh
    changing: dict[str, None] = field(default_factory=dict)
    left_out: dict[str, None] = field(default_factory=dict)  # what renders show and has no surface
    findings: MaterialNotes = field(default_factory=MaterialNotes)  # of the materials
    through: bool = False  # whether what lets light through is left out
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
        self.left_out |= other.left_out
        self.findings.add(other.findings)
        self.through = other.through
        self.whole &= other.whole
        if sum(other.meshes.values()) > sum(self.meshes.values()):
            self.meshes = other.meshes


@dataclass
class _Missing:
    """What was missing when it was looked for last: that reads the disk, and goes through all data.

    Attributes:
        key: the file and what else a renewal cannot wait for.
        due: when it is to be looked for again, by the monotonic clock.
    """

    key: Any
    gaps: tuple[Gap, ...]
    due: float


_missing: dict[int, _Missing] = {}  # by scene


def look(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, what: ShotRequest) -> Facts:
    """The facts of the present frame, as the viewport has evaluated it; never waits long."""
    view_layer.update()  # what a script has removed since may still be in the evaluation, pointing to freed memory
    facts, frames, size = _settled(scene, what)
    depsgraph = view_layer.depsgraph
    if depsgraph is None or frames is None or size is None:
        return facts
    camera = _camera_of(scene, what, facts)
    census = _census(view_layer, depsgraph, camera, size, len(frames.frame_numbers), what, LIMIT)
    now = scene.frame_current + scene.frame_subframe
    first = abs(now - frames.frame_numbers[0]) < 1e-3
    facts = _counted(facts, census, (now,), len(census.seen) if first else None, frames)
    facts = replace(facts, gaps=_gaps(scene, view_layer, frames, renew=False))
    return facts if census.objects else replace(facts, unrendered=_unrendered(view_layer))


def look_at_frames(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, what: ShotRequest
) -> Generator[Steps, None, Facts]:
    """The facts of the shot's first, middle and last frame; the scene is as it was afterwards. Takes Blender's time.

    Yields the frames of simulations that were stepped, of how many.
    """
    facts, frames, size = _settled(scene, what)
    if frames is None or size is None:
        return facts
    samples = [
        frames.frame_numbers[t] for t in sorted({0, len(frames.frame_numbers) // 2, len(frames.frame_numbers) - 1})
    ]
    census, seen_first = Census(), 0
    with preserve_scene(scene) as changes:
        if what.camera is not None and what.camera in scene.objects:
            fix_camera(changes, scene, scene.objects[what.camera])
        state = RenderState(changes, scene, view_layer, lambda sentence: None)
        stepper = Stepper(scene, view_layer, samples, changes, state.follow)
        for sample in samples:
            yield from stepper.to(sample)
            depsgraph = view_layer.depsgraph
            found = _census(view_layer, depsgraph, scene.camera, size, len(frames.frame_numbers), what, None)
            if sample == samples[0]:
                seen_first = len(found.seen)
            census.add(found)
    facts = _counted(facts, census, tuple(samples), seen_first, frames)
    facts = replace(facts, gaps=_gaps(scene, view_layer, frames, renew=True))
    return facts if census.objects else replace(facts, unrendered=_unrendered(view_layer))


def _settled(scene: bpy.types.Scene, what: ShotRequest) -> tuple[Facts, FrameMap | None, SizeFit | None]:
    """What does not depend on the frame."""
    spec, frames, size, error = None, None, None, ""
    try:
        spec = registry.spec(what.model)
        sized = spec if what.size is None else replace(spec, sizes=(what.size,))
        frames, size = fit_scene(scene, sized, *what.frames, frame_rule=what.frame_rule, size_mode=what.size_mode)
    except TrackshadeError as found:
        error = texts.told(found)
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
        unsaved_results=str(unsaved_results_folder()),
        relative=(own.results if own is not None else RESULTS).startswith("//"),
        picture=picture,
        color=tuple(inverse_space(scene)[1]),
    )
    if picture:
        facts = replace(facts, **_of_picture(picture, size))
    return (facts if spec is None else replace(facts, **_of_model(spec))), frames, size


def _gaps(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, frames: FrameMap, renew: bool) -> tuple[Gap, ...]:
    """What the picture lacks; unless `renew`, as it was found a while ago where looking takes long."""
    key = bpy.data.filepath, view_layer.name, frames.frame_numbers, len(bpy.data.objects), len(bpy.data.images)
    known = _missing.get(scene.session_uid)
    began = time.monotonic()
    if known is not None and not renew and known.key == key and began < known.due:
        return known.gaps
    gaps = find_gaps(scene, view_layer, frames.frame_numbers)
    ended = time.monotonic()
    _missing.clear()  # those of scenes that are gone, too
    _missing[scene.session_uid] = _Missing(key, gaps, ended + max(RENEWAL, (ended - began) / SHARE))
    return gaps


def _of_picture(chosen: str, size: SizeFit | None) -> dict[str, Any]:
    """Whether an image can be read as far as its header tells, and how it will be fitted."""
    try:
        found = None if chosen.startswith(IMAGE) else Path(chosen).stat()
    except (OSError, ValueError):
        found = None
    header = _header(chosen) if found is None else _file_header(chosen, found.st_mtime_ns, found.st_size)
    if isinstance(header, TrackshadeError):
        return {"picture_error": texts.told(header)}
    if size is None:
        return {"picture_warnings": header.warnings}
    sizes = {"size": header.size, "model": size.size, "frame": size.source}
    return {
        "picture_kind": place_picture(header.size, size.size, size).kind,
        "picture_values": {name: f"{width} × {height}" for name, (width, height) in sizes.items()},
        "picture_warnings": header.warnings,
    }


@functools.lru_cache(maxsize=8)
def _file_header(chosen: str, changed: int, length: int) -> PictureHeader | TrackshadeError:
    """That of a file; it is read again when the file has changed."""
    return _header(chosen)


def _header(chosen: str) -> PictureHeader | TrackshadeError:
    """A picture's header, or why it has none."""
    try:
        return read_given_header(chosen)
    except TrackshadeError as error:
        return error


def _of_model(spec: ModelSpec) -> dict[str, Any]:
    state = backend.state()
    here = bool(backend.current_prefs().address) or registry.is_present(spec)
    loaded = state.kind == "ready" and spec.shipped  # the little model is loaded with the backend
    free = None if loaded else state.free_bytes
    return {"model": spec.title, "model_here": here, "model_memory": spec.memory_bytes, "device_free": free}


def _counted(facts: Facts, census: Census, frames: tuple[float, ...], seen_first: int | None, plan: FrameMap) -> Facts:
    unseen = dict.fromkeys(name for key, name in census.objects.items() if key not in census.seen)
    matrices = 128 * len(plan.frame_numbers) * len(census.objects)
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
        left_out=tuple(census.left_out)[:NAMES],
        displaced=_objects(census.findings.displaced),
        diced=tuple(census.findings.diced)[:NAMES],
        unclear=_objects(census.findings.unknown),
        glass=tuple(census.findings.partly)[:NAMES],
        through=census.through,
    )


def _objects(found: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Names of the objects of (object, material), each once."""
    return tuple(dict.fromkeys(name for name, _ in found))[:NAMES]


def _camera_name(scene: bpy.types.Scene, what: ShotRequest) -> bpy.types.Object | None:
    """The camera that the first frame is seen through."""
    if what.camera is not None and what.camera in scene.objects:
        return scene.objects[what.camera]
    return scene.camera or next((marker.camera for marker in scene.timeline_markers if marker.camera), None)


def _camera_of(scene: bpy.types.Scene, what: ShotRequest, facts: Facts) -> bpy.types.Object | None:
    return _camera_name(scene, what) if facts.camera_kind in ("PERSP", "ORTHO") else None


def _census(
    view_layer: bpy.types.ViewLayer,
    depsgraph: bpy.types.Depsgraph,
    camera: bpy.types.Object | None,
    size: SizeFit,
    samples: int,
    what: ShotRequest,
    limit: float | None,
) -> Census:
    """What the present evaluation shows, as much of it as `limit` seconds allow if that is given."""
    census = Census()
    track = None if camera is None else _track(camera, depsgraph, size)
    things = InstanceReader(view_layer)
    began = time.perf_counter()
    for seen in things.read(depsgraph):
        if limit is not None and time.perf_counter() - began > limit:
            census.whole = False
            break
        if not seen.visibility.visible:
            continue
        if seen.kind != "MESH":
            if seen.kind not in ("HAIR", "CURVES") or what.hair == "none":
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
                census.meshes[address] = _bytes(mesh, samples if may_deform(original) else 1)
                if may_rebuild(original):
                    census.changing[seen.name] = None
        corners = np.array([tuple(corner) for corner in seen.obj.bound_box], np.float64)  # [8, 3] object space
        matrix = np.array(seen.item.matrix_world)
        world = corners @ matrix[:3, :3].T + matrix[:3, 3]
        if track is None or sees(track, size.size, 0, world):
            census.seen.add(seen.key)
    _look_at_materials(census, view_layer, depsgraph, what, None if limit is None else began + limit)
    return census


def _look_at_materials(
    census: Census,
    view_layer: bpy.types.ViewLayer,
    depsgraph: bpy.types.Depsgraph,
    what: ShotRequest,
    until: float | None,
) -> None:
    """Takes out of a census what the render shows through, and finds what there is to say, as far as there is time."""
    materials = MaterialEvaluator(view_layer, what.glass)
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
    census.findings, census.through = materials.notes, what.glass == "through"


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
        world_to_camera=geometry.world_to_camera(matrix)[None],
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
