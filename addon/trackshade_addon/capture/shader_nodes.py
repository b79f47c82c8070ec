# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of what is behind a surface its shader nodes let through, as far as that can be told without rendering.

Values are followed through the nodes as constants, or as functions of one channel of one image: a table with a value
for each of the channel's 256 levels. So any chain of Math, Color Ramp, Invert and the like between an image's alpha
and a Mix Shader stays exact. What depends on anything else (procedural textures, attributes of vertices, scripts) is
`Unknown`, with the reason in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import bpy
import numpy as np
from mathutils import Euler
from numpy.typing import NDArray

from . import shader_math

Values = NDArray[np.float64]

LEVELS = 256
DATA_SPACES = ("Non-Color", "Raw", "Generic Data")  # color spaces whose values renders use as they are
LINEAR_SPACES = ("Linear Rec.709", "Linear")  # color spaces whose values are scene linear already
_DEPTH = 100  # nodes that may follow one another; more can only be a damaged tree
_NOTHING = 1 / 255  # what no picture shows

# Shaders that let nothing through, whatever their inputs are.
_OPAQUE = frozenset(
    {
        "BSDF_DIFFUSE", "BSDF_GLOSSY", "BSDF_ANISOTROPIC", "BSDF_METALLIC", "BSDF_TRANSLUCENT", "BSDF_TOON",
        "BSDF_SHEEN", "BSDF_VELVET", "BSDF_HAIR", "BSDF_HAIR_PRINCIPLED", "SUBSURFACE_SCATTERING", "BACKGROUND",
    }
)  # fmt: skip
# View-dependent values, and what stands for them: about what a surface has that is seen from its front.
_VIEW_DEPENDENT = {"FRESNEL": 0.05, "LAYER_WEIGHT": 0.3}


class Source(NamedTuple):
    """The channel of an image that a value depends on.

    Attributes:
        image: the image's session number.
        channel: "alpha", "grey" (luminance, scene linear), "red", "green" or "blue".
        uv: name of the texture coordinates; None for those that renders use.
        matrix: two rows of three, texture coordinates to image coordinates.
        extension: as the node has it.
        smooth: whether the image is interpolated.
    """

    image: int
    channel: str
    uv: str | None
    matrix: tuple[float, ...]
    extension: str
    smooth: bool


@dataclass(frozen=True, eq=False)
class Signal:
    """A value: constant ([1] or [1, 3]), or by the levels of its source ([256] or [256, 3])."""

    values: Values
    source: Source | None = None


@dataclass(frozen=True)
class Unknown:
    """A value that cannot be told; why, in words that complete "depends on ..."."""

    why: str


Value = Signal | Unknown


@dataclass(frozen=True, eq=False)
class Judgement:
    """How a render shows one side of a surface.

    Attributes:
        shown: whether anything of it is drawn.
        opaque: [256] bool by the levels of `source`, which pixels are; None where all are alike.
        partly: it lets through at least half of what is behind, and is itself to be seen.
        holdout: it is a hole in the picture.
        unknown: why this could not be told, or "". Then it counts as opaque.
    """

    shown: bool = True
    opaque: tuple[bool, ...] | None = None
    source: Source | None = None
    partly: bool = False
    holdout: bool = False
    unknown: str = ""


class Scope(NamedTuple):
    """Where a node is: its tree, and the group node through which one got there."""

    tree: bpy.types.NodeTree
    node: bpy.types.Node | None = None
    outer: Scope | None = None


class Origin(NamedTuple):
    """What gives an input its value: an output of a node, or an input (`node` None) that nothing is linked to."""

    scope: Scope
    node: bpy.types.Node | None
    socket: bpy.types.NodeSocket


@dataclass(eq=False)
class Closure:
    """What a shader does with light: [N, 4] shares that it lets through, reflects or emits, refracts, and cuts out."""

    value: Value

    @classmethod
    def of(cls, through: float = 0.0, light: float = 0.0, refracts: float = 0.0, hole: float = 0.0) -> Closure:
        return cls(Signal(np.array([[through, light, refracts, hole]])))


class Evaluator:
    """Evaluates a material's nodes for one side of its surfaces.

    Args:
        target: "CYCLES", "EEVEE" or "ALL": whose Material Output counts.
        obj: the evaluated object that wears the material.
        backfacing: whether the surface is seen from behind.
        images: gets the images that values depend on, by session number.
    """

    def __init__(
        self, target: str, obj: bpy.types.Object, backfacing: bool, images: dict[int, bpy.types.Image]
    ) -> None:
        self.by_object = False  # whether a value depends on the object
        self._target, self._obj, self._backfacing, self._images = target, obj, backfacing, images
        self._links: dict[int, dict[int, bpy.types.NodeLink]] = {}
        self._depth = 0

    def judge(self, material: bpy.types.Material, through: bool) -> Judgement:
        """How the render shows a material, where what lets more than half through counts as not there (`through`)."""
        tree = material.node_tree
        if tree is None or not material.use_nodes:
            return Judgement()
        output = tree.get_output_node(self._target)
        if output is None:
            return Judgement()
        scope = Scope(tree)
        if not self._linked(scope, output.inputs["Surface"]) and self._linked(scope, output.inputs["Volume"]):
            return Judgement(shown=False)
        return judged(self.shader(scope, output.inputs["Surface"]), through)

    def displaces(self, material: bpy.types.Material) -> bool:
        """Whether the material's displacement may move the surface, where its settings have it do so."""
        tree = material.node_tree
        output = None if tree is None or not material.use_nodes else tree.get_output_node(self._target)
        if output is None:
            return False
        origin = self.origin(Scope(output.id_data), output.inputs["Displacement"])
        if origin is None:
            return True
        scope, node, _ = origin
        if node is None:
            return False
        if node.type not in ("DISPLACEMENT", "VECTOR_DISPLACEMENT"):
            return True
        scale = self.number(scope, node.inputs["Scale"])
        if isinstance(scale, Signal) and not scale.values.any():
            return False
        middle = self.number(scope, node.inputs["Midlevel"])
        moves = self.color(scope, node.inputs["Vector" if node.type == "VECTOR_DISPLACEMENT" else "Height"])
        if isinstance(middle, Unknown) or isinstance(moves, Unknown):
            return True
        return bool((np.abs(moves.values - middle.values[..., None]) > 1e-6).any())

    def shader(self, scope: Scope, socket: bpy.types.NodeSocket) -> Closure:
        """The shader that an input gets."""
        origin = self.origin(scope, socket)
        if origin is None:
            return Closure(Unknown("a tree that does not end"))
        if origin.node is None:
            return Closure.of()  # black, and solid
        if origin.socket.type != "SHADER":
            return Closure.of(light=1)  # a color stands for an emission
        self._depth += 1
        try:
            return self._shader(origin.scope, origin.node) if self._depth < _DEPTH else Closure(Unknown("many nodes"))
        finally:
            self._depth -= 1

    def _shader(self, scope: Scope, node: bpy.types.Node) -> Closure:
        kind = node.type
        if kind in _OPAQUE:
            return Closure.of(light=1)
        if kind == "MIX_SHADER":
            first, second = (self.shader(scope, node.inputs[n]) for n in (1, 2))
            return _mixed(self.number(scope, node.inputs[0]), first, second)
        if kind == "ADD_SHADER":
            first, second = (self.shader(scope, node.inputs[n]) for n in (0, 1))
            return Closure(_apply(lambda a, b: np.minimum(a + b, 1), first.value, second.value))
        if kind == "BSDF_TRANSPARENT":
            return _transparent(self.color(scope, node.inputs["Color"]))
        if kind == "EMISSION":
            return Closure.of(light=self._brightness(scope, node))
        if kind == "HOLDOUT":
            return Closure.of(hole=1)
        if kind in ("BSDF_GLASS", "BSDF_REFRACTION") or node.bl_idname == "ShaderNodeBsdfRayPortal":
            return Closure.of(refracts=1)
        if kind == "BSDF_PRINCIPLED":
            return self._principled(scope, node)
        if kind == "EEVEE_SPECULAR":
            clear = self.number(scope, node.inputs["Transparency"])
            return Closure(_apply(lambda t: np.stack([t, 1 - t, 0 * t, 0 * t], -1), _clipped(clear)))
        return Closure(Unknown(f"the node {node.bl_label or kind}"))

    def _principled(self, scope: Scope, node: bpy.types.Node) -> Closure:
        refracts = self._constant(scope, node, "Transmission Weight") * (1 - self._constant(scope, node, "Metallic"))
        alpha = _clipped(self.number(scope, node.inputs["Alpha"]))
        return Closure(_apply(lambda a: np.stack([1 - a, a * (1 - refracts), a * refracts, 0 * a], -1), alpha))

    def _constant(self, scope: Scope, node: bpy.types.Node, name: str) -> float:
        """A constant input, 0 to 1; 0 where it is none."""
        if name not in node.inputs:
            return 0.0
        value = self.number(scope, node.inputs[name])
        return float(np.clip(value.values[0], 0, 1)) if isinstance(value, Signal) and value.source is None else 0.0

    def _brightness(self, scope: Scope, node: bpy.types.Node) -> float:
        """Of an emission; 1 where it is not constant."""
        color, strength = self.color(scope, node.inputs["Color"]), self.number(scope, node.inputs["Strength"])
        both = _apply(lambda c, s: c.max(axis=-1) * s, color, strength)
        if isinstance(both, Unknown) or both.source is not None:
            return 1.0
        return float(np.clip(both.values[0], 0, 1))

    # Links

    def _linked(self, scope: Scope, socket: bpy.types.NodeSocket) -> bool:
        return self._link(scope.tree, socket) is not None

    def _link(self, tree: bpy.types.NodeTree, socket: bpy.types.NodeSocket) -> bpy.types.NodeLink | None:
        links = self._links.get(tree.as_pointer())
        if links is None:
            links = {link.to_socket.as_pointer(): link for link in tree.links if not link.is_muted}
            self._links[tree.as_pointer()] = links
        return links.get(socket.as_pointer())

    def origin(self, scope: Scope, socket: bpy.types.NodeSocket) -> Origin | None:
        """What gives an input its value, through reroutes, muted nodes and groups; None in a tree without an end."""
        for _ in range(_DEPTH):
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
                given = next((item for item in scope.node.inputs if item.identifier == output.identifier), None)
                if given is None:
                    return Origin(scope, None, socket)
                scope, socket = scope.outer, given
            else:
                return Origin(scope, node, output)
        return None

    # Values

    def number(self, scope: Scope, socket: bpy.types.NodeSocket) -> Value:
        """[N] the value of an input as a number."""
        origin = self.origin(scope, socket)
        if origin is None:
            return Unknown("a tree that does not end")
        found = self._value(origin)
        if isinstance(found, Unknown) or found.values.ndim == 1:
            return found
        grey = shader_math.luminance if origin.socket.type == "RGBA" else lambda v: v.mean(axis=-1)
        return Signal(grey(found.values), found.source)

    def color(self, scope: Scope, socket: bpy.types.NodeSocket) -> Value:
        """[N, 3] the value of an input as a color or vector."""
        origin = self.origin(scope, socket)
        found = Unknown("a tree that does not end") if origin is None else self._value(origin)
        if isinstance(found, Unknown) or found.values.ndim == 2:
            return found
        return Signal(np.repeat(found.values[:, None], 3, 1), found.source)

    def _value(self, origin: Origin) -> Value:
        scope, node, socket = origin
        if node is None:
            return _default(socket)
        self._depth += 1
        try:
            if self._depth >= _DEPTH:
                return Unknown("many nodes")
            return self._node_value(scope, node, socket)
        finally:
            self._depth -= 1

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
            return self._separated(scope, node, socket)
        table = shader_math.FUNCTIONS.get(kind)
        if table is None:
            return Unknown(f"the node {node.bl_label or kind}")
        function, inputs = table(node, socket)
        if function is None:
            return Unknown(f"the node {node.bl_label or kind}")
        values = [
            self.color(scope, item) if item.type in ("RGBA", "VECTOR") else self.number(scope, item) for item in inputs
        ]
        return _apply(function, *values)

    def _light_path(self, socket: bpy.types.NodeSocket) -> Value:
        """As a ray has it that comes from the camera."""
        if socket.name == "Is Camera Ray":
            return _constant(1.0)
        if socket.name.startswith("Is ") or socket.name in ("Ray Depth", "Diffuse Depth", "Glossy Depth",
                                                            "Transmission Depth"):  # fmt: skip
            return _constant(0.0)
        return Unknown("the length or number of rays")

    def _object_info(self, socket: bpy.types.NodeSocket) -> Value:
        self.by_object = True
        color = self._obj.color
        if socket.name == "Color":
            return Signal(np.array([color[:3]], np.float64))
        if socket.name == "Alpha":
            return _constant(color[3])
        if socket.name == "Object Index":
            return _constant(self._obj.pass_index)
        return Unknown("the place or a random number of objects")

    def _attribute(self, node: bpy.types.ShaderNodeAttribute) -> Value:
        if node.attribute_type != "OBJECT":
            return Unknown("an attribute")
        self.by_object = True
        holders = (item for item in (self._obj, self._obj.data) if item is not None)
        found = next((item[node.attribute_name] for item in holders if node.attribute_name in item), None)
        if not isinstance(found, (int, float)):
            return Unknown("an attribute")
        return _constant(found)

    def _separated(self, scope: Scope, node: Any, socket: bpy.types.NodeSocket) -> Value:
        if getattr(node, "mode", "RGB") != "RGB":
            return Unknown(f"the node {node.bl_label}")
        index = list(node.outputs).index(socket)
        origin = self.origin(scope, node.inputs[0])
        image = None if origin is None else origin.node
        if origin is not None and image is not None and image.type == "TEX_IMAGE" and origin.socket.name == "Color":
            return self._image(origin.scope, image, origin.socket, ("red", "green", "blue")[index])
        return _apply(lambda c: c[:, index], self.color(scope, node.inputs[0]))

    # Images

    def _image(self, scope: Scope, node: Any, socket: bpy.types.NodeSocket, channel: str = "grey") -> Value:
        image = node.image
        alpha = socket.name == "Alpha"
        if image is None:
            return _constant(0.0 if self._target == "EEVEE" and bpy.app.version < (5, 0, 0) else 1.0)
        if image.source in _ODD_IMAGES:
            return Unknown(_ODD_IMAGES[image.source])
        if not image.size[0] or not image.size[1]:  # missing: renders show it opaque and pink
            return _constant(1.0) if alpha else Signal(np.array([[1.0, 0.0, 1.0]]))
        if alpha and image.alpha_mode == "NONE":
            return _constant(1.0)
        if not alpha and not _has_known_colors(image):
            return Unknown(f"an image in the color space {image.colorspace_settings.name}")
        if node.projection != "FLAT" or not _is_default(node.texture_mapping):
            return Unknown("an image that is not laid by texture coordinates alone")
        found = self._coordinates(scope, node.inputs["Vector"], node)
        if isinstance(found, Unknown):
            return found
        uv, matrix = found
        uid = image.original.session_uid
        self._images[uid] = image.original
        rows = tuple(float(value) for value in matrix[:2][:, [0, 1, 3]].reshape(-1))
        if not np.isfinite(rows).all():
            return Unknown("texture coordinates that are not finite")
        smooth = node.interpolation != "Closest"
        source = Source(uid, "alpha" if alpha else channel, uv, rows, node.extension, smooth)
        return Signal(np.linspace(0, 1, LEVELS), source)

    def _coordinates(
        self, scope: Scope, socket: bpy.types.NodeSocket, image: Any = None
    ) -> tuple[str | None, Values] | Unknown:
        """The layer of texture coordinates, and the [4, 4] matrix that is applied to them."""
        origin = self.origin(scope, socket)
        if origin is None:
            return Unknown("a tree that does not end")
        scope, node, output = origin
        if node is None:
            if image is not None and output == image.inputs["Vector"]:
                return None, np.eye(4)
            return Unknown("constant texture coordinates")
        if node.type == "UVMAP" and not node.from_instancer:
            return node.uv_map or None, np.eye(4)
        if node.type == "TEX_COORD" and output.name == "UV" and not node.from_instancer:
            return None, np.eye(4)
        if node.type == "ATTRIBUTE" and node.attribute_type == "GEOMETRY" and output.name in ("Vector", "Color"):
            return node.attribute_name or None, np.eye(4)
        if node.type in ("MAPPING", "VECT_MATH"):
            matrix = self._matrix(scope, node)
            if matrix is None:
                return Unknown("moving texture coordinates")
            found = self._coordinates(scope, node.inputs[0])
            if isinstance(found, Unknown):
                return found
            return found[0], matrix @ found[1]
        return Unknown("texture coordinates other than a UV map")

    def _matrix(self, scope: Scope, node: Any) -> Values | None:
        """[4, 4] what a Mapping or Vector Math node does to its first input; None where it is no constant matrix."""
        names = ("Location", "Rotation", "Scale") if node.type == "MAPPING" else (1, "Scale")
        found = {}
        for name in names:
            if isinstance(name, int) or name in node.inputs:
                value = self.color(scope, node.inputs[name])
                if isinstance(value, Unknown) or value.source is not None:
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


_ODD_IMAGES = {
    "SEQUENCE": "an image sequence",
    "MOVIE": "a movie",
    "TILED": "an image of UDIM tiles",
    "VIEWER": "a render",
}


def judged(closure: Closure, through: bool) -> Judgement:
    """How a render shows a shader; `through`: what lets more than half through counts as not there."""
    if isinstance(closure.value, Unknown):
        return Judgement(unknown=closure.value.why)
    source = closure.value.source
    lets, light, refracts, hole = np.clip(closure.value.values, 0, 1).T
    to_be_seen = np.maximum.reduce([1 - lets, light, refracts, hole])  # an emission may be added to what lets through
    if to_be_seen.max() < _NOTHING:
        return Judgement(shown=False)
    solid = 1 - lets - refracts
    if (solid >= 0.5).any():
        opaque, partly = solid >= 0.5, False
    elif through:
        return Judgement(shown=False, partly=True)
    else:
        opaque, partly = to_be_seen >= to_be_seen.max() / 2, True
    if source is None or opaque.all():
        return Judgement(partly=partly, holdout=bool(hole.min() >= 0.5))
    return Judgement(True, tuple(opaque.tolist()), source, partly)


def _has_known_colors(image: bpy.types.Image) -> bool:
    """Whether the image's colors can be read as renders use them. Blender converts only float images itself."""
    return image.is_float or image.colorspace_settings.name in (*DATA_SPACES, *LINEAR_SPACES, "sRGB")


def trees(material: bpy.types.Material) -> Iterator[bpy.types.NodeTree]:
    """A material's node tree and all groups in it, each once."""
    found, waiting = set(), [material.node_tree]
    while waiting:
        tree = waiting.pop()
        if tree is None or tree.as_pointer() in found:
            continue
        found.add(tree.as_pointer())
        yield tree
        waiting += [node.node_tree for node in tree.nodes if node.type == "GROUP"]


def _group_output(node: Any, identifier: str) -> bpy.types.NodeSocket | None:
    """The input of a group's output node that an output of the group node shows."""
    if node.node_tree is None:
        return None
    outputs = [item for item in node.node_tree.nodes if item.type == "GROUP_OUTPUT"]
    active = next((item for item in outputs if item.is_active_output), None)
    if active is None:
        return None
    return next((item for item in active.inputs if item.identifier == identifier), None)


def _apply(function: Callable[..., Values], *values: Value) -> Value:
    """A function of values, which may depend on one source together."""
    known: list[Signal] = []
    for value in values:
        if isinstance(value, Unknown):
            return value
        known.append(value)
    sources = {value.source for value in known} - {None}
    if len(sources) > 1:
        return Unknown("several images")
    with np.errstate(all="ignore"):
        made = np.nan_to_num(np.asarray(function(*(value.values for value in known)), np.float64))
    if sources and (made == made[:1]).all():
        return Signal(made[:1])
    return Signal(made, next(iter(sources), None))


def _mixed(factor: Value, first: Closure, second: Closure) -> Closure:
    a, b = first.value, second.value
    if isinstance(factor, Unknown):
        if isinstance(a, Unknown) or isinstance(b, Unknown) or a.source is not None or b.source is not None:
            return Closure(factor)
        alike = np.abs(a.values - b.values)[:, [0, 2, 3]].max() < _NOTHING  # they let through the same
        return Closure(Signal(np.maximum(a.values, b.values)) if alike else factor)
    if factor.source is None and factor.values[0] <= 0:
        return first
    if factor.source is None and factor.values[0] >= 1:
        return second
    return Closure(_apply(lambda f, x, y: x + np.clip(f, 0, 1)[:, None] * (y - x), factor, a, b))


def _transparent(color: Value) -> Closure:
    def shares(values: Values) -> Values:
        through = np.clip(values, 0, 1).mean(axis=-1)
        return np.stack([through, 0 * through, 0 * through, 0 * through], -1)

    return Closure(_apply(shares, color))


def _clipped(value: Value) -> Value:
    return _apply(lambda v: np.clip(v, 0, 1), value)


def _constant(value: float) -> Signal:
    return Signal(np.array([value], np.float64))


def _default(socket: Any) -> Value:
    """The value that a socket has by itself."""
    value = getattr(socket, "default_value", None)
    if isinstance(value, (int, float)):
        return _constant(value)
    if value is not None and not isinstance(value, str) and len(value) >= 3:
        return Signal(np.array([tuple(value)[:3]], np.float64))
    return Unknown(f"the input {socket.name}") if value is not None else Signal(np.zeros((1, 3)))


def _mapping(kind: str, found: dict[Any, Values]) -> Values | None:
    """[4, 4] of a Mapping node."""
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
        # Blender's inverse: moved back, turned back, scaled back.
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
