# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators: thin, the work is the session's."""

from __future__ import annotations

import time

import bpy

from trackshade.errors import Cancelled, TrackshadeError

from ..job import PAUSE, Progress
from .session import Session, current, redraw

STEP = 0.001  # seconds between two captured frames: just long enough for Blender to look at its input
CATEGORY = "Trackshade"  # of the sidebar's tab
_POINTER = {"LEFTMOUSE", "MOUSEMOVE", "INBETWEEN_MOUSEMOVE"}


class _Hold:
    """What the window shows and does during a capture; outlives an operator that Blender ends by itself."""

    def __init__(self) -> None:
        self._timer: bpy.types.Timer | None = None
        self._workspace = ""

    def take(self, context: bpy.types.Context) -> None:
        self.let_go()
        self._timer = context.window_manager.event_timer_add(STEP, window=context.window)
        self._workspace = context.workspace.name
        context.window_manager.progress_begin(0, 1)

    def show(self, progress: Progress) -> None:
        if progress.steps:
            bpy.context.window_manager.progress_update((progress.step or 0) / progress.steps)
        self._status(f"Trackshade: {progress}   Esc: cancel")
        redraw()

    def let_go(self) -> None:
        if self._timer is not None:
            timer, self._timer = self._timer, None
            bpy.context.window_manager.event_timer_remove(timer)
            bpy.context.window_manager.progress_end()
            self._status(None)
            redraw()

    def _status(self, text: str | None) -> None:
        workspace = bpy.data.workspaces.get(self._workspace)
        if workspace is not None:
            workspace.status_text_set(text)


hold = _Hold()


class TRACKSHADE_OT_shade(bpy.types.Operator):
    """Capture the scene's frames, have them shaded, and place the result before the camera"""

    bl_idname = "trackshade.shade"
    bl_label = "Shade"
    bl_options = {"REGISTER"}  # noqa: RUF012 - as Blender wants it

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if current().busy:
            cls.poll_message_set("A job is running")
            return False
        if bpy.app.is_job_running("RENDER"):
            cls.poll_message_set("Blender is rendering")
            return False
        scene = context.scene
        if scene.camera is None and not any(marker.camera for marker in scene.timeline_markers):
            cls.poll_message_set("The scene has no camera")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        """The whole job at once, for scripts; Blender waits."""
        if not self._begin(context):
            return {"CANCELLED"}
        session = current()
        while session.busy:
            session.advance()
            if session.progress is not None and session.progress.waits:
                time.sleep(PAUSE)
        return self._told(session)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if not self._begin(context):
            return {"CANCELLED"}
        hold.take(context)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """One frame at each tick; the scene is not to be touched until all are captured, so events end here."""
        session = current()
        if event.type == "ESC" and event.value == "PRESS":
            session.cancel()
        elif event.type == "TIMER":
            session.advance()
            if session.progress is not None:
                hold.show(session.progress)
        if session.busy and session.holds_scene:
            # Only the panel goes on, where nothing but its cancel button is enabled.
            return {"PASS_THROUGH"} if event.type in _POINTER and _over_panel(context, event) else {"RUNNING_MODAL"}
        hold.let_go()
        if session.busy:
            session.follow()
            return {"FINISHED"}
        return self._told(session)

    def cancel(self, context: bpy.types.Context) -> None:
        """Blender ends the operator, as when its window is closed."""
        current().cancel()
        hold.let_go()

    def _begin(self, context: bpy.types.Context) -> bool:
        own = context.scene.trackshade
        try:
            current().begin(context.scene, own.what(context.view_layer.name), own.settings())
        except TrackshadeError as error:
            self.report({"ERROR"}, str(error))
            return False
        return True

    def _told(self, session: Session) -> set[str]:
        if session.error is not None:
            self.report({"INFO" if isinstance(session.error, Cancelled) else "ERROR"}, str(session.error))
            return {"CANCELLED"}
        return {"FINISHED"}


class TRACKSHADE_OT_cancel(bpy.types.Operator):
    """Cancel the running job"""

    bl_idname = "trackshade.cancel"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return current().busy

    def execute(self, context: bpy.types.Context) -> set[str]:
        current().cancel()
        redraw()
        return {"FINISHED"}


def _over_panel(context: bpy.types.Context, event: bpy.types.Event) -> bool:
    """Whether the mouse is over a sidebar that shows the panel."""
    for area in context.screen.areas if context.screen is not None else ():
        for region in area.regions:
            if (
                area.type == "VIEW_3D"
                and region.type == "UI"
                and region.active_panel_category == CATEGORY
                and 0 <= event.mouse_x - region.x < region.width
                and 0 <= event.mouse_y - region.y < region.height
            ):
                return True
    return False


CLASSES = (TRACKSHADE_OT_shade, TRACKSHADE_OT_cancel)
