# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of images, volumes and caches are not there, for the frames of a shot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import bpy

_DIGITS = re.compile(r"(\d+)(\D*)$")  # the last number of a file's name


class Files:
    """Looks for files on the disk, for each only once."""

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}

    def has(self, owner: bpy.types.ID, path: str) -> bool:
        """Whether a path, as the data-block `owner` keeps it, is that of a file."""
        return self.exists(self.path(owner, path))

    def exists(self, path: str) -> bool:
        """Whether an absolute path is that of a file."""
        if path not in self._known:
            self._known[path] = Path(path).is_file()
        return self._known[path]

    @staticmethod
    def path(owner: bpy.types.ID, path: str) -> str:
        """An absolute path; "//" means the folder of the file that `owner` comes from."""
        return bpy.path.abspath(path, library=owner.library)

    @staticmethod
    def name(path: str) -> str:
        """The last part of a path of any system, for a sentence."""
        return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def frame_list(frames: Sequence[int]) -> str:
    """Frame numbers in words: "frame 3", "frames 3 to 5", "frames 3, 7, 9 and 12 more"."""
    if len(frames) == 1:
        return f"frame {frames[0]}"
    if frames[-1] - frames[0] == len(frames) - 1:
        return f"frames {frames[0]} to {frames[-1]}"
    shown = ", ".join(map(str, frames[:3]))
    return f"frames {shown}" + (f" and {len(frames) - 3} more" if len(frames) > 3 else "")


def numbered(path: str, number: int) -> str:
    """The path with the last number in the file's name replaced, padded to the same width."""
    head, tail = _split(path)
    found = _DIGITS.search(tail)
    if found is None:
        return path
    width = len(found[1])
    return f"{head}{tail[: found.start()]}{number:0{width}d}{found[2]}"


def pattern_of(path: str) -> str:
    """The file's name with "#" for the digits of its last number."""
    tail = _split(path)[1]
    found = _DIGITS.search(tail)
    return tail if found is None else f"{tail[: found.start()]}{'#' * len(found[1])}{found[2]}"


def _split(path: str) -> tuple[str, str]:
    """Folder with its separator, and name. A number in the suffix ("mp4") is not one of the sequence."""
    at = max(path.rfind("/"), path.rfind("\\")) + 1
    return path[:at], path[at:]


def missing_images(
    users: Mapping[bpy.types.Image, Iterable[Any]], frames: Sequence[float], files: Files
) -> Iterator[tuple[bpy.types.Image, str]]:
    """Images whose files are missing, with a name for each.

    Args:
        users: who plays an image sequence: image users, or compositor nodes, which have the same properties.
        frames: scene frames.
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
            yield from ((image, name) for name in _missing_pictures(path, users.get(image, ()), frames, files))
        elif not files.exists(path):
            yield image, files.name(path)


def _missing_tiles(image: bpy.types.Image, path: str, files: Files) -> Iterator[str]:
    for tile in image.tiles:
        number = tile.number
        if "<UDIM>" in path:
            file = path.replace("<UDIM>", str(number))
        elif "<UVTILE>" in path:
            file = path.replace("<UVTILE>", f"u{(number - 1001) % 10 + 1}_v{(number - 1001) // 10 + 1}")
        else:
            file = numbered(path, number)
        if not files.exists(file):
            yield files.name(file)


def _missing_pictures(path: str, users: Iterable[Any], frames: Sequence[float], files: Files) -> Iterator[str]:
    """Of an image sequence, in a name with the frames that are missing."""
    played: set[int] = set()
    for user in users:
        if user.use_auto_refresh or not hasattr(user, "frame_current"):
            played.update(number for frame in frames if (number := _played(user, int(frame))) is not None)
        else:
            played.add(user.frame_current)
    if not played:
        if not files.exists(path):
            yield files.name(path)
        return
    missing = [number for number in sorted(played) if not files.exists(numbered(path, number))]
    if missing:
        yield f"{pattern_of(path)} ({frame_list(missing)})"


def _played(user: Any, frame: int) -> int | None:
    """The number of the picture that an image user shows in a scene frame; None outside its range."""
    count = user.frame_duration
    number = frame - user.frame_start + 1
    if user.use_cyclic and count:
        number = (number - 1) % count + 1
    return number + user.frame_offset if 1 <= number <= count else None


def missing_volume(volume: bpy.types.Volume, frames: Sequence[float], files: Files) -> str:
    """A name for the missing files of a volume, "" where all are there."""
    if not volume.filepath or volume.filepath.endswith(("/", "\\")):  # Blender saves an empty path as "//../../"
        return ""
    path = files.path(volume, volume.filepath)
    if not volume.is_sequence:
        return "" if files.exists(path) else files.name(path)
    numbers = sorted({number for frame in frames if (number := _volume_number(volume, int(frame))) is not None})
    missing = [number for number in numbers if not files.exists(numbered(path, number))]
    return f"{pattern_of(path)} ({frame_list(missing)})" if missing else ""


def _volume_number(volume: bpy.types.Volume, frame: int) -> int | None:
    """The number of the file that a volume sequence shows in a scene frame, as Blender chooses it; None for none."""
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


def missing_cache_files(cache: bpy.types.CacheFile, frames: Sequence[float], files: Files) -> Iterator[str]:
    """Of an Alembic or USD cache and its layers, a name for each that is missing."""
    shown = [layer.filepath for layer in getattr(cache, "layers", ()) if not layer.hide_layer]
    for stored in (cache.filepath, *shown):
        path = files.path(cache, stored)
        if not cache.is_sequence:
            if stored and not files.exists(path):
                yield files.name(path)
            continue
        numbers = sorted({int(cache.frame if cache.override_frame else frame) for frame in frames})
        missing = [number for number in numbers if not files.exists(numbered(path, number))]
        if missing:
            yield f"{pattern_of(path)} ({frame_list(missing)})"
