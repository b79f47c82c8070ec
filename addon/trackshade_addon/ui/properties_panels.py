# SPDX-License-Identifier: GPL-3.0-or-later
"""Panels in the Properties editor: settings of the render engine, and shading of exports with other engines."""

from __future__ import annotations

import bpy

from ..capture.scene_settings import TRACKSHADE_ENGINE
from ..render import hook
from .drawing import draw_properties, draw_text, split_properties
from .panel import LookSettings, ModelSettings, SettingsPanel, ShotSettings


class _PropertiesPanel:
    """A panel for Trackshade as render engine."""

    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "render"
    COMPAT_ENGINES = {TRACKSHADE_ENGINE}  # noqa: RUF012 - as Blender requires it

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.engine in cls.COMPAT_ENGINES


class TRACKSHADE_PT_render_look(LookSettings, _PropertiesPanel, bpy.types.Panel):
    """What the video should look like."""


class TRACKSHADE_PT_render_model(ModelSettings, _PropertiesPanel, bpy.types.Panel):
    """Model, and how it is used."""

    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012


class TRACKSHADE_PT_render_shot(ShotSettings, _PropertiesPanel, bpy.types.Panel):
    """What of the scene is captured."""

    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012


class TRACKSHADE_PT_passes(SettingsPanel, _PropertiesPanel, bpy.types.Panel):
    """Passes that the render engine delivers."""

    bl_label = "Passes"
    bl_context = "view_layer"

    def fill(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        layer = context.view_layer
        column = layout.column(heading="Data")
        draw_properties(column, layer, "use_pass_z", "use_pass_object_index")
        column.prop(layer.trackshade, "use_pass_tracking")


class TRACKSHADE_PT_view_layer(bpy.types.Panel):
    """Shading of exports of this view layer, with any other render engine."""

    bl_label = "Trackshade"
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "view_layer"
    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.engine != TRACKSHADE_ENGINE

    def draw_header(self, context: bpy.types.Context) -> None:
        self.layout.prop(context.view_layer.trackshade, "use_hook", text="")

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = split_properties(self.layout), context.view_layer.trackshade
        column = layout.column()
        column.enabled = settings.use_hook
        draw_properties(column, settings, "hook_picture", "hook_start")
        place = column.column()
        place.enabled = settings.hook_start
        place.prop(settings, "hook_place")
        message = hook.messages.get(context.view_layer.name)
        if message:
            draw_text(layout, context, message, "INFO")
