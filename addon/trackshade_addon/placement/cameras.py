# SPDX-License-Identifier: GPL-3.0-or-later
"""The cameras of a result: found in the scene, or made again from the result's record."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from trackshade.core.errors import ShotError
from trackshade.core.geometry import camera_to_blender, orthographic_camera_settings, perspective_camera_settings

from ..capture.animation import curves, time_of, whole_time
from .collection import PLATE_KEY, tag
from .result_folder import ResultFolder


def find_cameras(scene: bpy.types.Scene, result: ResultFolder) -> dict[str, bpy.types.Object]:
    """Return by name the cameras that the result was made through; none if there is a single one that the scene lacks.

    A camera that placing this result has made does not count.

    Raises:
        ShotError: The scene lacks one of several.
    """
    found = {}
    for name in result.sources:
        camera = scene.objects.get(name)
        placed = camera is not None and camera.get(PLATE_KEY) == str(result.folder)
        if camera is not None and isinstance(camera.data, bpy.types.Camera) and not placed:
            found[name] = camera
        elif len(result.sources) > 1:
            raise ShotError(
                "no-camera",
                f"The result was made through several cameras, and scene '{scene.name}' has no '{name}'.",
                "Open the file that it was made from, or give its camera that name again.",
            )
    return found


def make_camera(scene: bpy.types.Scene, result: ResultFolder) -> bpy.types.Object:
    """Make a camera that moves as the result's record says. It becomes the scene's camera if there is none."""
    track = result.camera
    frames = [time_of(scene, sample) for sample in result.samples]
    data = tag(bpy.data.cameras.new(track.name), result)
    camera = tag(bpy.data.objects.new(track.name, data), result)
    (width, height), (ax, ay) = result.fit.source, result.fit.pixel_aspect
    square = np.diag([1.0, ay / ax, 1.0]) @ result.frame_intrinsics  # as if the frame's pixels were square
    size = (width, height * ay / ax)
    read = orthographic_camera_settings if track.orthographic[0] else perspective_camera_settings
    lenses = [read(k, size) for k in square]
    for name in lenses[0]:
        animate(data, name, [lens[name] for lens in lenses], frames)
    animate(data, "clip_start", track.clip[:, 0].tolist(), frames)
    animate(data, "clip_end", track.clip[:, 1].tolist(), frames)
    animate_camera(camera, track.world_to_camera, frames)
    for block in (data, camera):
        if block.animation_data is not None and block.animation_data.action is not None:
            tag(block.animation_data.action, result)
    if scene.camera is None:
        scene.camera = camera
    return camera


def animate_camera(
    camera: bpy.types.Object,
    world_to_camera: np.ndarray,  # [T, 4, 4] with OpenCV's axes
    frames: list[float],
) -> None:
    """Move a camera object through the views of the frames, with linear keyframes if they differ."""
    camera.rotation_mode = "QUATERNION"
    matrices = [Matrix(matrix.tolist()) for matrix in camera_to_blender(world_to_camera)]
    rotations = [matrix.to_quaternion() for matrix in matrices]
    for before, after in pairwise(rotations):
        after.make_compatible(before)
    animate(camera, "rotation_quaternion", [tuple(rotation) for rotation in rotations], frames)
    animate(camera, "location", [tuple(matrix.translation) for matrix in matrices], frames)


def animate(block: bpy.types.ID, name: str, values: list[Any], frames: list[float]) -> None:
    """Set a property, with linear keyframes if it changes."""
    setattr(block, name, values[0])
    if any(value != values[0] for value in values):
        for value, frame in zip(values, frames, strict=True):
            setattr(block, name, value)
            block.keyframe_insert(name, frame=frame)
        for curve in curves(block):
            if curve.data_path == name:
                for point in curve.keyframe_points:
                    point.interpolation = "LINEAR"


def active_camera(scene: bpy.types.Scene) -> Callable[[int], str | None]:
    """Return a function that tells the name of the camera that Blender uses in a frame.

    It is that of the last timeline marker with a camera. Markers go by the scene's time, which may be stretched.
    """
    by_frame: dict[int, str] = {}
    for marker in scene.timeline_markers:
        if marker.camera is not None and not marker.camera.hide_render:
            by_frame.setdefault(marker.frame, marker.camera.name)
    markers = sorted(by_frame.items())
    scene_camera = None if scene.camera is None else scene.camera.name

    def active(frame: int) -> str | None:
        if not markers:
            return scene_camera
        time = whole_time(scene, frame)
        return next((name for start, name in reversed(markers) if start <= time), markers[0][1])

    return active
