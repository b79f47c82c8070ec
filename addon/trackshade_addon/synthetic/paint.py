# SPDX-License-Identifier: GPL-3.0-or-later
"""Colors, patterns and finishes of synthetic scenes, the words for them, and the materials that show them."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from trackshade.core.caption_colors import COLORS, DARKS
from trackshade.core.colors import srgb_to_linear

from .images import pattern_image

PATTERNS = {  # words, and how often
    "plain": (("", "", "", "plain"), 0.3),
    "striped": (("striped",), 0.13),
    "checked": (("checked", "chequered"), 0.13),
    "mottled": (("mottled",), 0.09),
    "spotted": (("spotted", "dotted"), 0.09),
    "two-tone": (("two-tone",), 0.06),
    "shaded": (("shaded",), 0.04),
    "marbled": (("marbled", "marble"), 0.07),
    "tiled": (("tiled",), 0.05),
    "ringed": (("ringed",), 0.04),
}
PRINTED = {"striped", "checked", "spotted", "lettered", "mottled"}  # what images show
_SECOND_IS_LITTLE = ("plain", "lettered", "tiled")


@dataclass(frozen=True)
class Paint:
    """What a surface looks like, in numbers and words.

    Attributes:
        first, second: linear colors.
        pattern: of PATTERNS, or "lettered".
        scale: cells across a body.
        finish: "matt", "satin", "shiny" or "metallic".
        printed: the pattern is an image on the surface's own coordinates, else a node's.
        words: such as "shiny red striped".
        color: the first color's name where most of the surface shows it.
    """

    first: tuple[float, float, float]
    second: tuple[float, float, float]
    pattern: str
    scale: float
    finish: str
    printed: bool
    seed: int
    words: str
    color: str | None


def linear(rng: np.random.Generator, name: str) -> tuple[float, float, float]:
    """A variation of a named color."""
    rgb = np.array((COLORS | DARKS)[name]) * rng.uniform(0.86, 1.06) + rng.normal(0.0, 0.02, 3)
    red, green, blue = srgb_to_linear(np.clip(rgb, 0.02, 0.97))
    return float(red), float(green), float(blue)


def pick(rng: np.random.Generator, table: dict[str, tuple[tuple[str, ...], float]]) -> str:
    """A name of a table of words and weights."""
    weights = np.array([weight for _, weight in table.values()])
    return str(rng.choice(list(table), p=weights / weights.sum()))


def draw_paint(rng: np.random.Generator, flat: bool, pattern: str | None = None) -> Paint:
    """A paint for a body; `flat`: for an engine that shows images but no nodes."""
    pattern = pattern or pick(rng, PATTERNS)
    printed = pattern != "plain" and (flat or rng.random() < 0.25)
    if printed:
        pattern = str(rng.choice(sorted(PRINTED)))
    first = str(rng.choice(list(COLORS)))
    second = str(rng.choice([name for name in COLORS | DARKS if name != first]))
    one, other = linear(rng, first), linear(rng, second)
    if max(abs(a - b) for a, b in zip(one, other, strict=True)) < 0.25:  # hardly to be told apart
        second = "black" if sum(one) > 0.6 else "white"
        other = linear(rng, second)
    finish = str(rng.choice(["matt", "satin", "shiny", "metallic"], p=[0.35, 0.3, 0.25, 0.1]))
    if finish == "metallic" and pattern != "plain":
        finish = "shiny"
    word = "lettered" if pattern == "lettered" else str(rng.choice(PATTERNS[pattern][0]))
    said = {"matt": "matt" if rng.random() < 0.3 else "", "satin": "", "metallic": "metallic"}.get(
        finish, str(rng.choice(["shiny", "glossy", ""]))
    )
    colors = f"{first} and {second}" if pattern in ("two-tone", "spotted") and rng.random() < 0.4 else first
    order = (said, word, colors) if pattern == "plain" else (said, colors, word)
    return Paint(
        one,
        other,
        pattern,
        float(rng.uniform(2.0, 5.0)),
        finish,
        printed,
        int(rng.integers(1 << 31)),
        " ".join(part for part in order if part),
        first if pattern in _SECOND_IS_LITTLE else None,
    )


def material(paint: Paint, coordinates: str = "Generated", size: float = 1.0) -> bpy.types.Material:
    """The paint as a material; `coordinates` that its pattern follows, `size` of the thing in them."""
    made = bpy.data.materials.new(paint.words or "paint")
    made.diffuse_color = (*paint.first, 1.0)
    made.use_nodes = True
    tree = made.node_tree
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    rough, metal = {"matt": (0.9, 0.0), "satin": (0.45, 0.0), "shiny": (0.15, 0.0), "metallic": (0.25, 1.0)}[
        paint.finish
    ]
    shader.inputs["Roughness"].default_value, shader.inputs["Metallic"].default_value = rough, metal
    made.roughness, made.metallic = rough, metal  # as Workbench shows them
    shader.inputs["Base Color"].default_value = (*paint.first, 1.0)
    if paint.pattern == "plain":
        return made
    if paint.printed:
        node = tree.nodes.new("ShaderNodeTexImage")
        node.image = pattern_image(paint.pattern, paint.first, paint.second, paint.seed)
        tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
        tree.nodes.active = node  # the one that Workbench shows
        return made
    place, mapping = tree.nodes.new("ShaderNodeTexCoord"), tree.nodes.new("ShaderNodeMapping")
    rng = np.random.default_rng(paint.seed)
    mapping.inputs["Location"].default_value = tuple(rng.uniform(0, 9, 3))
    mapping.inputs["Rotation"].default_value = tuple(rng.uniform(0, 3, 3)) if rng.random() < 0.5 else (0, 0, 0)
    mapping.inputs["Scale"].default_value = (paint.scale / size,) * 3
    tree.links.new(place.outputs[coordinates], mapping.inputs["Vector"])
    color = _pattern(tree, paint, mapping.outputs["Vector"])
    tree.links.new(color, shader.inputs["Base Color"])
    return made


def _pattern(tree: bpy.types.NodeTree, paint: Paint, where: bpy.types.NodeSocket) -> bpy.types.NodeSocket:
    """The pattern's color at `where`."""
    one, other = (*paint.first, 1.0), (*paint.second, 1.0)
    if paint.pattern in ("checked", "tiled"):
        node = tree.nodes.new("ShaderNodeTexChecker" if paint.pattern == "checked" else "ShaderNodeTexBrick")
        node.inputs["Color1"].default_value, node.inputs["Color2"].default_value = one, other
        node.inputs["Scale"].default_value = 1.0
        if paint.pattern == "tiled":
            node.inputs["Color2"].default_value = (*(0.8 * part for part in paint.first), 1.0)
            node.inputs["Mortar"].default_value = other
        tree.links.new(where, node.inputs["Vector"])
        return node.outputs["Color"]
    kind, output, edges = {
        "striped": ("ShaderNodeTexWave", "Fac", (0.5,)),
        "ringed": ("ShaderNodeTexWave", "Fac", (0.5,)),
        "marbled": ("ShaderNodeTexWave", "Fac", (0.1, 0.9)),
        "mottled": ("ShaderNodeTexNoise", "Fac", (0.42, 0.58)),
        "spotted": ("ShaderNodeTexVoronoi", "Distance", (0.38,)),
        "shaded": ("ShaderNodeTexGradient", "Fac", (0.0, 1.0)),
        "two-tone": ("ShaderNodeTexWave", "Fac", (0.5,)),
    }[paint.pattern]
    node = tree.nodes.new(kind)
    tree.links.new(where, node.inputs["Vector"])
    if kind == "ShaderNodeTexWave":
        node.wave_type = "RINGS" if paint.pattern == "ringed" else "BANDS"
        node.inputs["Scale"].default_value = 0.08 if paint.pattern == "two-tone" else 0.3
        node.inputs["Distortion"].default_value = 9.0 if paint.pattern == "marbled" else 0.0
    elif kind != "ShaderNodeTexGradient":
        node.inputs["Scale"].default_value = 1.0 if kind == "ShaderNodeTexVoronoi" else 1.6
    ramp = tree.nodes.new("ShaderNodeValToRGB")
    low, high = ramp.color_ramp.elements[0], ramp.color_ramp.elements[1]
    low.color, high.color = one, other
    if paint.pattern == "spotted":  # the cells' middles are the spots
        low.color, high.color = other, one
    if len(edges) == 1:
        ramp.color_ramp.interpolation = "CONSTANT"
        high.position = edges[0]
    else:
        low.position, high.position = edges
    tree.links.new(node.outputs[output], ramp.inputs["Fac"])
    return ramp.outputs["Color"]
