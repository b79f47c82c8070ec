# SPDX-License-Identifier: GPL-3.0-or-later
"""The buttons Shade and Render Control: begin a job, and hold all windows' input for as long as it captures."""

# No postponed annotations here: Blender reads the properties from them.
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import bpy

from trackshade.client.job_run import PAUSE
from trackshade.client.progress import Progress
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import CancelledError, TrackshadeError

from .. import backend
from ..capture.request import ShotRequest
from ..jobs.job import Job
from ..jobs.session import current
from ..messages import texts
from ..messages.texts import tr
from . import jobs_list
from .drawing import CATEGORY, redraw, redraw_settled

STEP = 0.001  # seconds between two captured frames: just long enough for Blender to look at its input
LOOK = 0.1  # seconds between two looks of the other windows whether the capture is over
_POINTER = {"LEFTMOUSE", "MOUSEMOVE", "INBETWEEN_MOUSEMOVE"}


def _hold_window() -> None:
    bpy.ops.trackshade.hold("INVOKE_DEFAULT")


class InputHold:
    """What the windows show and do while frames are stepped through; outlives an operator that Blender ends.

    Args:
        hold_window: Holds the input of the context's window.
    """

    def __init__(self, hold_window: Callable[[], None] = _hold_window) -> None:
        self._hold_window = hold_window
        self._timer: bpy.types.Timer | None = None
        self._others: list[bpy.types.Timer] = []
        self._workspace = ""

    def take(self, context: bpy.types.Context) -> None:
        self.let_go()
        self._timer = context.window_manager.event_timer_add(STEP, window=context.window)
        self._workspace = context.workspace.name
        context.window_manager.progress_begin(0, 1)
        for window in context.window_manager.windows:
            if window != context.window and not _is_held(window):
                with context.temp_override(window=window):
                    self._hold_window()

    def take_other(self, context: bpy.types.Context) -> bpy.types.Timer:
        timer = context.window_manager.event_timer_add(LOOK, window=context.window)
        self._others.append(timer)
        return timer

    def let_go_other(self, timer: bpy.types.Timer) -> None:
        if timer in self._others:
            self._others.remove(timer)
            bpy.context.window_manager.event_timer_remove(timer)

    def show(self, progress: Progress) -> None:
        if progress.steps:
            bpy.context.window_manager.progress_update((progress.step or 0) / progress.steps)
        self._status(tr("Trackshade: {state}   Esc: cancel", state=texts.headline(progress)))
        redraw()

    def let_go(self) -> None:
        if self._timer is not None:
            timer, self._timer = self._timer, None
            bpy.context.window_manager.event_timer_remove(timer)
            bpy.context.window_manager.progress_end()
            self._status(None)
            redraw_settled()

    def close(self) -> None:
        """The add-on is about to be disabled."""
        self.let_go()
        for timer in list(self._others):
            self.let_go_other(timer)

    def _status(self, text: str | None) -> None:
        workspace = bpy.data.workspaces.get(self._workspace)
        if workspace is not None:
            workspace.status_text_set(text)


hold = InputHold()


class _Begins:
    """An operator that begins a job."""

    poll_message_set: Any
    report: Any
    bl_options = {"REGISTER"}  # noqa: RUF012 - as Blender wants it

    _job: Job | None = None

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not jobs_list.is_free(cls):
            return False
        if bpy.app.is_job_running("RENDER"):
            cls.poll_message_set("Blender is rendering")
            return False
        scene = context.scene
        if not (scene.camera or scene.trackshade.camera or any(marker.camera for marker in scene.timeline_markers)):
            cls.poll_message_set("The scene has no camera")
            return False
        refusal = backend.unavailable_error()
        if refusal is not None:
            cls.poll_message_set(texts.told(refusal))
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        """The whole job at once, for scripts; Blender waits."""
        job = self._begin(context)
        if job is None:
            return {"CANCELLED"}
        while job.runs:
            current().advance(job)
            if job.progress is not None and job.progress.waits:
                time.sleep(PAUSE)
        return self._told(job)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        self._job = self._begin(context)
        if self._job is None:
            return {"CANCELLED"}
        hold.take(context)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """One frame at each tick; the scene is not to be touched until all are captured, so events end here."""
        job = self._job
        assert job is not None
        if event.type == "TIMER":
            current().advance(job)
            if job.progress is not None:
                hold.show(job.progress)
        held = holds(context, event)
        if held is not None:
            return held
        hold.let_go()
        if job.runs:
            current().follow()
            return {"FINISHED"}
        return self._told(job)

    def cancel(self, context: bpy.types.Context) -> None:
        """Blender ends the operator, as when its window is closed."""
        if self._job is not None:
            current().cancel(only=self._job)
        hold.let_go()

    def begun(self, context: bpy.types.Context) -> Job:
        """The job. Raises TrackshadeError."""
        raise AssertionError("each operator begins its own")

    def _begin(self, context: bpy.types.Context) -> Job | None:
        try:
            job = self.begun(context)
        except TrackshadeError as error:
            self.report({"ERROR"}, texts.told(error))
            return None
        return job

    def _told(self, job: Job) -> set[str]:
        redraw_settled()
        if job.error is not None:
            self.report({"INFO" if isinstance(job.error, CancelledError) else "ERROR"}, texts.told(job.error))
            return {"CANCELLED"}
        return {"FINISHED"}


class TRACKSHADE_OT_hold(bpy.types.Operator):
    """Hold one more window's input for as long as the scene's frames are stepped through"""

    bl_idname = "trackshade.hold"
    bl_label = "Hold Window"
    bl_options = {"INTERNAL"}  # noqa: RUF012 - as Blender wants it

    _timer: bpy.types.Timer | None = None

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        self._timer = hold.take_other(context)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        held = holds(context, event)
        if held is not None:
            return held
        self.cancel(context)
        return {"FINISHED", "PASS_THROUGH"}

    def cancel(self, context: bpy.types.Context) -> None:
        """Its window is closed."""
        if self._timer is not None:
            hold.let_go_other(self._timer)


class TRACKSHADE_OT_shade(_Begins, bpy.types.Operator):
    """Capture the scene's frames, have them shaded, and place the result before the camera. You can go on working
    as soon as the frames are captured, and queue more jobs
    """

    bl_idname = "trackshade.shade"
    bl_label = "Shade"

    redo: bpy.props.StringProperty(
        name="Redo", description="Job to do again, with its settings and its seed", options={"HIDDEN", "SKIP_SAVE"}
    )

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        if properties.redo:
            return tr("Capture the scene as it is now and shade it with this job's settings and seed")
        return ""

    def begun(self, context: bpy.types.Context) -> Job:
        own = context.scene.trackshade
        before = current().find(self.redo)
        if before is not None:
            return current().begin(
                before.scene.find() or context.scene, before.request, before.settings, before.placement
            )
        own.new_seed()
        return current().begin(context.scene, own.what(context.view_layer.name), own.settings(), own.placing())


class TRACKSHADE_OT_control(_Begins, bpy.types.Operator):
    """Make the tracking video as a model would be sent it, and place it like a result. Needs no model"""

    bl_idname = "trackshade.control"
    bl_label = "Render Control"

    def begun(self, context: bpy.types.Context) -> Job:
        own = context.scene.trackshade
        what: ShotRequest = replace(own.what(context.view_layer.name), first_frame="none")
        settings = ShadeSettings(model=what.model, output="tracking")
        return current().begin(context.scene, what, settings, own.placing())


def holds(context: bpy.types.Context, event: bpy.types.Event) -> set[str] | None:
    """What becomes of an event while the scene's frames are stepped through: Esc ends that, and only the panel goes on,
    where nothing but a job's cancel button is enabled. None where the scene is free again.
    """
    session = current()
    if event.type == "ESC" and event.value == "PRESS":
        session.end_stepping()
        if session.capturing is not None:
            session.cancel(only=session.capturing)
    if not session.holds_scene:
        return None
    return {"PASS_THROUGH"} if event.type in _POINTER and _over_panel(context, event) else {"RUNNING_MODAL"}


def _is_held(window: bpy.types.Window) -> bool:
    return any(item.bl_idname == TRACKSHADE_OT_hold.__name__ for item in window.modal_operators)


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


CLASSES = (TRACKSHADE_OT_shade, TRACKSHADE_OT_control, TRACKSHADE_OT_hold)
