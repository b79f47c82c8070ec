# SPDX-License-Identifier: GPL-3.0-or-later
"""Updating the paths of a scene to results that were moved after it was saved."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import bpy

from .collection import PLATE_KEY
from .sequencer import strips_of


def update_paths(moved: Mapping[Path, Path]) -> int:
    """Update every path of the open file that lies in a result that was moved; return the number of paths.

    Images, clips, sounds, strips and caches are changed, whoever made them, and the marks of data-blocks that belong to
    a result. Relative paths stay relative where that is possible. The file on disk is not written. `moved` has the new
    folder of each result by its old one, which does not exist any more.
    """
    if not moved:
        return 0
    folders = {_key(form): str(new.resolve()) for old, new in moved.items() for form in (old, old.resolve())}
    count = 0
    for holder, name, library in _holders():
        stored = getattr(holder, name)
        found = _new_path(bpy.path.abspath(stored, library=library), folders) if stored else None
        if found is not None:
            setattr(holder, name, _as_stored(found, stored, library))
            count += 1
    for block in _tagged_blocks():
        found = _new_path(block[PLATE_KEY], folders)
        if found is not None:
            block[PLATE_KEY] = found
    return count


def _holders() -> Iterator[tuple[Any, str, Any]]:
    """Return what has a file path: the holder, the name of the property, and the library that it is relative to."""
    for blocks in (bpy.data.images, bpy.data.movieclips, bpy.data.sounds, bpy.data.cache_files):
        yield from ((block, "filepath", block.library) for block in blocks)
    for obj in bpy.data.objects:
        yield from ((item, "filepath", obj.library) for item in obj.modifiers if item.type == "MESH_CACHE")
    for scene in bpy.data.scenes:
        for strip in strips_of(scene):
            for name in ("directory", "filepath"):  # of images; of movies
                if hasattr(strip, name):
                    yield strip, name, scene.library


def _tagged_blocks() -> Iterator[Any]:
    """Return what is marked with the folder of a result."""
    for blocks in (bpy.data.objects, bpy.data.collections, bpy.data.meshes, bpy.data.cameras, bpy.data.materials,
                   bpy.data.images, bpy.data.actions, bpy.data.node_groups):  # fmt: skip
        yield from (block for block in blocks if PLATE_KEY in block)
    for scene in bpy.data.scenes:
        yield from (strip for strip in strips_of(scene) if PLATE_KEY in strip)
    trees = [*bpy.data.node_groups, *(getattr(scene, "node_tree", None) for scene in bpy.data.scenes)]
    for tree in trees:  # a scene's own tree is among the groups from Blender 5.0 on
        if tree is not None:
            yield from (node for node in tree.nodes if PLATE_KEY in node)


def _new_path(path: str, folders: Mapping[str, str]) -> str | None:
    """Return the path after the move; None where it is in no folder that was moved."""
    full = Path(os.path.normpath(path))
    for folder in (full, *full.parents):
        new = folders.get(_key(folder))
        if new is not None:
            return os.path.join(new, full.relative_to(folder)) if folder != full else new
    return None


def _as_stored(path: str, before: str, library: Any) -> str:
    """Return a path in the form of the stored one: relative or not, with or without a separator at its end."""
    if before.endswith(("/", "\\")):
        path += os.sep
    if before.startswith("//") and library is None:
        with contextlib.suppress(ValueError):  # on another drive
            return bpy.path.relpath(path)
    return path


def _key(path: str | os.PathLike[str]) -> str:
    return os.path.normcase(os.path.normpath(path))
