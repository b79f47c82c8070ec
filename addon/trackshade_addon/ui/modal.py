# SPDX-License-Identifier: GPL-3.0-or-later
"""Locking the input of Blender's windows while frames of the scene are stepped, which Esc cancels."""

# No postponed annotations here: Blender reads properties of subclasses from them.
import time
from collections.abc import Callable, Generator
from typing import Any

import bpy

from trackshade.client.progress import Progress
from trackshade.core.errors import TrackshadeError

from ..capture.stepping import Steps, finish
from ..jobs.composer import stepping_progress
from ..jobs.session import current
from ..lifting import run as lift_run
from ..messages import texts
from ..messages.texts import tr
from ..redraw import redraw_progress, redraw_settled
from .drawing import CATEGORY, report_error

CAPTURE_INTERVAL = 0.001  # seconds between two captured frames: just long enough for Blender to handle input
WINDOW_INTERVAL = 0.1  # seconds after which the other windows check whether the capture is over
IMMEDIATE_SECONDS = 0.3  # for which Blender waits before a stepped operator continues with a timer
STEP_SECONDS = 0.05  # of work before Blender handles input again
_POINTER_EVENTS = {"LEFTMOUSE", "MOUSEMOVE", "INBETWEEN_MOUSEMOVE"}


def _lock_context_window() -> None:
    bpy.ops.trackshade.hold("INVOKE_DEFAULT")


class InputLock:
    """Timers, progress and status text of the windows while frames are stepped; outlives an operator.

    Args:
        lock_window: Locks the input of the context's window.
    """

    def __init__(self, lock_window: Callable[[], None] = _lock_context_window) -> None:
        self._lock_window = lock_window
        self._timer: bpy.types.Timer | None = None
        self._window_timers: list[bpy.types.Timer] = []
        self._workspace = ""
        self._status: str | None = None  # text in the status bar

    def acquire(self, context: bpy.types.Context) -> None:
        """Start the timer of the operator's window, and lock the input of all others."""
        self.release()
        self._timer = context.window_manager.event_timer_add(CAPTURE_INTERVAL, window=context.window)
        self._workspace = context.workspace.name
        context.window_manager.progress_begin(0, 1)
        for window in context.window_manager.windows:
            if window != context.window and not _is_locked(window):
                with context.temp_override(window=window):
                    self._lock_window()

    def add_window(self, context: bpy.types.Context) -> bpy.types.Timer:
        """Start and return the timer of another window."""
        timer = context.window_manager.event_timer_add(WINDOW_INTERVAL, window=context.window)
        self._window_timers.append(timer)
        return timer

    def remove_window(self, timer: bpy.types.Timer) -> None:
        """End the timer of another window."""
        if timer in self._window_timers:
            self._window_timers.remove(timer)
            bpy.context.window_manager.event_timer_remove(timer)

    def show(self, progress: Progress) -> None:
        """Show progress at the mouse pointer and in the status bar."""
        if progress.steps:
            bpy.context.window_manager.progress_update((progress.step or 0) / progress.steps)
        status = tr("Trackshade: {state}   Esc: cancel", state=texts.progress_text(progress))
        if status != self._status:
            self._set_status(status)
        redraw_progress()

    def release(self) -> None:
        """End the operator's timer and restore the status bar."""
        if self._timer is not None:
            timer, self._timer = self._timer, None
            bpy.context.window_manager.event_timer_remove(timer)
            bpy.context.window_manager.progress_end()
            self._set_status(None)
            redraw_settled()

    def close(self) -> None:
        """End all timers, when the add-on is disabled."""
        self.release()
        for timer in list(self._window_timers):
            self.remove_window(timer)

    def _set_status(self, text: str | None) -> None:
        self._status = text
        workspace = bpy.data.workspaces.get(self._workspace)
        if workspace is not None:
            workspace.status_text_set(text)


input_lock = InputLock()


def handle_event(context: bpy.types.Context, event: bpy.types.Event) -> set[str] | None:
    """Handle an event while frames are stepped: Esc cancels, and only the panel gets input, for its cancel buttons.

    Returns:
        What the modal operator returns; None if no frames are stepped any more.
    """
    session = current()
    if event.type == "ESC" and event.value == "PRESS":
        session.end_stepping()
        if session.capturing is not None:
            session.cancel(only=session.capturing)
    if not session.holds_scene:
        return None
    return {"PASS_THROUGH"} if event.type in _POINTER_EVENTS and _is_over_panel(context, event) else {"RUNNING_MODAL"}


def is_scene_free(operator: type[bpy.types.Operator], context: bpy.types.Context | None = None) -> bool:
    """Return whether the scene may be changed, for `poll`: an undo step during a capture would keep a frame of it."""
    if current().holds_scene:
        operator.poll_message_set("The scene is being captured")
    return not current().holds_scene


def is_task_free(operator: type[bpy.types.Operator], context: bpy.types.Context | None = None) -> bool:
    """Return whether a photo, a video or an export may be begun, for `poll`: one at a time, not during a capture."""
    if not is_scene_free(operator):
        return False
    run = lift_run.current()
    if run is not None and run.progress is not None:
        operator.poll_message_set("Another photo, video or export is in progress")
        return False
    return True


class TRACKSHADE_OT_hold(bpy.types.Operator):
    """Lock the input of another window while frames of the scene are stepped"""

    bl_idname = "trackshade.hold"
    bl_label = "Lock Window"
    bl_options = {"INTERNAL"}  # noqa: RUF012 - as Blender requires it

    _timer: bpy.types.Timer | None = None

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        self._timer = input_lock.add_window(context)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        handled = handle_event(context, event)
        if handled is not None:
            return handled
        self.cancel(context)
        return {"FINISHED", "PASS_THROUGH"}

    def cancel(self, context: bpy.types.Context) -> None:
        if self._timer is not None:
            input_lock.remove_window(self._timer)


class SteppedOperator:
    """An operator that goes to frames of the scene, and shows progress if simulations have to be stepped."""

    _steps: Generator[Steps, None, Any] | None = None
    _stepped: Steps = (0, 1)

    def steps(self, context: bpy.types.Context) -> Generator[Steps, None, Any]:
        """Do the work in steps, and restore the scene at its end and on `close`. May raise TrackshadeError."""
        raise NotImplementedError

    def finish(self, context: bpy.types.Context, result: Any) -> set[str]:
        """Use the result of `steps`, and return what the operator returns."""
        raise NotImplementedError

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Do all at once, for scripts; Blender waits."""
        try:
            return self.finish(context, finish(self.steps(context)))
        except TrackshadeError as error:
            return report_error(self, error)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        self._steps = self.steps(context)
        returned = self._advance(context, IMMEDIATE_SECONDS)
        if returned is not None:
            return returned
        current().begin_stepping(self._steps)
        input_lock.acquire(context)
        input_lock.show(stepping_progress(self._stepped))
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Step a few frames with each timer event; the scene cannot be used until all are done."""
        handled = handle_event(context, event)
        if handled is None:  # Esc was pressed, in this window or another one
            input_lock.release()
            return {"CANCELLED"}
        if event.type != "TIMER":
            return handled
        returned = self._advance(context, STEP_SECONDS)
        if returned is None:
            input_lock.show(stepping_progress(self._stepped))
            return handled
        self.cancel(context)
        return returned

    def cancel(self, context: bpy.types.Context) -> None:
        """Clean up at the end, or when Blender ends the operator because its window is closed."""
        current().end_stepping()
        input_lock.release()

    def _advance(self, context: bpy.types.Context, seconds: float) -> set[str] | None:
        """Work for a while; return what the operator returns, or None where there is more to do."""
        assert self._steps is not None
        until = time.monotonic() + seconds
        try:
            while True:
                try:
                    self._stepped = next(self._steps)
                except StopIteration as stop:
                    return self.finish(context, stop.value)
                if time.monotonic() > until:
                    return None
        except TrackshadeError as error:
            return report_error(self, error)


def _is_locked(window: bpy.types.Window) -> bool:
    return any(item.bl_idname == TRACKSHADE_OT_hold.__name__ for item in window.modal_operators)


def _is_over_panel(context: bpy.types.Context, event: bpy.types.Event) -> bool:
    """Return whether the mouse is over a sidebar that shows the panel."""
    areas = context.screen.areas if context.screen is not None else ()
    return any(
        region.type == "UI"
        and region.active_panel_category == CATEGORY
        and 0 <= event.mouse_x - region.x < region.width
        and 0 <= event.mouse_y - region.y < region.height
        for area in areas
        if area.type == "VIEW_3D"
        for region in area.regions
    )
