# SPDX-License-Identifier: GPL-3.0-or-later
"""The buttons Shade and Render Tracking Video, which start a job."""

# No postponed annotations here: Blender reads the properties from them.
import time
from dataclasses import replace
from typing import Any

import bpy

from trackshade.client.job_run import PAUSE
from trackshade.core.errors import TrackshadeError
from trackshade.shot.input_image import find_sample

from .. import backend
from ..jobs.job import Job
from ..jobs.key_pictures import open_painted
from ..jobs.session import current
from ..messages import texts
from ..messages.texts import tr
from ..properties.placement_options import PlacementOptions
from ..redraw import redraw_settled
from .drawing import report_error
from .modal import handle_event, input_lock, is_scene_free


class _JobOperator:
    """An operator that starts a job, and captures its frames while the input of all windows is locked."""

    poll_message_set: Any
    bl_options = {"REGISTER"}  # noqa: RUF012 - as Blender requires it

    _job: Job | None = None

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not is_scene_free(cls):
            return False
        if bpy.app.is_job_running("RENDER"):
            cls.poll_message_set("Blender is rendering")
            return False
        scene = context.scene
        if not (scene.camera or scene.trackshade.camera or any(marker.camera for marker in scene.timeline_markers)):
            cls.poll_message_set("The scene has no camera")
            return False
        error = backend.manager.unavailable_error()
        if error is not None:
            cls.poll_message_set(texts.error_text(error))
            return False
        return True

    def begin(self, context: bpy.types.Context) -> Job:
        """Start and return the job. May raise TrackshadeError."""
        raise NotImplementedError

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Do the whole job at once, for scripts; Blender waits."""
        try:
            job = self.begin(context)
        except TrackshadeError as error:
            return report_error(self, error)
        while job.runs:
            current().advance(job)
            if job.progress is not None and job.progress.waits:
                time.sleep(PAUSE)
        return self._finish(job)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        try:
            self._job = self.begin(context)
        except TrackshadeError as error:
            return report_error(self, error)
        input_lock.acquire(context)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Capture a frame with each timer event; the scene cannot be used until all are captured."""
        job = self._job
        assert job is not None
        if event.type == "TIMER":
            current().advance(job)
            if job.progress is not None:
                input_lock.show(job.progress)
        handled = handle_event(context, event)
        if handled is not None:
            return handled
        input_lock.release()
        if job.runs:
            current().follow()
            return {"FINISHED"}
        return self._finish(job)

    def cancel(self, context: bpy.types.Context) -> None:
        """Cancel the job when Blender ends the operator because its window is closed."""
        if self._job is not None:
            current().cancel(only=self._job)
        input_lock.release()

    def _finish(self, job: Job) -> set[str]:
        redraw_settled()
        return {"FINISHED"} if job.error is None else report_error(self, job.error)


class TRACKSHADE_OT_shade(_JobOperator, bpy.types.Operator):
    """Capture and shade the shot, and place the result. You can continue to work once all frames are captured"""

    bl_idname = "trackshade.shade"
    bl_label = "Shade"

    redo: bpy.props.StringProperty(
        name="Repeat", description="Job to repeat with its settings and seed", options={"HIDDEN", "SKIP_SAVE"}
    )

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        if properties.redo:
            return tr("Capture the scene as it is now and shade it with the settings and seed of this job")
        return ""

    def begin(self, context: bpy.types.Context) -> Job:
        settings, session = context.scene.trackshade, current()
        earlier = session.find(self.redo)
        if earlier is not None:
            scene = earlier.scene.find() or context.scene
            return session.begin(scene, earlier.request, earlier.settings, earlier.placement)
        settings.randomize_seed()
        request = settings.shot_request(context.view_layer.name)
        return session.begin(context.scene, request, settings.shade_settings(), settings.placement_options())


class TRACKSHADE_OT_control(_JobOperator, bpy.types.Operator):
    """Render the tracking video that controls the model, and place it like a result. It needs no model"""

    bl_idname = "trackshade.control"
    bl_label = "Render Tracking Video"

    def begin(self, context: bpy.types.Context) -> Job:
        settings = context.scene.trackshade
        request = replace(settings.shot_request(context.view_layer.name), first_frame="none", light="none")
        shade_settings = replace(settings.shade_settings(), output="tracking")
        return current().begin(context.scene, request, shade_settings, settings.placement_options())


class TRACKSHADE_OT_paint_stills(_JobOperator, bpy.types.Operator):
    """Have the image model paint stills of the first frame, to choose a look from before all frames are made"""

    bl_idname = "trackshade.paint_stills"
    bl_label = "Paint Stills"

    def begin(self, context: bpy.types.Context) -> Job:
        settings = context.scene.trackshade
        request = replace(settings.shot_request(context.view_layer.name).through_one_camera(), light="none")
        shade_settings = replace(settings.shade_settings(), output="stills", stills=settings.stills)
        return current().begin(context.scene, request, shade_settings, PlacementOptions(None))


class TRACKSHADE_OT_key_export(_JobOperator, bpy.types.Operator):
    """Write what the key pictures show of the current frame so far, and open it as a key picture to paint on"""

    bl_idname = "trackshade.key_export"
    bl_label = "Paint This Frame"

    def begin(self, context: bpy.types.Context) -> Job:
        scene, settings = context.scene, context.scene.trackshade
        request = settings.shot_request(context.view_layer.name).through_one_camera()
        frame = float(scene.frame_current)
        find_sample(request.plan(scene)[0].frame_numbers, frame)
        shade_settings = replace(settings.shade_settings(), output="key", key_frames=(frame,))
        return current().begin(scene, request, shade_settings, PlacementOptions(mode=None))

    def _finish(self, job: Job) -> set[str]:
        open_painted()
        return super()._finish(job)


def draw_job_button(layout: bpy.types.UILayout, operator: str, icon: str = "RENDER_ANIMATION") -> None:
    """Draw a button that starts a job, or a label during a capture: a button would stay gray under the mouse."""
    if current().holds_scene:
        layout.alignment = "CENTER"
        layout.label(text="The scene is being captured", icon="SORTTIME")
    else:
        layout.operator(operator, icon=icon)
