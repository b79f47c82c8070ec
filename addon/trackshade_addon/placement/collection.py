# SPDX-License-Identifier: GPL-3.0-or-later
"""Where placed results live in a scene: the collection "Trackshade", and in it one collection per result.

Every data block that placing makes carries the result's folder as a custom property; by it they are found again.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TypeVar

import bpy

from trackshade.core.errors import UsageError

from ..capture.visibility import PLATE_KEY
from .record import Result

_NAME = "Trackshade"
_ROOT_KEY = "trackshade_results"  # marks the collection "Trackshade", whatever its name has become
Block = TypeVar("Block", bound=bpy.types.ID)


def tag(block: Block, result: Result) -> Block:
    """Marks a data block as part of a placed result."""
    block[PLATE_KEY] = str(result.folder)
    return block


def stored_path(path: Path) -> str:
    """A file's path as the scene keeps it: beside the open file, where the preferences say so, so that both may be
    moved together."""
    if bpy.data.is_saved and bpy.context.preferences.filepaths.use_relative_paths:
        with contextlib.suppress(ValueError):  # on another drive than the file
            return bpy.path.relpath(str(path))
    return str(path)


def shown_layer(scene: bpy.types.Scene, wanted: str | None, result: Result) -> str | None:
    """Name of the view layer that shows the result, None for all of them.

    Raises:
        UsageError: the scene has no view layer of the wanted name.
    """
    if wanted is None:
        return result.view_layer if result.view_layer in scene.view_layers else None
    if wanted not in scene.view_layers:
        names = ", ".join(layer.name for layer in scene.view_layers)
        raise UsageError("unknown-view-layer", f"The scene has no view layer '{wanted}'.", f"It has: {names}.")
    return wanted


def make_home(scene: bpy.types.Scene, result: Result, layer: str | None) -> bpy.types.Collection:
    """The result's collection, in view layer `layer` only (None: in all)."""
    root = root_collection(scene)
    if root is None:
        root = bpy.data.collections.new(_NAME)
        root[_ROOT_KEY] = True
        scene.collection.children.link(root)
    home = tag(bpy.data.collections.new(result.name), result)
    root.children.link(home)
    for view_layer in scene.view_layers:
        if layer is not None and view_layer.name != layer:
            found = _layer_collection(view_layer.layer_collection, home)
            if found is not None:
                found.exclude = True
    return home


def root_collection(scene: bpy.types.Scene) -> bpy.types.Collection | None:
    """The collection of all placed results, if the scene has one."""
    return next((item for item in scene.collection.children if _ROOT_KEY in item), None)


def _layer_collection(
    parent: bpy.types.LayerCollection, wanted: bpy.types.Collection
) -> bpy.types.LayerCollection | None:
    if parent.collection == wanted:
        return parent
    return next((found for child in parent.children if (found := _layer_collection(child, wanted))), None)


def holds_anything(collection: bpy.types.Collection) -> bool:
    return bool(collection.objects or collection.children)
