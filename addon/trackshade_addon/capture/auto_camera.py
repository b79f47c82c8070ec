# SPDX-License-Identifier: GPL-3.0-or-later
"""Adds a camera to scenes without one: a three-quarter view of the animated content over the whole range."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from trackshade.core.errors import ShotError

from .geometry import surface
from .instances import InstanceKey, InstanceReader
from .materials import MaterialEvaluator
from .render_state import RenderState
from .restore import preserve_scene
from .scene_settings import render_size
from .stepping import Stepper, Steps

NAME = "Trackshade Camera"
LENS, SENSOR = 50.0, 36.0  # millimetres
AZIMUTH, ELEVATION = 35.0, 20.0  # degrees: to the right of the front view, and above the horizon
MARGIN = 1.1  # size of the frame relative to the content
# A static instance larger than this many times the moving content is scenery, which need not fit in the frame.
SCENERY = 3.0

Float64 = NDArray[np.float64]


def add_auto_camera(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, frames: Sequence[float], keep_played: bool = True
) -> Generator[Steps, None, bpy.types.Object]:
    """Adds a static camera that frames the content at all frames, and makes it the scene's camera.

    Args:
        scene: the scene.
        view_layer: the view layer whose content is framed.
        frames: scene frames.
        keep_played: as for `Capture`.

    Yields:
        Progress of stepping simulations.

    Returns:
        The camera.

    Raises:
        ShotError: nothing is visible in these frames.
    """
    boxes = _content((yield from _boxes(scene, view_layer, frames, keep_played)))
    width, height = render_size(scene)
    aspect = height * scene.render.pixel_aspect_y / (width * scene.render.pixel_aspect_x)
    half = SENSOR / 2 / LENS
    tangents = (half, half * aspect) if aspect <= 1 else (half / aspect, half)  # sensor fit AUTO
    axes = view_axes(AZIMUTH, ELEVATION)
    points = boxes.reshape(-1, 3)
    location, near, far = fit_camera(points, axes, tangents, MARGIN)

    data = bpy.data.cameras.new(NAME)
    data.lens, data.sensor_width, data.sensor_fit = LENS, SENSOR, "AUTO"
    data.clip_start, data.clip_end = near / 10, far * 10
    camera = bpy.data.objects.new(NAME, data)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = axes.T, location
    camera.matrix_world = Matrix(matrix.tolist())
    scene.collection.objects.link(camera)
    scene.camera = camera
    return camera


def view_axes(azimuth: float, elevation: float) -> Float64:
    """Axes of a view from the front (looking along +y) that is rotated and raised by angles in degrees.

    Returns:
        [3, 3] with the rows right, up and back, world.
    """
    a, e = np.radians(azimuth), np.radians(elevation)
    back = np.array([np.sin(a) * np.cos(e), -np.cos(a) * np.cos(e), np.sin(e)])
    right = np.array([np.cos(a), np.sin(a), 0.0])
    return np.stack([right, np.cross(back, right), back])


def fit_camera(
    points: Float64,  # [N, 3] world
    axes: Float64,  # [3, 3] world
    tangents: tuple[float, float],
    margin: float,
) -> tuple[Float64, float, float]:
    """Finds the nearest location from which a camera of fixed orientation has all points in its frame.

    Args:
        points: the points.
        axes: the camera's axes right, up and back, as rows.
        tangents: tangents of half the horizontal and half the vertical field of view.
        margin: factor by which the frame is larger than necessary, at least 1.

    Returns:
        The location [3] in the world, and the distances of the nearest and the farthest point along the view.
    """
    local = points @ axes.T  # right, up, back
    location = np.zeros(3)
    distances = []
    for axis, tangent in enumerate(tangents):
        slope = tangent / margin
        # |x - location| <= slope * (depth - z) for all points, as two bounds on the location for a given depth.
        low = local[:, axis] + slope * local[:, 2]
        high = local[:, axis] - slope * local[:, 2]
        distances.append((low.max() - high.min()) / (2 * slope))
        location[axis] = (low.max() + high.min()) / 2
    size = max(float(np.ptp(local, axis=0).max()), 1e-3)
    location[2] = max(*distances, local[:, 2].max() + 0.1 * size)  # in front of all points, flat content included
    depth = location[2] - local[:, 2]
    return location @ axes, float(depth.min()), float(depth.max())


def _boxes(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, frames: Sequence[float], keep_played: bool
) -> Generator[Steps, None, dict[InstanceKey, list[Float64]]]:
    """World-space bounding boxes [8, 3] of each visible instance, for each frame in which it is visible."""
    boxes: dict[InstanceKey, list[Float64]] = {}
    reader, materials = InstanceReader(view_layer), MaterialEvaluator(view_layer)
    with preserve_scene(scene) as changes:
        state = RenderState(changes, scene, view_layer, lambda sentence: None, keep_played)
        stepper = Stepper(scene, view_layer, frames, changes, state.follow)
        for frame in frames:
            yield from stepper.to(frame)
            materials.begin_sample(view_layer.depsgraph)
            for instance in reader.read(view_layer.depsgraph):
                obj = instance.obj
                if instance.visibility.visible and instance.kind == "MESH" and _has_faces(obj):
                    slots = materials.evaluate(obj, obj.data, instance.name)
                    if slots and not any(slot.is_shown for slot in slots):
                        continue
                    matrix = np.array(instance.item.matrix_world)
                    corners = np.array([tuple(corner) for corner in obj.bound_box], np.float64)
                    boxes.setdefault(instance.key, []).append(corners @ matrix[:3, :3].T + matrix[:3, 3])
    if not boxes:
        raise ShotError(
            "nothing-visible",
            f"No surface is visible in view layer '{view_layer.name}' of scene '{scene.name}'.",
            "Add a mesh, or make one visible in renders.",
        )
    return boxes


def _has_faces(obj: bpy.types.Object) -> bool:
    with surface(obj) as mesh:
        return len(mesh.polygons) > 0


def _content(boxes: dict[InstanceKey, list[Float64]]) -> Float64:
    """The boxes [N, 8, 3] that must be in the frame: everything that moves, and what is static but not scenery."""
    tracks = [np.stack(track) for track in boxes.values()]
    moving = [track for track in tracks if np.ptp(track, axis=0).max() > 1e-6]
    if not moving:
        return np.concatenate(tracks)
    extent = np.linalg.norm(np.ptp(np.concatenate(moving).reshape(-1, 3), axis=0))
    static = [
        track
        for track in tracks
        if np.ptp(track, axis=0).max() <= 1e-6
        and np.linalg.norm(np.ptp(track.reshape(-1, 3), axis=0)) <= SCENERY * extent
    ]
    return np.concatenate(moving + static)
