# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of evaluation scenes: materials, bodies, keyframes, cameras and lights, added to the scene that is open."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Mapping
from typing import Any

import bpy
import numpy as np
from mathutils import Vector

Random = np.random.Generator
Vector3 = tuple[float, float, float]
Color = tuple[float, float, float]  # linear RGB
FPS, SIZE = 24, (1440, 960)  # (width, height), pixels
_IMAGE_SIDE = 256  # pixels
# Texture node, its inputs, and the positions of both colors on a color ramp; without these the node has two color
# inputs of its own.
_PATTERNS: Mapping[str, tuple[str, Mapping[str, float], tuple[float, float] | None]] = {
    "checks": ("Checker", {}, None),
    "bricks": ("Brick", {}, None),
    "wood": ("Wave", {"Distortion": 9.0, "Detail": 3.0}, (0.0, 1.0)),
    "marble": ("Noise", {"Detail": 8.0, "Distortion": 1.5}, (0.35, 0.65)),
    "cells": ("Voronoi", {}, (0.1, 0.8)),
}


def begin_scene(frames: int) -> bpy.types.Scene:
    """Replace what is open by an empty scene with frames 1 to `frames`."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True, load_ui=False)
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end, scene.frame_step = 1, frames, 1
    scene.render.fps = FPS
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    scene.view_settings.view_transform = "Standard"
    return scene


def sample_color(rng: Random, low: float = 0.15, high: float = 0.9) -> Color:
    """Sample a linear color of any hue; `low` and `high` limit its value."""
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.2, 0.85), rng.uniform(low, high))


def principled(material: bpy.types.Material) -> bpy.types.Node:
    """Return a material's Principled BSDF."""
    return next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")


def new_material(name: str, color: Color = (0.8, 0.8, 0.8), **inputs: Any) -> bpy.types.Material:
    """Add a material; `inputs` are those of its Principled BSDF, with underscores for spaces."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    shader = principled(material)
    shader.inputs["Base Color"].default_value = (*color, 1.0)
    for key, value in ({"Roughness": 0.6} | inputs).items():
        shader.inputs[key.replace("_", " ")].default_value = value
    return material


def patterned(
    rng: Random, pattern: str, scale: float, coordinates: str = "Object", **inputs: Any
) -> bpy.types.Material:
    """Add a material whose two random colors form a pattern.

    Args:
        rng: Source of the colors.
        pattern: "checks", "bricks", "wood", "marble" or "cells".
        scale: Scale of the texture node.
        coordinates: Output of the texture coordinate node; "Generated" or "UV" for bodies that deform.
        inputs: As for `new_material`.
    """
    kind, values, positions = _PATTERNS[pattern]
    colors = sample_color(rng, 0.08, 0.4), sample_color(rng, 0.4, 0.9)
    material = new_material(pattern.title(), **inputs)
    tree = material.node_tree
    texture, place = tree.nodes.new(f"ShaderNodeTex{kind}"), tree.nodes.new("ShaderNodeTexCoord")
    tree.links.new(place.outputs[coordinates], texture.inputs["Vector"])
    for name, value in {"Scale": scale, **values}.items():
        texture.inputs[name].default_value = value
    if positions is None:
        for name, color in zip(("Color1", "Color2"), colors, strict=True):
            texture.inputs[name].default_value = (*color, 1.0)
        if kind == "Brick":
            texture.inputs["Mortar"].default_value = (0.5, 0.48, 0.44, 1.0)
        color_output = texture.outputs["Color"]
    else:
        ramp = tree.nodes.new("ShaderNodeValToRGB")
        for element, position, color in zip(ramp.color_ramp.elements, positions, colors, strict=True):
            element.position, element.color = position, (*color, 1.0)
        output = texture.outputs["Distance" if kind == "Voronoi" else 0]
        tree.links.new(output, ramp.inputs["Fac"])
        color_output = ramp.outputs["Color"]
    tree.links.new(color_output, principled(material).inputs["Base Color"])
    return material


def printed(name: str, pixels: np.ndarray, has_alpha: bool = False) -> bpy.types.Material:
    """Add a material that shows an image by UV; with `has_alpha`, the image's alpha cuts the surface out.

    Args:
        name: Of the material and its image.
        pixels: [S, S, 4] float32 sRGB and alpha, bottom row first.
        has_alpha: Whether alpha is used.
    """
    side = len(pixels)
    image = bpy.data.images.new(name, side, side, alpha=True)
    image.pixels.foreach_set(np.ascontiguousarray(pixels, np.float32).ravel())
    image.pack()
    material = new_material(name)
    tree = material.node_tree
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    tree.links.new(node.outputs["Color"], principled(material).inputs["Base Color"])
    if has_alpha:
        tree.links.new(node.outputs["Alpha"], principled(material).inputs["Alpha"])
    return material


def poster(rng: Random) -> np.ndarray:
    """Draw random bars, discs and rings on a ground, [S, S, 4] float32: a texture that does not repeat."""
    rows, columns = np.mgrid[:_IMAGE_SIDE, :_IMAGE_SIDE] / _IMAGE_SIDE
    pixels = np.ones((_IMAGE_SIDE, _IMAGE_SIDE, 4), np.float32)
    pixels[..., :3] = sample_color(rng, 0.5, 0.95)
    for _ in range(14):
        x, y, size = rng.random(), rng.random(), rng.uniform(0.04, 0.2)
        distance = np.hypot(columns - x, rows - y)
        shapes = (
            (abs(columns - x) < size) & (abs(rows - y) < 0.3 * size),
            distance < size,
            abs(distance - size) < 0.25 * size,
        )
        pixels[shapes[rng.integers(3)], :3] = sample_color(rng)
    return pixels


def leaf(rng: Random) -> np.ndarray:
    """Draw a leaf with veins on a transparent ground, [S, S, 4] float32."""
    rows, columns = np.mgrid[:_IMAGE_SIDE, :_IMAGE_SIDE] / _IMAGE_SIDE - 0.5
    width = 0.32 * np.cos(np.pi * rows) ** 1.5
    pixels = np.empty((_IMAGE_SIDE, _IMAGE_SIDE, 4), np.float32)
    pixels[..., :3] = np.array(colorsys.hsv_to_rgb(rng.uniform(0.2, 0.38), 0.7, 0.5))
    veins = (abs(columns) < 0.012) | ((abs(columns) + rows * 0.7) % 0.14 < 0.014)
    pixels[veins, :3] *= 1.5
    pixels[..., 3] = abs(columns) < width
    return pixels


def add_body(shape: str, material: bpy.types.Material, smooth: bool = False, **options: Any) -> bpy.types.Object:
    """Add a primitive mesh.

    Args:
        shape: The middle of the operator's name, such as "uv_sphere".
        material: Its material.
        smooth: Whether it is shaded smooth.
        options: Arguments of the operator; `scale` (x, y, z) is applied to the mesh.
    """
    scale = options.pop("scale", None)
    getattr(bpy.ops.mesh, f"primitive_{shape}_add")(**options)
    body = bpy.context.object
    if scale is not None:
        body.scale = scale
        bpy.ops.object.transform_apply(location=False, rotation=False, scale=True)
    if smooth:
        bpy.ops.object.shade_smooth()
    body.data.materials.append(material)
    return body


def add_mesh(
    name: str,
    vertices: np.ndarray,  # [V, 3] metres
    faces: np.ndarray,  # [F, 4]
    material: bpy.types.Material,
    uv: np.ndarray | None = None,  # [F, 4, 2]
) -> bpy.types.Object:
    """Add a mesh object of quadrangles."""
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(vertices.tolist(), [], faces.tolist())
    if uv is not None:
        mesh.uv_layers.new(name="UVMap").data.foreach_set("uv", np.ascontiguousarray(uv, np.float32).ravel())
    mesh.materials.append(material)
    return link(bpy.data.objects.new(name, mesh))


def link(obj: bpy.types.Object) -> bpy.types.Object:
    """Add an object to the scene."""
    bpy.context.scene.collection.objects.link(obj)
    return obj


def animate(obj: bpy.types.Object, motion: Callable[[float], tuple[Vector3, Vector3]], step: int = 1) -> None:
    """Key an object's location and rotation.

    Args:
        obj: The object.
        motion: Returns both for a time between 0 (first frame) and 1 (last frame).
        step: Frames from one key to the next.
    """
    scene = bpy.context.scene
    last = scene.frame_end
    for frame in {*range(1, last + 1, step), last}:
        obj.location, obj.rotation_euler = motion((frame - 1) / max(last - 1, 1))
        obj.keyframe_insert("location", frame=frame)
        obj.keyframe_insert("rotation_euler", frame=frame)


def add_camera(path: Callable[[float], tuple[Vector3, Vector3]], lens: float = 38.0) -> bpy.types.Object:
    """Add the scene's camera.

    Args:
        path: Returns where it is and where it looks, for a time between 0 and 1.
        lens: Focal length, millimetres.
    """

    def motion(s: float) -> tuple[Vector3, Vector3]:
        place, target = path(s)
        turn = (Vector(target) - Vector(place)).to_track_quat("-Z", "Y").to_euler()
        return place, tuple(turn)

    camera = link(bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera")))
    camera.data.lens, camera.data.clip_start, camera.data.clip_end = lens, 0.02, 500.0
    animate(camera, motion)
    bpy.context.scene.camera = camera
    return camera


def circle(
    target: Vector3, radius: tuple[float, float], height: tuple[float, float], degrees: tuple[float, float]
) -> Callable[[float], tuple[Vector3, Vector3]]:
    """Return a camera path around `target`; radius, height above it and angle go from one value to the other."""

    def path(s: float) -> tuple[Vector3, Vector3]:
        r, h, a = (low + (high - low) * s for low, high in (radius, height, degrees))
        x, y = r * math.cos(math.radians(a)), r * math.sin(math.radians(a))
        return (target[0] + x, target[1] + y, target[2] + h), target

    return path


def add_sun(rng: Random, strength: float | None = None) -> None:
    """Add a sun from a random direction, and a world that is like a sky."""
    sun = link(bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN")))
    sun.data.energy, sun.data.angle = rng.uniform(2.2, 3.6), rng.uniform(0.02, 0.1)
    sun.rotation_euler = (rng.uniform(0.4, 0.9), rng.uniform(-0.3, 0.3), rng.uniform(-0.9, 0.9))
    set_world((rng.uniform(0.4, 0.6), rng.uniform(0.55, 0.7), rng.uniform(0.8, 1.0)), strength or rng.uniform(0.5, 0.9))


def set_world(color: Color, strength: float) -> None:
    """Give the scene a world of one color."""
    world = bpy.data.worlds.new("World")
    world.use_nodes = True
    background = next(node for node in world.node_tree.nodes if node.type == "BACKGROUND")
    background.inputs["Color"].default_value = (*color, 1.0)
    background.inputs["Strength"].default_value = strength
    bpy.context.scene.world = world


def add_lamp(location: Vector3, energy: float, size: float = 0.6, color: Color = (1.0, 0.9, 0.75)) -> bpy.types.Object:
    """Add an area lamp that shines downwards; energy in watts, size in metres."""
    lamp = link(bpy.data.objects.new("Lamp", bpy.data.lights.new("Lamp", "AREA")))
    lamp.data.energy, lamp.data.size, lamp.data.color = energy, size, color
    lamp.location = location
    return lamp
