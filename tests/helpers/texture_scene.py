# SPDX-License-Identifier: GPL-3.0-or-later
"""A scene whose texture is known, under flat light, as Cycles renders it: run in a process of its own, with bpy.

    python texture_scene.py FOLDER FRAMES WIDTHxHEIGHT

Writes into FOLDER: tracks.shot; video.npy [T, H, W, 3] uint8 through the shot's camera; second.npy [H, W, 3] uint8
through another one, at the middle frame; texture.npy [S, S, 3] uint8, the known one, top row first.

A cube bends as it turns, its six sides side by side in its texture; a ball with the same texture passes before it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import bpy
import numpy as np

from trackshade.core.fitting import fit_frames, fit_size
from trackshade_addon.capture import capture
from trackshade_addon.capture.first_frame import render_sample

SIDE = 256


def known_texture() -> np.ndarray:
    """[S, S, 3] uint8: bands and blobs of many widths, none much finer than a pixel of the render."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    red = 0.5 + 0.4 * np.sin(2 * np.pi * (3 * x + 5 * y * x))
    green = 0.5 + 0.4 * np.sin(2 * np.pi * (7 * y - 2 * x))
    blue = 0.5 + 0.4 * np.sin(2 * np.pi * 6 * x) * np.sin(2 * np.pi * 6 * y)
    return np.rint(np.stack([red, green, blue], axis=-1) * 255).astype(np.uint8)


def build(frames: int, size: tuple[int, int]) -> tuple[bpy.types.Scene, bpy.types.Object]:
    """The scene, and its second camera."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, frames
    scene.render.resolution_x, scene.render.resolution_y = size
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = 16, False
    scene.view_settings.view_transform = "Standard"
    material = flat_material(known_texture())
    bpy.ops.mesh.primitive_cube_add(size=2)
    cube = bpy.context.object
    cube.name = "Cube"
    side_by_side(cube.data)
    cube.data.materials.append(material)
    division = cube.modifiers.new("Division", "SUBSURF")
    division.subdivision_type, division.levels, division.render_levels = "SIMPLE", 4, 4
    bend = cube.modifiers.new("Bend", "SIMPLE_DEFORM")
    bend.deform_method, bend.deform_axis = "TWIST", "Z"
    for frame, turn, twist in ((1, 0.1, 0.0), (frames, 2.4, 0.7)):
        cube.rotation_euler = (0.3, 0.2, turn)
        cube.keyframe_insert("rotation_euler", frame=frame)
        bend.angle = twist
        bend.keyframe_insert("angle", frame=frame)
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.35)
    ball = bpy.context.object
    ball.name = "Ball"
    ball.data.materials.append(material)
    for frame, x in ((1, -2.0), (frames, 2.0)):
        ball.location = (x, -2.2, 0.3)
        ball.keyframe_insert("location", frame=frame)
    scene.camera = camera(scene, "Camera", (0.0, -5.2, 2.2), (1.17, 0.0, 0.0))
    return scene, camera(scene, "Second", (1.8, -4.6, 2.6), (1.08, 0.0, 0.36))


def flat_material(texture: np.ndarray) -> bpy.types.Material:
    """A material that shines with a texture [S, S, 3] uint8, whatever the light."""
    image = bpy.data.images.new("Known", texture.shape[1], texture.shape[0])
    values = np.ones((*texture.shape[:2], 4), np.float32)
    values[..., :3] = texture[::-1] / 255.0
    image.pixels.foreach_set(values.reshape(-1))
    image.pack()
    material = bpy.data.materials.new("Flat")
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    picture, shine = tree.nodes.new("ShaderNodeTexImage"), tree.nodes.new("ShaderNodeEmission")
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    picture.image = image
    tree.links.new(picture.outputs["Color"], shine.inputs["Color"])
    tree.links.new(shine.outputs["Emission"], output.inputs["Surface"])
    return material


def side_by_side(mesh: bpy.types.Mesh) -> None:
    """Each of a cube's sides has a cell of the texture to itself, with a gutter."""
    layer = mesh.uv_layers.active
    corners = ((0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98))
    for face in mesh.polygons:
        column, row = face.index % 3, face.index // 3
        for corner, loop in zip(corners, face.loop_indices, strict=True):
            layer.data[loop].uv = (column + corner[0]) / 3, (row + corner[1]) / 2


def camera(scene: bpy.types.Scene, name: str, place: tuple[float, ...], turn: tuple[float, ...]) -> bpy.types.Object:
    made = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    scene.collection.objects.link(made)
    made.location, made.rotation_euler = place, turn
    return made


def main(folder: Path, frames: int, size: tuple[int, int]) -> None:
    scene, second = build(frames, size)
    frame_map, fit = fit_frames(1, frames, 1, 24.0, (frames,)), fit_size(size, (1.0, 1.0), (size,))
    shot = capture(scene, frame_map=frame_map, size_fit=fit)
    shot.save(folder / "tracks.shot")
    layer = scene.view_layers[0]
    np.save(folder / "video.npy", np.stack([render_sample(shot, t, scene, layer) for t in range(frames)]))
    scene.camera = second
    other = capture(scene, frame_map=frame_map, size_fit=fit)
    other.save(folder / "second.shot")
    np.save(folder / "second.npy", render_sample(other, frames // 2, scene, layer))
    np.save(folder / "texture.npy", known_texture())


if __name__ == "__main__":
    width, height = sys.argv[3].split("x")
    main(Path(sys.argv[1]), int(sys.argv[2]), (int(width), int(height)))
