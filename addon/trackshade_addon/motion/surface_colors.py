# SPDX-License-Identifier: GPL-3.0-or-later
"""Base colors of materials at points of a mesh, as far as shader nodes say them without rendering."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from trackshade.core.colors import linear_to_srgb, srgb_to_linear

from ..capture.shader_math import Values
from ..capture.shader_values import (
    DATA_SPACES,
    LINEAR_SPACES,
    MAX_DEPTH,
    ImageChannel,
    KnownValue,
    Scope,
    UnknownValue,
    Value,
    ValueEvaluator,
    apply,
)

_MAX_SIDE = 256  # texels along a side to which images are reduced: a texel is smaller than a pixel of the motion model
_UNKNOWN = UnknownValue("a shader without a color")


@dataclass(frozen=True, eq=False)
class MeshPoints:
    """Points on a mesh.

    Attributes:
        uvs: [N, 2] coordinates in each UV map, by its name; None is the map that renders use.
        colors: [N, 3] scene-linear colors of each color attribute, by its name; None is the one that renders use.
    """

    uvs: Mapping[str | None, np.ndarray]
    colors: Mapping[str | None, np.ndarray]

    def take(self, chosen: np.ndarray) -> MeshPoints:
        """Return some of the points."""
        return MeshPoints(
            {name: values[chosen] for name, values in self.uvs.items()},
            {name: values[chosen] for name, values in self.colors.items()},
        )


def surface_colors(
    material: bpy.types.Material | None, obj: bpy.types.Object, points: MeshPoints, count: int
) -> np.ndarray:
    """Return the base color of a material at N points of an object, [N, 3] sRGB 0..1.

    Where nodes do not say it, it is the viewport color.
    """
    if material is None:
        return np.full((count, 3), 0.8)
    found: Value = _UNKNOWN
    if material.use_nodes and material.node_tree is not None:
        found = _ColorEvaluator(obj, points).surface(material.node_tree)
    linear = np.array(material.diffuse_color[:3]) if isinstance(found, UnknownValue) else found.values
    return np.broadcast_to(linear_to_srgb(np.clip(linear, 0, 1)), (count, 3))


class _ColorEvaluator(ValueEvaluator):
    """Evaluates sockets at points: values are [1] or [N], colors [1, 3] or [N, 3]."""

    def __init__(self, obj: bpy.types.Object, points: MeshPoints) -> None:
        super().__init__("ALL", obj, False, {})
        self._points = points
        self._texels: dict[int, np.ndarray | None] = {}

    def surface(self, tree: bpy.types.NodeTree) -> Value:
        """Return the base color of a material's surface."""
        output = tree.get_output_node(self.target)
        return _UNKNOWN if output is None else self._shader(Scope(tree), output.inputs["Surface"])

    def _shader(self, scope: Scope, socket: bpy.types.NodeSocket) -> Value:
        """Return the color of the shader, or color, that is linked to an input."""
        origin = self.origin(scope, socket)
        if isinstance(origin, UnknownValue) or origin.node is None:
            return _UNKNOWN
        if origin.socket.type != "SHADER":
            return self.color(scope, socket)
        self.depth += 1
        try:
            return _UNKNOWN if self.depth >= MAX_DEPTH else self._shader_node(origin.scope, origin.node)
        finally:
            self.depth -= 1

    def _shader_node(self, scope: Scope, node: Any) -> Value:
        if node.type == "MIX_SHADER":
            first, second = (self._shader(scope, node.inputs[n]) for n in (1, 2))
            return _either(lambda f, a, b: a + np.clip(f, 0, 1)[:, None] * (b - a), first, second,
                           self.number(scope, node.inputs[0]))  # fmt: skip
        if node.type == "ADD_SHADER":
            return _either(lambda a, b: a + b, *(self._shader(scope, node.inputs[n]) for n in (0, 1)))
        if node.type == "BSDF_PRINCIPLED":
            base = self.color(scope, node.inputs["Base Color"])
            return _either(lambda a, b: a + b, base, self._emission(scope, node, "Emission Color", "Emission Strength"))
        if node.type == "EMISSION":
            return self._emission(scope, node, "Color", "Strength")
        if node.type in ("BSDF_TRANSPARENT", "HOLDOUT") or "Color" not in node.inputs:
            return _UNKNOWN
        return self.color(scope, node.inputs["Color"])

    def _emission(self, scope: Scope, node: Any, color: str, strength: str) -> Value:
        emitted, factor = self.color(scope, node.inputs[color]), self.number(scope, node.inputs[strength])
        return apply(lambda c, s: c * np.clip(s, 0, 1)[:, None], emitted, factor)

    def _node_value(self, scope: Scope, node: Any, socket: bpy.types.NodeSocket) -> Value:
        if node.type == "VERTEX_COLOR":
            return self._stored(node.layer_name or None)
        return super()._node_value(scope, node, socket)

    def _attribute(self, node: bpy.types.ShaderNodeAttribute) -> Value:
        if node.attribute_type == "GEOMETRY":
            return self._stored(node.attribute_name)
        return super()._attribute(node)

    def _stored(self, name: str | None) -> Value:
        found = self._points.colors.get(name)
        return UnknownValue("an attribute") if found is None else KnownValue(found)

    def _image(self, scope: Scope, node: Any, socket: bpy.types.NodeSocket, channel: str = "grey") -> Value:
        found = super()._image(scope, node, socket, channel)
        if isinstance(found, UnknownValue) or found.source is None:
            return found
        source, uid = found.source, found.source.image
        if uid not in self._texels:
            self._texels[uid] = _read(self._images[uid])
        texels, uv = self._texels[uid], self._points.uvs.get(source.uv)
        if texels is None or uv is None:
            return UnknownValue("an image without texture coordinates")
        values = texels[_texel_indices(uv, source, (texels.shape[0], texels.shape[1]))]
        if source.channel == "alpha":
            return KnownValue(values[:, 3])
        if source.channel == "grey":
            return KnownValue(values[:, :3])
        return KnownValue(values[:, ("red", "green", "blue").index(source.channel)])


def _either(function: Callable[..., Values], first: Value, second: Value, *more: Value) -> Value:
    """Return a function of two colors (its arguments come last), or the one that is known if the other is not."""
    if isinstance(first, UnknownValue):
        return second
    if isinstance(second, UnknownValue) or any(isinstance(value, UnknownValue) for value in more):
        return first
    return apply(function, *more, first, second)


def _texel_indices(uv: np.ndarray, source: ImageChannel, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the texels at texture coordinates [N, 2]."""
    matrix = np.array(source.matrix).reshape(2, 3)
    place = uv @ matrix[:, :2].T + matrix[:, 2]
    if source.extension == "REPEAT":
        place = place % 1.0
    elif source.extension == "MIRROR":
        place = 1 - np.abs(place % 2.0 - 1)
    column, row = (np.clip((place[:, axis] * size[1 - axis]).astype(int), 0, size[1 - axis] - 1) for axis in (0, 1))
    return row, column


def _read(image: bpy.types.Image) -> np.ndarray | None:
    """Read an image as scene-linear colors and alpha, [H, W, 4] float32, bottom row first; None without pixels."""
    width, height = image.size
    channels = image.channels
    if not width or not height or not channels or (not image.has_data and not len(image.pixels)):
        return None
    pixels = np.empty(width * height * channels, np.float32)
    image.pixels.foreach_get(pixels)
    pixels = _reduce(pixels.reshape(height, width, channels))
    color = np.repeat(pixels[..., :1], 3, axis=-1) if channels < 3 else pixels[..., :3]
    alpha = pixels[..., 3:4] if channels == 4 else np.ones_like(color[..., :1])
    if not image.is_float and image.colorspace_settings.name not in (*DATA_SPACES, *LINEAR_SPACES):
        color = srgb_to_linear(np.clip(color, 0, 1)).astype(np.float32)
    return np.concatenate([color, alpha], axis=-1)


def _reduce(pixels: np.ndarray) -> np.ndarray:
    """Average blocks of texels until no side is longer than `_MAX_SIDE`."""
    height, width, channels = pixels.shape
    tall, wide = -(-height // _MAX_SIDE), -(-width // _MAX_SIDE)
    rows, columns = height // tall, width // wide
    blocks = pixels[: rows * tall, : columns * wide].reshape(rows, tall, columns, wide, channels)
    return blocks.mean(axis=(1, 3))
