# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's settings in the Render Properties: those of the sidebar, drawn by the same functions."""

from __future__ import annotations

import bpy

from ..capture.scene_settings import TRACKSHADE_ENGINE
from .panel import Settings, TRACKSHADE_PT_look, TRACKSHADE_PT_model, TRACKSHADE_PT_shot


class _InProperties(Settings):
    """Where they are, and with which engine."""

    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    COMPAT_ENGINES = {TRACKSHADE_ENGINE}  # noqa: RUF012 - as Blender wants it

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.engine in cls.COMPAT_ENGINES


class TRACKSHADE_PT_render_look(_InProperties, bpy.types.Panel):
    """How the video should look."""

    bl_label = "Look"
    bl_context = "render"

    def fill(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        TRACKSHADE_PT_look.fill(self, layout, context)  # type: ignore[arg-type]


class TRACKSHADE_PT_render_model(_InProperties, bpy.types.Panel):
    """What shades, and how."""

    bl_label = "Model and Strengths"
    bl_context = "render"
    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012

    def fill(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        TRACKSHADE_PT_model.fill(self, layout, context)  # type: ignore[arg-type]


class TRACKSHADE_PT_render_shot(_InProperties, bpy.types.Panel):
    """What of the scene is shaded."""

    bl_label = "Shot"
    bl_context = "render"
    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012

    def fill(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        TRACKSHADE_PT_shot.fill(self, layout, context)  # type: ignore[arg-type]


class TRACKSHADE_PT_passes(_InProperties, bpy.types.Panel):
    """What the engine delivers beside the picture."""

    bl_label = "Passes"
    bl_context = "view_layer"

    def fill(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        layer = context.view_layer
        column = layout.column(heading="Data")
        column.prop(layer, "use_pass_z")
        column.prop(layer, "use_pass_object_index")
        column.prop(layer.trackshade, "use_pass_tracking")


CLASSES = (TRACKSHADE_PT_render_look, TRACKSHADE_PT_render_model, TRACKSHADE_PT_render_shot, TRACKSHADE_PT_passes)
