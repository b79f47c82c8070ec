# SPDX-License-Identifier: GPL-3.0-or-later
"""What is animated, the stretched time of a scene, and the animated values that stepping frames overwrites."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import bpy
import numpy as np

READS_ONLY = "trackshade_reads_only"  # attribute of our own handlers, which change nothing


class AnimatedValue(NamedTuple):
    """The value of an animated property, or of a component if it is an array."""

    owner: bpy.types.ID
    path: str
    component: int
    value: Any


def animated_ids() -> Iterator[bpy.types.ID]:
    """All data-blocks with animation, including embedded node trees."""
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
    """The F-curves that animate a data-block: those of its action and of its NLA strips."""
    animation = owner.animation_data
    if animation is None:
        return
    yield from action_curves(animation.action, getattr(animation, "action_slot", None))
    for track in animation.nla_tracks:
        for strip in track.strips:
            yield from action_curves(strip.action, getattr(strip, "action_slot", None))


def action_curves(action: bpy.types.Action | None, slot: Any) -> Iterable[bpy.types.FCurve]:
    """The F-curves of an action's slot; before Blender 4.4 there are no slots, and all curves count."""
    for collection in curve_collections(action, slot):
        yield from collection


def curve_collections(action: bpy.types.Action | None, slot: Any) -> Iterator[Any]:
    """The collections that hold the F-curves of an action's slot, from which they can be removed."""
    if action is None:
        return
    if not hasattr(action, "layers"):
        yield action.fcurves
        return
    for layer in action.layers:
        for strip in layer.strips:
            bag = strip.channelbag(slot) if slot is not None else None
            if bag is not None:
                yield bag.fcurves


def animated_paths(owner: bpy.types.ID) -> frozenset[str]:
    """The data paths that F-curves or drivers animate."""
    if owner.animation_data is None:
        return frozenset()
    return frozenset(curve.data_path for curve in [*curves(owner), *owner.animation_data.drivers])


def is_stretched(scene: bpy.types.Scene) -> bool:
    """Whether Time Stretching (Output Properties > Frame Range) is in use."""
    return scene.render.frame_map_old != scene.render.frame_map_new


def time_of(scene: bpy.types.Scene, frame: float) -> float:
    """The time in frames at which Blender evaluates animation when it renders `frame`."""
    return frame * scene.render.frame_map_old / scene.render.frame_map_new


def whole_time(scene: bpy.types.Scene, frame: int) -> int:
    """The time of a frame as markers and image users see it: rounded towards zero, in Blender's single precision."""
    render = scene.render
    return int(np.float32(frame) * (np.float32(render.frame_map_old) / np.float32(render.frame_map_new)))


def has_frame_scripts() -> bool:
    """Whether scripts run on frame changes, which may change anything from one frame to the next."""
    found = [*bpy.app.handlers.frame_change_pre, *bpy.app.handlers.frame_change_post]
    return any(not hasattr(script, READS_ONLY) for script in found)


def animated_values() -> list[AnimatedValue]:
    """The present values of all properties that F-curves animate."""
    values = []
    for owner in animated_ids():
        for curve in curves(owner):
            # A curve may refer to a property that no longer exists.
            with contextlib.suppress(ValueError, IndexError, TypeError, AttributeError):
                values.append(
                    AnimatedValue(
                        owner, curve.data_path, curve.array_index, _read(owner, curve.data_path, curve.array_index)
                    )
                )
    return values


def restore_values(values: list[AnimatedValue]) -> None:
    """Sets those properties whose values have changed."""
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
