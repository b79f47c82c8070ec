# SPDX-License-Identifier: GPL-3.0-or-later
"""A small scene to try everything on: painted toys that hop, tumble and glide on a checked floor."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import bpy

from trackshade.core.errors import OutputError

from .placement import save_copy

FIRST, LAST, STEP, FPS = 1, 49, 3, 24  # 17 frames at 8 fps, as the embedded model takes

Color = tuple[float, float, float]  # linear RGB
RED, WHITE, BLUE, YELLOW = (0.60, 0.02, 0.02), (0.80, 0.78, 0.72), (0.03, 0.10, 0.55), (0.80, 0.50, 0.03)
GREEN, LIGHT_GRAY, DARK_GRAY = (0.03, 0.35, 0.08), (0.36, 0.38, 0.42), (0.16, 0.17, 0.21)


def build_demo_scene(path: Path) -> Path:
    """Replace what is open by the demonstration scene, and save it.

    Raises:
        OutputError: The file cannot be written.
    """
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True, load_ui=False)
    scene, mesh = bpy.context.scene, bpy.ops.mesh
    _set_up(scene)
    mesh.primitive_grid_add(x_subdivisions=16, y_subdivisions=16, size=14)
    _finish_object("Floor", _checked("Floor", LIGHT_GRAY, DARK_GRAY, 10.0))
    mesh.primitive_uv_sphere_add(segments=48, ring_count=24, radius=0.75)
    bpy.ops.object.shade_smooth()
    _finish_object("Ball", _checked("Ball", RED, WHITE, 3.0), _hop)
    mesh.primitive_cube_add(size=1.1)
    bevel = _finish_object("Cube", _striped("Cube", BLUE, YELLOW), _tumble).modifiers.new("Bevel", "BEVEL")
    bevel.width, bevel.segments = 0.08, 3
    mesh.primitive_torus_add(major_segments=48, minor_segments=20, major_radius=0.55, minor_radius=0.22)
    bpy.ops.object.shade_smooth()
    _finish_object("Torus", _checked("Torus", GREEN, WHITE, 2.0), _glide)
    _light(scene)
    _camera(scene)
    scene.frame_set(FIRST)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            "output-unwritable",
            f"{path.parent} cannot be created: {error.strerror or error}.",
            "Choose a folder that can be written.",
        ) from error
    return save_copy(path)


def _set_up(scene: bpy.types.Scene) -> None:
    scene.name = "Demo"
    scene.frame_start, scene.frame_end, scene.frame_step = FIRST, LAST, STEP
    render = scene.render
    render.fps = FPS
    render.resolution_x, render.resolution_y = 960, 640
    render.engine = "CYCLES"  # renders without graphics hardware
    scene.cycles.device, scene.cycles.samples, scene.cycles.use_denoising = "CPU", 64, False
    scene.view_settings.view_transform = "Standard"


def _finish_object(
    name: str, material: bpy.types.Material, motion: Callable[[float], tuple[Color, Color]] | None = None
) -> bpy.types.Object:
    """Name the active object, give it a material, and key its location and rotation on every frame.

    `motion` returns both for a time between 0 (first frame) and 1 (last frame).
    """
    obj = bpy.context.object
    obj.name = name
    obj.data.materials.append(material)
    if motion is not None:
        for frame in range(FIRST, LAST + 1):
            obj.location, obj.rotation_euler = motion((frame - FIRST) / (LAST - FIRST))
            obj.keyframe_insert("location", frame=frame)
            obj.keyframe_insert("rotation_euler", frame=frame)
    return obj


def _hop(s: float) -> tuple[Color, Color]:
    height = 0.75 + 0.9 * abs(math.sin(2 * math.pi * s))
    return (-1.5 + 1.9 * s, -0.5 + 0.2 * s, height), (0.3, 1.6 * s, 0.2)


def _tumble(s: float) -> tuple[Color, Color]:
    height = 0.8 + 0.25 * math.sin(math.pi * s)
    return (1.7 - 0.5 * s, 0.9 - 1.1 * s, height), (1.5 * s, 0.4 + 0.5 * s, 0.5 + 0.9 * s)


def _glide(s: float) -> tuple[Color, Color]:
    return (0.4 - 2.2 * s, 1.9 - 0.7 * s, 0.65), (1.1 + 0.3 * s, 0.2 * s, 0.4 + 0.9 * s)


def _light(scene: bpy.types.Scene) -> None:
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.data.energy, sun.data.angle = 3.2, math.radians(3)
    sun.rotation_euler = (math.radians(40), math.radians(12), math.radians(25))
    scene.collection.objects.link(sun)
    world = bpy.data.worlds.new("World")
    scene.world = world
    world.use_nodes = True
    background = next(node for node in world.node_tree.nodes if node.type == "BACKGROUND")
    background.inputs["Color"].default_value = (0.42, 0.62, 0.90, 1.0)
    background.inputs["Strength"].default_value = 0.75


def _camera(scene: bpy.types.Scene) -> None:
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.data.lens = 40
    aim = bpy.data.objects.new("Aim", None)
    aim.location = (0.0, 0.2, 0.75)
    for item in (camera, aim):
        scene.collection.objects.link(item)
    track = camera.constraints.new("TRACK_TO")
    track.target, track.track_axis, track.up_axis = aim, "TRACK_NEGATIVE_Z", "UP_Y"
    for frame in range(FIRST, LAST + 1):
        angle = math.radians(-100 + 20 * (frame - FIRST) / (LAST - FIRST))
        camera.location = (6.6 * math.cos(angle), 6.6 * math.sin(angle) + 0.2, 2.7)
        camera.keyframe_insert("location", frame=frame)
    scene.camera = camera


def _checked(name: str, color: Color, other: Color, scale: float) -> bpy.types.Material:
    material, tree, shader = _new_material(name)
    checker = tree.nodes.new("ShaderNodeTexChecker")
    checker.inputs["Color1"].default_value, checker.inputs["Color2"].default_value = (*color, 1.0), (*other, 1.0)
    checker.inputs["Scale"].default_value = scale
    coordinates = tree.nodes.new("ShaderNodeTexCoord")
    tree.links.new(coordinates.outputs["Generated"], checker.inputs["Vector"])
    tree.links.new(checker.outputs["Color"], shader.inputs["Base Color"])
    return material


def _striped(name: str, color: Color, other: Color) -> bpy.types.Material:
    material, tree, shader = _new_material(name)
    wave = tree.nodes.new("ShaderNodeTexWave")
    wave.inputs["Scale"].default_value = 0.45
    wave.bands_direction = "DIAGONAL"
    ramp = tree.nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.interpolation = "CONSTANT"
    ramp.color_ramp.elements[0].color, ramp.color_ramp.elements[1].color = (*color, 1.0), (*other, 1.0)
    ramp.color_ramp.elements[1].position = 0.5
    coordinates = tree.nodes.new("ShaderNodeTexCoord")
    tree.links.new(coordinates.outputs["Object"], wave.inputs["Vector"])
    tree.links.new(wave.outputs["Fac"], ramp.inputs["Fac"])
    tree.links.new(ramp.outputs["Color"], shader.inputs["Base Color"])
    return material


def _new_material(name: str) -> tuple[bpy.types.Material, bpy.types.NodeTree, bpy.types.Node]:
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    tree = material.node_tree
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Roughness"].default_value = 0.6
    return material, tree, shader
