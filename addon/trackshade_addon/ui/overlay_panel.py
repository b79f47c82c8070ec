# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of the tracking colors, in the sidebar and among the overlays of the 3D viewport."""

from __future__ import annotations

from collections.abc import Generator

import bpy

from ..capture.stepping import Steps
from ..jobs.session import current
from ..messages.texts import error_text, tr
from ..overlay.watch import SLOW_SECONDS, OverlayState, watcher
from ..redraw import redraw_views
from .drawing import SubPanel, draw_text, split_properties
from .modal import SteppedOperator
from .operators import draw_job_button

_MAX_NAMES = 3


class TRACKSHADE_OT_update_overlay(SteppedOperator, bpy.types.Operator):
    """Read the first frame of the shot again for the tracking colors"""

    bl_idname = "trackshade.update_overlay"
    bl_label = "Update"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return not current().holds_scene

    def steps(self, context: bpy.types.Context) -> Generator[Steps, None, OverlayState]:
        return watcher.update_steps(context.scene, context.view_layer)

    def finish(self, context: bpy.types.Context, result: OverlayState) -> set[str]:
        redraw_views()
        return {"FINISHED"}


class TRACKSHADE_PT_control(SubPanel, bpy.types.Panel):
    """Tracking colors and tracking video."""

    bl_label = "Tracking Colors"
    bl_order = 30

    def draw_header(self, context: bpy.types.Context) -> None:
        self.layout.prop(context.scene.trackshade_overlay, "show", text="")

    def draw(self, context: bpy.types.Context) -> None:
        _draw_settings(self.layout, context)
        draw_job_button(self.layout.row(), "trackshade.control")


class TRACKSHADE_PT_overlay(bpy.types.Panel):
    """Tracking colors among the overlays of the viewport."""

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
    settings = context.scene.trackshade_overlay
    column = split_properties(layout.column())
    column.active = settings.show
    column.prop(settings, "opacity", slider=True)
    column.prop(settings, "background")
    if settings.show:
        _draw_state(layout, context)


def _draw_state(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Draw how the overlay differs from what a job would send."""
    state = watcher.get(context.scene, context.view_layer)
    if state is None:
        layout.label(text="Reading the first frame", icon="SORTTIME")
        return
    if state.error is not None:
        draw_text(layout, context, error_text(state.error), "ERROR")
    elif state.overlay is not None:
        tracker = state.overlay.tracker
        for names, text in (
            (tracker.reference.hidden, "Part of the shot, but hidden in the viewport: {names}"),
            (tracker.reference.late, "Not visible in the first frame, so colors may differ slightly: {names}"),
            (tracker.skipped, "Hidden during playback, since the vertices change in each frame: {names}"),
        ):
            if names:
                more = f" (+{len(names) - _MAX_NAMES})" if len(names) > _MAX_NAMES else ""
                draw_text(layout, context, tr(text, names=", ".join(list(names)[:_MAX_NAMES]) + more), "INFO")
    if state.is_outdated and state.seconds > SLOW_SECONDS:
        is_read = state.overlay is not None or state.error is not None
        text = "The scene has changed" if is_read else "A simulation must be stepped to the first frame"
        draw_text(layout, context, tr(text), "INFO")
        layout.operator("trackshade.update_overlay", icon="FILE_REFRESH")
