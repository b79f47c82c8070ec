# SPDX-License-Identifier: GPL-3.0-or-later
"""Which caches of modifiers and simulations are missing on the disk, for the frames of a shot.

Rigid bodies are not among them: Blender keeps what it bakes of them in the .blend alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import bpy

from .missing_files import Files, frame_list


def missing_caches(obj: bpy.types.Object, frames: Sequence[float], files: Files) -> Iterator[tuple[str, str]]:
    """The kind ("cache" or "simulation") and the name of what an object's modifiers and particles miss."""
    for modifier in obj.modifiers:
        if not modifier.show_render:
            continue
        kind = modifier.type
        if kind in ("MESH_CACHE", "MULTIRES"):
            external = kind == "MESH_CACHE" or modifier.is_external
            if external and modifier.filepath and not files.has(obj, modifier.filepath):
                yield "cache", files.name(modifier.filepath)
            continue
        if kind == "OCEAN":
            missing = _missing_ocean(obj, modifier, frames, files)
        elif kind == "FLUID":
            missing = _missing_fluid(obj, modifier, frames)
        elif kind == "NODES":
            missing = _missing_bakes(obj, modifier)
        elif kind in ("CLOTH", "SOFT_BODY"):
            missing = _missing_points(obj, modifier.point_cache, frames)
        elif kind == "DYNAMIC_PAINT" and modifier.canvas_settings is not None:
            found = [
                _missing_points(obj, surface.point_cache, frames)
                for surface in modifier.canvas_settings.canvas_surfaces
                if surface.is_active
            ]
            missing = next((item for item in found if item), "")
        elif kind == "PARTICLE_SYSTEM":
            missing = _missing_points(obj, modifier.particle_system.point_cache, frames)
        else:
            continue
        if missing:
            yield "simulation", f"{modifier.name} of '{obj.name}' ({missing})"


def _missing_ocean(obj: bpy.types.Object, ocean: Any, frames: Sequence[float], files: Files) -> str:
    if not ocean.is_cached:
        return ""
    folder = Path(files.path(obj, ocean.filepath))
    first, last = ocean.frame_start, ocean.frame_end
    numbers = sorted({min(max(int(frame), first), last) for frame in frames})
    return _of_frames([n for n in numbers if not files.exists(str(folder / f"disp_{n:04d}.exr"))])


def _missing_fluid(obj: bpy.types.Object, modifier: Any, frames: Sequence[float]) -> str:
    """Of a baked fluid domain: the frames for which its cache holds neither grids nor a mesh."""
    domain = modifier.domain_settings if modifier.fluid_type == "DOMAIN" else None
    if domain is None or not (domain.has_cache_baked_any or domain.has_cache_baked_data):
        return ""
    folder = Path(bpy.path.abspath(domain.cache_directory, library=obj.library))
    shown = "mesh" if domain.domain_type == "LIQUID" and domain.use_mesh else "data"
    try:
        there = {int(part) for item in (folder / shown).iterdir() if (part := item.name.split(".")[0][-4:]).isdigit()}
    except OSError:
        return f"folder {Files.name(str(folder))}"
    wanted = [int(frame) for frame in frames if domain.cache_frame_start <= frame <= domain.cache_frame_end]
    return _of_frames(sorted({frame - domain.cache_frame_offset for frame in wanted} - there))


def _missing_bakes(obj: bpy.types.Object, modifier: Any) -> str:
    """Of geometry nodes: the folder of a bake that is kept on the disk."""
    for bake in getattr(modifier, "bakes", ()):
        target = getattr(bake, "bake_target", "DISK")
        if target == "INHERIT":
            target = modifier.bake_target
        own = bake.use_custom_path and bake.directory
        folder = bake.directory if own else modifier.bake_directory
        if target != "DISK" or not folder:
            continue
        path = Path(bpy.path.abspath(folder, library=obj.library))
        if not (path if own else path / str(bake.bake_id)).is_dir():
            return f"folder {Files.name(str(path))}"
    return ""


def _missing_points(owner: bpy.types.ID, cache: Any, frames: Sequence[float]) -> str:
    """Of a point cache whose frames are files: those that are missing."""
    if cache is None or not (cache.use_external or (cache.use_disk_cache and cache.is_baked)):
        return ""
    if cache.use_external:
        folder = Path(bpy.path.abspath(cache.filepath, library=owner.library))
    else:
        file = Path(bpy.path.abspath(owner.library.filepath) if owner.library is not None else bpy.data.filepath)
        folder = file.parent / f"blendcache_{file.stem}"
    # Blender names files by the cache, or by the owner's name in hexadecimal, then the frame and the cache's index.
    name = cache.name or "".join(f"{byte:02X}" for byte in owner.name.encode())
    try:
        there = {part[1] for item in folder.iterdir() if (part := _point_frame(item.name, name)) is not None}
    except OSError:
        return f"folder {Files.name(str(folder))}"
    wanted = [int(frame) for frame in frames if cache.frame_start <= frame <= cache.frame_end]
    step = max(1, cache.frame_step)
    kept = {frame for frame in wanted if (frame - cache.frame_start) % step == 0}
    return _of_frames(sorted(kept - there))


def _point_frame(file: str, name: str) -> tuple[str, int] | None:
    """Of a file of a point cache: the cache's name and the frame; None for a file of another one."""
    if not file.startswith(f"{name}_") or not file.endswith(".bphys"):
        return None
    number = file[len(name) + 1 :].partition(".")[0].partition("_")[0]
    return (name, int(number)) if number.isdigit() else None


def _of_frames(numbers: Sequence[int]) -> str:
    return frame_list(numbers) if numbers else ""
