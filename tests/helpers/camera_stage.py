# SPDX-License-Identifier: GPL-3.0-or-later
"""A scene seen by an arc of cameras, as Cycles renders it: run in a process of its own, with bpy.

    python camera_stage.py shoot SCENE.blend|demo FOLDER WIDTHxHEIGHT SAMPLES
    python camera_stage.py splats FOLDER OUT SAMPLES FRAME,... SPLATS.usdc|SPLATS_FOLDER

`shoot` writes into FOLDER: cells.shot with five cameras over 120 degrees and held.shot with three others, five frames
each; `cells` and `held`, each with pictures CAMERA/FRAME.png; `clay`, with the light of all cells; scene.blend with all
cameras. `splats` renders splats through the three cameras of held.shot, without the meshes and lights of the scene.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import bpy
from mathutils import Vector

from trackshade.core.fitting import fit_frames, fit_size
from trackshade.core.images import write_png
from trackshade.shot import Shot
from trackshade_addon.capture import capture
from trackshade_addon.capture.clay import render_clay
from trackshade_addon.capture.first_frame import SampleRenderer
from trackshade_addon.capture.stepping import finish
from trackshade_addon.demo_scene import build_demo_scene

FRAMES = 5
SEEN = ((-150, 2.7), (-120, 3.4), (-90, 2.2), (-60, 3.4), (-30, 2.7))  # azimuth, degrees; height, metres
HELD = ((-105, 1.6), (-75, 4.2), (-42, 2.6))


def shoot(source: str, folder: Path, size: tuple[int, int], samples: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scale, last = open_scene(source, folder)
    scene = bpy.context.scene
    aim, distance, lens = (0.0, 0.2, 0.75), 6.4, scene.camera.data.lens if scene.camera else 40.0
    if source != "demo":
        aim, distance, lens = (0.0, 0.0, scale[0] + scale[1] / 2), 2.2 * scale[1], 40.0
    height = 1.0 if source == "demo" else 0.13 * scale[1]
    set_up(scene, size, samples)
    seen = [add_camera(f"T{n}", aim, distance, a, h * height, lens) for n, (a, h) in enumerate(SEEN)]
    held = [add_camera(f"H{n}", aim, distance, a, h * height, lens) for n, (a, h) in enumerate(HELD)]
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "scene.blend"), copy=True)
    for name, cameras in (("cells", seen), ("held", held)):
        shots = capture_through(scene, cameras, last, size)
        joined = replace(shots[0], more_cameras=tuple(shot.camera for shot in shots[1:]))
        joined.save(folder / f"{name}.shot", force=True)
        for camera, shot in zip(cameras, shots, strict=True):
            scene.camera = camera
            render(scene, shot, folder / name / camera.name)
    clay(scene, seen, last, size, folder / "clay")


def open_scene(source: str, folder: Path) -> tuple[tuple[float, float], int]:
    """Open a scene; returns its lowest point and height, metres, and the last frame."""
    if source == "demo":
        build_demo_scene(folder / "demo.blend")
        bpy.ops.wm.open_mainfile(filepath=str(folder / "demo.blend"))
        return (0.0, 1.5), 49
    bpy.ops.wm.open_mainfile(filepath=source)
    scene = bpy.context.scene
    for obj in scene.objects:
        if obj.type == "ARMATURE" and bpy.data.actions:
            dance = next((item for item in bpy.data.actions if "Danc" in item.name), bpy.data.actions[0])
            data = obj.animation_data_create()
            data.action = dance
            if data.action_slot is None and len(dance.slots):
                data.action_slot = dance.slots[0]
            for track in data.nla_tracks:
                track.mute = True
    scene.frame_set(1)
    corners = [obj.matrix_world @ Vector(c) for obj in scene.objects if obj.type == "MESH" for c in obj.bound_box]
    low, high = min(p.z for p in corners), max(p.z for p in corners)
    add_floor(low, high - low)
    return (low, high - low), 33


def add_floor(low: float, height: float) -> None:
    """Add a floor of wood, a sun and a sky."""
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=40, y_subdivisions=40, size=3 * height, location=(0, 0, low))
    material = bpy.data.materials.new("Wood")
    tree = material.node_tree
    wave, ramp, place = (
        tree.nodes.new(kind) for kind in ("ShaderNodeTexWave", "ShaderNodeValToRGB", "ShaderNodeTexCoord")
    )
    wave.inputs["Scale"].default_value, wave.inputs["Distortion"].default_value = 0.6, 9
    ramp.color_ramp.elements[0].color, ramp.color_ramp.elements[1].color = (0.12, 0.05, 0.02, 1), (0.5, 0.28, 0.12, 1)
    shader = tree.nodes["Principled BSDF"]
    shader.inputs["Roughness"].default_value = 0.6
    tree.links.new(place.outputs["Object"], wave.inputs["Vector"])
    tree.links.new(wave.outputs[0], ramp.inputs[0])
    tree.links.new(ramp.outputs[0], shader.inputs["Base Color"])
    bpy.context.object.data.materials.append(material)
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.data.energy, sun.data.angle = 3, 0.05
    sun.rotation_euler = [math.radians(angle) for angle in (40, 12, 25)]
    bpy.context.scene.collection.objects.link(sun)
    world = bpy.data.worlds.new("Sky")
    bpy.context.scene.world = world
    sky = next(node for node in world.node_tree.nodes if node.type == "BACKGROUND")
    sky.inputs["Color"].default_value, sky.inputs["Strength"].default_value = (0.5, 0.65, 0.9, 1), 0.6


def set_up(scene: bpy.types.Scene, size: tuple[int, int], samples: int) -> None:
    render, cycles = scene.render, scene.cycles
    render.engine, cycles.device, cycles.samples = "CYCLES", "CPU", samples
    cycles.use_denoising, cycles.denoiser, cycles.max_bounces = True, "OPENIMAGEDENOISE", 4
    cycles.use_adaptive_sampling = False
    render.resolution_x, render.resolution_y, render.resolution_percentage = *size, 100
    render.use_persistent_data, render.threads_mode, render.threads = True, "FIXED", 1
    scene.view_settings.view_transform = "Standard"


def add_camera(
    name: str, aim: tuple[float, ...], distance: float, azimuth: float, height: float, lens: float
) -> bpy.types.Object:
    made = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    made.data.lens = lens
    bpy.context.scene.collection.objects.link(made)
    angle = math.radians(azimuth)
    made.location = aim[0] + distance * math.cos(angle), aim[1] + distance * math.sin(angle), aim[2] + height
    made.rotation_euler = (Vector(aim) - made.location).to_track_quat("-Z", "Y").to_euler()
    return made


def capture_through(
    scene: bpy.types.Scene, cameras: list[bpy.types.Object], last: int, size: tuple[int, int]
) -> list[Shot]:
    frames = fit_frames(1, last, (last - 1) // (FRAMES - 1), 24.0, (FRAMES,))
    fit = fit_size(size, (1.0, 1.0), (size,))
    shots = []
    for camera in cameras:
        scene.camera = camera
        bpy.context.view_layer.update()
        shots.append(capture(scene, frame_map=frames, size_fit=fit))
    return shots


def render(scene: bpy.types.Scene, shot: Shot, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with SampleRenderer(shot, scene, scene.view_layers[0]) as renderer:
        for t in range(FRAMES):
            write_png(folder / f"{t + 1:04d}.png", finish(renderer.render(t)))
            print(folder.name, t, flush=True)


def clay(
    scene: bpy.types.Scene, cameras: list[bpy.types.Object], last: int, size: tuple[int, int], folder: Path
) -> None:
    for camera, shot in zip(cameras, capture_through(scene, cameras, last, size), strict=True):
        (folder / camera.name).mkdir(parents=True, exist_ok=True)
        scene.camera = camera
        for done in render_clay(shot, scene, "opaque", folder / camera.name):
            print("clay", camera.name, done, flush=True)


def splats(folder: Path, out: Path, samples: int, frames: list[int], source: Path) -> None:
    """Render splats through the cameras of held.shot, into OUT/CAMERA/FRAME.png."""
    bpy.ops.wm.open_mainfile(filepath=str(folder / "scene.blend"))
    scene = bpy.context.scene
    for obj in [obj for obj in scene.objects if obj.type in {"MESH", "LIGHT", "ARMATURE"}]:
        bpy.data.objects.remove(obj)
    shot = Shot.load(folder / "held.shot")
    set_up(scene, shot.size, samples)
    if source.suffix in {".usd", ".usdc", ".usda"}:
        bpy.ops.wm.usd_import(filepath=str(source))
    kinds = [obj.data.type for obj in bpy.data.objects if obj.type == "POINTCLOUD"]
    for t in frames:
        scene.frame_set(int(shot.frame_numbers[t]))
        if source.is_dir():
            for obj in [obj for obj in bpy.data.objects if obj.type == "POINTCLOUD"]:
                bpy.data.objects.remove(obj)
            bpy.ops.wm.ply_import(filepath=str(sorted(source.glob("*.ply"))[t]))
            kinds = [bpy.context.object.data.type]
        assert kinds == ["GAUSSIAN_SPLAT"], kinds
        for n in range(len(HELD)):
            scene.camera = bpy.data.objects[f"H{n}"]
            scene.render.filepath = str(out / f"H{n}" / f"{t + 1:04d}.png")
            scene.render.image_settings.file_format, scene.render.image_settings.color_mode = "PNG", "RGB"
            bpy.ops.render.render(write_still=True)


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    if command == "shoot":
        width, height = rest[2].split("x")
        shoot(rest[0], Path(rest[1]), (int(width), int(height)), int(rest[3]))
    else:
        times = [int(text) for text in rest[3].split(",")]
        splats(Path(rest[0]), Path(rest[1]), int(rest[2]), times, Path(rest[4]))
