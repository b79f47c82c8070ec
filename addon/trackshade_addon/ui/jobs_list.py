# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of jobs in the sidebar, and operators on jobs and their results.

Blender's list needs a collection property. It holds only the identifiers of the session's jobs, and is written outside
of drawing; what a row shows comes from the session.
"""

# No postponed annotations here: Blender reads the properties from them.
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

from trackshade.core.errors import TrackshadeError

from ..capture import PLATE_KEY
from ..jobs import history
from ..jobs.job import Job, SceneReference
from ..jobs.session import Change, current
from ..messages import texts
from ..messages.texts import tr
from ..messages.translations import CONTEXT
from ..placement import place, remove_result, remove_textures
from ..redraw import redraw_progress, redraw_settled
from .drawing import ActionOperator, SidebarPanel, action, draw_text, report_error, tr_count
from .jobs_thumbnails import thumbnails
from .modal import is_scene_free

_ICONS = {"done": "CHECKMARK", "failed": "ERROR", "cancelled": "CANCEL", "running": "RENDER_ANIMATION"}


class TrackshadeJobItem(bpy.types.PropertyGroup):
    """A row; its name is the identifier of the job."""


class TrackshadeJobs(bpy.types.PropertyGroup):
    """The rows, and which of them is active."""

    items: bpy.props.CollectionProperty(type=TrackshadeJobItem)
    active: bpy.props.IntProperty(name="Job", description="Job that the buttons below apply to")


def update_list(select_newest: bool = False) -> None:
    """Make the list the jobs of the session, newest first. Must not be called while drawing."""
    uids = [job.uid for job in reversed(current().jobs)]
    thumbnails.keep(set(uids))
    for manager in bpy.data.window_managers:
        jobs = manager.trackshade
        if [item.name for item in jobs.items] != uids:
            active = jobs.items[jobs.active].name if jobs.active < len(jobs.items) else ""
            jobs.items.clear()
            for uid in uids:
                jobs.items.add().name = uid
            jobs.active = uids.index(active) if active in uids else 0
        if select_newest:
            jobs.active = 0


def active_job(context: bpy.types.Context) -> Job | None:
    """Return the job that is active in the list."""
    jobs = context.window_manager.trackshade
    return current().find(jobs.items[jobs.active].name) if jobs.active < len(jobs.items) else None


def _on_change(change: Change) -> None:
    if change in (Change.ADDED, Change.REMOVED, Change.RESTORED):
        update_list(select_newest=change is Change.ADDED)
    elif change is Change.ADVANCED:
        redraw_progress()
    else:
        redraw_settled()


@bpy.app.handlers.persistent
def _on_load(*_: object) -> None:
    """Update the list, since another file has other window managers, without rows, and list the file's results."""
    update_list()
    history.restore()


class TRACKSHADE_UL_jobs(bpy.types.UIList):
    """List of jobs."""

    def draw_item(
        self, context: bpy.types.Context, layout: bpy.types.UILayout, data, item, icon, active_data, active_property
    ) -> None:
        job = current().find(item.name)
        if job is None:
            return
        row = layout.row(align=True)
        if job.progress is not None and job.progress.steps:
            row.progress(factor=job.factor, text=f"{job.title}  {job.factor:.0%}")
        else:
            title = f"{job.title} ({Path(job.scene.file).name})" if job.scene.is_elsewhere else job.title
            row.label(text=title, icon=_ICONS.get(job.state, "SORTTIME"), translate=False)
        if job.runs:
            row.operator("trackshade.cancel", text="", icon="X", emboss=False).job = job.uid

    def filter_items(self, context: bpy.types.Context, data, name: str) -> tuple[list[int], list[int]]:
        """Search the titles that the rows show, not the names of the items."""
        wanted = self.filter_name.lower()
        titles = [job.title.lower() if (job := current().find(item.name)) else "" for item in getattr(data, name)]
        return [self.bitflag_filter_item if wanted in title else 0 for title in titles], []


class TRACKSHADE_PT_jobs(SidebarPanel, bpy.types.Panel):
    """Running and finished jobs."""

    bl_label = "Jobs"
    bl_parent_id = "TRACKSHADE_PT_shade"
    bl_order = 30

    def draw(self, context: bpy.types.Context) -> None:
        layout, jobs = self.layout, context.window_manager.trackshade
        if not jobs.items:
            layout.label(text="No jobs", icon="INFO")
        else:
            row = layout.row()
            row.template_list(TRACKSHADE_UL_jobs.__name__, "", jobs, "items", jobs, "active", rows=3, maxrows=6)
            side = row.column(align=True)
            side.operator("trackshade.remove_job", text="", icon="REMOVE")
            side.operator("trackshade.clear_jobs", text="", icon="TRASH")
            job = active_job(context)
            if job is not None:
                _draw_job(layout, context, job)
        layout.operator("trackshade.import_result", icon="FILE_FOLDER")


def _draw_job(layout: bpy.types.UILayout, context: bpy.types.Context, job: Job) -> None:
    icon = thumbnails.icon(job)
    if icon:
        layout.template_icon(icon_value=icon, scale=6.0)
    if job.progress is not None:
        draw_text(layout, context, texts.progress_text(job.progress, job.seconds_left()), "SORTTIME")
    elif job.error is not None:
        draw_text(layout, context, texts.error_text(job.error), _ICONS[job.state])
    elif job.result is not None:
        if job.result.seconds:  # not known of results that were made before
            draw_text(layout, context, tr("Done in {time}", time=texts.duration_text(job.result.seconds)), "CHECKMARK")
        for warning in job.result.warnings:
            draw_text(layout, context, warning, "INFO")
    model = tr("{model}, seed {seed}", model=job.settings.model, seed=job.settings.seed)
    draw_text(layout, context, model, "BLANK1")
    is_stills, is_motion = job.settings.output == "stills", job.settings.output == "motion"
    if is_stills and job.has_result:
        _draw_stills(layout, job)
    buttons = layout.column(align=True)
    row = buttons.row(align=True)
    if job.runs:
        row.operator("trackshade.cancel", icon="X").job = job.uid
    elif job.is_pending:
        row.operator("trackshade.follow_job", icon="PLAY").job = job.uid
    elif not is_motion:
        row.operator("trackshade.shade", text="Repeat", text_ctxt=CONTEXT, icon="FILE_REFRESH").redo = job.uid
    folder = row.row(align=True)
    folder.enabled = job.has_result
    folder.operator("trackshade.open_folder", icon="FOLDER_REDIRECT").job = job.uid
    column = buttons.column(align=True)  # no row: "Remove from Scene" would be cut off
    column.enabled = job.has_result and not is_stills
    column.operator("trackshade.place_again", icon="IMAGE_PLANE").job = job.uid
    column.operator("trackshade.take_out", icon="TRASH").job = job.uid
    if not is_motion:
        buttons.operator("trackshade.use_settings", icon="COPYDOWN").job = job.uid


def _draw_stills(layout: bpy.types.UILayout, job: Job) -> None:
    layout.label(text="Use as First Frame")
    grid = layout.grid_flow(columns=4, align=True)
    for number in range(1, job.settings.stills + 1):
        button = grid.operator("trackshade.use_still", text=str(number), translate=False)
        button.job, button.number = job.uid, number


class JobOperator:
    """An operator on one job, by default on the active one, by `act`, which may raise TrackshadeError."""

    job: bpy.props.StringProperty(name="Job", options={"HIDDEN", "SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return bool(current().jobs)

    act: Callable[..., set[str] | None]

    def execute(self, context: bpy.types.Context) -> set[str]:
        job = current().find(self.job) if self.job else active_job(context)
        try:
            return {"CANCELLED"} if job is None else self.act(context, job) or {"FINISHED"}
        except TrackshadeError as error:
            return report_error(self, error)


class SceneJobOperator(JobOperator):
    """An operator on one job that changes a scene."""

    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - as Blender requires it

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return bool(current().jobs) and is_scene_free(cls)


class TRACKSHADE_OT_cancel(JobOperator, bpy.types.Operator):
    """Cancel this job. The scene is restored, and partial results are removed"""

    bl_idname = "trackshade.cancel"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return current().busy

    def execute(self, context: bpy.types.Context) -> set[str]:
        job = current().find(self.job) if self.job else next((j for j in reversed(current().jobs) if j.runs), None)
        if job is not None:
            current().cancel(only=job)
        redraw_settled()
        return {"FINISHED"}


@action("Remove Job", JobOperator)
def remove_job(operator: JobOperator, context: bpy.types.Context, job: Job) -> None:
    """Remove this job from the list, and cancel it if it is running. The files of its result are kept"""
    current().remove(job)


@action("Continue", JobOperator)
def follow_job(operator: JobOperator, context: bpy.types.Context, job: Job) -> None:
    """Connect to the backend again, and wait for the result of this job"""
    if job.is_pending:
        current().follow_pending(job)


@classmethod
def _can_clear(cls: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    return any(not job.runs for job in current().jobs)


@action("Clear Finished Jobs", poll=_can_clear)
def clear_jobs(operator: ActionOperator, context: bpy.types.Context) -> None:
    """Remove all finished jobs from the list. The files of their results are kept"""
    current().remove(*(job for job in current().jobs if not job.runs))


@action("Open Folder", JobOperator)
def open_folder(operator: Any, context: bpy.types.Context, job: Job) -> set[str]:
    """Open the folder with the video, frames and record of this job"""
    if not job.out.is_dir():
        operator.report({"WARNING"}, tr("This job has no folder yet"))
        return {"CANCELLED"}
    return bpy.ops.wm.path_open(filepath=str(job.out))


@action("Place", SceneJobOperator)
def place_again(operator: Any, context: bpy.types.Context, job: Job) -> set[str] | None:
    """Place the result of this job with the current placement settings. It replaces the earlier placement"""
    if job.runs or not job.has_result or job.settings.output == "key":
        operator.report({"WARNING"}, tr("This job has no result to place"))
        return {"CANCELLED"}
    return place_result(operator, job.out, job.scene.find_or_raise(), job)


@action("Remove from Scene", SceneJobOperator)
def take_out(operator: SceneJobOperator, context: bpy.types.Context, job: Job) -> None:
    """Remove the result of this job from the scene: plate, background, nodes, strip and textures. Its files are kept"""
    remove_result(job.scene.find_or_raise(), job.out)


class TRACKSHADE_OT_use_still(SceneJobOperator, bpy.types.Operator):
    """Use this still as the first frame. All other frames follow it"""

    bl_idname = "trackshade.use_still"
    bl_label = "Use Still"

    number: bpy.props.IntProperty(name="Still", min=1, options={"HIDDEN", "SKIP_SAVE"})

    def act(self, context: bpy.types.Context, job: Job) -> set[str] | None:
        still = job.out / "stills" / f"{self.number:04d}.png"
        if not still.is_file():
            self.report({"WARNING"}, tr("This job has no such still"))
            return {"CANCELLED"}
        settings = context.scene.trackshade
        settings.first_frame, settings.picture, settings.image_model = "file", str(still), "none"
        return None


@action("Use Settings", SceneJobOperator)
def use_settings(operator: SceneJobOperator, context: bpy.types.Context, job: Job) -> None:
    """Use the settings of this job for the next one, including its seed, which is locked"""
    context.scene.trackshade.apply_job(job.request, job.settings)


@classmethod
def _can_restore(cls: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    if not any(PLATE_KEY in material for material in bpy.data.materials):
        cls.poll_message_set("No object shows a result")
        return False
    return is_scene_free(cls)


@action("Restore Materials", bl_options={"REGISTER", "UNDO"}, poll=_can_restore)
def restore_materials(operator: Any, context: bpy.types.Context) -> None:
    """Restore the materials that objects had before a result was placed on them"""
    count = remove_textures(context.scene, uv_maps=True)
    message = tr_count("Restored the materials of 1 object", "Restored the materials of {count} objects", count)
    operator.report({"INFO"}, message)


def place_result(
    operator: bpy.types.Operator, folder: Path, scene: bpy.types.Scene, job: Job | None = None
) -> set[str]:
    """Place a result as the scene's settings say, at once or, if that takes a while, as a job of the list.

    Args:
        operator: The operator that reports warnings.
        folder: Folder of the result.
        scene: The scene.
        job: The job that made it, if it is in the list.

    Raises:
        TrackshadeError: As raised by `place`.
    """
    options = scene.trackshade.placement_options()
    if job is not None and job.placement.mode == "armature":
        options = job.placement
    if options.bakes and not bpy.app.background:  # takes a while, so the list shows the progress
        current().place(scene, folder, options, job)
        current().follow()
        return {"FINISHED"}
    for warning in place(folder, scene, **options.arguments()).warnings:
        operator.report({"WARNING"}, warning)
    if job is not None:
        job.scene = SceneReference(scene)  # which may be another one by now
    return {"FINISHED"}


def attach() -> None:
    """Update the list whenever the session or the file changes."""
    bpy.app.handlers.load_post.append(_on_load)
    bpy.app.handlers.save_pre.append(history.on_save_pre)
    bpy.app.handlers.save_post.append(history.on_save_post)
    current().listeners.append(_on_change)
    bpy.app.timers.register(history.restore, first_interval=0.1)  # the file may be open already


def detach() -> None:
    """End the updates and remove the icons."""
    current().listeners.remove(_on_change)
    if bpy.app.timers.is_registered(history.restore):
        bpy.app.timers.unregister(history.restore)
    bpy.app.handlers.save_post.remove(history.on_save_post)
    bpy.app.handlers.save_pre.remove(history.on_save_pre)
    bpy.app.handlers.load_post.remove(_on_load)
    thumbnails.close()
