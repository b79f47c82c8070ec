# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook's switch in the View Layer Properties, with any engine but our own."""

from __future__ import annotations

import bpy

from ..capture.scene_settings import TRACKSHADE_ENGINE
from ..render import hook
from .drawing import draw_text


class TRACKSHADE_PT_view_layer(bpy.types.Panel):
    """Whether exports of this view layer are shaded, and what became of the latest."""

    bl_idname = "TRACKSHADE_PT_view_layer"
    bl_label = "Trackshade"
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "view_layer"
    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012 - as Blender wants it

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.engine != TRACKSHADE_ENGINE

    def draw_header(self, context: bpy.types.Context) -> None:
        self.layout.prop(context.view_layer.trackshade, "use_hook", text="")

    def draw(self, context: bpy.types.Context) -> None:
        layout, own = self.layout, context.view_layer.trackshade
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column()
        column.enabled = own.use_hook
        column.prop(own, "hook_picture")
        column.prop(own, "hook_start")
        place = column.column()
        place.enabled = own.hook_start
        place.prop(own, "hook_place")
        sentence = hook.messages.get(context.view_layer.name)
        if sentence:
            draw_text(layout, context, sentence, "INFO")


CLASSES = (TRACKSHADE_PT_view_layer,)
