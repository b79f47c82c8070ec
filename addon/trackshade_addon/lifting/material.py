# SPDX-License-Identifier: GPL-3.0-or-later
"""The material that projects a picture onto surfaces through the camera that took it.

Each vertex stores as the attribute `REST` where it was in the world when the picture was taken. The image coordinates
are computed per pixel from it, so that they are exact for any density of the mesh, and the picture moves along with an
object.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from trackshade.core.images import write_png
from trackshade.shot.input_image import InputImage, fit_image

from ..capture.lights import PICTURE
from ..placement.collection import stored_path
from ..placement.materials import make_emissive_material

REST = "rest"


def load_picture(path: str, picture: InputImage) -> bpy.types.Image:
    """Load a photo as an image whose pixels are those of a first frame that is read from this file.

    The file is stored in the .blend file, which can be moved without it, where Blender shows the file's pixels as they
    are; and the pixels, where they have to be turned, reduced to 8 bits, converted to sRGB or laid over black.
    """
    header = picture.header
    if header.bits == 8 and header.alpha == "none" and header.orientation == 1 and header.encoding.is_srgb:
        image = bpy.data.images.load(path, check_existing=False)
        image.pack()
        image.filepath = stored_path(Path(path))
    else:
        image = pack_picture(picture.name, fit_image(picture, picture.size, None).pixels)
    image.colorspace_settings.name = "sRGB"
    image.alpha_mode = "NONE"
    return image


def pack_picture(name: str, pixels: np.ndarray) -> bpy.types.Image:
    """Make an image that is stored in the .blend file, from [H, W, 3] uint8 sRGB."""
    with tempfile.TemporaryDirectory(prefix="trackshade-") as folder:
        write_png(path := Path(folder) / "picture.png", pixels)
        data = path.read_bytes()
    image = bpy.data.images.new(name, 1, 1)
    image.pack(data=data, data_len=len(data))
    image.source = "FILE"
    return image


def make_projection_material(
    name: str,
    image: bpy.types.Image,
    matrix: np.ndarray,  # [3, 4] world at the picture's time to pixels, homogeneous
    size: tuple[int, int],
    scene: bpy.types.Scene,
    one_sided: bool = False,
) -> bpy.types.Material:
    """Make a material that emits the picture's pixels, each pixel of the camera's view exactly.

    Args:
        name: name of the material.
        image: the picture.
        matrix: projects world positions at the picture's time to pixels.
        size: width and height of the picture, pixels.
        scene: the scene whose exposure the material compensates.
        one_sided: whether the backs of faces are invisible.
    """
    material, emitted = make_emissive_material(name, scene)
    material[PICTURE] = True
    tree: Any = material.node_tree
    rest = tree.nodes.new("ShaderNodeAttribute")
    rest.attribute_type, rest.attribute_name = "GEOMETRY", REST
    width, height = size
    scaled = np.asarray(matrix, np.float64) / np.linalg.norm(matrix[2, :3])  # the third row gives the depth
    u, v, depth = (_linear(tree, rest, row) for row in (scaled[0] / width, scaled[1] / height, scaled[2]))
    pixel = tree.nodes.new("ShaderNodeCombineXYZ")
    tree.links.new(_math(tree, "DIVIDE", u, depth), pixel.inputs[0])
    upward = _math(tree, "MULTIPLY_ADD", _math(tree, "DIVIDE", v, depth), -1.0, 1.0)
    tree.links.new(upward, pixel.inputs[1])
    texture = tree.nodes.new("ShaderNodeTexImage")
    texture.image, texture.interpolation, texture.extension = image, "Closest", "EXTEND"
    tree.links.new(pixel.outputs[0], texture.inputs["Vector"])
    tree.links.new(texture.outputs["Color"], emitted)
    if one_sided:
        _hide_backs(material)
    for column, node in enumerate([*tree.nodes[2:], *tree.nodes[:2]]):  # emission and output, made first, come last
        node.location = (180 * column, 0)
    tree.nodes.active = texture  # which Solid shading shows
    return material


def _hide_backs(material: bpy.types.Material) -> None:
    """Make the backs of a material's faces transparent, in Cycles by nodes and in EEVEE by culling."""
    material.use_backface_culling = True
    tree: Any = material.node_tree
    emission, output = tree.nodes[0], tree.nodes[1]
    geometry, clear = tree.nodes.new("ShaderNodeNewGeometry"), tree.nodes.new("ShaderNodeBsdfTransparent")
    mix = tree.nodes.new("ShaderNodeMixShader")
    tree.links.new(geometry.outputs["Backfacing"], mix.inputs[0])
    tree.links.new(emission.outputs[0], mix.inputs[1])
    tree.links.new(clear.outputs[0], mix.inputs[2])
    tree.links.new(mix.outputs[0], output.inputs["Surface"])


def _linear(tree: Any, vector: Any, row: np.ndarray) -> bpy.types.NodeSocket:
    """Add nodes for the product of a position with a row of a matrix, [4]."""
    product = tree.nodes.new("ShaderNodeVectorMath")
    product.operation = "DOT_PRODUCT"
    tree.links.new(vector.outputs["Vector"], product.inputs[0])
    product.inputs[1].default_value = row[:3]
    return _math(tree, "ADD", product.outputs["Value"], float(row[3]))


def _math(tree: Any, operation: str, *values: Any) -> bpy.types.NodeSocket:
    """Add a Math node whose operands are sockets or constants; return its output."""
    node = tree.nodes.new("ShaderNodeMath")
    node.operation = operation
    for socket, value in zip(node.inputs, values, strict=False):
        if isinstance(value, float):
            socket.default_value = value
        else:
            tree.links.new(value, socket)
    return node.outputs[0]
