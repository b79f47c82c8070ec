# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators: thin, the work is the session's."""

from __future__ import annotations

import time

import bpy

from trackshade.errors import Cancelled, TrackshadeError

from ..job import PAUSE
from .session import Session, current, redraw

STEP = 0.001  # seconds between two captured frames: just long enough for Blender to look at its input


class TRACKSHADE_OT_shade(bpy.types.Operator):
    """Capture the scene's frames, have them shaded, and place the result before the camera"""

    bl_idname = "trackshade.shade"
    bl_label = "Shade"
    bl_options = {"REGISTER"}  # noqa: RUF012 - as Blender wants it

    _timer: bpy.types.Timer | None = None

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if current().busy:
            cls.poll_message_set("A job is running")
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
        manager = context.window_manager
        self._timer = manager.event_timer_add(STEP, window=context.window)
        manager.progress_begin(0, 1)
        manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """One frame at each tick; the scene is not to be touched until all are captured, so all events end here."""
        session = current()
        if event.type == "ESC" and event.value == "PRESS":
            session.cancel()
        elif event.type == "TIMER":
            session.advance()
            progress = session.progress
            if progress is not None and progress.steps:
                context.window_manager.progress_update((progress.step or 0) / progress.steps)
            context.workspace.status_text_set(f"Trackshade: {progress}   Esc: cancel" if progress else None)
            redraw()
        if session.busy and session.holds_scene:
            return {"RUNNING_MODAL"}
        self._let_go(context)
        if session.busy:
            session.follow()
            return {"FINISHED"}
        return self._told(session)

    def cancel(self, context: bpy.types.Context) -> None:
        """Blender ends the operator, as when another file is opened."""
        current().cancel()
        self._let_go(context)

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

    def _let_go(self, context: bpy.types.Context) -> None:
        if self._timer is not None:
            context.window_manager.event_timer_remove(self._timer)
            self._timer = None
            context.window_manager.progress_end()
            context.workspace.status_text_set(None)
        redraw()


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


CLASSES = (TRACKSHADE_OT_shade, TRACKSHADE_OT_cancel)
