# SPDX-License-Identifier: GPL-3.0-or-later
"""Values in shader nodes, as far as they can be known without rendering.

A value is a constant, or a function of one channel of one image: a table with a value for each of the channel's 256
levels. So any chain of Math, Color Ramp, Invert and similar nodes between an image and a socket stays exact. What
depends on anything else (procedural textures, vertex attributes, scripts) is an `UnknownValue` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import bpy
import numpy as np
from mathutils import Euler

from . import shader_math
from .shader_math import Values

LEVELS = 256
DATA_SPACES = ("Non-Color", "Raw", "Generic Data")  # color spaces whose values renders use unchanged
LINEAR_SPACES = ("Linear Rec.709", "Linear")  # color spaces whose values are scene linear already
MAX_DEPTH = 100  # nodes in a chain; more means that the tree is damaged

# View-dependent nodes, and a typical value for a surface seen from its front.
_VIEW_DEPENDENT = {"FRESNEL": 0.05, "LAYER_WEIGHT": 0.3}
_UNSUPPORTED_IMAGES = {
    "SEQUENCE": "an image sequence",
    "MOVIE": "a movie",
    "TILED": "an image of UDIM tiles",
    "VIEWER": "a render",
}


class ImageChannel(NamedTuple):
    """The channel of an image that a value depends on, and how the image is mapped.

    Attributes:
        image: session uid of the image.
        channel: "alpha", "grey" (luminance, scene linear), "red", "green" or "blue".
        uv: name of the UV map; None for the one that renders use.
        matrix: two rows of three numbers that transform UVs to image coordinates.
        extension: extension mode of the node.
        smooth: whether the image is interpolated.
    """

    image: int
    channel: str
    uv: str | None
    matrix: tuple[float, ...]
    extension: str
    smooth: bool


@dataclass(frozen=True, eq=False)
class KnownValue:
    """A constant, [1] or [1, 3]; or a value for each level of an image channel, [256] or [256, 3]."""

    values: Values
    source: ImageChannel | None = None


@dataclass(frozen=True)
class UnknownValue:
    """A value that cannot be known; `reason` completes "depends on ..."."""

    reason: str


Value = KnownValue | UnknownValue


class Scope(NamedTuple):
    """The tree that a node is in, and the group node and scope through which it was entered."""

    tree: bpy.types.NodeTree
    node: bpy.types.Node | None = None
    outer: Scope | None = None


class Origin(NamedTuple):
    """What an input gets its value from: an output of a node, or an input without a link (`node` is None)."""

    scope: Scope
    node: bpy.types.Node | None
    socket: bpy.types.NodeSocket


class ValueEvaluator:
    """Evaluates the values of sockets in a material's nodes.

    Args:
        target: "CYCLES", "EEVEE" or "ALL": the engine whose Material Output counts.
        obj: the evaluated object with the material.
        backfacing: whether the surface is seen from behind.
        images: receives the images that values depend on, by session uid.

    Attributes:
        target: as above.
        depth: nesting depth of the node that is being evaluated.
        depends_on_object: whether any value depended on the object.
    """

    def __init__(
        self, target: str, obj: bpy.types.Object, backfacing: bool, images: dict[int, bpy.types.Image]
    ) -> None:
        self.target = target
        self.depth = 0
        self.depends_on_object = False
        self._obj, self._backfacing, self._images = obj, backfacing, images
        self._links: dict[int, dict[int, bpy.types.NodeLink]] = {}

    # Links

    def is_linked(self, scope: Scope, socket: bpy.types.NodeSocket) -> bool:
        """Whether an input has a link that is not muted."""
        return self._link(scope.tree, socket) is not None

    def _link(self, tree: bpy.types.NodeTree, socket: bpy.types.NodeSocket) -> bpy.types.NodeLink | None:
        links = self._links.get(tree.as_pointer())
        if links is None:
            links = {link.to_socket.as_pointer(): link for link in tree.links if not link.is_muted}
            self._links[tree.as_pointer()] = links
        return links.get(socket.as_pointer())

    def origin(self, scope: Scope, socket: bpy.types.NodeSocket) -> Origin | UnknownValue:
        """Follows the links from an input through reroutes, muted nodes and groups to what it gets its value from."""
        for _ in range(MAX_DEPTH):
            link = self._link(scope.tree, socket)
            if link is None:
                return Origin(scope, None, socket)
            node, output = link.from_node, link.from_socket
            if node is None or output is None:
                return Origin(scope, None, socket)
            if node.mute:
                passed = next((item for item in node.internal_links if item.to_socket == output), None)
                if passed is None:
                    return Origin(scope, None, socket)
                socket = passed.from_socket
            elif node.type == "REROUTE":
                socket = node.inputs[0]
            elif node.type == "GROUP":
                inner = _group_output(node, output.identifier)
                if inner is None:
                    return Origin(scope, None, socket)
                scope, socket = Scope(node.node_tree, node, scope), inner
            elif node.type == "GROUP_INPUT" and scope.outer is not None and scope.node is not None:
                outer = next((item for item in scope.node.inputs if item.identifier == output.identifier), None)
                if outer is None:
                    return Origin(scope, None, socket)
                scope, socket = scope.outer, outer
            else:
                return Origin(scope, node, output)
        return UnknownValue("a tree that does not end")

    # Values

    def number(self, scope: Scope, socket: bpy.types.NodeSocket) -> Value:
        """Evaluates an input as a number, [N]."""
        origin = self.origin(scope, socket)
        if isinstance(origin, UnknownValue):
            return origin
        found = self._value(origin)
        if isinstance(found, UnknownValue) or found.values.ndim == 1:
            return found
        grey = shader_math.luminance if origin.socket.type == "RGBA" else lambda v: v.mean(axis=-1)
        return KnownValue(grey(found.values), found.source)

    def color(self, scope: Scope, socket: bpy.types.NodeSocket) -> Value:
        """Evaluates an input as a color or vector, [N, 3]."""
        origin = self.origin(scope, socket)
        found = origin if isinstance(origin, UnknownValue) else self._value(origin)
        if isinstance(found, UnknownValue) or found.values.ndim == 2:
            return found
        return KnownValue(np.repeat(found.values[:, None], 3, 1), found.source)

    def _value(self, origin: Origin) -> Value:
        scope, node, socket = origin
        if node is None:
            return _default(socket)
        self.depth += 1
        try:
            if self.depth >= MAX_DEPTH:
                return UnknownValue("many nodes")
            return self._node_value(scope, node, socket)
        finally:
            self.depth -= 1

    def _node_value(self, scope: Scope, node: Any, socket: bpy.types.NodeSocket) -> Value:
        kind = node.type
        if kind in ("VALUE", "RGB"):
            return _default(node.outputs[0])
        if kind == "TEX_IMAGE":
            return self._image(scope, node, socket)
        if kind in _VIEW_DEPENDENT:
            return _constant(_VIEW_DEPENDENT[kind])
        if kind == "LIGHT_PATH":
            return self._light_path(socket)
        if kind == "NEW_GEOMETRY" and socket.name == "Backfacing":
            return _constant(float(self._backfacing))
        if kind == "OBJECT_INFO":
            return self._object_info(socket)
        if kind == "ATTRIBUTE":
            return self._attribute(node)
        if kind in ("SEPARATE_COLOR", "SEPRGB"):
            return self._separate_color(scope, node, socket)
        build = shader_math.FUNCTIONS.get(kind)
        function, inputs = (None, []) if build is None else build(node, socket)
        if function is None:
            return UnknownValue(f"the node {node.bl_label or kind}")
        values = [
            self.color(scope, item) if item.type in ("RGBA", "VECTOR") else self.number(scope, item) for item in inputs
        ]
        return apply(function, *values)

    def _light_path(self, socket: bpy.types.NodeSocket) -> Value:
        """The value for a ray from the camera."""
        if socket.name == "Is Camera Ray":
            return _constant(1.0)
        if socket.name.startswith("Is ") or socket.name in ("Ray Depth", "Diffuse Depth", "Glossy Depth",
                                                            "Transmission Depth"):  # fmt: skip
            return _constant(0.0)
        return UnknownValue("the length or number of rays")

    def _object_info(self, socket: bpy.types.NodeSocket) -> Value:
        self.depends_on_object = True
        color = self._obj.color
        if socket.name == "Color":
            return KnownValue(np.array([color[:3]], np.float64))
        if socket.name == "Alpha":
            return _constant(color[3])
        if socket.name == "Object Index":
            return _constant(self._obj.pass_index)
        return UnknownValue("the place or a random number of objects")

    def _attribute(self, node: bpy.types.ShaderNodeAttribute) -> Value:
        if node.attribute_type != "OBJECT":
            return UnknownValue("an attribute")
        self.depends_on_object = True
        holders = (item for item in (self._obj, self._obj.data) if item is not None)
        found = next((item[node.attribute_name] for item in holders if node.attribute_name in item), None)
        if not isinstance(found, (int, float)):
            return UnknownValue("an attribute")
        return _constant(found)

    def _separate_color(self, scope: Scope, node: Any, socket: bpy.types.NodeSocket) -> Value:
        if getattr(node, "mode", "RGB") != "RGB":
            return UnknownValue(f"the node {node.bl_label}")
        index = list(node.outputs).index(socket)
        origin = self.origin(scope, node.inputs[0])
        image = origin.node if isinstance(origin, Origin) and origin.socket.name == "Color" else None
        if isinstance(origin, Origin) and image is not None and image.type == "TEX_IMAGE":
            return self._image(origin.scope, image, origin.socket, ("red", "green", "blue")[index])
        return apply(lambda c: c[:, index], self.color(scope, node.inputs[0]))

    # Images

    def _image(self, scope: Scope, node: Any, socket: bpy.types.NodeSocket, channel: str = "grey") -> Value:
        image = node.image
        alpha = socket.name == "Alpha"
        if image is None:
            return _constant(0.0 if self.target == "EEVEE" and bpy.app.version < (5, 0, 0) else 1.0)
        if image.source in _UNSUPPORTED_IMAGES:
            return UnknownValue(_UNSUPPORTED_IMAGES[image.source])
        if not image.size[0] or not image.size[1]:  # missing: it renders opaque and pink
            return _constant(1.0) if alpha else KnownValue(np.array([[1.0, 0.0, 1.0]]))
        if alpha and image.alpha_mode == "NONE":
            return _constant(1.0)
        if not alpha and not _has_known_colors(image):
            return UnknownValue(f"an image in the color space {image.colorspace_settings.name}")
        if node.projection != "FLAT" or not _is_default(node.texture_mapping):
            return UnknownValue("an image that is not laid by texture coordinates alone")
        found = self._coordinates(scope, node.inputs["Vector"], node)
        if isinstance(found, UnknownValue):
            return found
        uv, matrix = found
        uid = image.original.session_uid
        self._images[uid] = image.original
        rows = tuple(float(value) for value in matrix[:2][:, [0, 1, 3]].reshape(-1))
        if not np.isfinite(rows).all():
            return UnknownValue("texture coordinates that are not finite")
        smooth = node.interpolation != "Closest"
        source = ImageChannel(uid, "alpha" if alpha else channel, uv, rows, node.extension, smooth)
        return KnownValue(np.linspace(0, 1, LEVELS), source)

    def _coordinates(
        self, scope: Scope, socket: bpy.types.NodeSocket, image: Any = None
    ) -> tuple[str | None, Values] | UnknownValue:
        """The name of the UV map that an input gets, and the matrix [4, 4] that is applied to it.

        An unlinked input of the node `image` gets the UV map that renders use.
        """
        origin = self.origin(scope, socket)
        if isinstance(origin, UnknownValue):
            return origin
        scope, node, output = origin
        if node is None:
            if image is not None and output == image.inputs["Vector"]:
                return None, np.eye(4)
            return UnknownValue("constant texture coordinates")
        if node.type == "UVMAP" and not node.from_instancer:
            return node.uv_map or None, np.eye(4)
        if node.type == "TEX_COORD" and output.name == "UV" and not node.from_instancer:
            return None, np.eye(4)
        if node.type == "ATTRIBUTE" and node.attribute_type == "GEOMETRY" and output.name in ("Vector", "Color"):
            return node.attribute_name or None, np.eye(4)
        if node.type in ("MAPPING", "VECT_MATH"):
            matrix = self._matrix(scope, node)
            if matrix is None:
                return UnknownValue("moving texture coordinates")
            found = self._coordinates(scope, node.inputs[0])
            if isinstance(found, UnknownValue):
                return found
            return found[0], matrix @ found[1]
        return UnknownValue("texture coordinates other than a UV map")

    def _matrix(self, scope: Scope, node: Any) -> Values | None:
        """The matrix [4, 4] by which a Mapping or Vector Math node transforms its first input; None if not constant."""
        names = ("Location", "Rotation", "Scale") if node.type == "MAPPING" else (1, "Scale")
        found = {}
        for name in names:
            if isinstance(name, int) or name in node.inputs:
                value = self.color(scope, node.inputs[name])
                if isinstance(value, UnknownValue) or value.source is not None:
                    return None
                found[name] = value.values[0]
        if node.type == "MAPPING":
            return _mapping(node.vector_type, found)
        matrix = np.eye(4)
        if node.operation in ("ADD", "SUBTRACT"):
            matrix[:3, 3] = found[1] if node.operation == "ADD" else -found[1]
        elif node.operation in ("MULTIPLY", "SCALE"):
            matrix[:3, :3] = np.diag(found[1] if node.operation == "MULTIPLY" else found["Scale"])
        else:
            return None
        return matrix


def _has_known_colors(image: bpy.types.Image) -> bool:
    """Whether an image's colors can be converted to scene linear; Blender converts only those of float images."""
    return image.is_float or image.colorspace_settings.name in (*DATA_SPACES, *LINEAR_SPACES, "sRGB")


def node_trees(material: bpy.types.Material) -> Iterator[bpy.types.NodeTree]:
    """Yields a material's node tree and all groups in it, each once."""
    found, waiting = set(), [material.node_tree]
    while waiting:
        tree = waiting.pop()
        if tree is None or tree.as_pointer() in found:
            continue
        found.add(tree.as_pointer())
        yield tree
        waiting += [node.node_tree for node in tree.nodes if node.type == "GROUP"]


def _group_output(node: Any, identifier: str) -> bpy.types.NodeSocket | None:
    """The input of the Group Output node that corresponds to an output of the group node."""
    if node.node_tree is None:
        return None
    outputs = [item for item in node.node_tree.nodes if item.type == "GROUP_OUTPUT"]
    active = next((item for item in outputs if item.is_active_output), None)
    if active is None:
        return None
    return next((item for item in active.inputs if item.identifier == identifier), None)


def apply(function: Callable[..., Values], *values: Value) -> Value:
    """Applies a function to values that depend on at most one image channel."""
    known: list[KnownValue] = []
    for value in values:
        if isinstance(value, UnknownValue):
            return value
        known.append(value)
    sources = {value.source for value in known} - {None}
    if len(sources) > 1:
        return UnknownValue("several images")
    with np.errstate(all="ignore"):
        result = np.nan_to_num(np.asarray(function(*(value.values for value in known)), np.float64))
    if sources and (result == result[:1]).all():
        return KnownValue(result[:1])
    return KnownValue(result, next(iter(sources), None))


def _constant(value: float) -> KnownValue:
    return KnownValue(np.array([value], np.float64))


def _default(socket: Any) -> Value:
    """The value of a socket without a link."""
    value = getattr(socket, "default_value", None)
    if isinstance(value, (int, float)):
        return _constant(value)
    if value is not None and not isinstance(value, str) and len(value) >= 3:
        return KnownValue(np.array([tuple(value)[:3]], np.float64))
    return UnknownValue(f"the input {socket.name}") if value is not None else KnownValue(np.zeros((1, 3)))


def _mapping(kind: str, found: dict[Any, Values]) -> Values | None:
    """The matrix [4, 4] of a Mapping node; None if it has none."""
    if kind == "NORMAL":
        return None
    rotation = np.array(Euler(found["Rotation"]).to_matrix(), np.float64)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation @ np.diag(found["Scale"])
    if kind != "VECTOR":
        matrix[:3, 3] = found["Location"]
    if kind == "TEXTURE":
        if abs(np.linalg.det(matrix)) < 1e-12:
            return None
        return np.linalg.inv(matrix)
    return matrix


def _is_default(mapping: bpy.types.TexMapping) -> bool:
    return (
        tuple(mapping.translation) == (0, 0, 0)
        and tuple(mapping.rotation) == (0, 0, 0)
        and tuple(mapping.scale) == (1, 1, 1)
        and (mapping.mapping_x, mapping.mapping_y, mapping.mapping_z) == ("X", "Y", "Z")
        and mapping.mapping == "FLAT"
    )
