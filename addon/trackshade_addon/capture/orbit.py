# SPDX-License-Identifier: GPL-3.0-or-later
"""A rig of still cameras around what a camera looks at, for shots with several cameras. It can be removed again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Matrix, Vector

from trackshade.core.errors import ShotError, UsageError

RIG_KEY = "trackshade_orbit"  # marks the collection, cameras and empty of the rig
NAME = "Trackshade Orbit"
MOST = 64  # cameras
_FALLBACK = 10.0  # metres from the camera to the pivot where nothing is in front of it
_RAYS = 5  # along each side of the middle of the frame


@dataclass(frozen=True)
class Orbit:
    """Cameras on a circle around a vertical axis.

    Attributes:
        count: number of cameras, the given camera among them.
        elevation: angle above the horizon of the other cameras, degrees; that of the given camera if None.
        arc: angle over which they are spread, degrees. In a full circle the first and last are not the same.
    """

    count: int
    elevation: float | None = None
    arc: float = 360.0

    def __post_init__(self) -> None:
        if not 2 <= self.count <= MOST:
            raise UsageError("bad-orbit", f"An orbit cannot have {self.count} cameras.", f"Use 2 to {MOST}.")
        if not 0 < self.arc <= 360:
            raise UsageError("bad-orbit", f"An orbit cannot span {self.arc:g} degrees.", "Use more than 0, up to 360.")
        if self.elevation is not None and not -89 <= self.elevation <= 89:
            raise UsageError("bad-orbit", f"The elevation cannot be {self.elevation:g} degrees.", "Use -89 to 89.")

    @property
    def azimuths(self) -> list[float]:
        """Angles of the other cameras around the axis, degrees, counterclockwise from above; the given one is at 0."""
        if self.arc == 360:
            return [360 * k / self.count for k in range(1, self.count)]
        angles = np.linspace(-self.arc / 2, self.arc / 2, self.count)
        return np.delete(angles, np.abs(angles).argmin()).tolist()


def add_orbit(scene: bpy.types.Scene, camera: bpy.types.Object, orbit: Orbit) -> list[bpy.types.Object]:
    """Adds cameras that look at what a camera looks at in the current frame, from around it.

    They are still, have the camera's lens, and are children of an empty at the point that they look at, so that the
    whole rig can be moved. A rig that is there already is replaced.

    Args:
        scene: the scene.
        camera: the camera.
        orbit: where the cameras are.

    Returns:
        The cameras, without the given one.

    Raises:
        ShotError: the camera looks straight up or down, so that it cannot be turned about a vertical axis.
    """
    remove_orbit(scene)
    matrix = camera.matrix_world.normalized()
    forward = -matrix.col[2].to_3d()
    if abs(forward.z) > math.cos(math.radians(1)):
        raise ShotError("bad-orbit", f"Camera '{camera.name}' looks straight up or down.", "Turn it a little.")
    pivot = matrix.translation + forward * _distance(scene, camera, matrix)
    collection = bpy.data.collections.new(NAME)
    collection[RIG_KEY] = True
    scene.collection.children.link(collection)
    center = bpy.data.objects.new(NAME, None)
    center[RIG_KEY] = True
    center.location = pivot
    center.empty_display_size = (matrix.translation - pivot).length / 10
    collection.objects.link(center)
    offset = matrix.translation - pivot
    elevation = math.asin(max(-1.0, min(1.0, offset.normalized().z)))
    right = forward.cross(Vector((0, 0, 1)))
    lift = 0.0 if orbit.elevation is None else math.radians(orbit.elevation) - elevation
    to_pivot, from_pivot = Matrix.Translation(-pivot), Matrix.Translation(pivot)
    made = []
    for azimuth in orbit.azimuths:
        turn = Matrix.Rotation(math.radians(azimuth), 4, "Z") @ Matrix.Rotation(-lift, 4, right)
        other = bpy.data.objects.new(f"{camera.name} {azimuth:+.0f}°", camera.data.copy())
        other.data.animation_data_clear()
        other[RIG_KEY] = True
        collection.objects.link(other)
        other.parent = center
        other.matrix_parent_inverse = Matrix.Translation(-pivot)
        other.matrix_basis = from_pivot @ turn @ to_pivot @ matrix
        made.append(other)
    return made


def remove_orbit(scene: bpy.types.Scene) -> bool:
    """Removes the rig of a scene. Returns whether there was one."""
    rigs = [item for item in scene.collection.children_recursive if RIG_KEY in item]
    for collection in rigs:
        for obj in [item for item in collection.all_objects if RIG_KEY in item]:
            data = obj.data
            bpy.data.objects.remove(obj)
            if isinstance(data, bpy.types.Camera) and not data.users:
                bpy.data.cameras.remove(data)
        if not collection.all_objects:
            bpy.data.collections.remove(collection)
    return bool(rigs)


def _distance(scene: bpy.types.Scene, camera: bpy.types.Object, matrix: Matrix) -> float:
    """Returns the distance along the camera's axis of what the middle of its frame shows, metres."""
    depsgraph = bpy.context.evaluated_depsgraph_get()
    top_right, _, bottom_left, _ = camera.data.view_frame(scene=scene)
    forward, hits = -matrix.col[2].to_3d(), []
    for i in range(_RAYS):
        for j in range(_RAYS):
            u, v = (0.35 + 0.3 * k / (_RAYS - 1) for k in (i, j))
            point = Vector((
                bottom_left.x + u * (top_right.x - bottom_left.x),
                bottom_left.y + v * (top_right.y - bottom_left.y),
                top_right.z,
            ))  # fmt: skip
            if camera.data.type == "ORTHO":
                origin, direction = matrix @ Vector((point.x, point.y, 0)), forward
            else:
                origin, direction = matrix.translation, (matrix.to_3x3() @ point).normalized()
            hit, location, *_ = scene.ray_cast(depsgraph, origin, direction)
            if hit:
                hits.append((location - matrix.translation).dot(forward))
    return float(np.median(hits)) if hits else _FALLBACK
