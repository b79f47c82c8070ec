# SPDX-License-Identifier: GPL-3.0-or-later
"""What is animated, and the values that stepping frames would overwrite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import bpy
import numpy as np

READS_ONLY = "trackshade_reads_only"  # attribute of handlers of our own, which change nothing


class Value(NamedTuple):
    """An animated property as it stood: `data[path]`, or its component `component` where it is an array."""

    owner: bpy.types.ID
    path: str
    component: int
    value: Any


def animated_ids() -> Iterator[bpy.types.ID]:
    """All data blocks with animation, embedded node trees included."""
    for prop in bpy.data.bl_rna.properties:
        if prop.type != "COLLECTION":
            continue
        for block in getattr(bpy.data, prop.identifier):
            if not isinstance(block, bpy.types.ID):
                continue
            for item in (block, getattr(block, "node_tree", None)):
                if item is not None and getattr(item, "animation_data", None) is not None:
                    yield item


def curves(owner: bpy.types.ID) -> Iterator[bpy.types.FCurve]:
    """The F-curves that move a data block: those of its action and of its non-linear strips."""
    animation = owner.animation_data
    if animation is None:
        return
    yield from action_curves(animation.action, getattr(animation, "action_slot", None))
    for track in animation.nla_tracks:
        for strip in track.strips:
            yield from action_curves(strip.action, getattr(strip, "action_slot", None))


def action_curves(action: bpy.types.Action | None, slot: Any) -> Iterable[bpy.types.FCurve]:
    """The F-curves of an action's slot; Blender before 4.4 has neither slots nor layers."""
    if action is None:
        return
    if not hasattr(action, "layers"):
        yield from action.fcurves
        return
    for layer in action.layers:
        for strip in layer.strips:
            bag = strip.channelbag(slot) if slot is not None else None
            if bag is not None:
                yield from bag.fcurves


def animated_paths(owner: bpy.types.ID) -> frozenset[str]:
    """The paths of all properties that F-curves or drivers move."""
    if owner.animation_data is None:
        return frozenset()
    return frozenset(curve.data_path for curve in [*curves(owner), *owner.animation_data.drivers])


def is_stretched(scene: bpy.types.Scene) -> bool:
    """Whether the scene's time is stretched, in Output Properties > Frame Range."""
    return scene.render.frame_map_old != scene.render.frame_map_new


def time_of(scene: bpy.types.Scene, frame: float) -> float:
    """The time, in frames, at which Blender evaluates the animation when it renders `frame`."""
    return frame * scene.render.frame_map_old / scene.render.frame_map_new


def whole_time(scene: bpy.types.Scene, frame: int) -> int:
    """The whole part of a frame's time, for markers and image users: in Blender's precision, rounded towards zero."""
    render = scene.render
    return int(np.float32(frame) * (np.float32(render.frame_map_old) / np.float32(render.frame_map_new)))


def has_frame_scripts() -> bool:
    """Whether scripts run on frame changes: then anything may be another thing in the next frame."""
    found = [*bpy.app.handlers.frame_change_pre, *bpy.app.handlers.frame_change_post]
    return any(not hasattr(script, READS_ONLY) for script in found)


def animated_values() -> list[Value]:
    """The present value of everything that an F-curve moves."""
    values = []
    for owner in animated_ids():
        for curve in curves(owner):
            # A curve may name a property that is not there any more; then nothing can be lost either.
            with contextlib.suppress(ValueError, IndexError, TypeError, AttributeError):
                values.append(
                    Value(owner, curve.data_path, curve.array_index, _read(owner, curve.data_path, curve.array_index))
                )
    return values


def put_back(values: list[Value]) -> None:
    """Writes those that differ now."""
    for owner, path, index, value in values:
        with contextlib.suppress(ReferenceError, ValueError, IndexError, TypeError, AttributeError):
            if _read(owner, path, index) != value:
                _write(owner, path, index, value)


def _read(owner: bpy.types.ID, path: str, index: int) -> Any:
    value = owner.path_resolve(path)
    return value[index] if hasattr(value, "__getitem__") and not isinstance(value, str) else value


def _write(owner: bpy.types.ID, path: str, index: int, value: Any) -> None:
    present = owner.path_resolve(path)
    if hasattr(present, "__getitem__") and not isinstance(present, str):
        present[index] = value
    elif path.endswith('"]'):
        holder, _, key = path[:-2].rpartition('["')
        (owner.path_resolve(holder) if holder else owner)[bpy.utils.unescape_identifier(key)] = value
    else:
        holder, _, name = path.rpartition(".")
        setattr(owner.path_resolve(holder) if holder else owner, name, value)
