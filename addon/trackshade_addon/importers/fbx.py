# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports FBX with Blender's built-in importer, or else with the older one that is an add-on.

The built-in importer (Blender 4.5 and newer) reads binary and text files from FBX 5.8 on. The add-on reads binary files
from FBX 7.1 on, some of which the built-in importer rejects.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import bpy

from trackshade.core.errors import ShotError

from ..capture.animation import action_curves
from .exchange import Imported, animations_warning, check_animation, clear, damaged_error, enable, run

_log = logging.getLogger(__name__)
Takes = dict[str, list[tuple[Any, bpy.types.Action, Any]]]
_NUMBER = re.compile(r"\.\d{3}$")


def import_fbx(file: Path, animation: str | None) -> Imported:
    """Import an FBX file, and play the take named `animation`; None for the one that the importer plays.

    Raises:
        RuntimeError: neither importer can read it.
        UsageError: it has no take of that name.
    """
    _read(file)
    takes = _takes()
    animated = _with_action()
    if animation is None:
        playing = _take_name(animated[0].animation_data.action) if animated else ""
        return Imported(warnings=animations_warning(file, list(takes), playing))
    check_animation(file, animation, list(takes))
    for owner in animated:
        owner.animation_data.action = None
    for owner, action, slot in reversed(takes[animation]):  # the first one last: it wins
        data = owner.animation_data or owner.animation_data_create()
        data.action = action
        if slot is not None:
            data.action_slot = slot
    return Imported()


def _read(file: Path) -> None:
    """Import with the first importer that finds something in the file; raise the error of the first one."""
    if _is_truncated_text(file):
        raise damaged_error(file, "it is cut short")
    first_error: RuntimeError | None = None
    if has_builtin_importer():
        try:
            run(file, bpy.ops.wm, "fbx_import")
        except RuntimeError as error:
            first_error = error
            _log.info("Blender's importer rejects %s, trying the add-on: %s", file, error)
        if bpy.context.scene.objects and first_error is None:
            return
        clear()
    enable("io_scene_fbx")
    try:
        run(file, bpy.ops.import_scene, "fbx")
    except (RuntimeError, ShotError) as error:
        if first_error is None and has_builtin_importer():  # which read it, and found nothing
            clear()
            return
        raise first_error or error from None


def has_builtin_importer() -> bool:
    """Return whether this Blender has the built-in importer; its operator is not in `bpy.types`."""
    return "fbx_import" in dir(bpy.ops.wm)


def _is_truncated_text(file: Path) -> bool:
    """Return whether an FBX file in text form ends with open braces, which the built-in importer ignores."""
    content = file.read_bytes()
    if content.startswith(b"Kaydara FBX Binary") or b"\0" in content[:1024]:
        return False
    bare = re.sub(rb'"[^"]*"|;[^\n]*', b"", content)
    return bare.count(b"{") != bare.count(b"}")


def _blocks() -> Iterator[Any]:
    """Return all data-blocks that FBX can animate."""
    data = bpy.data
    return chain(data.objects, data.shape_keys, data.cameras, data.lights, data.materials)


def _with_action() -> list[Any]:
    """Return the data-blocks that have an action."""
    return [block for block in _blocks() if block.animation_data is not None and block.animation_data.action]


def _takes() -> Takes:
    """By name of the take: the data-blocks that it animates, each with action and slot."""
    owners = {(block.id_type, block.name): block for block in _blocks()}
    found: Takes = {}
    for action in bpy.data.actions:
        animated = list(_animated_by(action, owners))
        if animated:
            found.setdefault(_take_name(action), []).extend(animated)
    return found


def _animated_by(
    action: bpy.types.Action, owners: dict[tuple[str, str], Any]
) -> Iterator[tuple[Any, bpy.types.Action, Any]]:
    """Return the data-blocks that an action has curves for, found by the names of its slots, else by its own name."""
    if not hasattr(action, "slots"):  # Blender 4.3 and older, in which an action only knows the type of its users
        name = _owner_name(action.name)
        named = [block for (_, block_name), block in owners.items() if block_name == name]
        matching = (block for block in named if action.id_root in (block.id_type, "UNSPECIFIED"))
        owner = next((block for block in matching if _resolves(block, action)), None)
        if owner is not None:
            yield owner, action, None
        return
    for slot in action.slots:
        kind = slot.target_id_type
        owner = owners.get((kind, slot.name_display)) or owners.get((kind, _owner_name(action.name)))
        if owner is not None and any(True for _ in action_curves(action, slot)):
            yield owner, action, slot


def _resolves(block: Any, action: Any) -> bool:
    """Return whether a data-block has the properties that an action animates."""
    try:
        for curve in action.fcurves:
            block.path_resolve(curve.data_path)
    except ValueError:
        return False
    return True


def _owner_name(name: str) -> str:
    """Return OWNER of a name of the form OWNER|TAKE: the longest name of a data-block that fits, or ""."""
    names = (block.name for block in _blocks() if name.startswith(f"{block.name}|"))
    return max(names, key=len, default="")


def _take_name(action: bpy.types.Action) -> str:
    """Return the take that an action belongs to.

    The built-in importer names actions TAKE, the add-on OWNER|TAKE; Blender's exporter writes a take OBJECT|ACTION for
    each object. Blender appends a number to a name that exists already.
    """
    name = _NUMBER.sub("", action.name)
    name = name if name in bpy.data.actions else action.name
    while owner := _owner_name(name):
        name = name[len(owner) + 1 :]
    return name
