# SPDX-License-Identifier: GPL-3.0-or-later
"""What all imports have in common: an empty scene before, and a range, a rate, a camera and light afterwards."""

from __future__ import annotations

import math
import mmap
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from trackshade.core.errors import ShotError

from ..capture.animation import action_curves
from .refusals import damaged, refused, unsupported

_SURFACES = {"MESH", "CURVE", "SURFACE", "FONT", "META", "CURVES", "POINTCLOUD", "VOLUME", "GPENCIL", "GREASEPENCIL"}
_MATERIALS = re.compile(rb"^mtllib[ \t]+(.+)$", re.MULTILINE)
_NOISE = 0.02  # frames
_NTSC = 1.001  # 24, 30 and 60 frames per second are often this much slower


@dataclass(frozen=True)
class Imported:
    """What a format's importer found.

    Attributes:
        range: first and last scene frame as the file has them; None where it does not say.
        warnings: sentences about what was chosen where the file left a choice.
        missing: names of files that the file refers to and that are not there.
    """

    range: tuple[int, int] | None = None
    warnings: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def import_into_empty(file: Path, importer: Callable[[], Imported]) -> Imported:
    """Replaces what is open by an empty scene, imports into it, and makes what came renderable.

    Raises:
        ShotError: the file is damaged, of a form that this Blender does not read, or empty.
    """
    clear()
    scene = bpy.context.scene
    default = scene.frame_start, scene.frame_end
    try:
        imported = importer()
    except RuntimeError as error:  # what Blender's operators raise, whatever went wrong inside
        raise refused(file, str(error)) from error
    _check_content(file, imported)
    scene = bpy.context.scene
    found = imported.range or animation_range(scene)
    scene.frame_start, scene.frame_end = found or default
    if scene.camera is None:
        cameras = [obj for obj in scene.objects if obj.type == "CAMERA"]
        scene.camera = min(cameras, key=lambda obj: obj.name) if cameras else None
    _make_renderable(scene)
    scene.frame_set(scene.frame_start)
    return imported


def clear() -> None:
    """Replaces what is open by an empty scene."""
    # Not read_factory_settings: that would also switch off the user's add-ons, this one among them.
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True, load_ui=False)


def run(file: Path, operators: Any, name: str, **options: Any) -> None:
    """Runs an import operator on a file.

    Args:
        operators: the module of `bpy.ops` that has it.
        name: of the operator there.
        options: its properties, besides the path.

    Raises:
        ShotError: this Blender was built without it, or it was cancelled without a word.
        RuntimeError: it reports an error.
    """
    if name not in dir(operators):
        raise unsupported(file, "this build of it has no importer for the type", "Use a Blender that has one.")
    result = getattr(operators, name)(filepath=str(file), **options)
    if "FINISHED" not in result:
        raise damaged(file, "its importer stopped without a reason")


def set_rate(scene: bpy.types.Scene, rate: float) -> None:
    """Sets the frames per second, a fraction by the rate's base: 23.976 is 24 / 1.001."""
    render = scene.render
    for base in (1.0, _NTSC):
        whole = round(rate * base)
        if whole >= 1 and math.isclose(rate * base, whole, rel_tol=2e-5):
            render.fps, render.fps_base = whole, base
            return
    render.fps = max(1, round(rate))
    render.fps_base = render.fps / rate


def enable(module: str) -> None:
    """Switches on an importer of Blender's own that is an add-on, for this session only."""
    import addon_utils

    if not addon_utils.check(module)[1]:
        addon_utils.enable(module, default_set=False)


def animation_range(scene: bpy.types.Scene) -> tuple[int, int] | None:
    """First and last whole frame that contain the animation of the scene's objects and their data, or None."""
    starts, ends = [], []
    for owner in _animated(scene):
        animation = owner.animation_data
        strips = [strip for track in animation.nla_tracks if not track.mute for strip in track.strips]
        for strip in strips:
            starts.append(strip.frame_start)
            ends.append(strip.frame_end)
        for curve in action_curves(animation.action, getattr(animation, "action_slot", None)):
            first, last = curve.range()
            starts.append(first)
            ends.append(last)
    if not starts or max(ends) <= min(starts):
        return None
    # Importers turn seconds into frames, the older FBX one without the rate's base: 9.01 means 9.
    return math.floor(min(starts) + _NOISE), math.ceil(max(ends) - _NOISE)


def camera_warning(scene: bpy.types.Scene, file: Path) -> tuple[str, ...]:
    """A sentence about which camera is used, where an imported scene has several."""
    names = sorted(obj.name for obj in scene.objects if obj.type == "CAMERA")
    if len(names) < 2 or scene.camera is None:
        return ()
    known = ", ".join(names)
    return (f"{file.name} has {len(names)} cameras: {known}. '{scene.camera.name}' is used; --camera chooses another.",)


def import_obj(file: Path, animation: str | None) -> Imported:
    """Imports a Wavefront OBJ file."""
    run(file, bpy.ops.wm, "obj_import")
    if not bpy.context.scene.objects and not _is_obj(file):
        raise damaged(file, "it is no OBJ file")
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        libraries = [os.fsdecode(name.strip()) for name in _MATERIALS.findall(content)]
    return Imported(missing=tuple(name for name in dict.fromkeys(libraries) if not (file.parent / name).is_file()))


def import_ply(file: Path, animation: str | None) -> Imported:
    """Imports a Stanford PLY file."""
    run(file, bpy.ops.wm, "ply_import")
    return Imported()


def import_stl(file: Path, animation: str | None) -> Imported:
    """Imports an STL file."""
    _check_stl(file)
    run(file, bpy.ops.wm, "stl_import")
    return Imported()


def _is_obj(file: Path) -> bool:
    """Whether a file is text with lines of an OBJ file in it; the importer passes over all others."""
    with file.open("rb") as stream:
        head = stream.read(1 << 16)
    words = {line.split(None, 1)[0] for line in head.splitlines() if line.strip()}
    return b"\0" not in head and bool(words & {b"v", b"vn", b"vt", b"o", b"g", b"mtllib", b"usemtl", b"f", b"#"})


def _check_stl(file: Path) -> None:
    """Raises ShotError for what is neither a whole binary STL file nor text; the importer reads anything as triangles.

    A binary file has 80 bytes of any kind, the count of its triangles, and 50 bytes for each.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(84)
    triangles = int.from_bytes(head[80:], "little") if len(head) == 84 else -1
    if size == 84 + 50 * triangles:
        return
    if not head.lstrip().startswith(b"solid"):
        cut = triangles >= 0 and 84 + 50 * triangles > size
        raise damaged(file, "it is cut short" if cut else "it is no STL file")


def _check_content(file: Path, imported: Imported) -> None:
    """Raises ShotError where nothing came that could be seen."""
    objects = [obj for scene in bpy.data.scenes for obj in scene.objects]
    if any(obj.type in _SURFACES or obj.instance_collection is not None for obj in objects):
        return
    kinds = Counter(obj.type.replace("_", " ").lower() for obj in objects)
    held = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(kinds.items()))
    if imported.missing:
        names = ", ".join(imported.missing)
        raise ShotError(
            "missing-file",
            f"{file.name} shows nothing, since what it refers to is missing: {names}.",
            "Put it where the scene file expects it, beside the scene file as a rule.",
        )
    raise ShotError(
        "empty-file",
        f"{file.name} can be read, and nothing in it has a surface{f' (it holds {held})' if held else ''}.",
        "Export it again with the meshes that are to be shaded; what is hidden there may have been left out.",
    )


def _animated(scene: bpy.types.Scene) -> Iterator[bpy.types.ID]:
    """What may be animated in an imported scene: objects, their data, shape keys and materials, and the world."""
    seen: set[bpy.types.ID] = set()
    for obj in scene.objects:
        materials = [slot.material for slot in obj.material_slots if slot.material is not None]
        for item in (obj, obj.data, getattr(obj.data, "shape_keys", None), *materials, scene.world):
            for owner in (item, getattr(item, "node_tree", None)):
                if owner is not None and owner not in seen and owner.animation_data is not None:
                    seen.add(owner)
                    yield owner


def _make_renderable(scene: bpy.types.Scene) -> None:
    """Exchange formats carry no engine and often no light: Cycles runs on any machine, and day light shows shape."""
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 64
    if scene.world is None:
        scene.world = bpy.data.worlds.new("Trackshade Daylight")
    if any(obj.type == "LIGHT" for obj in scene.objects) or _world_shines(scene.world):
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


def _world_shines(world: bpy.types.World) -> bool:
    """Whether the world has nodes of its own making: a picture or a sky, say."""
    tree = world.node_tree
    return tree is not None and any(node.type not in ("BACKGROUND", "OUTPUT_WORLD") for node in tree.nodes)
