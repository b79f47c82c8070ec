# SPDX-License-Identifier: GPL-3.0-or-later
"""The material of a textured object: it shines with the baked texture, and, where a projection is given, with the
frame's own pixels where the shot's camera saw them."""

from __future__ import annotations

from typing import Any

import bpy

from .material import shining
from .projected import PLACE, Projection
from .timing import play_anywhere


def texture_material(
    name: str, image: bpy.types.Image, uv_map: str, scene: bpy.types.Scene, projection: Projection | None = None
) -> bpy.types.Material:
    """A material that emits a baked texture by a UV map, less the scene's exposure."""
    material, shown = shining(name, scene)
    tree = shown.id_data
    coordinates = tree.nodes.new("ShaderNodeUVMap")
    coordinates.uv_map = uv_map
    texture = tree.nodes.new("ShaderNodeTexImage")
    texture.image = image
    texture.extension = "EXTEND"
    tree.links.new(coordinates.outputs["UV"], texture.inputs["Vector"])
    color = texture.outputs["Color"]
    if projection is not None:
        color = _project(tree, color, projection, scene)
    tree.links.new(color, shown)
    for column, node in enumerate([*tree.nodes[2:], *tree.nodes[:2]]):  # emission and output, made first, come last
        node.location = (200 * column, 0)
    return material


def _project(
    tree: Any, baked: bpy.types.NodeSocket, projection: Projection, scene: bpy.types.Scene
) -> bpy.types.NodeSocket:
    """The projected picture over the baked color, where the surface point is seen in it."""
    place = tree.nodes.new("ShaderNodeAttribute")
    place.attribute_type, place.attribute_name = "GEOMETRY", PLACE
    parts = tree.nodes.new("ShaderNodeSeparateXYZ")
    tree.links.new(place.outputs["Vector"], parts.inputs[0])
    x, y, z = parts.outputs
    nearness = _math(tree, "MULTIPLY", z, -1.0) if projection.orthographic else _math(tree, "DIVIDE", 1.0, z)
    pixel = tree.nodes.new("ShaderNodeCombineXYZ")
    for axis, along in enumerate((x, y)):
        share = along if projection.orthographic else _math(tree, "MULTIPLY", along, nearness)
        tree.links.new(share, pixel.inputs[axis])
    picture = _sequence(tree, pixel, projection.picture, projection.frames, "Linear", scene)
    reach = _sequence(tree, pixel, projection.reach, projection.reach_frames, "Closest", scene)
    key = _math(tree, "DIVIDE", _math(tree, "SUBTRACT", nearness, projection.low), projection.high - projection.low)
    key.node.use_clamp = True  # 1 says that nothing is seen, also of what is nearer than all that was
    seen = _math(tree, "GREATER_THAN", key, reach.outputs["Color"])
    ahead = _math(tree, "MULTIPLY", seen, _math(tree, "GREATER_THAN", z, 0.0))
    mixed = tree.nodes.new("ShaderNodeMix")
    mixed.data_type = "RGBA"
    named = {(socket.name, socket.type): socket for socket in mixed.inputs}
    tree.links.new(ahead, named["Factor", "VALUE"])
    tree.links.new(baked, named["A", "RGBA"])
    tree.links.new(picture.outputs["Color"], named["B", "RGBA"])
    return next(socket for socket in mixed.outputs if socket.type == "RGBA")


def _sequence(
    tree: Any, pixel: Any, image: bpy.types.Image, frames: Any, interpolation: str, scene: bpy.types.Scene
) -> Any:
    node = tree.nodes.new("ShaderNodeTexImage")
    # Beside the picture the reach is that of its rim, where nothing is seen.
    node.image, node.interpolation, node.extension = image, interpolation, "EXTEND"
    play_anywhere(node.image_user, frames, scene)
    tree.links.new(pixel.outputs[0], node.inputs["Vector"])
    return node


def _math(tree: Any, operation: str, first: Any, second: Any) -> bpy.types.NodeSocket:
    """A node of two numbers, each a socket or a constant."""
    node = tree.nodes.new("ShaderNodeMath")
    node.operation = operation
    for socket, value in zip(node.inputs, (first, second), strict=False):
        if isinstance(value, float):
            socket.default_value = value
        else:
            tree.links.new(value, socket)
    return node.outputs[0]
