# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports FBX: through Blender's own reader, else through the older importer that is an add-on.

Blender's reader (4.5 and newer) takes binary and text files from version 5.8 on; the add-on takes binary files from
version 7.1 on, and some that the reader refuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy

from trackshade.core.errors import ShotError

from ..capture.animation import action_curves
from .animations import check_animation, several_animations
from .exchange import Imported, clear, enable, run
from .refusals import damaged

Takes = dict[str, list[tuple[Any, bpy.types.Action, Any]]]
_NUMBER = re.compile(r"\.\d{3}$")


def import_fbx(file: Path, animation: str | None) -> Imported:
    """Imports an FBX file, and plays one of its takes.

    Raises:
        RuntimeError: neither reader takes it. UsageError: it has no take of that name.
    """
    _read(file)
    takes = _takes()
    playing = next((_take(owner.animation_data.action) for owner in _playing()), "")
    if animation is None:
        return Imported(warnings=several_animations(file, list(takes), playing))
    check_animation(file, animation, list(takes))
    for owner in list(_playing()):
        owner.animation_data.action = None
    for owner, action, slot in reversed(takes[animation]):  # the first counts
        _play(owner, action, slot)
    return Imported()


def _read(file: Path) -> None:
    """Imports by the first reader that takes the file and finds something in it; the error is that of the first."""
    if _is_cut_text(file):
        raise damaged(file, "it is cut short")
    refusal: RuntimeError | None = None
    if has_own_reader():
        try:
            run(file, bpy.ops.wm, "fbx_import")
        except RuntimeError as error:
            refusal = error
        if bpy.context.scene.objects and refusal is None:
            return
        clear()
    enable("io_scene_fbx")
    try:
        run(file, bpy.ops.import_scene, "fbx")
    except (RuntimeError, ShotError) as error:
        if refusal is None and has_own_reader():  # which took it, and found nothing
            clear()
            return
        raise refusal or error from None


def has_own_reader() -> bool:
    """Whether this Blender has a reader of its own. Operators written in C have no class in `bpy.types`."""
    return "fbx_import" in dir(bpy.ops.wm)


def _is_cut_text(file: Path) -> bool:
    """Whether an FBX file in text form ends before its braces are closed, which Blender's reader passes over."""
    content = file.read_bytes()
    if content.startswith(b"Kaydara FBX Binary") or b"\0" in content[:1024]:
        return False
    bare = re.sub(rb'"[^"]*"|;[^\n]*', b"", content)
    return bare.count(b"{") != bare.count(b"}")


def _blocks() -> Iterator[Any]:
    """All data that FBX animates."""
    for blocks in (bpy.data.objects, bpy.data.shape_keys, bpy.data.cameras, bpy.data.lights, bpy.data.materials):
        yield from blocks


def _playing() -> Iterator[Any]:
    """Of these, what has an action now."""
    return (block for block in _blocks() if block.animation_data is not None and block.animation_data.action)


def _takes() -> Takes:
    """By take: what it moves, and the action and slot that move it."""
    owners = {(block.id_type, block.name): block for block in _blocks()}
    found: Takes = {}
    for action in bpy.data.actions:
        moved = list(_moved(action, owners))
        if moved:
            found.setdefault(_take(action), []).extend(moved)
    return found


def _moved(action: bpy.types.Action, owners: dict[tuple[str, str], Any]) -> Iterator[tuple[Any, bpy.types.Action, Any]]:
    """The data-blocks that an action has curves for. Its slots are called as they are, or the action is."""
    if not hasattr(action, "slots"):  # Blender 4.3 and older, which know the type of what an action has moved only
        name = _owner(action.name)
        named = [block for (_, own), block in owners.items() if own == name]
        fitting = (block for block in named if action.id_root in (block.id_type, "UNSPECIFIED"))
        owner = next((block for block in fitting if _resolves(block, action)), None)
        if owner is not None:
            yield owner, action, None
        return
    for slot in action.slots:
        kind = slot.target_id_type
        owner = owners.get((kind, slot.name_display)) or owners.get((kind, _owner(action.name)))
        if owner is not None and any(True for _ in action_curves(action, slot)):
            yield owner, action, slot


def _resolves(block: Any, action: Any) -> bool:
    """Whether a data-block has the properties that an action moves."""
    try:
        for curve in action.fcurves:
            block.path_resolve(curve.data_path)
    except ValueError:
        return False
    return True


def _owner(name: str) -> str:
    """What OWNER|TAKE begins with: the longest that is the name of something, or ""."""
    names = (block.name for block in _blocks() if name.startswith(f"{block.name}|"))
    return max(names, key=len, default="")


def _take(action: bpy.types.Action) -> str:
    """The take that an action is of.

    Actions are called TAKE by Blender's reader and OWNER|TAKE by the add-on, and takes OBJECT|ACTION by Blender's
    exporter, which writes one for each object. A name that is taken already gets a number.
    """
    name = _NUMBER.sub("", action.name)
    name = name if name in bpy.data.actions else action.name
    while owner := _owner(name):
        name = name[len(owner) + 1 :]
    return name


def _play(owner: Any, action: bpy.types.Action, slot: Any) -> None:
    animation = owner.animation_data or owner.animation_data_create()
    animation.action = action
    if slot is not None:
        animation.action_slot = slot
