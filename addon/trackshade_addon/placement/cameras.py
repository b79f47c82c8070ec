# SPDX-License-Identifier: GPL-3.0-or-later
"""The cameras that a result was made through: found again in the scene, or made again from the record."""

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
from .record import Result


def find_cameras(scene: bpy.types.Scene, result: Result) -> dict[str, bpy.types.Object]:
    """The cameras that the result was made through, by name; empty where it has a single one that the scene lacks.
    A camera that placing this result has made does not count.

    Raises:
        ShotError: the scene lacks one of several.
    """
    found = {}
    for name in result.sources:
        camera = scene.objects.get(name)
        own = camera is not None and camera.get(PLATE_KEY) == str(result.folder)
        if camera is not None and isinstance(camera.data, bpy.types.Camera) and not own:
            found[name] = camera
        elif len(result.sources) > 1:
            raise ShotError(
                "no-camera",
                f"The result was made through several cameras, and scene '{scene.name}' has no '{name}'.",
                "Open the file that it was made from, or give its camera that name again.",
            )
    return found


def make_camera(scene: bpy.types.Scene, result: Result) -> bpy.types.Object:
    """A camera that sees what the samples saw, by the result's record. It becomes the scene's if that has none."""
    track = result.camera
    frames = [time_of(scene, sample) for sample in result.samples]
    data = tag(bpy.data.cameras.new(track.name), result)
    camera = tag(bpy.data.objects.new(track.name, data), result)
    (width, height), (ax, ay) = result.fit.source, result.fit.pixel_aspect
    square = np.diag([1.0, ay / ax, 1.0]) @ result.frame_intrinsics  # as if the frame's pixels were square
    size = (width, height * ay / ax)
    read = orthographic_camera_settings if track.orthographic[0] else perspective_camera_settings
    for name, values in _columns([read(k, size) for k in square]).items():
        _animate(data, name, values, frames)
    _animate(data, "clip_start", track.clip[:, 0].tolist(), frames)
    _animate(data, "clip_end", track.clip[:, 1].tolist(), frames)
    camera.rotation_mode = "QUATERNION"
    places = [Matrix(matrix.tolist()) for matrix in camera_to_blender(track.world_to_camera)]
    turns = [place.to_quaternion() for place in places]
    for before, after in pairwise(turns):
        after.make_compatible(before)
    _animate(camera, "rotation_quaternion", [tuple(turn) for turn in turns], frames)
    _animate(camera, "location", [tuple(place.translation) for place in places], frames)
    for block in (data, camera):
        if block.animation_data is not None and block.animation_data.action is not None:
            tag(block.animation_data.action, result)
            for curve in curves(block):
                for point in curve.keyframe_points:
                    point.interpolation = "LINEAR"
    if scene.camera is None:
        scene.camera = camera
    return camera


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def _animate(block: bpy.types.ID, name: str, values: list[Any], frames: list[float]) -> None:
    """Sets a property, with keys where it changes."""
    setattr(block, name, values[0])
    if any(value != values[0] for value in values):
        for value, frame in zip(values, frames, strict=True):
            setattr(block, name, value)
            block.keyframe_insert(name, frame=frame)


def active_camera(scene: bpy.types.Scene) -> Callable[[int], str | None]:
    """The camera that each frame is seen through: that of the last marker with a camera, as Blender switches
    them. Markers go by the scene's time, which may be stretched.
    """
    named: dict[int, str] = {}
    for marker in scene.timeline_markers:
        if marker.camera is not None and not marker.camera.hide_render:
            named.setdefault(marker.frame, marker.camera.name)
    bound = sorted(named.items())
    fixed = None if scene.camera is None else scene.camera.name

    def active(frame: int) -> str | None:
        if not bound:
            return fixed
        time = whole_time(scene, frame)
        return next((name for at, name in reversed(bound) if at <= time), bound[0][1])

    return active
