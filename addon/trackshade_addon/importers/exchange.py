# SPDX-License-Identifier: GPL-3.0-or-later
"""What all importers share: an empty scene before; a frame range, rate, camera and light afterwards; errors."""

from __future__ import annotations

import logging
import math
import mmap
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from trackshade.core.errors import ShotError, UsageError

from ..capture.animation import action_curves
from ..capture.warnings import list_names

_SURFACES = {"MESH", "CURVE", "SURFACE", "FONT", "META", "CURVES", "POINTCLOUD", "VOLUME", "GPENCIL", "GREASEPENCIL"}
_MATERIALS = re.compile(rb"^mtllib[ \t]+(.+)$", re.MULTILINE)
_NOISE = 0.02  # frames
_NTSC = 1.001  # 24, 30 and 60 frames per second are often this much slower
MAX_NAMES = 20  # animations that a sentence lists
# Phrases of Blender's importers about files that are intact but written in a way that they do not support.
_UNSUPPORTED = re.compile(
    r"not supported|unsupported|is not available on this addon version|version must be|version mismatch|encrypted"
    r"|HDF5|unable to load the draco|newer than",
    re.IGNORECASE,
)
_MISSING = re.compile(r"Missing resource, '(.*)'|Couldn't find the file '(.*)'")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Imported:
    """What the importer of a format found."""

    range: tuple[int, int] | None = None  # first and last scene frame as stated in the file
    warnings: tuple[str, ...] = ()  # sentences about choices that were made for the user
    missing: tuple[str, ...] = ()  # names of missing files that the file refers to


def import_into_empty(file: Path, importer: Callable[[], Imported]) -> Imported:
    """Import a file into an empty scene, which replaces what is open, and make the scene renderable.

    Raises:
        ShotError: the file is damaged, unsupported or empty.
    """
    clear()
    scene = bpy.context.scene
    default = scene.frame_start, scene.frame_end
    try:
        imported = importer()
    except RuntimeError as error:  # all that Blender's operators raise
        raise import_error(file, str(error)) from error
    _check_content(file, imported)
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = imported.range or animation_range(scene) or default
    if scene.camera is None:
        cameras = [obj for obj in scene.objects if obj.type == "CAMERA"]
        scene.camera = min(cameras, key=lambda obj: obj.name) if cameras else None
    _make_renderable(scene)
    scene.frame_set(scene.frame_start)
    return imported


def clear() -> None:
    """Replace what is open by an empty scene."""
    # Not read_factory_settings, which would also disable the user's add-ons.
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True, load_ui=False)


def run(file: Path, operators: Any, name: str, **options: Any) -> None:
    """Run an import operator of a module of `bpy.ops` on a file; `options` are its other properties.

    Raises:
        ShotError: this Blender was built without the operator, or the operator stopped without a reason.
        RuntimeError: the operator reported an error.
    """
    if name not in dir(operators):
        raise unsupported_error(file, "this build of it has no importer for the type", "Use a Blender that has one.")
    result = getattr(operators, name)(filepath=str(file), **options)
    if "FINISHED" not in result:
        raise damaged_error(file, "its importer stopped without a reason")


def set_rate(scene: bpy.types.Scene, rate: float) -> None:
    """Set the frames per second; a fraction becomes a rate and a base, such as 24 / 1.001 for 23.976."""
    render = scene.render
    for base in (1.0, _NTSC):
        whole = round(rate * base)
        if whole >= 1 and math.isclose(rate * base, whole, rel_tol=2e-5):
            render.fps, render.fps_base = whole, base
            return
    render.fps = max(1, round(rate))
    render.fps_base = render.fps / rate


def enable(module: str) -> None:
    """Enable an importer that is one of Blender's own add-ons, for this session only."""
    import addon_utils

    if not addon_utils.check(module)[1]:
        addon_utils.enable(module, default_set=False)


def animation_range(scene: bpy.types.Scene) -> tuple[int, int] | None:
    """Return the whole frames from the first to the last keyframe of the scene's objects and their data, if any."""
    starts, ends = [], []
    for owner in _animated_blocks(scene):
        animation = owner.animation_data
        strips = [strip for track in animation.nla_tracks if not track.mute for strip in track.strips]
        curves = action_curves(animation.action, getattr(animation, "action_slot", None))
        for first, last in (*((strip.frame_start, strip.frame_end) for strip in strips), *(c.range() for c in curves)):
            starts.append(first)
            ends.append(last)
    if not starts or max(ends) <= min(starts):
        return None
    # Importers convert seconds to frames, the older FBX importer without the rate's base: 9.01 means 9.
    return math.floor(min(starts) + _NOISE), math.ceil(max(ends) - _NOISE)


def camera_warning(scene: bpy.types.Scene, file: Path) -> tuple[str, ...]:
    """Return a sentence about the camera that is used, if an imported scene has several."""
    names = sorted(obj.name for obj in scene.objects if obj.type == "CAMERA")
    if len(names) < 2 or scene.camera is None:
        return ()
    known = f"{file.name} has {len(names)} cameras: {', '.join(names)}."
    return (f"{known} '{scene.camera.name}' is used; --camera chooses another.",)


def animations_warning(file: Path, names: Sequence[str], playing: str) -> tuple[str, ...]:
    """Return a sentence about the animation that plays, if a file has several."""
    if len(names) < 2:
        return ()
    known = f"{file.name} has {len(names)} animations: {list_animations(names)}."
    return (f"{known} '{playing}' plays; --animation NAME chooses another.",)


def import_obj(file: Path, animation: str | None) -> Imported:
    """Import a Wavefront OBJ file."""
    run(file, bpy.ops.wm, "obj_import")
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if not bpy.context.scene.objects:  # the importer ignores everything that is no statement of OBJ
            head = content[: 1 << 16]
            words = {line.split(None, 1)[0] for line in head.splitlines() if line.strip()}
            known = {b"v", b"vn", b"vt", b"o", b"g", b"mtllib", b"usemtl", b"f", b"#"}
            if b"\0" in head or not words & known:
                raise damaged_error(file, "it is not an OBJ file")
        libraries = [os.fsdecode(name.strip()) for name in _MATERIALS.findall(content)]
    return Imported(missing=tuple(name for name in dict.fromkeys(libraries) if not (file.parent / name).is_file()))


def import_ply(file: Path, animation: str | None) -> Imported:
    """Import a Stanford PLY file."""
    run(file, bpy.ops.wm, "ply_import")
    return Imported()


def import_stl(file: Path, animation: str | None) -> Imported:
    """Import an STL file, if it is text or a complete binary file: the importer reads anything as triangles.

    A binary file has a header of 80 bytes, the number of triangles, and 50 bytes per triangle.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(84)
    triangles = int.from_bytes(head[80:], "little") if len(head) == 84 else -1
    if size != 84 + 50 * triangles and not head.lstrip().startswith(b"solid"):
        is_truncated = triangles >= 0 and 84 + 50 * triangles > size
        raise damaged_error(file, "it is cut short" if is_truncated else "it is not an STL file")
    run(file, bpy.ops.wm, "stl_import")
    return Imported()


def _check_content(file: Path, imported: Imported) -> None:
    """Raise ShotError if nothing visible was imported."""
    objects = [obj for scene in bpy.data.scenes for obj in scene.objects]
    if any(obj.type in _SURFACES or obj.instance_collection is not None for obj in objects):
        return
    kinds = Counter(obj.type.replace("_", " ").lower() for obj in objects)
    content = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(kinds.items()))
    if imported.missing:
        names = ", ".join(imported.missing)
        raise ShotError(
            "missing-file",
            f"{file.name} shows nothing, since what it refers to is missing: {names}.",
            "Put it where the scene file expects it, beside the scene file as a rule.",
        )
    raise ShotError(
        "empty-file",
        f"{file.name} can be read, and nothing in it has a surface{f' (it holds {content})' if content else ''}.",
        "Export it again with the meshes that are to be shaded; what is hidden there may have been left out.",
    )


def _animated_blocks(scene: bpy.types.Scene) -> Iterator[bpy.types.ID]:
    """Return the animated data-blocks among objects, their data, shape keys and materials, and the world."""
    seen: set[bpy.types.ID] = set()
    for obj in scene.objects:
        materials = [slot.material for slot in obj.material_slots if slot.material is not None]
        for item in (obj, obj.data, getattr(obj.data, "shape_keys", None), *materials, scene.world):
            for owner in (item, getattr(item, "node_tree", None)):
                if owner is not None and owner not in seen and owner.animation_data is not None:
                    seen.add(owner)
                    yield owner


def _make_renderable(scene: bpy.types.Scene) -> None:
    """Choose Cycles, which runs on any machine, and add daylight if there is no light.

    Exchange formats have no render settings, and often no light.
    """
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 64
    if scene.world is None:
        scene.world = bpy.data.worlds.new("Trackshade Daylight")
    nodes = () if scene.world.node_tree is None else scene.world.node_tree.nodes
    has_sky = any(node.type not in ("BACKGROUND", "OUTPUT_WORLD") for node in nodes)  # an image, say
    if has_sky or any(obj.type == "LIGHT" for obj in scene.objects):
        return
    if scene.world.node_tree is None:
        scene.world.use_nodes = True
    tree = scene.world.node_tree
    for node in tree.nodes if tree is not None else ():
        if node.type == "BACKGROUND":
            node.inputs["Color"].default_value = (0.6, 0.65, 0.7, 1.0)
            node.inputs["Strength"].default_value = 0.7
    light = bpy.data.lights.new("Trackshade Sun", "SUN")
    light.energy, light.angle = 3.0, 0.2
    sun = bpy.data.objects.new("Trackshade Sun", light)
    sun.rotation_euler = (0.7, 0.2, 0.9)
    scene.collection.objects.link(sun)


def import_error(file: Path, report: str) -> ShotError:
    """Make the error for a file from the text of the error that its importer raised."""
    _log.warning("%s cannot be imported: %s", file, report)
    reason = _reason(report)
    if file.suffix.lower().startswith(".blend"):
        return too_new_error(file) if "newer" in report.lower() else damaged_error(file, reason)
    if missing := _MISSING.search(report):
        return ShotError(
            "missing-file",
            f"{file.name} refers to the file {missing[1] or missing[2]}, which is missing.",
            "Put it where the scene file expects it, beside the scene file as a rule.",
        )
    if _UNSUPPORTED.search(report):
        return unsupported_error(file, reason)
    return damaged_error(file, reason)


def damaged_error(file: Path, reason: str) -> ShotError:
    """Return the error for a file that is incomplete or not of its type."""
    return ShotError(
        "damaged-file", f"{file.name} is damaged or incomplete: {reason}.", "Save or export the scene again."
    )


def unsupported_error(
    file: Path, reason: str, fix: str = "Export the scene in another way, or as another type."
) -> ShotError:
    """Return the error for an intact file in a form that this Blender cannot read."""
    return ShotError(
        "unsupported-file",
        f"{file.name} is in a form that Blender {bpy.app.version_string} cannot read: {reason}.",
        fix,
    )


def too_new_error(file: Path) -> ShotError:
    """Return the error for a .blend of a newer Blender."""
    return ShotError(
        "file-too-new",
        f"{file.name} was made by a newer version than Blender {bpy.app.version_string} can read in full.",
        "Update Blender, or save the file for this version.",
    )


def check_animation(file: Path, name: str, names: Sequence[str]) -> None:
    """Raise UsageError, which lists the animations, if a file has none of a name."""
    if name not in names:
        known = f"It has: {list_animations(names)}." if names else "It has none."
        raise UsageError("unknown-animation", f"{file.name} has no animation '{name}'.", known)


def list_animations(names: Sequence[str]) -> str:
    """List the names of animations for a sentence."""
    return list_names([f"'{name}'" for name in names], MAX_NAMES)


def _reason(report: str) -> str:
    """Return the line of an operator's error that says what is wrong, without what surrounds it."""
    lines = [line.strip().removeprefix("Error:").strip() for line in report.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("Location:", "File ", "Traceback", "^", "~"))]
    if not lines:
        return "no reason was given"
    if "Traceback" in report:  # an importer written in Python failed: its last line is the exception
        return f"its importer failed ({lines[-1].rstrip('.')})"
    return re.sub(r"^.*Cannot import file '.*': '(.*)'$", r"\1", lines[-1].rstrip("."))
