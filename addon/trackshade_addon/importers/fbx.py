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

from .animations import check_animation, several_animations
from .exchange import Imported, clear, enable, finished
from .refusals import damaged

Takes = dict[str, list[tuple[bpy.types.ID, bpy.types.Action]]]


def import_fbx(file: Path, animation: str | None) -> Imported:
    """Imports an FBX file, and plays one of its takes.

    Raises:
        RuntimeError: neither reader takes it. UsageError: it has no take of that name.
    """
    _read(file)
    takes = _takes()
    playing = next((_take(owner.animation_data.action, owner) for owner in _playing()), "")
    if animation is None:
        return Imported(warnings=several_animations(file, list(takes), playing))
    check_animation(file, animation, list(takes))
    chosen = dict(takes[animation])
    for owner in list(_playing()):
        if owner not in chosen:
            owner.animation_data.action = None
    for owner, action in chosen.items():
        _play(owner, action)
    return Imported()


def _read(file: Path) -> None:
    """Imports by the first reader that takes the file; the error is that of the first."""
    if _is_cut_text(file):
        raise damaged(file, "it is cut short")
    refusal: RuntimeError | None = None
    if "fbx_import" in dir(bpy.ops.wm):
        try:
            finished(file, bpy.ops.wm.fbx_import(filepath=str(file)))
        except RuntimeError as error:
            refusal = error
        if refusal is None and bpy.context.scene.objects:
            return
        clear()
    enable("io_scene_fbx")
    try:
        finished(file, bpy.ops.import_scene.fbx(filepath=str(file)))
    except RuntimeError as error:
        if "fbx_import" not in dir(bpy.ops.wm):
            raise
        if refusal is not None:
            raise refusal from error


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
    """By take: what it moves, and the action that moves it. Both readers call actions OWNER|TAKE."""
    owners = sorted(_blocks(), key=lambda block: -len(block.name))  # a longer name may begin with a shorter one
    found: Takes = {}
    for action in bpy.data.actions:
        owner = next((item for item in owners if _belongs(action, item)), None)
        if owner is not None:
            found.setdefault(_take(action, owner), []).append((owner, action))
    return found


def _belongs(action: bpy.types.Action, owner: Any) -> bool:
    if not action.name.startswith(f"{owner.name}|"):
        return False
    if hasattr(action, "slots"):  # Blender 4.4 and newer
        return any(slot.target_id_type in (owner.id_type, "UNSPECIFIED") for slot in action.slots)
    return action.id_root == owner.id_type


def _take(action: bpy.types.Action, owner: Any) -> str:
    """The take that an action is of. Its name is OWNER|TAKE."""
    return action.name[len(owner.name) + 1 :]


def _play(owner: Any, action: bpy.types.Action) -> None:
    animation = owner.animation_data or owner.animation_data_create()
    animation.action = action
    slots = getattr(action, "slots", None)
    if slots:  # Blender 4.4 and newer
        animation.action_slot = next(
            (slot for slot in slots if slot.target_id_type in (owner.id_type, "UNSPECIFIED")), slots[0]
        )
