# SPDX-License-Identifier: GPL-3.0-or-later
"""The Shade button: begins a job, and holds the window's input for as long as its frames are captured."""

# No postponed annotations here: Blender reads the properties from them.
import time

import bpy

from trackshade.errors import Cancelled, TrackshadeError

from ..job import PAUSE, Progress
from . import jobs_list, words
from .drawing import CATEGORY, redraw
from .jobs import Job
from .session import current
from .words import tr

STEP = 0.001  # seconds between two captured frames: just long enough for Blender to look at its input
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
        self._status(tr("Trackshade: {state}   Esc: cancel", state=words.headline(progress)))
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
    """Capture the scene's frames, have them shaded, and place the result before the camera. You can go on working
    as soon as the frames are captured, and queue more jobs"""

    bl_idname = "trackshade.shade"
    bl_label = "Shade"
    bl_options = {"REGISTER"}  # noqa: RUF012 - as Blender wants it

    redo: bpy.props.StringProperty(
        name="Redo", description="Job to do again, with its settings and its seed", options={"HIDDEN", "SKIP_SAVE"}
    )

    _job: Job | None = None

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if current().holds_scene:
            cls.poll_message_set("The scene is being captured")
            return False
        if bpy.app.is_job_running("RENDER"):
            cls.poll_message_set("Blender is rendering")
            return False
        scene = context.scene
        if not (scene.camera or scene.trackshade.camera or any(marker.camera for marker in scene.timeline_markers)):
            cls.poll_message_set("The scene has no camera")
            return False
        return True

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        if properties.redo:
            return tr("Capture the scene as it is now and shade it with this job's settings and seed")
        return ""

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
        if event.type == "ESC" and event.value == "PRESS":
            current().end(job)
        elif event.type == "TIMER":
            current().advance(job)
            if job.progress is not None:
                hold.show(job.progress)
        if job.holds_scene:
            # Only the panel goes on, where nothing but its cancel button is enabled.
            return {"PASS_THROUGH"} if event.type in _POINTER and _over_panel(context, event) else {"RUNNING_MODAL"}
        hold.let_go()
        if job.runs:
            current().follow()
            return {"FINISHED"}
        return self._told(job)

    def cancel(self, context: bpy.types.Context) -> None:
        """Blender ends the operator, as when its window is closed."""
        if self._job is not None:
            current().end(self._job)
        hold.let_go()

    def _begin(self, context: bpy.types.Context) -> Job | None:
        own = context.scene.trackshade
        try:
            before = current().find(self.redo)
            if before is not None:
                scene = before.home.scene() or context.scene
                job = current().begin(scene, before.what, before.settings, before.placing)
            else:
                own.new_seed()
                what = own.what(context.view_layer.name)
                job = current().begin(context.scene, what, own.settings(), own.placing())
        except TrackshadeError as error:
            self.report({"ERROR"}, words.told(error))
            return None
        jobs_list.keep_listed()
        jobs_list.mirror(choose_newest=True)
        return job

    def _told(self, job: Job) -> set[str]:
        redraw()
        if job.error is not None:
            self.report({"INFO" if isinstance(job.error, Cancelled) else "ERROR"}, words.told(job.error))
            return {"CANCELLED"}
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


CLASSES = (TRACKSHADE_OT_shade,)
