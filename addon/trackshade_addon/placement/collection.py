# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection that holds a result in a scene, and how data-blocks of a result are marked.

A scene has one collection "Trackshade", and in it one collection per result. Every data-block that placing makes
carries the result's folder as a custom property, by which it is found again.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import bpy

from trackshade.core.errors import UsageError

from ..capture.visibility import PLATE_KEY
from .result_folder import ResultFolder

_NAME = "Trackshade"
_ROOT_KEY = "trackshade_results"  # marks the collection "Trackshade", even if it is renamed
Block = TypeVar("Block", bound=bpy.types.ID)


@dataclass(frozen=True)
class PlacedResult:
    """What placing a result has added to a scene. It holds names, not references, so that it survives an undo."""

    folder: Path  # folder of the result, by which `remove` finds what belongs to it
    scene: str  # name of the scene
    frames: tuple[int, int]  # first and last scene frame in which the result is shown
    color_space: str  # color space of the images
    warnings: tuple[str, ...]  # sentences about what will not look as it was made
    collection: str = ""  # name of the collection with the plates, whose custom property has the warnings
    planes: tuple[str, ...] = ()  # names of the plates, one for each camera
    cameras: tuple[str, ...] = ()  # names of the cameras


def tag(block: Block, result: ResultFolder) -> Block:
    """Mark a data-block as part of a placed result, and return it."""
    block[PLATE_KEY] = str(result.folder)
    return block


def stored_path(path: Path) -> str:
    """Return a path as the scene should store it.

    It is relative to the open file where Blender's preferences say so, so that both may be moved together.
    """
    if bpy.data.is_saved and bpy.context.preferences.filepaths.use_relative_paths:
        with contextlib.suppress(ValueError):  # on another drive than the file
            return bpy.path.relpath(str(path))
    return str(path)


def choose_view_layer(scene: bpy.types.Scene, name: str | None, result: ResultFolder) -> str | None:
    """Return the name of the view layer that shows the result: the named one, else the captured one, else None for all.

    Raises:
        UsageError: The scene has no view layer of this name.
    """
    if name is None:
        return result.view_layer if result.view_layer in scene.view_layers else None
    if name not in scene.view_layers:
        names = ", ".join(layer.name for layer in scene.view_layers)
        raise UsageError("unknown-view-layer", f"The scene has no view layer '{name}'.", f"It has: {names}.")
    return name


def make_result_collection(
    scene: bpy.types.Scene, result: ResultFolder, view_layer: str | None
) -> bpy.types.Collection:
    """Make the collection of a result, visible only in `view_layer` unless that is None."""
    collection = make_collection(scene, result.name, str(result.folder))
    for layer in scene.view_layers:
        if view_layer is not None and layer.name != view_layer:
            found = _layer_collection(layer.layer_collection, collection)
            if found is not None:
                found.exclude = True
    return collection


def make_collection(scene: bpy.types.Scene, name: str, source: str) -> bpy.types.Collection:
    """Make a collection in the scene's collection "Trackshade", marked with the path that its content is from."""
    root = _root_collection(scene)
    if root is None:
        root = bpy.data.collections.new(_NAME)
        root[_ROOT_KEY] = True
        scene.collection.children.link(root)
    collection = bpy.data.collections.new(name)
    collection[PLATE_KEY] = source
    root.children.link(collection)
    return collection


def remove_empty_collections(scene: bpy.types.Scene) -> None:
    """Remove the collections of results that hold nothing any more, and "Trackshade" itself if it is empty."""
    root = _root_collection(scene)
    if root is not None:
        for item in [item for item in root.children if PLATE_KEY in item and not (item.objects or item.children)]:
            bpy.data.collections.remove(item)
        if not (root.objects or root.children):
            bpy.data.collections.remove(root)


def _root_collection(scene: bpy.types.Scene) -> bpy.types.Collection | None:
    return next((item for item in scene.collection.children if _ROOT_KEY in item), None)


def _layer_collection(
    parent: bpy.types.LayerCollection, collection: bpy.types.Collection
) -> bpy.types.LayerCollection | None:
    if parent.collection == collection:
        return parent
    return next((found for child in parent.children if (found := _layer_collection(child, collection))), None)
