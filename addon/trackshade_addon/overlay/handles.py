# SPDX-License-Identifier: GPL-3.0-or-later
"""What is drawn over the camera view of a photo: horizon, vanishing point, back wall, and boxes around objects.

Of footage, only boxes are drawn, over its first frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy
import gpu
import numpy as np
from bpy_extras.view3d_utils import location_3d_to_region_2d
from gpu_extras.batch import batch_for_shader

GRAB = 12.0  # pixels of the screen within which a handle is grabbed, at a scale of 1
_SURE, _UNSURE, _WALL = (0.2, 0.9, 0.4, 1.0), (1.0, 0.35, 0.1, 1.0), (0.3, 0.65, 1.0, 1.0)
_BOX, _ACTIVE = (0.9, 0.75, 0.2, 0.8), (1.0, 0.95, 0.5, 1.0)
_EDGES = ((0, 1), (1, 2), (2, 3), (3, 0))
_CORNERS = {"left top": (0, 1), "right top": (2, 1), "right bottom": (2, 3), "left bottom": (0, 3)}

_handle: Any = None


@dataclass(frozen=True)
class PictureView:
    """Where the picture lies in a region: the picture's origin and its two sides, pixels of the region."""

    origin: np.ndarray  # [2] of the top left corner
    across: np.ndarray  # [2] to the top right corner
    down: np.ndarray  # [2] to the bottom left corner
    size: tuple[int, int]  # of the picture, pixels

    def to_region(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the picture is in the region."""
        point = self.origin + self.across * (x / self.size[0]) + self.down * (y / self.size[1])
        return float(point[0]), float(point[1])

    def to_picture(self, x: float, y: float) -> tuple[float, float]:
        """Return the point of the picture at a place of the region."""
        sides = np.column_stack([self.across / self.size[0], self.down / self.size[1]])
        u, v = np.linalg.solve(sides, np.array([x, y]) - self.origin)
        return float(u), float(v)


def picture_view(
    scene: bpy.types.Scene, region: bpy.types.Region, region_3d: bpy.types.RegionView3D
) -> PictureView | None:
    """Return where the picture lies in a camera view; None where no picture is seen as it was taken."""
    camera, settings = scene.camera, scene.trackshade_lift
    seen = region_3d.view_perspective == "CAMERA" and scene.frame_current == scene.frame_start
    if not seen or camera is None or not isinstance(camera.data, bpy.types.Camera):
        return None
    if not settings.is_lifted:
        return None
    corners = camera.data.view_frame(scene=scene)  # right top, right bottom, left bottom, left top
    matrix = camera.matrix_world.normalized()
    points = [location_3d_to_region_2d(region, region_3d, matrix @ corner) for corner in corners]
    if any(point is None for point in points):
        return None
    right_top, _, left_bottom, left_top = (np.array(point) for point in points)
    return PictureView(left_top, right_top - left_top, left_bottom - left_top, tuple(settings.size))


def handle_points(settings: Any) -> dict[str, tuple[float, float]]:
    """Return the handles that can be dragged, by name, pixels of the picture."""
    width = float(settings.size[0])
    points = {
        "horizon left": (0.0, settings.horizon_left),
        "horizon right": (width, settings.horizon_right),
        "vanishing point": settings.vanishing_point,
    }
    if settings.use_rectangle:
        edges = settings.rectangle
        points |= {name: (edges[x], edges[y]) for name, (x, y) in _CORNERS.items()}
    return points


def drag(settings: Any, name: str, x: float, y: float) -> None:
    """Move a handle to a point of the picture; a rectangle keeps its order."""
    if name == "horizon left":
        settings.horizon_left = y
    elif name == "horizon right":
        settings.horizon_right = y
    elif name == "vanishing point":  # the horizon moves along
        settings.vanishing_x = x
        by = y - settings.vanishing_point[1]
        settings.horizon_left += by
        settings.horizon_right += by
    else:
        edges = list(settings.rectangle)
        for axis, value in zip(_CORNERS[name], (x, y), strict=True):
            other = edges[(axis + 2) % 4]
            edges[axis] = min(value, other - 1) if axis < 2 else max(value, other + 1)
        settings.rectangle = edges


def attach() -> None:
    """Add the draw handler, unless Blender has no window."""
    global _handle
    if _handle is None and not bpy.app.background:
        _handle = bpy.types.SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_PIXEL")


def detach() -> None:
    """Remove the draw handler."""
    global _handle
    if _handle is not None:
        bpy.types.SpaceView3D.draw_handler_remove(_handle, "WINDOW")
        _handle = None


def _draw() -> None:
    context = bpy.context
    scene, space = context.scene, context.space_data
    if context.region_data is None or space is None or not space.overlay.show_overlays:
        return
    settings = scene.trackshade_lift
    view = picture_view(scene, context.region, context.region_data) if settings.show else None
    if view is not None:
        scale = context.preferences.system.ui_scale
        draw_boxes(settings, view, scale)
        if settings.found_perspective is not None:
            draw_handles(settings, view, scale)


def draw_boxes(settings: Any, view: PictureView, scale: float = 1.0) -> None:
    """Draw the boxes around objects in the region of a view."""
    gpu.state.blend_set("ALPHA")
    for number, item in enumerate(settings.objects):
        if item.kind == "box":
            edges = list(item.box)
            corners = [view.to_region(edges[x], edges[y]) for x, y in _CORNERS.values()]
            color = _ACTIVE if number == settings.active_object else _BOX
            _draw_lines([corners[index] for edge in _EDGES for index in edge], color, 2 * scale)
    gpu.state.blend_set("NONE")


def draw_handles(settings: Any, view: PictureView, scale: float = 1.0) -> None:
    """Draw the handles in the region of a view."""
    points = {name: view.to_region(*point) for name, point in handle_points(settings).items()}
    color = _SURE if settings.perspective.horizon_sure else _UNSURE
    wall = [points[name] for name in _CORNERS if name in points]
    eye = points["vanishing point"]
    gpu.state.blend_set("ALPHA")
    _draw_lines([points["horizon left"], points["horizon right"]], color, 2 * scale)
    if wall:
        _draw_lines([wall[index] for edge in _EDGES for index in edge], _WALL, 2 * scale)
        rays = [_to_border(eye, corner, view) for corner in wall]
        _draw_lines([point for pair in zip(wall, rays, strict=True) for point in pair], (*_WALL[:3], 0.6), scale)
    for name, point in points.items():
        tint = _WALL if name in _CORNERS else color
        size = (7 if name == "vanishing point" else 5) * scale
        square = [(point[0] + dx * size, point[1] + dy * size) for dx, dy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        _draw_batch("TRI_FAN", square, tint)
    gpu.state.blend_set("NONE")


def _to_border(eye: tuple[float, float], corner: tuple[float, float], view: PictureView) -> tuple[float, float]:
    """Return where the ray from the vanishing point through a corner of the wall leaves the picture."""
    x, y = view.to_picture(*corner)
    u, v = view.to_picture(*eye)
    far = 1e9
    for start, step, side in ((x, x - u, view.size[0]), (y, y - v, view.size[1])):
        if abs(step) > 1e-6:
            far = min(far, max((side - start) / step, -start / step))
    far = max(0.0, far) if far < 1e9 else 0.0
    return view.to_region(x + far * (x - u), y + far * (y - v))


def _draw_lines(points: list[tuple[float, float]], color: tuple[float, ...], width: float) -> None:
    shader = gpu.shader.from_builtin("POLYLINE_UNIFORM_COLOR")
    shader.uniform_float("viewportSize", gpu.state.viewport_get()[2:])
    shader.uniform_float("lineWidth", width)
    shader.uniform_float("color", color)
    batch_for_shader(shader, "LINES", {"pos": [(*point, 0.0) for point in points]}).draw(shader)


def _draw_batch(kind: str, points: list[tuple[float, float]], color: tuple[float, ...]) -> None:
    shader = gpu.shader.from_builtin("UNIFORM_COLOR")
    shader.uniform_float("color", color)
    batch_for_shader(shader, kind, {"pos": [(*point, 0.0) for point in points]}).draw(shader)
