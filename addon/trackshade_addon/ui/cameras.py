# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of cameras in the sidebar, for shots that are shaded through several, and the orbit rig."""

# No postponed annotations here: Blender reads the properties from them.
import math
from typing import Any

import bpy

from ..capture.orbit import RIG_KEY, Orbit, add_orbit, remove_orbit
from ..jobs.session import current
from ..messages.texts import tr
from .drawing import ActionOperator, SubPanel, action, draw_properties, draw_text, split_properties
from .modal import is_scene_free


class TRACKSHADE_UL_cameras(bpy.types.UIList):
    """List of cameras."""

    def draw_item(
        self, context: bpy.types.Context, layout: bpy.types.UILayout, data, item, icon, active_data, active_property
    ) -> None:
        row = layout.row(align=True)
        row.prop(item, "enabled", text="")
        row.prop(item, "camera", text="", emboss=False, icon="CAMERA_DATA")


class TRACKSHADE_PT_cameras(SubPanel, bpy.types.Panel):
    """Further cameras, through which the same frames are shaded."""

    bl_label = "Cameras"
    bl_order = 16
    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012 - as Blender requires it

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.layout, context.scene.trackshade
        layout.enabled = not current().holds_scene
        row = layout.row()
        row.template_list(
            TRACKSHADE_UL_cameras.__name__, "", settings, "cameras", settings, "active_camera", rows=3, maxrows=8
        )
        side = row.column(align=True)
        side.operator("trackshade.cameras_add", text="", icon="ADD")
        side.operator("trackshade.camera_remove", text="", icon="REMOVE")
        count = len(settings.more_cameras())
        if count:
            text = tr("All frames through {count} cameras, which share their pictures", count=count + 1)
            draw_text(layout, context, text, "INFO")
        column = split_properties(layout.column(align=True))
        draw_properties(column, settings, "orbit_count", "orbit_arc", "orbit_raise")
        if settings.orbit_raise:
            column.prop(settings, "orbit_elevation")
        row = layout.row(align=True)
        row.operator("trackshade.orbit_add", icon="CON_CAMERASOLVER")
        row.operator("trackshade.orbit_remove", text="", icon="X")


class CamerasOperator(ActionOperator):
    """An operator that changes the list of cameras."""

    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - as Blender requires it

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return is_scene_free(cls)


@action("Add Cameras", CamerasOperator)
def cameras_add(operator: Any, context: bpy.types.Context) -> set[str] | None:
    """Add the selected cameras to the list, or all cameras of the scene if none is selected"""
    cameras = [item for item in context.selected_objects if item.type == "CAMERA"]
    cameras = cameras or [item for item in context.scene.objects if item.type == "CAMERA"]
    return _list_cameras(operator, context, cameras)


@action("Remove Camera", CamerasOperator)
def camera_remove(operator: Any, context: bpy.types.Context) -> set[str] | None:
    """Remove this camera from the list. The camera itself is kept"""
    settings = context.scene.trackshade
    if settings.active_camera >= len(settings.cameras):
        return {"CANCELLED"}
    settings.cameras.remove(settings.active_camera)
    settings.active_camera = max(0, min(settings.active_camera, len(settings.cameras) - 1))
    return None


@action("Add Orbit", CamerasOperator)
def orbit_add(operator: Any, context: bpy.types.Context) -> set[str] | None:
    """Add still cameras around what the shot's camera looks at in this frame, and list them"""
    scene, settings = context.scene, context.scene.trackshade
    camera = settings.camera or scene.camera
    if camera is None:
        operator.report({"WARNING"}, tr("The scene has no camera"))
        return {"CANCELLED"}
    _unlist_rig(scene)
    elevation = round(math.degrees(settings.orbit_elevation), 3) if settings.orbit_raise else None
    arc = round(math.degrees(settings.orbit_arc), 3)
    return _list_cameras(operator, context, add_orbit(scene, camera, Orbit(settings.orbit_count, elevation, arc)))


@action("Remove Orbit", CamerasOperator)
def orbit_remove(operator: Any, context: bpy.types.Context) -> set[str] | None:
    """Remove the cameras that Add Orbit has added, from the scene and the list"""
    _unlist_rig(context.scene)
    if not remove_orbit(context.scene):
        operator.report({"WARNING"}, tr("The scene has no orbit"))
        return {"CANCELLED"}
    return None


def _list_cameras(
    operator: bpy.types.Operator, context: bpy.types.Context, cameras: list[bpy.types.Object]
) -> set[str] | None:
    settings = context.scene.trackshade
    known = {item.camera for item in settings.cameras}
    added = [
        camera for camera in cameras if camera not in known and camera != (settings.camera or context.scene.camera)
    ]
    for camera in added:
        settings.cameras.add().camera = camera
    settings.active_camera = max(0, len(settings.cameras) - 1)
    if not added:
        operator.report({"WARNING"}, tr("There is no further camera to add"))
        return {"CANCELLED"}
    return None


def _unlist_rig(scene: bpy.types.Scene) -> None:
    """Remove the cameras of the rig, and entries whose camera is gone, from the list."""
    cameras = scene.trackshade.cameras
    for index in reversed(range(len(cameras))):
        if cameras[index].camera is None or RIG_KEY in cameras[index].camera:
            cameras.remove(index)
