# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel in the 3D view's sidebar."""

from __future__ import annotations

import textwrap

import bpy

from trackshade.errors import Cancelled

from .operators import CATEGORY, TRACKSHADE_OT_cancel, TRACKSHADE_OT_shade
from .session import Session, current

_CHARACTER = 7.0  # pixels of a letter at scale 1, about


class TRACKSHADE_PT_shade(bpy.types.Panel):
    """What to shade, and how the job goes."""

    bl_idname = "TRACKSHADE_PT_shade"
    bl_label = "Trackshade"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = CATEGORY

    def draw(self, context: bpy.types.Context) -> None:
        own = context.scene.trackshade
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column()
        column.enabled = not current().busy
        column.prop(own, "model")
        column.prop(own, "prompt")
        column.prop(own, "seed")
        _draw_state(layout, context, current())


class TRACKSHADE_PT_more(bpy.types.Panel):
    """What is rarely changed."""

    bl_idname = "TRACKSHADE_PT_more"
    bl_label = "Settings"
    bl_parent_id = "TRACKSHADE_PT_shade"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = CATEGORY
    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012 - as Blender wants it

    def draw(self, context: bpy.types.Context) -> None:
        own = context.scene.trackshade
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.enabled = not current().busy
        for name in ("negative_prompt", "steps", "guidance", "first_frame"):
            layout.prop(own, name)
        if own.first_frame == "file":
            layout.prop(own, "picture")
        layout.prop(own, "frame_rule")
        layout.prop(own, "size_mode")


def _draw_state(layout: bpy.types.UILayout, context: bpy.types.Context, session: Session) -> None:
    progress = session.progress
    if progress is None:
        layout.operator(TRACKSHADE_OT_shade.bl_idname, icon="RENDER_ANIMATION")
    else:
        factor = (progress.step or 0) / progress.steps if progress.steps else 0.0
        row = layout.row(align=True)
        text = str(progress).partition("\n")[0]
        row.progress(factor=factor, text=text[:1].upper() + text[1:])
        row.operator(TRACKSHADE_OT_cancel.bl_idname, text="", icon="X")
    if session.error is not None:
        _draw_text(layout, context, str(session.error), "INFO" if isinstance(session.error, Cancelled) else "ERROR")
    elif session.outcome is not None:
        _draw_text(layout, context, f"Placed: {session.outcome.out}", "CHECKMARK")
        for warning in session.outcome.warnings:
            _draw_text(layout, context, warning, "INFO")


def _draw_text(layout: bpy.types.UILayout, context: bpy.types.Context, text: str, icon: str) -> None:
    """A sentence over as many lines as the sidebar's width asks for."""
    region = context.region
    width = region.width if region is not None else 300
    letters = max(16, int(width / (_CHARACTER * context.preferences.system.ui_scale)) - 6)
    column = layout.column(align=True)
    for number, line in enumerate(textwrap.wrap(text, letters)):
        column.label(text=line, icon=icon if number == 0 else "BLANK1")


CLASSES = (TRACKSHADE_PT_shade, TRACKSHADE_PT_more)
