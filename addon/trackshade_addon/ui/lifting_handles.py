# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator that drags the handles of a photo's perspective in the camera view."""

from __future__ import annotations

import math

import bpy

from ..messages.texts import tr
from ..overlay.handles import GRAB, drag, handle_points, picture_view
from .modal import is_scene_free


class TRACKSHADE_OT_drag_handles(bpy.types.Operator):
    """Drag the horizon, the vanishing point and the corners of the back wall in the camera view"""

    bl_idname = "trackshade.drag_handles"
    bl_label = "Drag Handles"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - as Blender requires it

    _grabbed: str = ""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.scene.trackshade_lift.found_perspective is not None and is_scene_free(cls)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        context.scene.frame_set(context.scene.frame_start)
        context.scene.trackshade_lift.show = True
        region_3d = context.region_data
        if region_3d is not None:
            region_3d.view_perspective = "CAMERA"
        self._grabbed = ""
        context.window_manager.modal_handler_add(self)
        context.workspace.status_text_set(tr("Drag the handles   Enter: lift again   Esc: done"))
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        settings = context.scene.trackshade_lift
        if event.type in ("ESC", "RET", "NUMPAD_ENTER") and event.value == "PRESS":
            self.cancel(context)
            if event.type != "ESC":
                bpy.ops.trackshade.lift_again()
            return {"FINISHED"}
        region = next((item for item in context.area.regions if item.type == "WINDOW"), None)
        region_3d = context.area.spaces.active.region_3d if context.area.type == "VIEW_3D" else None
        view = None if region is None or region_3d is None else picture_view(context.scene, region, region_3d)
        if region is None or view is None:
            self.cancel(context)
            return {"FINISHED", "PASS_THROUGH"}
        x, y = event.mouse_x - region.x, event.mouse_y - region.y
        if event.type == "LEFTMOUSE" and event.value == "PRESS":
            near = {name: math.dist(view.to_region(*point), (x, y)) for name, point in handle_points(settings).items()}
            name = min(near, key=near.__getitem__)
            if near[name] <= GRAB * context.preferences.system.ui_scale:
                self._grabbed = name
                return {"RUNNING_MODAL"}
        elif event.type == "LEFTMOUSE" and event.value == "RELEASE" and self._grabbed:
            self._grabbed = ""
            return {"RUNNING_MODAL"}
        elif event.type == "MOUSEMOVE" and self._grabbed:
            drag(settings, self._grabbed, *view.to_picture(x, y))
            return {"RUNNING_MODAL"}
        return {"PASS_THROUGH"}

    def cancel(self, context: bpy.types.Context) -> None:
        """End the dragging."""
        context.workspace.status_text_set(None)
        context.area.tag_redraw()
