# SPDX-License-Identifier: GPL-3.0-or-later
"""How much light from behind a surface its shader nodes transmit, as far as that can be known without rendering."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from .shader_math import Values
from .shader_values import (
    MAX_DEPTH,
    ImageChannel,
    KnownValue,
    Scope,
    UnknownValue,
    Value,
    ValueEvaluator,
    apply,
)

_INVISIBLE = 1 / 255  # less than this is not visible in an image

# Shaders that transmit nothing, whatever their inputs are.
_OPAQUE = frozenset(
    {
        "BSDF_DIFFUSE", "BSDF_GLOSSY", "BSDF_ANISOTROPIC", "BSDF_METALLIC", "BSDF_TRANSLUCENT", "BSDF_TOON",
        "BSDF_SHEEN", "BSDF_VELVET", "BSDF_HAIR", "BSDF_HAIR_PRINCIPLED", "SUBSURFACE_SCATTERING", "BACKGROUND",
    }
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class SideAppearance:
    """How a render shows one side of a surface.

    Attributes:
        shown: whether any of it is drawn.
        opaque: by level of `source`, whether pixels are drawn; None if all are.
        source: the image channel that decides which pixels are drawn, or None.
        partly: whether it transmits at least half of the light, and is visible itself.
        holdout: whether it is a hole in the image.
        unknown: why this cannot be known, or ""; it then counts as opaque.
    """

    shown: bool = True
    opaque: tuple[bool, ...] | None = None
    source: ImageChannel | None = None
    partly: bool = False
    holdout: bool = False
    unknown: str = ""


@dataclass(eq=False)
class Closure:
    """What a shader does with light: [N, 4] fractions that it transmits, reflects or emits, refracts, and cuts out."""

    value: Value

    @classmethod
    def constant(cls, transmits: float = 0.0, light: float = 0.0, refracts: float = 0.0, hole: float = 0.0) -> Closure:
        """Makes a closure of constant fractions."""
        return cls(KnownValue(np.array([[transmits, light, refracts, hole]])))


class ShaderEvaluator(ValueEvaluator):
    """Evaluates a material's shaders for one side of its surfaces."""

    def appearance(self, material: bpy.types.Material, through: bool) -> SideAppearance:
        """How the render shows a material.

        Args:
            material: the evaluated material.
            through: whether what transmits more than half of the light counts as not drawn.
        """
        tree = material.node_tree
        if tree is None or not material.use_nodes:
            return SideAppearance()
        output = tree.get_output_node(self.target)
        if output is None:
            return SideAppearance()
        scope = Scope(tree)
        if not self.is_linked(scope, output.inputs["Surface"]) and self.is_linked(scope, output.inputs["Volume"]):
            return SideAppearance(shown=False)
        return _classify(self._evaluate(scope, output.inputs["Surface"]), through)

    def displaces(self, material: bpy.types.Material) -> bool:
        """Whether the displacement of a material may move the surface, if its settings enable that."""
        tree = material.node_tree
        output = None if tree is None or not material.use_nodes else tree.get_output_node(self.target)
        if output is None:
            return False
        origin = self.origin(Scope(output.id_data), output.inputs["Displacement"])
        if isinstance(origin, UnknownValue):
            return True
        scope, node, _ = origin
        if node is None:
            return False
        if node.type not in ("DISPLACEMENT", "VECTOR_DISPLACEMENT"):
            return True
        scale = self.number(scope, node.inputs["Scale"])
        if isinstance(scale, KnownValue) and not scale.values.any():
            return False
        middle = self.number(scope, node.inputs["Midlevel"])
        offset = self.color(scope, node.inputs["Vector" if node.type == "VECTOR_DISPLACEMENT" else "Height"])
        if isinstance(middle, UnknownValue) or isinstance(offset, UnknownValue):
            return True
        return bool((np.abs(offset.values - middle.values[..., None]) > 1e-6).any())

    def _evaluate(self, scope: Scope, socket: bpy.types.NodeSocket) -> Closure:
        """Evaluates the shader that is linked to an input."""
        origin = self.origin(scope, socket)
        if isinstance(origin, UnknownValue):
            return Closure(origin)
        if origin.node is None:
            return Closure.constant()  # black and opaque
        if origin.socket.type != "SHADER":
            return Closure.constant(light=1)  # a color counts as an emission
        self.depth += 1
        try:
            if self.depth >= MAX_DEPTH:
                return Closure(UnknownValue("many nodes"))
            return self._evaluate_node(origin.scope, origin.node)
        finally:
            self.depth -= 1

    def _evaluate_node(self, scope: Scope, node: bpy.types.Node) -> Closure:
        kind = node.type
        if kind in _OPAQUE:
            return Closure.constant(light=1)
        if kind == "MIX_SHADER":
            first, second = (self._evaluate(scope, node.inputs[n]) for n in (1, 2))
            return _mix(self.number(scope, node.inputs[0]), first, second)
        if kind == "ADD_SHADER":
            first, second = (self._evaluate(scope, node.inputs[n]) for n in (0, 1))
            return Closure(apply(lambda a, b: np.minimum(a + b, 1), first.value, second.value))
        if kind == "BSDF_TRANSPARENT":
            return _transparent(self.color(scope, node.inputs["Color"]))
        if kind == "EMISSION":
            return Closure.constant(light=self._brightness(scope, node))
        if kind == "HOLDOUT":
            return Closure.constant(hole=1)
        if kind in ("BSDF_GLASS", "BSDF_REFRACTION") or node.bl_idname == "ShaderNodeBsdfRayPortal":
            return Closure.constant(refracts=1)
        if kind == "BSDF_PRINCIPLED":
            return self._principled(scope, node)
        if kind == "EEVEE_SPECULAR":
            transparency = _clamp(self.number(scope, node.inputs["Transparency"]))
            return Closure(apply(lambda t: np.stack([t, 1 - t, 0 * t, 0 * t], -1), transparency))
        return Closure(UnknownValue(f"the node {node.bl_label or kind}"))

    def _principled(self, scope: Scope, node: bpy.types.Node) -> Closure:
        refracts = self._constant(scope, node, "Transmission Weight") * (1 - self._constant(scope, node, "Metallic"))
        alpha = _clamp(self.number(scope, node.inputs["Alpha"]))
        return Closure(apply(lambda a: np.stack([1 - a, a * (1 - refracts), a * refracts, 0 * a], -1), alpha))

    def _constant(self, scope: Scope, node: bpy.types.Node, name: str) -> float:
        """The value of an input, 0 to 1; 0 if it is not constant."""
        if name not in node.inputs:
            return 0.0
        value = self.number(scope, node.inputs[name])
        return float(np.clip(value.values[0], 0, 1)) if isinstance(value, KnownValue) and value.source is None else 0.0

    def _brightness(self, scope: Scope, node: bpy.types.Node) -> float:
        """The brightness of an emission, 0 to 1; 1 if it is not constant."""
        color, strength = self.color(scope, node.inputs["Color"]), self.number(scope, node.inputs["Strength"])
        product = apply(lambda c, s: c.max(axis=-1) * s, color, strength)
        if isinstance(product, UnknownValue) or product.source is not None:
            return 1.0
        return float(np.clip(product.values[0], 0, 1))


def _classify(closure: Closure, through: bool) -> SideAppearance:
    """How a render shows a closure; `through` as in `ShaderEvaluator.appearance`."""
    if isinstance(closure.value, UnknownValue):
        return SideAppearance(unknown=closure.value.reason)
    source = closure.value.source
    transmits, light, refracts, hole = np.clip(closure.value.values, 0, 1).T
    visible = np.maximum.reduce([1 - transmits, light, refracts, hole])  # emission may be added to a transparent shader
    if visible.max() < _INVISIBLE:
        return SideAppearance(shown=False)
    opacity = 1 - transmits - refracts
    if (opacity >= 0.5).any():
        opaque, partly = opacity >= 0.5, False
    elif through:
        return SideAppearance(shown=False, partly=True)
    else:
        opaque, partly = visible >= visible.max() / 2, True
    if source is None or opaque.all():
        return SideAppearance(partly=partly, holdout=bool(hole.min() >= 0.5))
    return SideAppearance(True, tuple(opaque.tolist()), source, partly)


def _mix(factor: Value, first: Closure, second: Closure) -> Closure:
    a, b = first.value, second.value
    if isinstance(factor, UnknownValue):
        if isinstance(a, UnknownValue) or isinstance(b, UnknownValue) or a.source is not None or b.source is not None:
            return Closure(factor)
        same = np.abs(a.values - b.values)[:, [0, 2, 3]].max() < _INVISIBLE  # both transmit the same
        return Closure(KnownValue(np.maximum(a.values, b.values)) if same else factor)
    if factor.source is None and factor.values[0] <= 0:
        return first
    if factor.source is None and factor.values[0] >= 1:
        return second
    return Closure(apply(lambda f, x, y: x + np.clip(f, 0, 1)[:, None] * (y - x), factor, a, b))


def _transparent(color: Value) -> Closure:
    def fractions(values: Values) -> Values:
        transmits = np.clip(values, 0, 1).mean(axis=-1)
        return np.stack([transmits, 0 * transmits, 0 * transmits, 0 * transmits], -1)

    return Closure(apply(fractions, color))


def _clamp(value: Value) -> Value:
    return apply(lambda v: np.clip(v, 0, 1), value)
