# SPDX-License-Identifier: GPL-3.0-or-later
"""The cameras that a result was made through, found again in the scene."""

from __future__ import annotations

from collections.abc import Callable

import bpy

from trackshade.errors import ShotError


def find_camera(scene: bpy.types.Scene, name: str) -> bpy.types.Object:
    """The camera of that name.

    Raises:
        ShotError: the scene has none.
    """
    camera = scene.objects.get(name)
    if camera is None or not isinstance(camera.data, bpy.types.Camera):
        raise ShotError(
            "no-camera",
            f"The result was made through camera '{name}', which scene '{scene.name}' does not have.",
            "Open the file that it was made from, or give its camera that name again.",
        )
    return camera


def active_camera(scene: bpy.types.Scene) -> Callable[[int], str | None]:
    """The camera that each frame is seen through: that of the last marker with a camera, as Blender switches
    them.
    """
    bound = sorted(
        (marker.frame, marker.camera.name)
        for marker in scene.timeline_markers
        if marker.camera is not None and not marker.camera.hide_render
    )
    fixed = None if scene.camera is None else scene.camera.name

    def active(frame: int) -> str | None:
        if not bound:
            return fixed
        return next((name for at, name in reversed(bound) if at <= frame), bound[0][1])

    return active
