# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds missing files of images, volumes, caches and baked simulations, for the frames of a shot.

Rigid bodies are not considered: Blender stores their baked frames in the .blend alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import bpy

_DIGITS = re.compile(r"(\d+)(\D*)$")  # the last number of a file's name


class FileIndex:
    """Checks whether files exist, each only once."""

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}

    def has(self, owner: bpy.types.ID, path: str) -> bool:
        """Whether a path stored in the data-block `owner` is that of a file."""
        return self.exists(self.path(owner, path))

    def exists(self, path: str) -> bool:
        """Whether an absolute path is that of a file."""
        if path not in self._known:
            self._known[path] = Path(path).is_file()
        return self._known[path]

    @staticmethod
    def path(owner: bpy.types.ID, path: str) -> str:
        """Makes a path absolute; "//" stands for the folder of the file that `owner` comes from."""
        return bpy.path.abspath(path, library=owner.library)

    @staticmethod
    def name(path: str) -> str:
        """The name of a file, of any system, for messages."""
        return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def _list_frames(frames: Sequence[int]) -> str:
    """Lists frame numbers: "frame 3", "frames 3 to 5", "frames 3, 7, 9 and 12 more"; "" for none."""
    if not frames:
        return ""
    if len(frames) == 1:
        return f"frame {frames[0]}"
    if frames[-1] - frames[0] == len(frames) - 1:
        return f"frames {frames[0]} to {frames[-1]}"
    shown = ", ".join(map(str, frames[:3]))
    return f"frames {shown}" + (f" and {len(frames) - 3} more" if len(frames) > 3 else "")


def _with_number(path: str, number: int) -> str:
    """Replaces the last number in the name of a file, padded to the same width."""
    head, tail = _split(path)
    found = _DIGITS.search(tail)
    if found is None:
        return path
    width = len(found[1])
    return f"{head}{tail[: found.start()]}{number:0{width}d}{found[2]}"


def _name_pattern(path: str) -> str:
    """The name of a file with "#" for the digits of its last number."""
    tail = _split(path)[1]
    found = _DIGITS.search(tail)
    return tail if found is None else f"{tail[: found.start()]}{'#' * len(found[1])}{found[2]}"


def _split(path: str) -> tuple[str, str]:
    """Splits a path into the folder with its separator, and the name."""
    at = max(path.rfind("/"), path.rfind("\\")) + 1
    return path[:at], path[at:]


def missing_images(
    users: Mapping[bpy.types.Image, Iterable[Any]], frames: Sequence[float], files: FileIndex
) -> Iterator[tuple[bpy.types.Image, str]]:
    """Finds images whose files are missing.

    Args:
        users: the image users of sequences, or compositor nodes, which have the same properties.
        frames: scene frames.
        files: checks files.

    Yields:
        Images and the names of their missing files.
    """
    for image in bpy.data.images:
        if image.source not in ("FILE", "SEQUENCE", "MOVIE", "TILED") or not image.filepath:
            continue
        if image.packed_file is not None or len(image.packed_files) or image.is_dirty:
            continue
        path = files.path(image, image.filepath)
        if image.source == "TILED":
            yield from ((image, name) for name in _missing_tiles(image, path, files))
        elif image.source == "SEQUENCE":
            if name := _missing_sequence(path, users.get(image, ()), frames, files):
                yield image, name
        elif not files.exists(path):
            yield image, files.name(path)


def _missing_tiles(image: bpy.types.Image, path: str, files: FileIndex) -> Iterator[str]:
    for tile in image.tiles:
        number = tile.number
        if "<UDIM>" in path:
            file = path.replace("<UDIM>", str(number))
        elif "<UVTILE>" in path:
            file = path.replace("<UVTILE>", f"u{(number - 1001) % 10 + 1}_v{(number - 1001) // 10 + 1}")
        else:
            file = _with_number(path, number)
        if not files.exists(file):
            yield files.name(file)


def _missing_sequence(path: str, users: Iterable[Any], frames: Sequence[float], files: FileIndex) -> str:
    """The missing files of an image sequence, as a name; "" if none is missing."""
    played: set[int] = set()
    for user in users:
        if user.use_auto_refresh or not hasattr(user, "frame_current"):
            played.update(number for frame in frames if (number := _image_number(user, int(frame))) is not None)
        else:
            played.add(user.frame_current)
    return _missing_numbers(path, played, files) if played else _missing_file(path, files)


def _missing_file(path: str, files: FileIndex) -> str:
    """The name of a file if it is missing, else ""."""
    return "" if files.exists(path) else files.name(path)


def _missing_numbers(path: str, numbers: Iterable[int], files: FileIndex) -> str:
    """The missing files of a numbered sequence, as a name; "" if none is missing."""
    missing = [number for number in sorted(set(numbers)) if not files.exists(_with_number(path, number))]
    return f"{_name_pattern(path)} ({_list_frames(missing)})" if missing else ""


def _image_number(user: Any, frame: int) -> int | None:
    """The number of the file that an image user shows in a scene frame; None outside its range."""
    count = user.frame_duration
    number = frame - user.frame_start + 1
    if user.use_cyclic and count:
        number = (number - 1) % count + 1
    return number + user.frame_offset if 1 <= number <= count else None


def missing_volume(volume: bpy.types.Volume, frames: Sequence[float], files: FileIndex) -> str:
    """The missing files of a volume, as a name; "" if none is missing."""
    if not volume.filepath or volume.filepath.endswith(("/", "\\")):  # Blender saves an empty path as "//../../"
        return ""
    path = files.path(volume, volume.filepath)
    if not volume.is_sequence:
        return _missing_file(path, files)
    numbers = [number for frame in frames if (number := _volume_number(volume, int(frame))) is not None]
    return _missing_numbers(path, numbers, files)


def _volume_number(volume: bpy.types.Volume, frame: int) -> int | None:
    """The number of the file that a volume sequence shows in a scene frame, by Blender's rules; None for none."""
    count, mode = volume.frame_duration, volume.sequence_mode
    at = frame - volume.frame_start  # 0 is the first file
    if count <= 0 or (mode == "CLIP" and not 0 <= at < count):
        return None
    if mode == "EXTEND":
        at = min(max(at, 0), count - 1)
    elif mode == "REPEAT":
        at %= count
    elif mode == "PING_PONG":
        at %= max(1, 2 * count - 2)
        at = at if at < count else 2 * count - 2 - at
    return at + 1 + volume.frame_offset


def missing_cache_files(cache: bpy.types.CacheFile, frames: Sequence[float], files: FileIndex) -> Iterator[str]:
    """Yields the missing files of an Alembic or USD cache and its layers, as names."""
    shown = [layer.filepath for layer in getattr(cache, "layers", ()) if not layer.hide_layer]
    for stored in (cache.filepath, *shown):
        path = files.path(cache, stored)
        if cache.is_sequence:
            missing = _missing_numbers(path, [int(cache.frame if cache.override_frame else f) for f in frames], files)
        else:
            missing = _missing_file(path, files) if stored else ""
        if missing:
            yield missing


def missing_caches(obj: bpy.types.Object, frames: Sequence[float], files: FileIndex) -> Iterator[tuple[str, str]]:
    """Yields the kind ("cache" or "simulation") and the name of what is missing for an object's modifiers."""
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
            surfaces = [surface for surface in modifier.canvas_settings.canvas_surfaces if surface.is_active]
            found = (_missing_points(obj, surface.point_cache, frames) for surface in surfaces)
            missing = next(filter(None, found), "")
        elif kind == "PARTICLE_SYSTEM":
            missing = _missing_points(obj, modifier.particle_system.point_cache, frames)
        else:
            continue
        if missing:
            yield "simulation", f"{modifier.name} of '{obj.name}' ({missing})"


def _missing_ocean(obj: bpy.types.Object, ocean: Any, frames: Sequence[float], files: FileIndex) -> str:
    if not ocean.is_cached:
        return ""
    folder = Path(files.path(obj, ocean.filepath))
    first, last = ocean.frame_start, ocean.frame_end
    numbers = sorted({min(max(int(frame), first), last) for frame in frames})
    return _list_frames([n for n in numbers if not files.exists(str(folder / f"disp_{n:04d}.exr"))])


def _missing_fluid(obj: bpy.types.Object, modifier: Any, frames: Sequence[float]) -> str:
    """The frames for which the cache of a baked fluid domain has no grids or mesh, as a name."""
    domain = modifier.domain_settings if modifier.fluid_type == "DOMAIN" else None
    if domain is None or not (domain.has_cache_baked_any or domain.has_cache_baked_data):
        return ""
    folder = Path(bpy.path.abspath(domain.cache_directory, library=obj.library))
    kind = "mesh" if domain.domain_type == "LIQUID" and domain.use_mesh else "data"
    try:
        parts = [item.name.split(".")[0][-4:] for item in (folder / kind).iterdir()]
        present = {int(part) for part in parts if part.isdecimal()}
    except OSError:
        return f"folder {FileIndex.name(str(folder))}"
    wanted = [int(frame) for frame in frames if domain.cache_frame_start <= frame <= domain.cache_frame_end]
    return _list_frames(sorted({frame - domain.cache_frame_offset for frame in wanted} - present))


def _missing_bakes(obj: bpy.types.Object, modifier: Any) -> str:
    """The missing folder of a bake of geometry nodes on disk, as a name."""
    for bake in getattr(modifier, "bakes", ()):
        target = getattr(bake, "bake_target", "DISK")
        if target == "INHERIT":
            target = modifier.bake_target
        is_custom = bake.use_custom_path and bake.directory
        folder = bake.directory if is_custom else modifier.bake_directory
        if target != "DISK" or not folder:
            continue
        path = Path(bpy.path.abspath(folder, library=obj.library))
        if not (path if is_custom else path / str(bake.bake_id)).is_dir():
            return f"folder {FileIndex.name(str(path))}"
    return ""


def _missing_points(owner: bpy.types.ID, cache: Any, frames: Sequence[float]) -> str:
    """The missing frames of a point cache on disk, as a name."""
    if cache is None or not (cache.use_external or (cache.use_disk_cache and cache.is_baked)):
        return ""
    if cache.use_external:
        folder = Path(bpy.path.abspath(cache.filepath, library=owner.library))
    else:
        file = Path(bpy.path.abspath(owner.library.filepath) if owner.library is not None else bpy.data.filepath)
        folder = file.parent / f"blendcache_{file.stem}"
    # Files are named by the cache, or else by the owner in hexadecimal, followed by the frame and the cache's index.
    name = cache.name or "".join(f"{byte:02X}" for byte in owner.name.encode())
    try:
        present = {number for item in folder.iterdir() if (number := _point_frame(item.name, name)) is not None}
    except OSError:
        return f"folder {FileIndex.name(str(folder))}"
    wanted = [int(frame) for frame in frames if cache.frame_start <= frame <= cache.frame_end]
    step = max(1, cache.frame_step)
    stored = {frame for frame in wanted if (frame - cache.frame_start) % step == 0}
    return _list_frames(sorted(stored - present))


def _point_frame(file: str, name: str) -> int | None:
    """The frame of a file of the point cache `name`; None for a file of another one."""
    if not file.startswith(f"{name}_") or not file.endswith(".bphys"):
        return None
    number = file[len(name) + 1 :].partition(".")[0].partition("_")[0]
    return int(number) if number.isdecimal() else None
