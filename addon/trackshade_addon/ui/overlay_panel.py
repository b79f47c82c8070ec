# SPDX-License-Identifier: GPL-3.0-or-later
"""The switch of the tracking colors, in the sidebar and among the 3D view's overlays, and Render Control."""

# No postponed annotations here: Blender reads the properties from them.
from collections.abc import Generator

import bpy

from ..capture.stepping import Steps
from ..jobs.session import current
from ..messages.texts import told, tr
from . import overlay_watch
from .drawing import draw_text, redraw
from .operators import TRACKSHADE_OT_control
from .overlay_watch import Found, watch
from .shared import InSidebar
from .stepped import SteppedOperator


class TrackshadeOverlay(bpy.types.PropertyGroup):
    """How the tracking colors are shown; saved with the scene."""

    show: bpy.props.BoolProperty(
        name="Tracking Colors",
        description="Show each surface point in the color by which the model follows it: where it is in the shot's "
        "first frame",
        default=False,
    )
    opacity: bpy.props.FloatProperty(
        name="Opacity", description="Of the colors over the view", min=0, max=1, default=1, subtype="FACTOR"
    )
    background: bpy.props.BoolProperty(
        name="Black Background",
        description="Paint all else black, as the tracking video has it",
        default=False,
    )


class TRACKSHADE_OT_update_overlay(SteppedOperator, bpy.types.Operator):
    """Look at the shot's first frame again, for the tracking colors"""

    bl_idname = "trackshade.update_overlay"
    bl_label = "Update"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return not current().holds_scene

    def steps(self, context: bpy.types.Context) -> Generator[Steps, None, Found]:
        return watch.looking(context.scene, context.view_layer)

    def done(self, context: bpy.types.Context, result: Found) -> set[str]:
        redraw()
        return {"FINISHED"}


class TRACKSHADE_PT_control(InSidebar, bpy.types.Panel):
    """What steers the model."""

    bl_idname = "TRACKSHADE_PT_control"
    bl_label = "Tracking Colors"
    bl_parent_id = "TRACKSHADE_PT_shade"
    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012 - as Blender wants it
    bl_order = 30

    def draw_header(self, context: bpy.types.Context) -> None:
        self.layout.prop(context.scene.trackshade_overlay, "show", text="")

    def draw(self, context: bpy.types.Context) -> None:
        _draw_settings(self.layout, context)
        if current().holds_scene:  # Blender would leave the button grey for as long as the mouse rests on it
            self.layout.label(text="The scene is being captured", icon="SORTTIME")
        else:
            self.layout.operator(TRACKSHADE_OT_control.bl_idname, icon="RENDER_ANIMATION")


class TRACKSHADE_PT_overlay(bpy.types.Panel):
    """The same among the view's overlays."""

    bl_idname = "TRACKSHADE_PT_overlay"
    bl_label = "Trackshade"
    bl_space_type = "VIEW_3D"
    bl_region_type = "HEADER"
    bl_parent_id = "VIEW3D_PT_overlay"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.active = context.space_data.overlay.show_overlays
        layout.prop(context.scene.trackshade_overlay, "show")
        _draw_settings(layout, context)


def _draw_settings(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    own = context.scene.trackshade_overlay
    column = layout.column()
    column.active = own.show
    column.use_property_split = True
    column.use_property_decorate = False
    column.prop(own, "opacity", slider=True)
    column.prop(own, "background")
    if own.show:
        _draw_state(layout, context)


def _draw_state(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """What is not as it will be sent."""
    found = watch.found(context.scene, context.view_layer)
    if found is None:
        layout.label(text="Looking at the first frame", icon="SORTTIME")
        return
    if found.error is not None:
        draw_text(layout, context, told(found.error), "ERROR")
    elif found.preview is not None:
        following = found.preview.following
        reference = following.reference
        for names, words in (
            (reference.unseen, "Sent, but hidden in the viewport: {names}"),
            (reference.late, "Not there in the first frame, so its colors may differ a little: {names}"),
            (following.waiting, "Shown when playback stops, since its vertices are others in each frame: {names}"),
        ):
            if names:
                draw_text(layout, context, tr(words, names=_listed(list(names))), "INFO")
    if found.old and found.seconds > overlay_watch.SLOW:
        known = found.preview is not None or found.error is not None
        text = tr("The scene has changed") if known else tr("A simulation has to be stepped to the first frame")
        draw_text(layout, context, text, "INFO")
        layout.operator(TRACKSHADE_OT_update_overlay.bl_idname, icon="FILE_REFRESH")


def _listed(names: list[str]) -> str:
    more = f" + {len(names) - 3}" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def attach() -> None:
    """Gives every scene its switch."""
    bpy.types.Scene.trackshade_overlay = bpy.props.PointerProperty(type=TrackshadeOverlay)


def detach() -> None:
    del bpy.types.Scene.trackshade_overlay


CLASSES = (TrackshadeOverlay, TRACKSHADE_OT_update_overlay, TRACKSHADE_PT_control, TRACKSHADE_PT_overlay)
