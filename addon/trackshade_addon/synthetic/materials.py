# SPDX-License-Identifier: GPL-3.0-or-later
"""Materials and worlds of scene descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bpy
import numpy as np
from mathutils import Vector

_BRICKS = {"Scale": 1.0, "Brick Width": 1.0, "Row Height": 1.0, "Mortar Size": 0.05}
_RINGS = {"wave_type": "RINGS", "rings_direction": "X"}
# How shader nodes draw a pattern with cells of one unit: type of texture node, its properties, its inputs, its output,
# and the positions of the first and the second color on a color ramp; one position stands for a sharp edge there.
_NODES: Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, Any], str, tuple[float, ...]]] = {
    "striped": ("ShaderNodeTexWave", {}, {"Scale": 0.157}, "Fac", (0.5,)),
    "checked": ("ShaderNodeTexChecker", {}, {"Scale": 1.0}, "Fac", (0.5,)),
    "mottled": ("ShaderNodeTexNoise", {}, {"Scale": 1.0}, "Fac", (0.42, 0.58)),
    "two-tone": ("ShaderNodeTexGradient", {}, {}, "Fac", (0.001,)),
    "spotted": ("ShaderNodeTexVoronoi", {}, {"Scale": 1.4, "Randomness": 0.0}, "Distance", (0.387,)),
    "shaded": ("ShaderNodeTexGradient", {}, {}, "Fac", (0.0, 1.0)),
    "tiled": ("ShaderNodeTexBrick", {"offset": 0.0}, _BRICKS, "Fac", (0.5,)),
    "marbled": ("ShaderNodeTexWave", {}, {"Scale": 0.11, "Distortion": 7.0}, "Fac", (0.2, 1.0)),
    "ringed": ("ShaderNodeTexWave", _RINGS, {"Scale": 0.4, "Distortion": 0.5}, "Fac", (0.5,)),
}
_DIRECTED = ("striped", "two-tone", "shaded", "marbled", "ringed")  # patterns that follow the material's direction
_FIXED = {"two-tone": 0.0, "shaded": 0.5}  # patterns that start at the origin, and the gradient's value there


def build_material(facts: Mapping[str, Any], image: np.ndarray | None) -> bpy.types.Material:
    """Build a material.

    Args:
        facts: One of the materials of a scene description.
        image: [S, S, 3] uint8 sRGB, the pattern of a printed material, else None.
    """
    material = bpy.data.materials.new(facts["pattern"])
    material.diffuse_color = (*facts["first"], 1.0)
    material.roughness, material.metallic = facts["roughness"], facts["metallic"]  # for Workbench
    material.use_nodes = True
    tree = material.node_tree
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Roughness"].default_value = facts["roughness"]
    shader.inputs["Metallic"].default_value = facts["metallic"]
    shader.inputs["Base Color"].default_value = (*facts["first"], 1.0)
    if image is not None:
        node = tree.nodes.new("ShaderNodeTexImage")
        node.image = _build_image(facts["pattern"], image)
        tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
        tree.nodes.active = node  # the image that Workbench shows
    elif facts["pattern"] != "plain":
        tree.links.new(_build_pattern(tree, facts), shader.inputs["Base Color"])
    return material


def _build_image(name: str, pixels: np.ndarray) -> bpy.types.Image:
    side = len(pixels)
    image = bpy.data.images.new(name, side, side)
    colors = np.ones((side, side, 4), np.float32)
    colors[..., :3] = pixels / np.float32(255.0)
    image.pixels.foreach_set(colors.ravel())
    image.pack()
    return image


def _build_pattern(tree: bpy.types.NodeTree, facts: Mapping[str, Any]) -> bpy.types.NodeSocket:
    """Add the nodes of a pattern; it lies in the undeformed mesh, so that it moves with the surface."""
    pattern = facts["pattern"]
    kind, properties, inputs, output, positions = _NODES[pattern]
    place, mapping = tree.nodes.new("ShaderNodeAttribute"), tree.nodes.new("ShaderNodeMapping")
    place.attribute_name = "rest"
    scale = facts["scale"] * (0.6 if pattern == "shaded" else 1.0)
    mapping.inputs["Scale"].default_value = (scale,) * 3
    if pattern in _DIRECTED:
        turn = Vector(facts["direction"]).rotation_difference(Vector((1.0, 0.0, 0.0)))
        mapping.inputs["Rotation"].default_value = turn.to_euler()
    shift = _FIXED.get(pattern)
    mapping.inputs["Location"].default_value = (facts["shift"],) * 3 if shift is None else (shift, 0.0, 0.0)
    tree.links.new(place.outputs["Vector"], mapping.inputs["Vector"])
    texture = tree.nodes.new(kind)
    for name, value in properties.items():
        setattr(texture, name, value)
    for name, value in inputs.items():
        texture.inputs[name].default_value = value
    tree.links.new(mapping.outputs["Vector"], texture.inputs["Vector"])
    colors = facts["first"], facts["second"]
    if pattern == "spotted":  # the distance is small inside a spot
        colors = colors[::-1]
    return _add_ramp(tree, texture.outputs[output], *colors, *positions)


def _add_ramp(
    tree: bpy.types.NodeTree, factor: bpy.types.NodeSocket, low: list[float], high: list[float], *positions: float
) -> bpy.types.NodeSocket:
    """Map a factor to two linear colors: with a sharp edge at one position, or blended between two."""
    ramp = tree.nodes.new("ShaderNodeValToRGB")
    ends = ramp.color_ramp.elements
    ends[0].color, ends[1].color = (*low, 1.0), (*high, 1.0)
    ends[1].position = positions[-1]
    if len(positions) == 1:
        ramp.color_ramp.interpolation = "CONSTANT"
    else:
        ends[0].position = positions[0]
    tree.links.new(factor, ramp.inputs["Fac"])
    return ramp.outputs["Color"]


def build_world(facts: Mapping[str, Any]) -> bpy.types.World:
    """Build a world of two colors that blend across the horizon, or of a clear sky with its sun."""
    world = bpy.data.worlds.new("World")
    world.color = facts["high"]  # for Workbench
    world.use_nodes = True
    tree = world.node_tree
    background = next(node for node in tree.nodes if node.type == "BACKGROUND")
    background.inputs["Strength"].default_value = facts["strength"]
    if facts["sky_direction"] is None:
        place, gradient = tree.nodes.new("ShaderNodeTexCoord"), tree.nodes.new("ShaderNodeSeparateXYZ")
        tree.links.new(place.outputs["Generated"], gradient.inputs["Vector"])
        color = _add_ramp(tree, gradient.outputs["Z"], facts["low"], facts["high"], 0.0, facts["blend"])
    else:
        x, y, z = facts["sky_direction"]
        sky = tree.nodes.new("ShaderNodeTexSky")
        kinds = sky.bl_rna.properties["sky_type"].enum_items.keys()
        sky.sky_type = next(kind for kind in ("NISHITA", "SINGLE_SCATTERING", "HOSEK_WILKIE") if kind in kinds)
        if hasattr(sky, "sun_elevation"):
            sky.sun_elevation, sky.sun_rotation = float(np.arcsin(z)), float(np.arctan2(x, y))
            sky.sun_size, sky.sun_intensity = 0.05, 0.5
        color = sky.outputs["Color"]
    tree.links.new(color, background.inputs["Color"])
    return world
