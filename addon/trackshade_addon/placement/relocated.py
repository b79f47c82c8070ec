# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets a scene find results that were moved after it was saved: in whatever of it names a file of theirs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import bpy

from .collection import PLATE_KEY
from .strip import strips_of


def relocate(moved: Mapping[Path, Path]) -> int:
    """Changes every path of the open file that lies in a result that was moved; how many there were.

    Images, clips, sounds, strips and caches are changed, whoever made them, and what marks our own data as belonging to
    a result. Relative paths stay relative where that is possible. The file on the disk is not written.

    Args:
        moved: new folder of each result, by its old one, which is not there any more.
    """
    if not moved:
        return 0
    places = {_key(form): str(new.resolve()) for old, new in moved.items() for form in (old, old.resolve())}
    count = 0
    for holder, name, library in _holders():
        stored = getattr(holder, name)
        found = _moved(bpy.path.abspath(stored, library=library), places) if stored else None
        if found is not None:
            setattr(holder, name, _stored(found, stored, library))
            count += 1
    for block in _marked():
        found = places.get(_key(block[PLATE_KEY]))
        if found is not None:
            block[PLATE_KEY] = found
    return count


def _holders() -> Iterator[tuple[Any, str, Any]]:
    """What names a file: the holder of its path, the path's property, and the library that it is relative to."""
    for blocks in (bpy.data.images, bpy.data.movieclips, bpy.data.sounds, bpy.data.cache_files):
        yield from ((block, "filepath", block.library) for block in blocks)
    for obj in bpy.data.objects:
        yield from ((item, "filepath", obj.library) for item in obj.modifiers if item.type == "MESH_CACHE")
    for scene in bpy.data.scenes:
        for strip in strips_of(scene):
            for name in ("directory", "filepath"):  # of images; of movies
                if hasattr(strip, name):
                    yield strip, name, scene.library


def _marked() -> Iterator[Any]:
    """What carries the folder of a result."""
    for blocks in (bpy.data.objects, bpy.data.collections, bpy.data.meshes, bpy.data.cameras, bpy.data.materials,
                   bpy.data.images, bpy.data.actions, bpy.data.node_groups):  # fmt: skip
        yield from (block for block in blocks if PLATE_KEY in block)
    for scene in bpy.data.scenes:
        yield from (strip for strip in strips_of(scene) if PLATE_KEY in strip)
    trees = [*bpy.data.node_groups, *(getattr(scene, "node_tree", None) for scene in bpy.data.scenes)]
    for tree in trees:  # a scene's own tree is among the groups from Blender 5.0 on
        if tree is not None:
            yield from (node for node in tree.nodes if PLATE_KEY in node)


def _moved(path: str, places: Mapping[str, str]) -> str | None:
    """Where a path leads now; None where it is in nothing that was moved."""
    whole = Path(os.path.normpath(path))
    for folder in (whole, *whole.parents):
        new = places.get(_key(folder))
        if new is not None:
            return os.path.join(new, whole.relative_to(folder)) if folder != whole else new
    return None


def _stored(path: str, before: str, library: Any) -> str:
    """As the file stores it; a folder keeps the separator at its end."""
    if before.endswith(("/", "\\")):
        path += os.sep
    if before.startswith("//") and library is None:
        try:
            return bpy.path.relpath(path)
        except ValueError:  # on another drive
            return path
    return path


def _key(path: str | os.PathLike[str]) -> str:
    return os.path.normcase(os.path.normpath(path))
