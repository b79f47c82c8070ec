# SPDX-License-Identifier: GPL-3.0-or-later
"""A plane that fills a camera's frame exactly, whatever the camera's settings do.

The plane is a child of the camera. Drivers scale and shift it from the camera's lens, sensor, shift,
orthographic scale and type, so that it keeps filling the frame when those are animated; they are simple
expressions, which Blender runs without permission to run scripts. A camera's scale does not count when
Blender looks through it, but a child inherits it, so the drivers divide it out.

In the plane's mesh one unit is one frame: its corners lie at (±0.5, ±0.5). Around it lies a narrow rim,
because a render's pixel filter looks a little over the frame's edge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import bpy
import numpy as np

from trackshade.core.fitting import SizeFit
from trackshade.core.geometry import camera_to_blender, intrinsics

from .record import Result

RIM = 16  # pixels of the scene's frame, on each side
NEAREST = 1.02  # times the near clipping distance

# The scale of the frame at the plane's distance: what one unit of the fitted side is in metres.
_DISTANCE = "max(d, near * 1.01)"
_UNIT = f"(ortho if kind == 1 else sensor / lens * {_DISTANCE})"


@dataclass(frozen=True)
class Cut:
    """Where a plane lies in the frame and what it shows, each as (left, bottom, right, top)."""

    frame: tuple[float, float, float, float]  # shares of the scene's frame, 0..1 from its lower left corner
    picture: tuple[float, float, float, float]  # texture coordinates
    rim: tuple[float, float]  # width and height of the rim, shares of the frame


def cut(fit: SizeFit) -> Cut:
    """The part of the scene's frame that pictures of this fit cover, and the part of the pictures that lies
    there.
    """
    (width, height), (sx, sy) = fit.size, fit.scale
    left, top, right, bottom = fit.frame_in_model()
    shown = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))  # model pixels
    (fw, fh) = sx * fit.source[0], sy * fit.source[1]
    frame = (shown[0] - left) / fw, 1 - (shown[3] - top) / fh, (shown[2] - left) / fw, 1 - (shown[1] - top) / fh
    picture = shown[0] / width, 1 - shown[3] / height, shown[2] / width, 1 - shown[1] / height
    return Cut(frame, picture, (RIM / fit.source[0], RIM / fit.source[1]))


def make_mesh(name: str, area: Cut) -> bpy.types.Mesh:
    """The plane's mesh: vertices 0 to 3 are the corners of the covered area, counter-clockwise from the lower
    left one as the camera sees it; 4 to 7 those of the rim, where the frame ends there.
    """
    left, bottom, right, top = area.frame
    u0, v0, u1, v1 = area.picture
    edge, (rim_x, rim_y) = 1e-9, area.rim
    out = (
        left - rim_x * (left < edge),
        bottom - rim_y * (bottom < edge),
        right + rim_x * (right > 1 - edge),
        top + rim_y * (top > 1 - edge),
    )
    inner = [(left, bottom), (right, bottom), (right, top), (left, top)]
    outer = [(out[0], out[1]), (out[2], out[1]), (out[2], out[3]), (out[0], out[3])]
    mesh = bpy.data.meshes.new(name)
    # A rim of no width leaves faces without area on sides where the plane ends inside the frame; they show nothing.
    faces = [(0, 1, 2, 3), (4, 5, 1, 0), (5, 6, 2, 1), (6, 7, 3, 2), (7, 4, 0, 3)]
    mesh.from_pydata([(x - 0.5, y - 0.5, 0.0) for x, y in inner + outer], [], faces)
    layer = mesh.uv_layers.new(name="UVMap")
    for loop in mesh.loops:
        x, y = (inner + outer)[loop.vertex_index]
        u = u0 + (x - left) / (right - left) * (u1 - u0)
        v = v0 + (y - bottom) / (top - bottom) * (v1 - v0)
        layer.data[loop.index].uv = u, v
    return mesh


def attach(plane: bpy.types.Object, camera: bpy.types.Object, fit: SizeFit, distance: float) -> None:
    """Hangs a plane before a camera, `distance` metres along its axis, and drives it to fill the frame.

    The distance stays editable as the plane's custom property "distance"; the plane never comes nearer than
    the camera's near clipping distance.
    """
    plane.parent = camera
    plane.matrix_parent_inverse.identity()
    plane["distance"] = float(distance)
    plane.id_properties_ui("distance").update(min=0.0, description="Metres from the camera", subtype="DISTANCE")
    for axis, share in enumerate(frame_shares(camera.data.sensor_fit, fit)):
        _drive(plane, "scale", axis, f"{_UNIT} * {share!r} / size", camera)
        _drive(plane, "location", axis, f"{_UNIT} * shift / size", camera)
    _drive(plane, "scale", 2, "1 / size", camera)
    _drive(plane, "location", 2, f"-{_DISTANCE} / size", camera)


def default_distance(camera: bpy.types.Camera, result: Result) -> float:
    """How far from its camera a plate lies by default, metres.

    Just behind the near clipping distance, so that nothing comes before it and no fog lies between. Blender's places
    are float32, though, and far from the world's origin they would make a plate so near jitter: there it lies as far
    away as a twentieth of a pixel needs, but well before all that the camera saw.
    """
    near = camera.clip_start * NEAREST
    # Pixels by which a corner moves when the plate is misplaced by its own distance: the focal length, and how far
    # beside the optical axis the corner lies.
    k = result.frame_intrinsics[~result.camera.orthographic]
    beside = np.maximum(np.abs(k[:, :2, 2]), np.abs(k[:, :2, 2] - result.fit.source)).max(axis=1)
    reach = (k[:, 0, 0] + beside).max(initial=0.0)
    farthest = np.abs(camera_to_blender(result.camera.world_to_camera)[:, :3, 3]).max()
    steady = float(np.spacing(np.float32(farthest)) * reach / 0.05)
    return max(near, min(steady, result.nearest / 2))


def frame_shares(sensor_fit: str, fit: SizeFit) -> tuple[float, float]:
    """The frame's width and height in units of the side that the camera's sensor spans."""
    k = intrinsics(
        lens=1,
        sensor_width=1,
        sensor_height=1,
        sensor_fit=sensor_fit,
        shift_x=0,
        shift_y=0,
        size=fit.source,
        pixel_aspect=fit.pixel_aspect,
    )
    return float(fit.source[0] / k[0, 0]), float(fit.source[1] / k[1, 1])


def _drive(plane: bpy.types.Object, path: str, axis: int, expression: str, camera: bpy.types.Object) -> None:
    """One driver, with those of the variables that its expression names."""
    data = camera.data
    # With sensor fit AUTO the sensor's width spans whichever side is longer.
    sensor = "sensor_height" if data.sensor_fit == "VERTICAL" else "sensor_width"
    driver = new_driver(plane, path, axis)
    drive_by(driver, "d", "OBJECT", plane, '["distance"]', expression)
    drive_by(driver, "near", "CAMERA", data, "clip_start", expression)
    drive_by(driver, "lens", "CAMERA", data, "lens", expression)
    drive_by(driver, "sensor", "CAMERA", data, sensor, expression)
    drive_by(driver, "ortho", "CAMERA", data, "ortho_scale", expression)
    drive_by(driver, "kind", "CAMERA", data, "type", expression)
    drive_by(driver, "shift", "CAMERA", data, f"shift_{'xyz'[axis]}", expression)
    variable = driver.variables.new()
    variable.name, variable.type = "size", "TRANSFORMS"
    variable.targets[0].id = camera
    variable.targets[0].transform_type = f"SCALE_{'XYZ'[axis]}"
    variable.targets[0].transform_space = "WORLD_SPACE"
    driver.expression = expression


def new_driver(owner: bpy.types.bpy_struct, path: str, axis: int = -1) -> bpy.types.Driver:
    """A driver whose value arrives as it is. Blender 5 gives a new one a curve from (0, 0) to (1, 1), which takes
    values below 0.0001 for 0."""
    curve = owner.driver_add(path, axis)
    curve.keyframe_points.clear()
    return curve.driver


def drive_by(driver: bpy.types.Driver, name: str, kind: str, owner: bpy.types.ID, path: str, expression: str) -> None:
    """Gives a driver the property of `owner` at `path` as its variable `name`, if the expression names that."""
    if re.search(rf"\b{name}\b", expression):
        variable = driver.variables.new()
        variable.name = name
        variable.targets[0].id_type = kind
        variable.targets[0].id = owner
        variable.targets[0].data_path = path
