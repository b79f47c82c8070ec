# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about a scene that matter for a job, read without changing the scene.

`read_current_frame` reads what Blender has evaluated for the current frame, within a time limit, so that a timer may
call it while the user works. `read_frames` steps to the shot's first, middle and last frame, as a capture does, and
restores the scene.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import bpy

from trackshade.config import registry
from trackshade.config.model_spec import ModelSpec
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import TrackshadeError
from trackshade.core.fitting import FrameMap, SizeFit, fit_frames
from trackshade.core.image_headers import ImageHeader
from trackshade.shot.input_image import place_image

from .. import backend
from ..backend.prefs import current_prefs
from ..capture.completeness import Gap, find_gaps
from ..capture.given_image import IMAGE, read_given_header
from ..capture.render_state import RenderState
from ..capture.request import ShotRequest
from ..capture.restore import fix_camera, preserve_scene
from ..capture.stepping import Stepper, Steps
from ..jobs.durations import Duration, Estimate, durations_file, estimate, job_kind, read_durations
from ..messages import texts
from ..placement.color import inverse_space
from ..properties.preferences import DEFAULT_RESULTS, get_preferences, unsaved_results_folder
from .census import CAMERA_TYPES, Census, count_visible

TIME_LIMIT = 0.006  # seconds that reading the current frame may take
GAPS_TIME_FRACTION = 0.005  # of the time, at most, that is spent on finding gaps while the user works
GAPS_RENEWAL = 5.0  # seconds after which gaps are looked for again, at the earliest
MAX_NAMES = 20  # of objects


@dataclass(frozen=True)
class Facts:
    """Facts about a scene; None for what is not known."""

    frames: tuple[float, ...] = ()  # scene frames that were read
    first: bool = False  # whether the shot's first frame is one of them
    camera: str | None = None  # name of the camera, or None
    camera_kind: str = ""  # type of the camera, as Blender's; "" where the object is no camera
    plan: str = ""  # how many images of which size, and what makes them, in words
    duration: str = ""  # about how long that takes, in words
    plan_error: str = ""  # why the shot cannot be captured or fitted to the model
    model_frames: str = ""  # which frames the model sees, in words
    rule: str = "exact"  # rule by which they are chosen: "exact", "choose", "step" or "resample"
    objects: int = 0  # number of objects that are sent to the backend
    vertices: int = 0  # number of their vertices
    sent: int = 0  # number of bytes
    whole: bool = True  # whether everything was counted; if not, there is more
    seen: int = 0  # number of objects that are in view in any of the frames
    seen_first: int = 0  # number of objects that are in view in the first frame
    unseen: tuple[str, ...] = ()  # names of objects that are not in view in any of them
    changing: tuple[str, ...] = ()  # names of objects whose vertices differ between frames
    unrendered: tuple[str, ...] = ()  # names of visible objects that are hidden in renders
    left_out: tuple[str, ...] = ()  # names of objects that renders show and the shot does not contain
    displaced: tuple[str, ...] = ()  # names of objects that are displaced by their materials
    diced: tuple[str, ...] = ()  # names of objects that Cycles subdivides while rendering
    unclear: tuple[str, ...] = ()  # names of objects whose transparency cannot be determined
    glass: tuple[str, ...] = ()  # names of objects that let more than half of the light through
    through: bool = False  # whether those are left out of the shot
    memory_free: int | None = None  # free main memory, bytes
    device_free: int | None = None  # free memory of the device, bytes
    device_is_gpu: bool = False  # whether that is the memory of a graphics card
    memory: str = "auto"  # memory that the model may take; see `trackshade.config.memory_presets`
    model_memory: int = 0  # memory that the model needs on the device, bytes
    preset_memory: tuple[tuple[str, int], ...] = ()  # see `ModelSpec.preset_bytes`
    model: str = ""  # title of the model
    model_here: bool = True  # whether its weights are on this computer
    saved: bool = True  # whether the file has been saved
    relative: bool = False  # whether results are stored relative to the file
    unsaved_results: str = ""  # folder for results of files that have not been saved
    picture: str | None = None  # path of the image for the first frame; None where none is used
    picture_error: str = ""  # why it cannot be read
    picture_kind: str = ""  # how it will be fitted (see `given_image.Placement`)
    picture_values: Mapping[str, str] = field(default_factory=dict)  # sizes for the sentence about that
    picture_warnings: tuple[str, ...] = ()  # sentences about what of it cannot be read as intended
    color: tuple[str, ...] = ()  # sentences about what changes colors on the way
    gaps: tuple[Gap, ...] = ()  # missing files and data, blocked drivers and scripts


@dataclass
class _KnownGaps:
    """Gaps that were found a while ago; finding them reads the disk and goes through all data."""

    key: Any  # the file, and other things whose change makes them outdated at once
    gaps: tuple[Gap, ...]
    due: float  # when to look for them again, by the monotonic clock


_known_gaps: dict[int, _KnownGaps] = {}  # by scene


def read_current_frame(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, request: ShotRequest) -> Facts:
    """Reads the facts of the current frame, as the viewport has evaluated it, within a time limit."""
    view_layer.update()  # the evaluation may still point to the freed memory of what a script has removed
    facts, frames, size = _read_settings(scene, request)
    depsgraph = view_layer.depsgraph
    if depsgraph is None or frames is None or size is None:
        return facts
    camera = _find_camera(scene, request) if facts.camera_kind in CAMERA_TYPES else None
    census = count_visible(view_layer, depsgraph, camera, size, len(frames.frame_numbers), request, TIME_LIMIT)
    now = scene.frame_current + scene.frame_subframe
    seen_first = len(census.seen) if abs(now - frames.frame_numbers[0]) < 1e-3 else None
    gaps = _find_gaps(scene, view_layer, frames, renew=False)
    return _with_census(facts, census, (now,), seen_first, frames, gaps, view_layer, request)


def read_frames(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, request: ShotRequest
) -> Generator[Steps, None, Facts]:
    """Reads the facts of the shot's first, middle and last frame, and restores the scene. Takes Blender's time.

    Yields how many frames of simulations were stepped, and of how many.
    """
    facts, frames, size = _read_settings(scene, request)
    if frames is None or size is None:
        return facts
    count = len(frames.frame_numbers)
    samples = [frames.frame_numbers[t] for t in sorted({0, count // 2, count - 1})]
    census, seen_first = Census(), 0
    with preserve_scene(scene) as changes:
        if request.camera is not None and request.camera in scene.objects:
            fix_camera(changes, scene, scene.objects[request.camera])
        state = RenderState(changes, scene, view_layer, lambda sentence: None)
        stepper = Stepper(scene, view_layer, samples, changes, state.follow)
        for sample in samples:
            yield from stepper.to(sample)
            found = count_visible(view_layer, view_layer.depsgraph, scene.camera, size, count, request, None)
            if sample == samples[0]:
                seen_first = len(found.seen)
            census.add(found)
    gaps = _find_gaps(scene, view_layer, frames, renew=True)
    return _with_census(facts, census, tuple(samples), seen_first, frames, gaps, view_layer, request)


def _read_settings(scene: bpy.types.Scene, request: ShotRequest) -> tuple[Facts, FrameMap | None, SizeFit | None]:
    """Reads what does not depend on the frame."""
    spec, frames, size, seen, plan, duration, error, needs_model = None, None, None, None, "", "", "", False
    try:
        settings = scene.trackshade.shade_settings()
        spec = registry.spec(settings.model)
        needs_model = request.needs_first_frame or settings.needs is not None
        frames, size = request.plan(scene)
        duration = texts.estimate_text(_estimate(scene, frames, size, request, settings))
        request = request.with_first_key(frames)
        seen = _model_frames(frames, spec, settings)
        plan = texts.plan_text(frames, size, spec, seen, request, settings)
    except TrackshadeError as found:
        error = texts.error_text(found)
    camera = _find_camera(scene, request)
    preferences = get_preferences()
    picture = None if request.first_frame in ("render", "none") else request.first_frame
    facts = Facts(
        camera=None if camera is None else camera.name,
        camera_kind=camera.data.type if camera is not None and isinstance(camera.data, bpy.types.Camera) else "",
        plan=plan,
        duration=duration,
        plan_error=error,
        model_frames="" if seen is None else texts.frame_map_text(seen),
        rule="exact" if seen is None else seen.rule,
        memory_free=free_memory(),
        saved=bool(bpy.data.filepath),
        unsaved_results=str(unsaved_results_folder()),
        relative=(preferences.results if preferences is not None else DEFAULT_RESULTS).startswith("//"),
        picture=picture,
        color=tuple(inverse_space(scene)[1]),
        **(_read_image(picture, size) if picture else {}),
        **(_read_model(spec) if spec is not None and needs_model else {}),
        memory=scene.trackshade.memory,
    )
    return facts, frames, size


def _estimate(
    scene: bpy.types.Scene, frames: FrameMap, size: SizeFit, request: ShotRequest, settings: ShadeSettings
) -> Estimate | None:
    """Returns how long a job with these settings will probably take; None if that is not known."""
    width, height = size.size
    pixels = len(frames.frame_numbers) * (1 + len(request.more_cameras)) * width * height
    kind = job_kind(request, settings, current_prefs().address)
    return estimate(kind, (bpy.data.filepath, scene.name), pixels, _earlier_jobs())


def _earlier_jobs() -> Sequence[Duration]:
    """Returns the durations of earlier jobs, read again if their file has changed."""
    try:
        stat = durations_file().stat()
    except (OSError, TrackshadeError):
        return ()
    return _read_durations(stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=1)
def _read_durations(changed: int, length: int) -> Sequence[Duration]:
    return read_durations()


def _model_frames(frames: FrameMap, spec: ModelSpec, settings: ShadeSettings) -> FrameMap | None:
    """Returns which frames the model sees, as the backend will choose them; None if it makes no video.

    Raises:
        ShotError: The range is too short for the model.
    """
    if settings.needs is None or len(frames.frame_numbers) == 1:
        return None
    step = frames.step
    counts = spec.frame_counts_for(len(frames.frame_numbers), frames.fps, settings.frame_rule)
    return fit_frames(frames.start, frames.end, step, frames.fps * step, counts, settings.frame_rule)


def _find_gaps(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, frames: FrameMap, renew: bool
) -> tuple[Gap, ...]:
    """Finds gaps; unless `renew`, returns those found a while ago where finding them takes long."""
    key = bpy.data.filepath, view_layer.name, frames.frame_numbers, len(bpy.data.objects), len(bpy.data.images)
    known = _known_gaps.get(scene.session_uid)
    began = time.monotonic()
    if known is not None and not renew and known.key == key and began < known.due:
        return known.gaps
    gaps = find_gaps(scene, view_layer, frames.frame_numbers)
    ended = time.monotonic()
    _known_gaps.clear()  # also those of scenes that are gone
    due = ended + max(GAPS_RENEWAL, (ended - began) / GAPS_TIME_FRACTION)
    _known_gaps[scene.session_uid] = _KnownGaps(key, gaps, due)
    return gaps


def _read_image(name: str, size: SizeFit | None) -> dict[str, Any]:
    """Reads the header of an image for the first frame, and how the image will be fitted."""
    try:
        stat = None if name.startswith(IMAGE) else Path(name).stat()
    except (OSError, ValueError):
        stat = None
    header = _read_header(name) if stat is None else _read_file_header(name, stat.st_mtime_ns, stat.st_size)
    if isinstance(header, TrackshadeError):
        return {"picture_error": texts.error_text(header)}
    if size is None:
        return {"picture_warnings": header.warnings}
    sizes = {"size": header.size, "model": size.size, "frame": size.source}
    return {
        "picture_kind": place_image(header.size, size.size, size).kind,
        "picture_values": {name: f"{width} × {height}" for name, (width, height) in sizes.items()},
        "picture_warnings": header.warnings,
    }


@functools.lru_cache(maxsize=8)
def _read_file_header(name: str, changed: int, length: int) -> ImageHeader | TrackshadeError:
    """Reads the header of a file, again if the file has changed."""
    return _read_header(name)


def _read_header(name: str) -> ImageHeader | TrackshadeError:
    try:
        return read_given_header(name)
    except TrackshadeError as error:
        return error


def _read_model(spec: ModelSpec) -> dict[str, Any]:
    state = backend.manager.state()
    here = bool(current_prefs().address) or registry.is_present(spec)
    loaded = state.kind == "ready" and spec.shipped  # the embedded model is loaded with the backend
    free = None if loaded else state.free_bytes
    known = {"model": spec.title, "model_here": here}
    known |= {"model_memory": spec.memory_bytes, "preset_memory": spec.preset_bytes}
    return {**known, "device_free": free, "device_is_gpu": state.is_gpu}


def _with_census(
    facts: Facts,
    census: Census,
    frames: tuple[float, ...],
    seen_first: int | None,
    frame_map: FrameMap,
    gaps: tuple[Gap, ...],
    view_layer: bpy.types.ViewLayer,
    request: ShotRequest,
) -> Facts:
    unseen = dict.fromkeys(name for key, name in census.objects.items() if key not in census.seen)
    matrices = 128 * len(frame_map.frame_numbers) * len(census.objects)
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
        unseen=tuple(unseen)[:MAX_NAMES],
        unrendered=() if census.objects else _hidden_in_renders(view_layer),
        changing=tuple(census.changing)[:MAX_NAMES],
        left_out=tuple(census.left_out)[:MAX_NAMES],
        displaced=_object_names(census.notes.displaced),
        diced=tuple(census.notes.diced)[:MAX_NAMES],
        unclear=_object_names(census.notes.unknown),
        glass=tuple(census.notes.partly)[:MAX_NAMES],
        through=request.glass == "through",
        gaps=gaps,
    )


def _object_names(pairs: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Returns the names of the objects in (object, material) pairs, each once."""
    return tuple(dict.fromkeys(name for name, _ in pairs))[:MAX_NAMES]


def _find_camera(scene: bpy.types.Scene, request: ShotRequest) -> bpy.types.Object | None:
    """Returns the camera of the first frame."""
    if request.camera is not None and request.camera in scene.objects:
        return scene.objects[request.camera]
    return scene.camera or next((marker.camera for marker in scene.timeline_markers if marker.camera), None)


def _hidden_in_renders(view_layer: bpy.types.ViewLayer) -> tuple[str, ...]:
    """Returns the names of objects with a surface that are visible in the viewport but not in renders."""
    kinds = ("MESH", "CURVE", "SURFACE", "FONT", "META")
    objects: Iterable[bpy.types.Object] = view_layer.objects
    hidden = (obj for obj in objects if obj.type in kinds and obj.hide_render)
    return tuple(obj.name for obj in hidden if obj.visible_get(view_layer=view_layer))[:MAX_NAMES]


def free_memory() -> int | None:
    """Returns the main memory that is available, bytes; None where the system does not tell."""
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
