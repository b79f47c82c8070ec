# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects of a photo, and what moves in footage, in the sidebar: boxes and masks, and drawing a box."""

# No postponed annotations here: Blender reads the properties from them.
from typing import Any

import bpy
import numpy as np

from ..capture.given_image import IMAGE, read_given_image
from ..messages.texts import tr
from ..overlay.handles import PictureView, picture_view
from .drawing import ActionOperator, action, draw_properties, draw_text, split_properties
from .modal import is_scene_free

_SMALLEST = 4.0  # pixels of a picture: sides of a box


class TRACKSHADE_UL_lift_objects(bpy.types.UIList):
    """List of the objects of a photo."""

    def draw_item(
        self, context: bpy.types.Context, layout: bpy.types.UILayout, data, item, icon, active_data, active_property
    ) -> None:
        layout.prop(item, "name", text="", emboss=False, icon="SELECT_SET" if item.kind == "box" else "MOD_MASK")


class _ObjectOperator(ActionOperator):
    """An operator on the objects of the scene's photo or footage."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        settings = context.scene.trackshade_lift
        return settings.is_lifted and is_scene_free(cls)


def add_object(settings: Any, kind: str, box: tuple[float, float, float, float] | None = None) -> Any:
    """Add an object to the list, make it the active one, and return it.

    Args:
        settings: the scene's settings of lifting.
        kind: "box" or "mask".
        box: left, top, right and bottom, pixels; the middle of the picture if None.
    """
    width, height = settings.size
    names = {item.name for item in settings.objects}
    number = next(n for n in range(1, len(names) + 2) if f"Object {n}" not in names)
    item = settings.objects.add()
    item.name, item.kind = f"Object {number}", kind
    item.box = box or (0.4 * width, 0.3 * height, 0.6 * width, 0.8 * height)
    settings.active_object = len(settings.objects) - 1
    return item


def box_between(one: tuple[float, float], other: tuple[float, float], size: tuple[int, int]) -> Any:
    """Return the box between two points of a picture, within it; None if it is too small."""
    (left, right), (top, bottom) = (sorted(pair) for pair in zip(one, other, strict=True))
    box = max(left, 0.0), max(top, 0.0), min(right, float(size[0])), min(bottom, float(size[1]))
    return box if box[2] - box[0] >= _SMALLEST and box[3] - box[1] >= _SMALLEST else None


class TRACKSHADE_OT_lift_object_add(_ObjectOperator, bpy.types.Operator):
    """Add an object of the picture: a box around it, or a mask that shows where it is seen"""

    bl_idname = "trackshade.lift_object_add"
    bl_label = "Add Object"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - as Blender requires it

    kind: bpy.props.EnumProperty(
        name="By",
        description="How the picture says where the object is",
        items=[("box", "Box", "It is cut out of a box around it"), ("mask", "Mask", "An image is white where it is")],
    )

    def act(self, context: bpy.types.Context) -> None:
        add_object(context.scene.trackshade_lift, self.kind)


@action("Remove Object", _ObjectOperator, bl_options={"REGISTER", "UNDO"})
def lift_object_remove(operator: Any, context: bpy.types.Context) -> None:
    """Remove the object from the list. Its mesh stays in the scene until you delete it"""
    settings = context.scene.trackshade_lift
    if settings.active_object < len(settings.objects):
        settings.objects.remove(settings.active_object)
        settings.active_object = max(0, min(settings.active_object, len(settings.objects) - 1))


class TRACKSHADE_OT_lift_object_draw(bpy.types.Operator):
    """Draw a box around an object of the picture, in the camera view"""

    bl_idname = "trackshade.lift_object_draw"
    bl_label = "Draw Box"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - as Blender requires it

    _start: tuple[float, float] | None = None

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return _ObjectOperator.poll.__func__(cls, context) and context.area is not None

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        context.scene.frame_set(context.scene.frame_start)
        context.scene.trackshade_lift.show = True
        if context.region_data is not None:
            context.region_data.view_perspective = "CAMERA"
        self._start = None
        context.window_manager.modal_handler_add(self)
        context.workspace.status_text_set(tr("Drag a box around the object   Esc: cancel"))
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        settings = context.scene.trackshade_lift
        found = self._view(context)
        if found is None or (event.type in ("ESC", "RIGHTMOUSE") and event.value == "PRESS"):
            if self._start is not None:
                settings.objects.remove(len(settings.objects) - 1)
            self._end(context)
            return {"CANCELLED"}
        region, view = found
        point = view.to_picture(event.mouse_x - region.x, event.mouse_y - region.y)
        if event.type == "LEFTMOUSE" and event.value == "PRESS" and self._start is None:
            self._start = point
            add_object(settings, "box", (*point, point[0] + 1, point[1] + 1))
            return {"RUNNING_MODAL"}
        if self._start is None:
            return {"PASS_THROUGH"}
        box = box_between(self._start, point, tuple(settings.size))
        if box is not None:
            settings.objects[settings.active_object].box = box
        if event.type == "LEFTMOUSE" and event.value == "RELEASE":
            if box is None:
                settings.objects.remove(settings.active_object)
            self._end(context)
            return {"CANCELLED"} if box is None else {"FINISHED"}
        return {"RUNNING_MODAL"}

    def cancel(self, context: bpy.types.Context) -> None:
        """End the drawing."""
        self._end(context)

    def _view(self, context: bpy.types.Context) -> tuple[bpy.types.Region, PictureView] | None:
        area = context.area
        if area is None or area.type != "VIEW_3D":
            return None
        region = next(item for item in area.regions if item.type == "WINDOW")
        view = picture_view(context.scene, region, area.spaces.active.region_3d)
        return None if view is None else (region, view)

    def _end(self, context: bpy.types.Context) -> None:
        context.workspace.status_text_set(None)
        if context.area is not None:
            context.area.tag_redraw()


def read_masks(settings: Any) -> dict[str, np.ndarray]:
    """Return the masks of the objects, [H, W, 3] uint8 by name. Raise ShotError if one cannot be read."""
    masks = {}
    for name, image in settings.masks.items():
        pixels = read_given_image(f"{IMAGE}{image.name}", None).pixels[..., :3]
        masks[name] = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
    return masks


def draw_objects(layout: bpy.types.UILayout, settings: Any) -> None:
    """Draw the list of objects and the active one."""
    row = layout.row()
    row.template_list(
        TRACKSHADE_UL_lift_objects.__name__, "", settings, "objects", settings, "active_object", rows=2, maxrows=6
    )
    side = row.column(align=True)
    side.operator("trackshade.lift_object_draw", text="", icon="SELECT_SET")
    side.operator_menu_enum("trackshade.lift_object_add", "kind", text="", icon="ADD")
    side.operator("trackshade.lift_object_remove", text="", icon="REMOVE")
    if settings.active_object >= len(settings.objects):
        return
    item = settings.objects[settings.active_object]
    column = split_properties(layout.column())
    column.prop(item, "kind")
    if item.kind == "mask":
        column.template_ID(item, "mask", open="image.open")
        if item.mask is None:
            draw_text(layout, bpy.context, tr("Without an image it is not used"), "ERROR")
        return
    column.prop(item, "box")
    if not settings.is_video:
        draw_properties(column, item, "use_foot", *(["foot"] if item.use_foot else []))
    column.prop(settings, "mask_model")
