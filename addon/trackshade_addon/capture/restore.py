# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores the user's scene: what is changed temporarily is set back, also after an error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import bpy

from .animation import animated_values, restore_values


class Changes:
    """Temporary changes of properties, which `undo` reverts in reverse order.

    Attributes:
        starts: start frames of simulations that may run with changed properties.
        continued: start frames of simulations that continued from frames that were played.
    """

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []
        self.starts: set[int] = set()
        self.continued: set[int] = set()

    def set(self, holder: Any, name: str, value: Any) -> bool:
        """Sets a property and remembers its value; returns False if it has the new value already."""
        before = getattr(holder, name)
        if before == value:
            return False
        self._undo.append(partial(setattr, holder, name, before))
        setattr(holder, name, value)
        return True

    def keep(self, holder: Any, *names: str) -> None:
        """Remembers properties that depend on each other; `undo` sets them back in the order of `names`."""
        for name in reversed(names):
            # An enumeration reads as "" if an old file has a value that this Blender no longer knows.
            if getattr(holder, name, "") != "":
                self._undo.append(partial(setattr, holder, name, getattr(holder, name)))

    def hide(self, obj: bpy.types.Object, view_layer: bpy.types.ViewLayer, hidden: bool) -> None:
        """Hides or shows an object in a view layer with its eye icon, which is not a property."""
        before = obj.hide_get(view_layer=view_layer)
        if before != hidden:
            self._undo.append(lambda: obj.hide_set(before, view_layer=view_layer))
            obj.hide_set(hidden, view_layer=view_layer)

    def undo(self) -> bool:
        """Reverts all changes; returns whether there were any."""
        changed = bool(self._undo)
        while self._undo:
            with contextlib.suppress(ReferenceError):  # the user may have deleted it in the meantime
                self._undo.pop()()
        return changed


@contextlib.contextmanager
def preserve_scene(scene: bpy.types.Scene) -> Iterator[Changes]:
    """Restores a scene after its frames were stepped and properties were set through the yielded `Changes`.

    Stepping frames sets every animated property, so these are restored as well: a pose that the user has changed but
    not keyed yet is kept. Simulations that ran with changed properties discard those frames when their start is shown
    with the properties restored. If a simulation continued from frames that the user had played, Blender may take the
    added frames for inexact, and would discard the user's frames with them as soon as an earlier one is shown. Showing
    the start makes it take all of them for exact.
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
            scene.frame_set(frame, subframe=subframe)  # also sets the camera of a marker
            if scene.camera != camera:  # setting it evaluates the whole scene, even without a change
                scene.camera = camera
            restore_values(values)
            for layer in scene.view_layers:
                if layer.depsgraph is not None:
                    layer.depsgraph.update()


def set_frame(scene: bpy.types.Scene, frame: float) -> None:
    """Sets the scene's frame, including the subframe."""
    whole, subframe = split_frame(frame)
    scene.frame_set(whole, subframe=subframe)


def split_frame(frame: float) -> tuple[int, float]:
    """Splits a frame number into a whole frame and a subframe; rounds what is almost whole."""
    whole = int(frame // 1)
    subframe = frame - whole
    if subframe > 1 - 1e-6:
        whole, subframe = whole + 1, 0.0
    return whole, subframe if subframe > 1e-6 else 0.0


def fix_camera(changes: Changes, scene: bpy.types.Scene, camera: bpy.types.Object) -> None:
    """Makes `camera` the camera of every frame, regardless of markers."""
    for marker in scene.timeline_markers:
        changes.set(marker, "camera", None)
    changes.set(scene, "camera", camera)
