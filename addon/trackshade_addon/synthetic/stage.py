# SPDX-License-Identifier: GPL-3.0-or-later
"""What synthetic scenes stand on, in front of and in the light of."""

from __future__ import annotations

import bpy
import numpy as np
from mathutils import Matrix, Vector

from trackshade.core.caption_colors import COLORS, DARKS

from . import shapes
from .paint import Paint, linear, material

GROUNDS = ("grey", "brown", "white", "green", "blue", "black")
_FLOORS = {  # pattern, word, and how often
    "plain": ("", 0.28),
    "checked": ("checked", 0.2),
    "mottled": ("rough", 0.18),
    "tiled": ("tiled", 0.14),
    "striped": ("striped", 0.08),
    "marbled": ("marble", 0.12),
}
_FLAT_FLOORS = {
    "plain": ("", 0.3),
    "checked": ("checked", 0.35),
    "mottled": ("rough", 0.2),
    "lettered": ("printed", 0.15),
}


def build_stage(rng: np.random.Generator, flat: bool, azimuth: float) -> str:
    """Ground and walls, which face a camera at `azimuth`; their words. `flat`: see `paint.draw_paint`."""
    kind = str(rng.choice(["open", "wall", "corner", "studio"], p=[0.4, 0.25, 0.15, 0.2]))
    turned = Matrix.Rotation(azimuth + rng.choice([0.0, rng.uniform(-0.5, 0.5)]), 4, "Z")
    if kind == "studio":
        return _studio(rng, flat, turned)
    half = float(rng.uniform(5.0, 9.0) if rng.random() < 0.3 else rng.uniform(12.0, 25.0))
    paint = _stage_paint(rng, flat)
    floor = _surface(rng, paint, 2 * half, turned)
    floor.name = "Floor"
    words = f"on {_article(paint.words)} {rng.choice(['floor', 'ground'])}"
    if kind == "open":
        if rng.random() < 0.3:  # hills
            shapes.modify(
                floor, "DISPLACE", texture=_clouds(rng), strength=0.25, mid_level=0.9, texture_coords="GLOBAL"
            )
        return words
    away, high = float(rng.uniform(1.8, 3.2)), float(rng.uniform(2.4, 5.0))
    wall_paint = _stage_paint(rng, flat)
    for angle in (0.0,) if kind == "wall" else (-np.pi / 4, np.pi / 4):
        wall = shapes.sheet(2 * half, high, 6, upright=True)
        wall.name = "Wall"
        place = Matrix.Rotation(angle, 4, "Z") @ Matrix.Translation((-away, 0.0, high / 2))
        wall.matrix_world = turned @ place @ Matrix.Rotation(np.pi / 2, 4, "Z")
        _dress(wall, wall_paint)
    if kind == "wall":
        return f"{words} in front of {_article(wall_paint.words)} wall"
    return f"{words} in a {rng.choice(['corner', 'room'])}"


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _stage_paint(rng: np.random.Generator, flat: bool) -> Paint:
    table = _FLAT_FLOORS if flat else _FLOORS
    weights = np.array([weight for _, weight in table.values()])
    pattern = str(rng.choice(list(table), p=weights / weights.sum()))
    name = str(rng.choice(GROUNDS) if rng.random() < 0.7 else rng.choice(list(COLORS | DARKS)))
    first = linear(rng, name)
    factor = rng.choice([0.4, 0.6, 1.7])
    red, green, blue = (float(np.clip(part * factor, 0.01, 0.9)) for part in first)
    glossy = rng.random() < 0.12 and not flat
    words = " ".join(part for part in ("polished" if glossy else "", table[pattern][0], name) if part)
    return Paint(
        first, (red, green, blue), pattern, float(rng.uniform(0.8, 2.0)), "shiny" if glossy else "matt",
        pattern != "plain" and (flat or pattern == "lettered"), int(rng.integers(1 << 31)), words, None,
    )  # fmt: skip


def _surface(rng: np.random.Generator, paint: Paint, width: float, turned: Matrix) -> bpy.types.Object:
    made = shapes.sheet(width, width, int(rng.choice([4, 24, 60])))
    made.matrix_world = turned
    _dress(made, paint)
    return made


def _dress(thing: bpy.types.Object, paint: Paint) -> None:
    """Paints a surface in metres of its own space, not in shares of its size."""
    thing.data.materials.append(material(paint, "Object"))
    shapes.box_coordinates(thing.data, 0.4)


def _clouds(rng: np.random.Generator) -> bpy.types.Texture:
    texture = bpy.data.textures.new("hills", "CLOUDS")
    texture.noise_scale = float(rng.uniform(1.5, 4.0))
    return texture


def _studio(rng: np.random.Generator, flat: bool, turned: Matrix) -> str:
    """A backdrop of one color that runs from the floor up behind the bodies in a curve."""
    name = str(rng.choice(GROUNDS if rng.random() < 0.6 else list(COLORS)))
    color = linear(rng, name)
    away, bend = rng.uniform(1.6, 2.6), rng.uniform(0.6, 1.4)
    angle = np.linspace(0.0, np.pi / 2, 9)
    profile = [(9.0, 0.0), (2.0, 0.0), *zip(-away - bend * np.sin(angle), bend * (1 - np.cos(angle)), strict=True)]
    profile += [(-away - bend, 3.0), (-away - bend, 9.0)]
    verts = [(float(x), float(y), float(z)) for x, z in profile for y in (-13.0, 0.0, 13.0)]
    faces = [(a, a + 1, a + 4, a + 3) for row in range(len(profile) - 1) for a in (3 * row, 3 * row + 1)]
    mesh = bpy.data.meshes.new("Backdrop")
    mesh.from_pydata(verts, [], faces)
    mesh.polygons.foreach_set("use_smooth", np.full(len(faces), True))
    backdrop = shapes.link(mesh, "Backdrop")
    backdrop.matrix_world = turned
    paint = Paint(color, color, "plain", 1.0, "matt", False, 0, name, None)
    mesh.materials.append(material(paint))
    return f"on {_article(name)} backdrop" if rng.random() < 0.5 else f"in {_article(name)} studio"


def build_light(rng: np.random.Generator, azimuth: float) -> None:
    """A world and lamps, for a camera at `azimuth`: a sun, or one to three areas; always something of the world."""
    around, height = azimuth + rng.uniform(-1.9, 1.9), np.radians(rng.uniform(25, 75))
    towards = Vector((np.cos(around) * np.cos(height), np.sin(around) * np.cos(height), np.sin(height)))
    kind = str(rng.choice(["sun", "areas", "sky", "both"], p=[0.4, 0.25, 0.15, 0.2]))
    _world(rng, kind, towards)
    warmth = (1.0, float(rng.uniform(0.85, 1.0)), float(rng.uniform(0.7, 1.0)))
    if kind in ("sun", "both"):
        sun = shapes.link(bpy.data.lights.new("Sun", "SUN"), "Sun")
        sun.data.energy, sun.data.angle, sun.data.color = (
            float(rng.uniform(1.5, 4.5)),
            float(rng.uniform(0, 0.2)),
            warmth,
        )
        sun.rotation_euler = towards.to_track_quat("Z", "Y").to_euler()
    for number in range({"areas": int(rng.integers(1, 4)), "both": 1}.get(kind, 0)):
        turn = Matrix.Rotation(2.1 * number + rng.uniform(-0.3, 0.3), 3, "Z")
        place = turn @ towards * rng.uniform(3.5, 6.0)
        lamp = shapes.link(bpy.data.lights.new("Area", "AREA"), "Area")
        lamp.data.size, lamp.data.energy = float(rng.uniform(0.5, 3.0)), float(rng.uniform(150, 600) / (1 + number))
        lamp.data.color = warmth if number == 0 else tuple(rng.uniform(0.5, 1.0, 3))
        lamp.location = place
        lamp.rotation_euler = place.to_track_quat("Z", "Y").to_euler()


def _world(rng: np.random.Generator, light: str, towards: Vector) -> None:
    world = bpy.data.worlds.new("World")
    bpy.context.scene.world = world
    kind = str(rng.choice(["day", "evening", "plain", "any"], p=[0.4, 0.12, 0.28, 0.2]))
    low, high = {
        "day": ((0.70, 0.75, 0.82), (0.12, 0.28, 0.70)),
        "evening": ((0.90, 0.48, 0.22), (0.11, 0.10, 0.30)),
        "plain": (tuple(np.full(3, rng.uniform(0.02, 0.8))),) * 2,
        "any": (tuple(rng.uniform(0.02, 0.8, 3)), tuple(rng.uniform(0.02, 0.8, 3))),
    }[kind]
    world.color = tuple(float(part) for part in high)  # what Workbench shows
    world.use_nodes = True
    tree = world.node_tree
    background = next(node for node in tree.nodes if node.type == "BACKGROUND")
    background.inputs["Strength"].default_value = float(rng.uniform(0.4, 1.1))
    if light == "sky":
        _sky(rng, tree, background, towards)
        return
    place, gradient = tree.nodes.new("ShaderNodeTexCoord"), tree.nodes.new("ShaderNodeSeparateXYZ")
    ramp = tree.nodes.new("ShaderNodeValToRGB")
    ends = ramp.color_ramp.elements
    ends[0].color, ends[1].color = (*map(float, low), 1.0), (*map(float, high), 1.0)
    ends[1].position = float(rng.uniform(0.2, 0.8))
    tree.links.new(place.outputs["Generated"], gradient.inputs["Vector"])
    tree.links.new(gradient.outputs["Z"], ramp.inputs["Fac"])
    tree.links.new(ramp.outputs["Color"], background.inputs["Color"])


def _sky(rng: np.random.Generator, tree: bpy.types.NodeTree, background: bpy.types.Node, towards: Vector) -> None:
    """A clear sky with its sun."""
    node = tree.nodes.new("ShaderNodeTexSky")
    kinds = node.bl_rna.properties["sky_type"].enum_items.keys()
    node.sky_type = next(kind for kind in ("NISHITA", "SINGLE_SCATTERING", "HOSEK_WILKIE") if kind in kinds)
    if hasattr(node, "sun_elevation"):
        node.sun_elevation = float(np.arcsin(towards.z))
        node.sun_rotation = float(np.arctan2(towards.x, towards.y))
        node.sun_size = float(rng.uniform(0.01, 0.15))
        node.sun_intensity = 0.5
    background.inputs["Strength"].default_value = float(rng.uniform(0.12, 0.22))
    tree.links.new(node.outputs["Color"], background.inputs["Color"])
