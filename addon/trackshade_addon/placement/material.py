# SPDX-License-Identifier: GPL-3.0-or-later
"""The plate's image sequence as a material that only shines, and the same sequence for a camera's background."""

from __future__ import annotations

from typing import Any

import bpy

from .collection import stored_path
from .plane import drive_by, new_driver
from .sequence import Sequence
from .timing import play_anywhere


def load_sequence(name: str, sequence: Sequence, space: str) -> bpy.types.Image:
    """The sequence as an image data block, read from disk afresh."""
    image = bpy.data.images.load(str(sequence.first), check_existing=False)
    image.name = name
    image.source = "SEQUENCE"
    image.colorspace_settings.name = space
    image.filepath = stored_path(sequence.first)
    return image


def make_material(
    name: str, image: bpy.types.Image, sequence: Sequence, scene: bpy.types.Scene, interpolation: str
) -> bpy.types.Material:
    """A material that emits the image, and neither lights nor shades anything."""
    material, color = shining(name, scene)
    texture = color.id_data.nodes.new("ShaderNodeTexImage")
    texture.image = image
    texture.interpolation = interpolation
    texture.extension = "EXTEND"  # for the plane's rim
    texture.location = (-300, 0)
    play_anywhere(texture.image_user, sequence, scene)
    color.id_data.links.new(texture.outputs["Color"], color)
    return material


def shining(name: str, scene: bpy.types.Scene) -> tuple[bpy.types.Material, Any]:
    """A material that emits the color linked to the socket given back, less the scene's exposure, and is no light."""
    material = bpy.data.materials.new(name)
    if material.node_tree is None:  # from Blender 5 on every material has one
        material.use_nodes = True
    tree: Any = material.node_tree
    tree.nodes.clear()
    emission, output = tree.nodes.new("ShaderNodeEmission"), tree.nodes.new("ShaderNodeOutputMaterial")
    output.location = (200, 0)
    tree.links.new(emission.outputs["Emission"], output.inputs["Surface"])
    divide_exposure(emission.inputs["Strength"], scene)
    if hasattr(material, "cycles"):
        material.cycles.emission_sampling = "NONE"
    return material, emission.inputs["Color"]


def divide_exposure(strength: bpy.types.NodeSocket, scene: bpy.types.Scene) -> None:
    """Drives an emission so that the view exposure, and the film exposure of Cycles, leave its colors as they are."""
    expression = "pow(2, -stops)"
    if scene.render.engine == "CYCLES":
        expression += " / max(film, 0.000001)"
    driver = new_driver(strength, "default_value")
    drive_by(driver, "stops", "SCENE", scene, "view_settings.exposure", expression)
    drive_by(driver, "film", "SCENE", scene, "cycles.film_exposure", expression)
    driver.expression = expression
