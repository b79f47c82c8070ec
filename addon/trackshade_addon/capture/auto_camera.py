# SPDX-License-Identifier: GPL-3.0-or-later
"""A camera for scenes that have none: from a three-quarter view, it sees the animated content over the whole range."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from trackshade.core.errors import ShotError

from .geometry import surface
from .instances import Instances, Key
from .materials import Materials
from .plan import render_size
from .render_state import RenderState
from .restore import undisturbed
from .stepping import Stepper, Steps, finish

NAME = "Trackshade Camera"
LENS, SENSOR = 50.0, 36.0  # millimetres
AZIMUTH, ELEVATION = 35.0, 20.0  # degrees: to the right of the front view, and above the horizon
MARGIN = 1.1  # of the content's extent in the frame
# A thing that stands still and is larger than this many times what moves is scenery, and need not fit in the frame.
SCENERY = 3.0

Float64 = NDArray[np.float64]


def add_auto_camera(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, frames: Sequence[float]
) -> bpy.types.Object:
    """Adds a camera that frames the content at all `frames`, and makes it the scene's camera; see `auto_camera`."""
    return finish(auto_camera(scene, view_layer, frames))


def auto_camera(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, frames: Sequence[float], keep_played: bool = True
) -> Generator[Steps, None, bpy.types.Object]:
    """Adds a camera that frames the content at all `frames`, and makes it the scene's camera.

    Only the file in memory gains it. What frames the content is a static camera, so that all motion is the scene's.
    Yields the frames of simulations that were stepped, of how many. `keep_played` is that of a capture.

    Raises:
        ShotError: nothing is visible in those frames.
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
    """[3, 3] rows right, up and back of a view from the front (looking along +y), turned and raised by degrees."""
    a, e = np.radians(azimuth), np.radians(elevation)
    back = np.array([np.sin(a) * np.cos(e), -np.cos(a) * np.cos(e), np.sin(e)])
    right = np.array([np.cos(a), np.sin(a), 0.0])
    return np.stack([right, np.cross(back, right), back])


def fit_camera(
    points: Float64, axes: Float64, tangents: tuple[float, float], margin: float
) -> tuple[Float64, float, float]:
    """The nearest place from which a camera of fixed orientation has all points in its frame.

    Args:
        points: [N, 3] world.
        axes: [3, 3] rows right, up, back.
        tangents: of half the horizontal and half the vertical field of view.
        margin: how much wider than needed to see, at least 1.

    Returns:
        location [3] world, and the distances of the nearest and the farthest point along the view.
    """
    local = points @ axes.T  # right, up, back
    place = np.zeros(3)
    reach = []
    for axis, tangent in enumerate(tangents):
        slope = tangent / margin
        # |x - place| <= slope * (depth - z) for all points, as two bounds on place for a given depth.
        low = local[:, axis] + slope * local[:, 2]
        high = local[:, axis] - slope * local[:, 2]
        reach.append((low.max() - high.min()) / (2 * slope))
        place[axis] = (low.max() + high.min()) / 2
    size = max(float(np.ptp(local, axis=0).max()), 1e-3)
    place[2] = max(*reach, local[:, 2].max() + 0.1 * size)  # in front of all points, flat content included
    depth = place[2] - local[:, 2]
    return place @ axes, float(depth.min()), float(depth.max())


def _boxes(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, frames: Sequence[float], keep_played: bool
) -> Generator[Steps, None, dict[Key, list[Float64]]]:
    """[8, 3] world corners of the box around each visible instance, for each frame in which it is visible."""
    boxes: dict[Key, list[Float64]] = {}
    things, materials = Instances(view_layer), Materials(view_layer)
    with undisturbed(scene) as changes:
        state = RenderState(changes, scene, view_layer, lambda sentence: None, keep_played)
        stepper = Stepper(scene, view_layer, frames, changes, state.follow)
        for frame in frames:
            yield from stepper.to(frame)
            materials.begin(view_layer.depsgraph)
            for seen in things.of(view_layer.depsgraph):
                if seen.appearance.visible and seen.kind == "MESH" and _has_faces(seen.obj):
                    looks = materials.of(seen.obj, seen.obj.data, seen.name)
                    if looks and not any(look.shown for look in looks):
                        continue  # the render shows through all of it
                    matrix = np.array(seen.item.matrix_world)
                    corners = np.array([tuple(corner) for corner in seen.obj.bound_box], np.float64)
                    boxes.setdefault(seen.key, []).append(corners @ matrix[:3, :3].T + matrix[:3, 3])
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


def _content(boxes: dict[Key, list[Float64]]) -> Float64:
    """[N, 8, 3] what must be in the frame: all that moves, and what stands still unless it is scenery."""
    tracks = [np.stack(track) for track in boxes.values()]
    moving = [track for track in tracks if np.ptp(track, axis=0).max() > 1e-6]
    if not moving:
        return np.concatenate(tracks)
    extent = np.linalg.norm(np.ptp(np.concatenate(moving).reshape(-1, 3), axis=0))
    still = [
        track
        for track in tracks
        if np.ptp(track, axis=0).max() <= 1e-6
        and np.linalg.norm(np.ptp(track.reshape(-1, 3), axis=0)) <= SCENERY * extent
    ]
    return np.concatenate(moving + still)
