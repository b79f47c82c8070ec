# SPDX-License-Identifier: GPL-3.0-or-later
"""Lifts a photo again into the scene that shows it, with what the user has animated since."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector

from trackshade.core.geometry import camera_to_blender
from trackshade.shot.lift_request import LiftRequest
from trackshade.shot.lifted import LiftedScene

from ..capture.animation import curves
from ..capture.lights import PICTURE
from .meshes import KIND, NAME, PIVOT, fill_object, make_object
from .scene import POSE, load_photo, make_materials, material_name, set_lens, with_surface

_TURNS = ("location", "rotation_euler", "rotation_quaternion", "rotation_axis_angle")


def update_scene(lifted: LiftedScene, scene: bpy.types.Scene, request: LiftRequest | None = None) -> None:
    """Replace the camera's lens and pose, and the geometry of a photo's scene.

    Objects keep their motion: keyframes are moved with the pivot of the object, and those of the camera with its pose,
    and distances are scaled as the camera's height is.

    Raises:
        ShotError: the photo cannot be read.
    """
    image = load_photo(lifted, scene)
    frame = scene.frame_current
    before, after = _update_camera(lifted, scene)
    scale = float(after[2, 3] / before[2, 3]) if min(before[2, 3], after[2, 3]) > 0 else 1.0
    before_materials = [material for material in bpy.data.materials if PICTURE in material]
    materials = make_materials(lifted, image, scene)
    known = {obj[NAME]: obj for obj in scene.objects if NAME in obj and isinstance(obj.data, bpy.types.Mesh)}
    collection = next((obj.users_collection[0] for obj in known.values() if obj.users_collection), scene.collection)
    for item in lifted.meshes:
        mesh = with_surface(item, lifted)
        obj = known.pop(item.name, None)
        if obj is None:
            obj = make_object(mesh, scene.frame_start, lifted.picture_frame)
            obj.data.materials.append(materials[mesh.one_sided])
            collection.objects.link(obj)
            continue
        pivot = Vector(obj.data[PIVOT])
        fill_object(obj, mesh, scene.frame_start, lifted.picture_frame)
        obj.data.materials.clear()
        obj.data.materials.append(materials[mesh.one_sided])
        for user in [other for other in scene.objects if other.data == obj.data]:
            _move(user, pivot, Vector(mesh.pivot), scale)
    for obj in known.values():
        if obj[KIND] != "object":  # the surroundings have other parts now
            data = obj.data
            bpy.data.objects.remove(obj)
            if not data.users:
                bpy.data.meshes.remove(data)
    for material in before_materials:
        if not material.users:
            bpy.data.materials.remove(material)
    for one_sided, material in materials.items():
        material.name = material_name(scene, one_sided)
    if hasattr(scene, "trackshade_lift"):
        source, before_image = scene.trackshade_lift.source, scene.trackshade_lift.photo
        scene.trackshade_lift.remember(lifted, request, lifted.warnings)
        scene.trackshade_lift.source, scene.trackshade_lift.photo = source, image
        _use_photo(before_image, image, scene)
    scene.frame_set(frame)


def _use_photo(before: bpy.types.Image | None, image: bpy.types.Image, scene: bpy.types.Scene) -> None:
    """Put a photo that was read again in the place of the one that the first frame was taken from."""
    settings: Any = getattr(scene, "trackshade", None)
    if settings is not None and before is not None and settings.image == before:
        settings.image = image
    if before is not None and not before.users:
        bpy.data.images.remove(before)


def _move(obj: bpy.types.Object, before: Vector, after: Vector, scale: float) -> None:
    """Move an object and its keyframes from one pivot to another."""
    obj.location = after + scale * (obj.location - before)
    for curve in curves(obj):
        if curve.data_path == "location":
            axis = curve.array_index
            for point in curve.keyframe_points:
                for handle in (point.handle_left, point.co, point.handle_right):
                    handle[1] = after[axis] + scale * (handle[1] - before[axis])
            curve.update()


def _update_camera(lifted: LiftedScene, scene: bpy.types.Scene) -> tuple[np.ndarray, np.ndarray]:
    """Give the scene's camera its new lens and pose, and move its keyframes; return its pose before and after."""
    camera: Any = scene.camera
    after = camera_to_blender(lifted.world_to_camera[lifted.picture_frame])
    if camera is None or POSE not in camera:
        return after, after
    before = np.array(camera[POSE]).reshape(4, 4)
    scale = after[2, 3] / before[2, 3] if min(before[2, 3], after[2, 3]) > 0 else 1.0
    keys = {
        point.co[0]: point.interpolation
        for curve in curves(camera)
        if curve.data_path in _TURNS
        for point in curve.keyframe_points
    }
    paths = {curve.data_path for curve in curves(camera)} & {*_TURNS}
    bases = {}
    for frame in keys or (scene.frame_current,):
        scene.frame_set(int(frame), subframe=frame % 1)
        relative = np.linalg.inv(before) @ np.array(camera.matrix_basis)
        relative[:3, 3] *= scale
        bases[frame] = Matrix((after @ relative).tolist())
    for frame, basis in bases.items():
        camera.matrix_basis = basis
        for path in paths:
            camera.keyframe_insert(path, frame=frame)
    for curve in curves(camera):
        if curve.data_path in _TURNS:
            for point in curve.keyframe_points:
                point.interpolation = keys.get(point.co[0], point.interpolation)
    lens = camera.data.lens
    set_lens(camera.data, lifted)
    for curve in curves(camera.data):
        if curve.data_path == "lens":
            for point in curve.keyframe_points:
                for handle in (point.handle_left, point.co, point.handle_right):
                    handle[1] *= camera.data.lens / lens
            curve.update()
    camera[POSE] = after.ravel().tolist()
    return before, after
