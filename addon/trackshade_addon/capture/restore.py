# SPDX-License-Identifier: GPL-3.0-or-later
"""Leaves the user's scene as it was: whatever is changed for a while is put back, also after an error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import bpy

from .animation import animated_values, put_back


class Changes:
    """Properties set for a while; `undo` puts them back, the latest first."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any]] = []
        self.starts: set[int] = set()  # frames in which simulations begin that may run with changed properties
        self.continued: set[int] = set()  # frames in which those begin that went on from frames that were played

    def set(self, holder: Any, name: str, value: Any) -> bool:
        """Sets a property and remembers what it was; does nothing and returns False where it is so already."""
        before = getattr(holder, name)
        if before == value:
            return False
        self._undo.append((holder, name, before))
        setattr(holder, name, value)
        return True

    def keep(self, holder: Any, *names: str) -> None:
        """Remembers properties that depend on each other; `undo` puts them back in the order of `names`."""
        for name in reversed(names):
            # An enumeration reads as "" where an old file holds a value that this Blender no longer knows.
            if getattr(holder, name, "") != "":
                self._undo.append((holder, name, getattr(holder, name)))

    def hide(self, obj: bpy.types.Object, view_layer: bpy.types.ViewLayer, hidden: bool) -> None:
        """The same for the eye of an object in a view layer, which is no property."""
        before = obj.hide_get(view_layer=view_layer)
        if before != hidden:
            self._undo.append((obj, "", (view_layer, before)))
            obj.hide_set(hidden, view_layer=view_layer)

    def undo(self) -> bool:
        """Puts everything back; whether there was anything."""
        changed = bool(self._undo)
        while self._undo:
            holder, name, before = self._undo.pop()
            # What the user has deleted meanwhile needs no putting back.
            with contextlib.suppress(ReferenceError):
                if name:
                    setattr(holder, name, before)
                else:
                    holder.hide_set(before[1], view_layer=before[0])
        return changed


@contextlib.contextmanager
def undisturbed(scene: bpy.types.Scene) -> Iterator[Changes]:
    """Work may step the scene's frames and set properties through the yielded `Changes`; all is put back at the end.

    Stepping frames writes every animated property, so those are put back as well: a pose that the user has changed
    but not keyed yet is still there afterwards. Simulations that have run with changed properties drop the frames of
    that: they do as their start is passed with the properties put back. Where a simulation went on from frames that
    were played, Blender may take the added ones for inexact, and would discard frames of the user's, too, as soon as an
    earlier one is shown. Showing the start has it take all of them for exact.
    """
    frame, subframe = scene.frame_current, scene.frame_subframe
    camera = scene.camera
    values = animated_values()
    changes = Changes()
    try:
        yield changes
    finally:
        changed = changes.undo()
        with contextlib.suppress(ReferenceError):
            for start in sorted(changes.continued | (changes.starts if changed else set())):
                scene.frame_set(start)
            scene.frame_set(frame, subframe=subframe)  # which also sets the camera that a marker names
            if scene.camera != camera:  # setting it has the whole scene evaluated, even if it is set already
                scene.camera = camera
            put_back(values)
            for layer in scene.view_layers:
                if layer.depsgraph is not None:
                    layer.depsgraph.update()


def set_frame(scene: bpy.types.Scene, frame: float) -> None:
    """Steps the scene to a frame number, sub-frames included."""
    whole, subframe = split_frame(frame)
    scene.frame_set(whole, subframe=subframe)


def split_frame(frame: float) -> tuple[int, float]:
    """(whole, sub-frame) of a frame number, as Blender takes it; what is nearly whole is."""
    whole = int(frame // 1)
    subframe = frame - whole
    if subframe > 1 - 1e-6:
        whole, subframe = whole + 1, 0.0
    return whole, subframe if subframe > 1e-6 else 0.0


def fix_camera(changes: Changes, scene: bpy.types.Scene, camera: bpy.types.Object) -> None:
    """Makes `camera` the one that every frame is seen through, whatever the timeline's markers say."""
    for marker in scene.timeline_markers:
        changes.set(marker, "camera", None)
    changes.set(scene, "camera", camera)
