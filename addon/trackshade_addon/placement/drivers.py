# SPDX-License-Identifier: GPL-3.0-or-later
"""Drivers that keep placed data in step with the scene: with another property, or with the frame number."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import bpy

Variable = tuple[str, bpy.types.ID, str]  # type of data-block, data-block, path of the property in it


def drive(
    owner: bpy.types.bpy_struct, path: str, expression: str, variables: Mapping[str, Variable], axis: int = -1
) -> bpy.types.Driver:
    """Drive a property by an expression.

    The value arrives unchanged: Blender 5 gives a new driver a curve from (0, 0) to (1, 1), which would turn values
    below 0.0001 into 0.

    Args:
        owner: Structure that has the property.
        path: Name of the property.
        expression: A simple expression, which Blender evaluates even where scripts are not allowed.
        variables: Properties by the names that the expression may use. Those that it does not name are left out.
        axis: Index into a vector property; -1 for a scalar.

    Returns:
        The new driver.
    """
    curve = owner.driver_add(path, axis)
    curve.keyframe_points.clear()
    for name, (kind, target, target_path) in variables.items():
        if re.search(rf"\b{name}\b", expression):
            variable = curve.driver.variables.new()
            variable.name = name
            variable.targets[0].id_type = kind
            variable.targets[0].id = target
            variable.targets[0].data_path = target_path
    curve.driver.expression = expression
    return curve.driver


def drive_by_frame(owner: Any, path: str, values: Mapping[int, float]) -> None:
    """Drive a property by the number of the frame that is evaluated, in whichever scene that is.

    Args:
        owner: Structure that has the property.
        path: Name of the property.
        values: Value by frame number; it holds until the next frame that is listed. The first value also holds before
            its frame, and the last one after it.
    """
    curve = owner.driver_add(path)
    for modifier in list(curve.modifiers):  # a new driver has one up to Blender 4.5, which would hide the keys
        curve.modifiers.remove(modifier)
    curve.keyframe_points.clear()
    curve.extrapolation = "CONSTANT"
    variable = curve.driver.variables.new()
    variable.name, variable.type = "number", "CONTEXT_PROP"
    variable.targets[0].context_property = "ACTIVE_SCENE"
    variable.targets[0].data_path = "frame_current"
    curve.driver.expression = "number"
    keys: list[tuple[int, float]] = []
    for frame, value in sorted(values.items()):
        if not keys or value != keys[-1][1]:
            keys.append((frame, value))
    curve.keyframe_points.add(len(keys))
    curve.keyframe_points.foreach_set("co", [float(number) for key in keys for number in key])
    for point in curve.keyframe_points:
        point.interpolation = "CONSTANT"
    curve.update()


def clear_empty_animation(block: Any) -> None:
    """Clear the animation data that removed drivers leave behind, unless the data-block is animated otherwise."""
    data = block.animation_data
    if data is not None and data.action is None and not data.drivers and not data.nla_tracks:
        block.animation_data_clear()
