# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a Blender scene from the file of a scene description: meshes, materials, lights, a camera and a world.

`trackshade_lab.scenes.blender` writes the files and documents their form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector

from trackshade.core.errors import ShotError
from trackshade.core.geometry import camera_to_blender, perspective_camera_settings

from .materials import build_material, build_world

Arrays = Mapping[str, np.ndarray]
_ENGINES = {"workbench": "BLENDER_WORKBENCH", "cycles": "CYCLES"}  # identifiers by names in files
_SHARP = 0.6  # radians between faces that are shaded with an edge


def build_scene(path: Path) -> None:
    """Replace what is open by the scene of a file, with frames 1 to T.

    Raises:
        ShotError: if the file is not a scene description.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop("header").tobytes())
    except (OSError, KeyError, ValueError) as error:
        raise ShotError("bad-description", f"{path} is not a scene description: {error}") from error
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True, load_ui=False)
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, len(arrays["world_to_camera"])
    scene.render.fps = int(header["fps"])
    scene.render.resolution_x, scene.render.resolution_y = header["size"]
    materials = [build_material(facts, arrays.get(f"{n}.image")) for n, facts in enumerate(header["materials"])]
    for number, part in enumerate(header["parts"]):
        prefix = f"{number}."
        part_arrays = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        _add_part(part, part_arrays, materials[part["material"]])
    _add_camera(arrays, header["size"])
    for light in header["lights"]:
        _add_light(light)
    scene.world = build_world(header["world"])
    for name, value in header["settings"].items():
        _set(scene, name, value)
    scene.frame_set(1)


def _set(scene: bpy.types.Scene, path: str, value: Any) -> None:
    """Set a property of the scene by its path, such as "render.engine"."""
    if path == "render.engine":
        eevee = sorted(scene.render.bl_rna.properties["engine"].enum_items.keys())  # its identifier varies by version
        value = _ENGINES.get(value) or next(name for name in eevee if name.startswith("BLENDER_EEVEE"))
    *owners, name = path.split(".")
    owner: Any = scene
    for part in owners:
        owner = getattr(owner, part)
    setattr(owner, name, value)


def _link(data: bpy.types.ID, name: str) -> bpy.types.Object:
    obj = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(obj)
    return obj


def _add_part(facts: Mapping[str, Any], arrays: Arrays, material: bpy.types.Material) -> None:
    mesh = bpy.data.meshes.new(facts["name"])
    mesh.from_pydata(arrays["vertices"], [], arrays["triangles"])
    mesh.uv_layers.new(name="Box").data.foreach_set("uv", arrays["uv"].ravel())
    mesh.attributes.new("rest", "FLOAT_VECTOR", "POINT").data.foreach_set("vector", arrays["vertices"].ravel())
    mesh.shade_smooth()
    mesh.set_sharp_from_angle(angle=_SHARP)
    mesh.materials.append(material)
    obj = _link(mesh, facts["name"])
    obj.pass_index = facts["body"]
    if facts["bevel"]:
        bevel = obj.modifiers.new("Bevel", "BEVEL")
        bevel.width, bevel.segments, bevel.limit_method, bevel.angle_limit = facts["bevel"], 2, "ANGLE", _SHARP
    if "deformed" in arrays:
        _deform(obj, arrays["deformed"])
    _move(obj, arrays["matrices"])


def _deform(obj: bpy.types.Object, positions: np.ndarray) -> None:  # [T, V, 3] object space
    """Give the object one absolute shape key per frame."""
    for frame in positions:
        block = obj.shape_key_add(from_mix=False)
        block.interpolation = "KEY_LINEAR"
        block.data.foreach_set("co", frame.ravel())
    keys = obj.data.shape_keys
    keys.use_relative = False
    for frame, block in enumerate(keys.key_blocks, start=1):
        keys.eval_time = block.frame
        keys.keyframe_insert("eval_time", frame=frame)


def _move(obj: bpy.types.Object, matrices: np.ndarray) -> None:  # [T or 1, 4, 4] to the world
    """Place the object, or animate it if there are several matrices."""
    obj.rotation_mode = "QUATERNION"
    for frame, matrix in enumerate(matrices, start=1):
        obj.matrix_world = Matrix(matrix)
        if len(matrices) > 1:
            obj.keyframe_insert("location", frame=frame)
            obj.keyframe_insert("rotation_quaternion", frame=frame)


def _add_camera(arrays: Arrays, size: tuple[int, int]) -> None:
    data = bpy.data.cameras.new("Camera")
    data.clip_start, data.clip_end = 0.02, 500.0
    camera = _link(data, "Camera")
    _move(camera, np.stack([camera_to_blender(matrix) for matrix in arrays["world_to_camera"]]))
    for frame, k in enumerate(arrays["intrinsics"], start=1):
        for name, value in perspective_camera_settings(k, size).items():
            setattr(data, name, value)
        data.keyframe_insert("lens", frame=frame)
    bpy.context.scene.camera = camera


def _add_light(facts: Mapping[str, Any]) -> None:
    data = bpy.data.lights.new(facts["type"].title(), facts["type"])
    for name, value in facts["data"].items():
        setattr(data, name, value)
    lamp = _link(data, facts["type"].title())
    direction = Vector(facts["direction"])
    lamp.location = direction * facts["distance"]
    lamp.rotation_euler = direction.to_track_quat("Z", "Y").to_euler()
