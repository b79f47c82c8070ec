# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens a scene file: .blend as it is, other types through Blender's importers into an empty scene."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bpy

from trackshade.errors import ShotError

from .capture.animation import action_curves


def open_scene(path: str | os.PathLike[str], *, trust_scripts: bool = False) -> bpy.types.Scene:
    """Replaces what is open by the scene of a file; nothing is ever written to the file.

    Args:
        path: .blend, .glb, .gltf, .usd, .usda, .usdc, .usdz, .abc, .fbx or .obj.
        trust_scripts: lets a .blend run the Python scripts that it holds.

    Raises:
        ShotError: missing, unreadable, damaged or too new, of an unknown type, or without content.
    """
    file = Path(path).expanduser().absolute()
    if file.suffix.lower() != ".blend" and file.suffix.lower() not in _IMPORTERS:
        known = ", ".join([".blend", *_IMPORTERS])
        raise ShotError("unknown-type", f"{file.name} is of a type that cannot be opened.", f"Known types: {known}.")
    _check_readable(file)
    if file.suffix.lower() == ".blend":
        _open_blend(file, trust_scripts)
    else:
        _import(file, _IMPORTERS[file.suffix.lower()])
    return bpy.context.scene


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
    return int(min(starts) // 1), int(-(-max(ends) // 1))


def _animated(scene: bpy.types.Scene) -> Iterator[bpy.types.ID]:
    for obj in scene.objects:
        data = obj.data
        for item in (obj, data, getattr(data, "shape_keys", None)):
            if item is not None and item.animation_data is not None:
                yield item


def _check_readable(file: Path) -> None:
    try:
        if not file.is_file():
            what = "is a folder" if file.is_dir() else "does not exist"
            raise ShotError("missing-file", f"The scene file {file} {what}.", "Check the path.")
        with file.open("rb") as stream:
            empty = not stream.read(1)
    except OSError as error:
        raise ShotError("unreadable-file", f"{file} cannot be read: {error.strerror or error}.") from error
    if empty:
        raise ShotError("damaged-file", f"{file} is empty.", "Save or export the scene again.")


def _open_blend(file: Path, trust_scripts: bool) -> None:
    try:
        bpy.ops.wm.open_mainfile(filepath=str(file), load_ui=False, use_scripts=trust_scripts)
    except RuntimeError as error:
        raise _refused(file, str(error)) from error
    if bpy.data.version[:2] > bpy.app.version[:2]:  # Blender only warns that it may lose data
        raise _too_new(file)


def _import(file: Path, importer: Callable[[Path], set[str]]) -> None:
    # Not read_factory_settings: that would also switch off the user's add-ons, this one among them.
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True, load_ui=False)
    scene = bpy.context.scene
    default = scene.frame_start, scene.frame_end
    try:
        result = importer(file)
    except RuntimeError as error:  # what Blender's operators raise, whatever went wrong inside
        raise _refused(file, str(error)) from error
    if "FINISHED" not in result or not scene.objects:
        raise _refused(file, "nothing in it could be imported")
    if (scene.frame_start, scene.frame_end) == default:
        found = animation_range(scene)
        if found is not None:
            scene.frame_start, scene.frame_end = found
    if scene.camera is None:
        cameras = [obj for obj in scene.objects if obj.type == "CAMERA"]
        scene.camera = min(cameras, key=lambda obj: obj.name) if cameras else None
    _make_renderable(scene)
    scene.frame_set(scene.frame_start)


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


def _refused(file: Path, reason: str) -> ShotError:
    """The error for a file that Blender does not take, from what Blender says about it."""
    lines = [line.strip().removeprefix("Error:").strip() for line in reason.splitlines() if line.strip()]
    said = lines[-1].rstrip(".") if lines else "no reason was given"
    if "newer" in reason.lower():
        return _too_new(file)
    return ShotError(
        "damaged-file", f"{file.name} is damaged or incomplete: {said}.", "Save or export the scene again."
    )


def _too_new(file: Path) -> ShotError:
    return ShotError(
        "file-too-new",
        f"{file.name} was made by a newer version than Blender {bpy.app.version_string} can read in full.",
        "Update Blender, or save the file for this version.",
    )


def _gltf(file: Path) -> set[str]:
    _enable("io_scene_gltf2")
    return bpy.ops.import_scene.gltf(filepath=str(file))


def _usd(file: Path) -> set[str]:
    return bpy.ops.wm.usd_import(filepath=str(file), set_frame_range=True)


def _alembic(file: Path) -> set[str]:
    _check_ogawa(file)
    return bpy.ops.wm.alembic_import(filepath=str(file), set_frame_range=True, as_background_job=False)


def _check_ogawa(file: Path) -> None:
    """Refuses an Alembic file that was not written to its end: reading one ends the whole process.

    An Ogawa file starts with its magic, a byte that is 255 once it is complete, and at byte 8 the position of the
    root group, which is written last: a count of children and their positions, the highest bit a flag.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(16)
        if not head.startswith(b"Ogawa"):
            return
        complete = len(head) == 16 and head[5] == 255
        if complete:
            root = int.from_bytes(head[8:], "little")
            stream.seek(min(root, size))
            count = int.from_bytes(stream.read(8), "little")
            complete = 16 <= root <= size - 8 and 8 * count <= size - root - 8
            if complete:
                places = struct.unpack(f"<{count}Q", stream.read(8 * count))
                complete = all(place & ~(1 << 63) <= size - 8 for place in places)
    if not complete:
        raise _refused(file, "it is cut short")


def _fbx(file: Path) -> set[str]:
    if hasattr(bpy.types, "WM_OT_fbx_import"):  # Blender 4.5 and newer
        return bpy.ops.wm.fbx_import(filepath=str(file))
    _enable("io_scene_fbx")
    return bpy.ops.import_scene.fbx(filepath=str(file))


def _obj(file: Path) -> set[str]:
    return bpy.ops.wm.obj_import(filepath=str(file))


def _enable(module: str) -> None:
    """Switches on an importer of Blender's own that is an add-on, for this session only."""
    import addon_utils

    if not addon_utils.check(module)[1]:
        addon_utils.enable(module, default_set=False)


_IMPORTERS: dict[str, Any] = {
    ".glb": _gltf,
    ".gltf": _gltf,
    ".usd": _usd,
    ".usda": _usd,
    ".usdc": _usd,
    ".usdz": _usd,
    ".abc": _alembic,
    ".fbx": _fbx,
    ".obj": _obj,
}
