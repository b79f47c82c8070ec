# SPDX-License-Identifier: GPL-3.0-or-later
"""Keyframes of cameras and objects from motions: the motion grammar, and camera presets."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import bpy
import numpy as np
from mathutils import Matrix, Vector

from trackshade.core.camera_files import CameraPath
from trackshade.core.camera_motion import (
    camera_preset,
    move_camera,
    parse_camera_motion,
    parse_object_motion,
)
from trackshade.core.errors import UsageError
from trackshade.core.geometry import world_to_camera

from ..capture.animation import curve_collections
from ..placement.cameras import animate, animate_camera
from .meshes import KIND

_DISTANCE = 5.0  # metres to the pivot of a preset where the scene shows nothing


def move_scene_camera(scene: bpy.types.Scene, motion: str, mode: Literal["override", "append"] = "override") -> None:
    """Keyframe the scene's camera by a motion over the scene's frame range; see `parse_camera_motion`.

    Args:
        scene: the scene.
        motion: the motion's text, or the path of a .json or .npz file with a camera path.
        mode: "override" replaces the camera's motion, "append" moves it relative to where it is in each frame.

    Raises:
        UsageError: the scene has no camera, or the motion cannot be read.
    """
    camera, frames = _camera(scene), _frames(scene)
    matrices = parse_camera_motion(motion, len(frames))
    views = _views(scene, camera, frames if mode == "append" else frames[:1])
    moved = move_camera(matrices, views, mode)
    _clear(camera, "location", "rotation_euler", "rotation_quaternion")
    animate_camera(camera, moved, frames)


def follow_path(scene: bpy.types.Scene, path: CameraPath, mode: Literal["override", "append"] = "override") -> None:
    """Keyframe the scene's camera by another camera's path, spread over the scene's frame range.

    The path is taken relative to its own first frame, so that the first frame stays as it is, and zooms as it does.

    Args:
        scene: the scene.
        path: the other camera.
        mode: as for `move_scene_camera`.

    Raises:
        UsageError: the scene has no camera.
    """
    camera, frames = _camera(scene), _frames(scene)
    views = _views(scene, camera, frames if mode == "append" else frames[:1])
    times = np.linspace(0, len(path.world_to_camera) - 1, len(frames))
    _clear(camera, "location", "rotation_euler", "rotation_quaternion")
    animate_camera(camera, move_camera(path.motion(len(frames)), views, mode), frames)
    if path.intrinsics is not None and np.ptp(path.intrinsics[:, 0, 0]):
        focal = np.interp(times, range(len(path.intrinsics)), path.intrinsics[:, 0, 0])
        lens = camera.data.lens
        _clear(camera.data, "lens")
        animate(camera.data, "lens", (lens * focal / focal[0]).tolist(), frames)


def camera_path(scene: bpy.types.Scene) -> CameraPath:
    """Return the path of a scene's own camera over its frame range. Raise UsageError if it has no camera."""
    frames = _frames(scene)
    views, lenses = [], []
    for frame in frames:
        scene.frame_set(int(frame))
        shown = _camera(scene)  # which markers may switch
        views.append(world_to_camera(np.array(shown.matrix_world)))
        lenses.append(np.diag([shown.data.lens, shown.data.lens, 1.0]))
    scene.frame_set(int(frames[0]))
    return CameraPath(np.array(views), np.array(lenses))


def move_object(scene: bpy.types.Scene, name: str, motion: str) -> None:
    """Keyframe an object by a motion over the scene's frame range; see `parse_object_motion`.

    It moves relative to where it is in the first frame, about the center of its vertices.

    Raises:
        UsageError: the scene has no such object or no camera, or the motion cannot be read.
    """
    obj, frames = _object(scene, name), _frames(scene)
    view = _views(scene, _camera(scene), frames[:1])[0]
    scene.frame_set(scene.frame_start)
    start = np.array(obj.matrix_world)
    center = start[:3, :3] @ _center(obj) + start[:3, 3]
    matrices = parse_object_motion(motion, len(frames), center, view) @ start
    obj.rotation_mode = "QUATERNION"
    _clear(obj, "location", "rotation_euler", "rotation_quaternion", "scale")
    parts = [Matrix(matrix.tolist()).decompose() for matrix in matrices]
    for (_, before, _), (_, after, _) in pairwise(parts):
        after.make_compatible(before)
    for index, path in enumerate(("location", "rotation_quaternion", "scale")):
        animate(obj, path, [tuple(part[index]) for part in parts], frames)


def parse_object_option(text: str) -> tuple[str, str]:
    """Split "NAME: MOTION". Raise UsageError if there is no name."""
    name, colon, motion = text.partition(":")
    if not colon or not name.strip():
        raise UsageError("bad-motion", f"'{text}' names no object.", "Write it as NAME: right 0.5.")
    return name.strip(), motion


def apply_preset(scene: bpy.types.Scene, name: str, amount: float, start: int, end: int, easing: str = "ease") -> None:
    """Keyframe the scene's camera by a preset, about what the camera looks at; see `camera_preset`.

    Args:
        scene: the scene.
        name: name of the preset.
        amount: degrees, share of the distance, or factor, by the preset.
        start: first frame.
        end: last frame, after which the camera stands still.
        easing: how the move begins and ends.

    Raises:
        UsageError: the scene has no camera, or a value is out of its range.
    """
    if end <= start:
        raise UsageError("bad-preset", f"A camera move from frame {start} to {end} has no duration.")
    camera, frames = _camera(scene), [float(frame) for frame in range(start, end + 1)]
    view = _views(scene, camera, frames[:1])[0]
    lens = camera.data.lens
    views, lenses = camera_preset(name, amount, len(frames), subject_distance(scene, view), view, lens, easing)
    _clear(camera, "location", "rotation_euler", "rotation_quaternion")
    animate_camera(camera, views, frames)
    if np.ptp(lenses):
        _clear(camera.data, "lens")
        animate(camera.data, "lens", lenses.tolist(), frames)


def subject_distance(scene: bpy.types.Scene, view: np.ndarray) -> float:
    """Return how far away, along a camera's axis, the subject of a scene is: the nearest object, or the middle depth.

    Args:
        scene: the scene.
        view: [4, 4] world to camera.
    """
    depths: dict[str, list[float]] = {}
    for obj in scene.objects:
        kind = obj.get(KIND, "background")
        if isinstance(obj.data, bpy.types.Mesh) and kind != "sky":
            corners = np.array([obj.matrix_world @ Vector(corner) for corner in obj.bound_box])
            ahead = (corners @ view[2, :3] + view[2, 3]).clip(0)
            if ahead.any():
                depths.setdefault(kind, []).append(float(ahead.mean()))
    if "object" in depths:
        return min(depths["object"])
    others = [depth for found in depths.values() for depth in found]
    return float(np.median(others)) if others else _DISTANCE


def _frames(scene: bpy.types.Scene) -> list[float]:
    return [float(frame) for frame in range(scene.frame_start, scene.frame_end + 1)]


def _camera(scene: bpy.types.Scene) -> bpy.types.Object:
    camera = scene.camera
    if camera is None or not isinstance(camera.data, bpy.types.Camera):
        raise UsageError("no-camera", f"Scene '{scene.name}' has no camera that can be moved.", "Add one.")
    return camera


def _object(scene: bpy.types.Scene, name: str) -> bpy.types.Object:
    obj = scene.objects.get(name)
    if obj is None:
        known = ", ".join(sorted(item.name for item in scene.objects if item.type == "MESH")) or "none"
        raise UsageError("unknown-object", f"Scene '{scene.name}' has no object '{name}'.", f"It has: {known}.")
    return obj


def _center(obj: bpy.types.Object) -> np.ndarray:
    """Return the mean of an object's vertices, [3] in its own space; its origin if it has none."""
    if not isinstance(obj.data, bpy.types.Mesh) or not obj.data.vertices:
        return np.zeros(3)
    points = np.empty(3 * len(obj.data.vertices), np.float32)
    obj.data.vertices.foreach_get("co", points)
    return points.reshape(-1, 3).mean(0).astype(np.float64)


def _views(scene: bpy.types.Scene, camera: bpy.types.Object, frames: list[float]) -> np.ndarray:
    """Return the camera's views, [T, 4, 4] world to camera, and go to the first frame."""
    views = []
    for frame in frames:
        scene.frame_set(int(frame))
        views.append(world_to_camera(np.array(camera.matrix_world)))
    scene.frame_set(int(frames[0]))
    return np.array(views)


def _clear(block: bpy.types.ID, *paths: str) -> None:
    """Remove the keyframes of some properties."""
    animation = block.animation_data
    if animation is not None:
        for curves in curve_collections(animation.action, getattr(animation, "action_slot", None)):
            for curve in [curve for curve in curves if curve.data_path in paths]:
                curves.remove(curve)
