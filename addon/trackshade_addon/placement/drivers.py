# SPDX-License-Identifier: GPL-3.0-or-later
"""Drivers that keep placed data in step with the scene: with another property, or with the frame number."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import groupby
from typing import Any

import bpy

Variable = tuple[str, bpy.types.ID, str]  # type of data-block, data-block, path of the property in it


def drive(
    owner: bpy.types.bpy_struct, path: str, expression: str, variables: Mapping[str, Variable], axis: int = -1
) -> bpy.types.Driver:
    """Drive a property of `owner` by an expression, and return the new driver.

    The expression is a simple one, which Blender evaluates even where scripts are not allowed. It gets those of the
    variables, by name, that it mentions. `axis` is the index into a vector property, -1 for a scalar.
    """
    curve = owner.driver_add(path, axis)
    curve.keyframe_points.clear()  # Blender 5 maps (0, 0) to (1, 1), which would turn values below 0.0001 into 0
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
    """Drive a property of `owner` by the number of the frame that is evaluated, in whichever scene that is.

    Each value holds from its frame until the next frame that is listed, the first one also before its frame.
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
    keys = [next(group) for _, group in groupby(sorted(values.items()), key=lambda item: item[1])]
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
