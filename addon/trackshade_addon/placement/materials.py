# SPDX-License-Identifier: GPL-3.0-or-later
"""Materials of results: emissive ones, and overriding an object's materials without touching them.

To override, the object's slots are linked to the object and given the material; the mesh keeps its materials, so that
other users of it stay as they are. What each slot held before is kept on the object as a custom property, which is
saved with the file and keeps those materials from being purged.
"""

from __future__ import annotations

from typing import Any

import bpy

from .drivers import drive
from .projection import PROJECTION_ATTRIBUTE, Projection
from .sequence import play_in_shader

KEY = "trackshade_materials"  # on an object: what its slots held before
_SLOT = "trackshade_slot"  # on a mesh that had no slots: one was added


def make_emissive_material(name: str, scene: bpy.types.Scene) -> tuple[bpy.types.Material, Any]:
    """Return a new material that emits a color, whatever the exposure, and lights nothing, and the color's socket."""
    material = bpy.data.materials.new(name)
    if material.node_tree is None:  # from Blender 5 on every material has one
        material.use_nodes = True
    tree: Any = material.node_tree
    tree.nodes.clear()
    emission, output = tree.nodes.new("ShaderNodeEmission"), tree.nodes.new("ShaderNodeOutputMaterial")
    output.location = (200, 0)
    tree.links.new(emission.outputs["Emission"], output.inputs["Surface"])
    # The view exposure, and the film exposure of Cycles, must leave the color as it is.
    film = " / max(film, 0.000001)" if scene.render.engine == "CYCLES" else ""
    paths = {"stops": "view_settings.exposure", "film": "cycles.film_exposure"}
    variables = {name: ("SCENE", scene, path) for name, path in paths.items()}
    drive(emission.inputs["Strength"], "default_value", "pow(2, -stops)" + film, variables)
    if hasattr(material, "cycles"):
        material.cycles.emission_sampling = "NONE"
    return material, emission.inputs["Color"]


def make_texture_material(
    name: str, image: bpy.types.Image, uv_map: str, scene: bpy.types.Scene, projection: Projection | None = None
) -> bpy.types.Material:
    """Make a material that emits the texture baked for a UV map.

    With a projection, the frame's own pixels are shown wherever the shot's camera saw the surface.
    """
    material, emitted = make_emissive_material(name, scene)
    tree = emitted.id_data
    coordinates = tree.nodes.new("ShaderNodeUVMap")
    coordinates.uv_map = uv_map
    texture = tree.nodes.new("ShaderNodeTexImage")
    texture.image = image
    texture.extension = "EXTEND"
    tree.links.new(coordinates.outputs["UV"], texture.inputs["Vector"])
    color = texture.outputs["Color"]
    if projection is not None:
        color = _add_projection(tree, color, projection, scene)
    tree.links.new(color, emitted)
    for column, node in enumerate([*tree.nodes[2:], *tree.nodes[:2]]):  # emission and output, made first, come last
        node.location = (200 * column, 0)
    return material


def _add_projection(
    tree: Any, baked: bpy.types.NodeSocket, projection: Projection, scene: bpy.types.Scene
) -> bpy.types.NodeSocket:
    """Add nodes that show the projected image over the baked color where the camera saw the surface point."""
    attribute = tree.nodes.new("ShaderNodeAttribute")
    attribute.attribute_type, attribute.attribute_name = "GEOMETRY", PROJECTION_ATTRIBUTE
    parts = tree.nodes.new("ShaderNodeSeparateXYZ")
    tree.links.new(attribute.outputs["Vector"], parts.inputs[0])
    x, y, z = parts.outputs
    inverse_depth = (
        _add_math(tree, "MULTIPLY", z, -1.0) if projection.orthographic else _add_math(tree, "DIVIDE", 1.0, z)
    )
    pixel = tree.nodes.new("ShaderNodeCombineXYZ")
    for axis, value in enumerate((x, y)):
        coordinate = value if projection.orthographic else _add_math(tree, "MULTIPLY", value, inverse_depth)
        tree.links.new(coordinate, pixel.inputs[axis])
    image = _add_sequence(tree, pixel, projection.image, projection.frames, "Linear", scene)
    depth = _add_sequence(tree, pixel, projection.depth_image, projection.depth_frames, "Closest", scene)
    offset = _add_math(tree, "SUBTRACT", inverse_depth, projection.low)
    key = _add_math(tree, "DIVIDE", offset, projection.high - projection.low)
    key.node.use_clamp = True  # 1 means that nothing is seen, also for what is nearer than all that was
    seen = _add_math(tree, "GREATER_THAN", key, depth.outputs["Color"])
    in_front = _add_math(tree, "MULTIPLY", seen, _add_math(tree, "GREATER_THAN", z, 0.0))
    mix = tree.nodes.new("ShaderNodeMix")
    mix.data_type = "RGBA"
    inputs = {(socket.name, socket.type): socket for socket in mix.inputs}
    tree.links.new(in_front, inputs["Factor", "VALUE"])
    tree.links.new(baked, inputs["A", "RGBA"])
    tree.links.new(image.outputs["Color"], inputs["B", "RGBA"])
    return next(socket for socket in mix.outputs if socket.type == "RGBA")


def _add_sequence(
    tree: Any, pixel: Any, image: bpy.types.Image, frames: Any, interpolation: str, scene: bpy.types.Scene
) -> Any:
    node = tree.nodes.new("ShaderNodeTexImage")
    # Outside the image the depth is that of its edge, where nothing is seen.
    node.image, node.interpolation, node.extension = image, interpolation, "EXTEND"
    play_in_shader(node.image_user, frames, scene)
    tree.links.new(pixel.outputs[0], node.inputs["Vector"])
    return node


def _add_math(tree: Any, operation: str, first: Any, second: Any) -> bpy.types.NodeSocket:
    """Add a Math node of two operands, each a socket or a constant; return its output."""
    node = tree.nodes.new("ShaderNodeMath")
    node.operation = operation
    for socket, value in zip(node.inputs, (first, second), strict=False):
        if isinstance(value, float):
            socket.default_value = value
        else:
            tree.links.new(value, socket)
    return node.outputs[0]


def override_materials(obj: bpy.types.Object, material: bpy.types.Material, result: str) -> None:
    """Show a material of a result in all slots of an object, and keep what they held before."""
    restore_materials(obj)
    if not obj.material_slots:
        obj.data.materials.append(None)
        obj.data[_SLOT] = True
    slots = {}
    for number in range(len(obj.material_slots)):
        slot = obj.material_slots[number]
        previous = {"link": slot.link}
        slot.link = "OBJECT"
        if slot.material is not None:
            previous["material"] = slot.material
        slots[str(number)] = previous
        slot.material = material
    obj[KEY] = {"result": result, "slots": slots}


def restore_materials(obj: bpy.types.Object) -> None:
    """Give an object the materials back that `override_materials` replaced, if any."""
    override = obj.get(KEY)
    if override is None:
        return
    for number, previous in override["slots"].items():
        if int(number) < len(obj.material_slots):  # slots may have been removed since
            slot = obj.material_slots[int(number)]
            slot.link = "OBJECT"
            slot.material = previous.get("material")
            slot.link = previous["link"]
    del obj[KEY]
    mesh = obj.data
    if mesh.get(_SLOT) and not any(KEY in user for user in bpy.data.objects if user.data == mesh):
        del mesh[_SLOT]
        if len(mesh.materials) == 1 and mesh.materials[0] is None:
            mesh.materials.clear()  # `pop` would leave the slots of the objects


def overridden_objects(scene: bpy.types.Scene, result: str | None = None) -> list[bpy.types.Object]:
    """Return the objects of a scene whose materials are overridden by a result, any or this one."""
    return [obj for obj in scene.objects if KEY in obj and result in (None, obj[KEY]["result"])]
