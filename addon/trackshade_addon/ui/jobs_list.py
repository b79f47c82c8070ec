# SPDX-License-Identifier: GPL-3.0-or-later
"""The jobs in the sidebar: the list, and what can be done with the one that is chosen.

Blender's list needs a collection of its own. It holds names only, mirrors the session's jobs, and is written outside
of drawing; what a row shows comes from the session.
"""

# No postponed annotations here: Blender reads the properties from them.
from pathlib import Path

import bpy

from trackshade.core.errors import CancelledError, TrackshadeError

from ..jobs.job import Job, SceneReference
from ..jobs.session import Change, current
from ..messages import texts
from ..messages.texts import tr
from ..messages.translations import CONTEXT
from ..placement import place
from .drawing import draw_text, redraw, redraw_settled
from .jobs_thumbnails import thumbnails
from .shared import AsksForFolder, InSidebar, begun

_ICONS = {"done": "CHECKMARK", "failed": "ERROR", "cancelled": "CANCEL", "running": "RENDER_ANIMATION"}


class TrackshadeJobItem(bpy.types.PropertyGroup):
    """A row; its name is the job's."""


class TrackshadeJobs(bpy.types.PropertyGroup):
    """The rows, and which of them is chosen."""

    items: bpy.props.CollectionProperty(type=TrackshadeJobItem)
    active: bpy.props.IntProperty(name="Job", description="The job that the buttons below are for", default=0)


def mirror(choose_newest: bool = False) -> None:
    """Makes the list what the session holds, newest first. Not to be called while drawing."""
    jobs = [job.uid for job in reversed(current().jobs)]
    thumbnails.forget(set(jobs))
    for manager in bpy.data.window_managers:
        own = manager.trackshade
        if [item.name for item in own.items] != jobs:
            before = own.items[own.active].name if own.active < len(own.items) else ""
            own.items.clear()
            for uid in jobs:
                own.items.add().name = uid
            own.active = jobs.index(before) if before in jobs else 0
        if choose_newest:
            own.active = 0


def chosen(context: bpy.types.Context) -> Job | None:
    """The job that is chosen in the list."""
    own = context.window_manager.trackshade
    return current().find(own.items[own.active].name) if own.active < len(own.items) else None


def show_change(change: Change) -> None:
    """Show what has changed in the session."""
    if change in (Change.ADDED, Change.REMOVED):
        mirror(choose_newest=change is Change.ADDED)
    elif change is Change.ADVANCED:
        redraw()
    else:
        redraw_settled()


@bpy.app.handlers.persistent
def reopened(*_: object) -> None:
    """Another file brings window managers of its own, without rows."""
    mirror()


class TRACKSHADE_UL_jobs(bpy.types.UIList):
    """A row: how the job is, and its end."""

    bl_idname = "TRACKSHADE_UL_jobs"

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
            row.label(text=job.title, icon=_ICONS.get(job.state, "SORTTIME"), translate=False)
        if job.runs:
            row.operator(TRACKSHADE_OT_cancel.bl_idname, text="", icon="X", emboss=False).job = job.uid

    def filter_items(self, context: bpy.types.Context, data, name: str) -> tuple[list[int], list[int]]:
        """Searches what the rows show, which is not their names."""
        wanted = self.filter_name.lower()
        titles = [job.title.lower() if (job := current().find(item.name)) else "" for item in getattr(data, name)]
        return [self.bitflag_filter_item if wanted in title else 0 for title in titles], []


class TRACKSHADE_PT_jobs(InSidebar, bpy.types.Panel):
    """What runs, what is done, and doing it again."""

    bl_idname = "TRACKSHADE_PT_jobs"
    bl_label = "Jobs"
    bl_parent_id = "TRACKSHADE_PT_shade"
    bl_order = 30

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        own = context.window_manager.trackshade
        if not own.items:
            layout.label(text="No job yet", icon="INFO")
        else:
            row = layout.row()
            row.template_list(TRACKSHADE_UL_jobs.bl_idname, "", own, "items", own, "active", rows=3, maxrows=6)
            side = row.column(align=True)
            side.operator(TRACKSHADE_OT_remove_job.bl_idname, text="", icon="REMOVE")
            side.operator(TRACKSHADE_OT_clear_jobs.bl_idname, text="", icon="TRASH")
            job = chosen(context)
            if job is not None:
                _draw_job(layout, context, job)
        layout.operator(TRACKSHADE_OT_place_folder.bl_idname, icon="FILE_FOLDER")


def _draw_job(layout: bpy.types.UILayout, context: bpy.types.Context, job: Job) -> None:
    icon = thumbnails.icon(job)
    if icon:
        layout.template_icon(icon_value=icon, scale=6.0)
    if job.progress is not None:
        draw_text(layout, context, texts.headline(job.progress, job.seconds_left()), "SORTTIME")
    elif job.error is not None:
        draw_text(layout, context, texts.told(job.error), _ICONS[job.state])
    elif job.result is not None:
        draw_text(layout, context, tr("Done in {time}", time=texts.duration(job.result.seconds)), "CHECKMARK")
        for warning in job.result.warnings:
            draw_text(layout, context, warning, "INFO")
    facts = tr("{model}, seed {seed}", model=job.settings.model, seed=job.settings.seed)
    draw_text(layout, context, facts, "BLANK1")
    buttons = layout.column(align=True)
    row = buttons.row(align=True)
    if job.runs:
        row.operator(TRACKSHADE_OT_cancel.bl_idname, icon="X").job = job.uid
    else:
        row.operator("trackshade.shade", text="Redo", text_ctxt=CONTEXT, icon="FILE_REFRESH").redo = job.uid
    folder = row.row(align=True)
    folder.enabled = job.has_result
    folder.operator(TRACKSHADE_OT_open_folder.bl_idname, icon="FOLDER_REDIRECT").job = job.uid
    row = buttons.row(align=True)
    row.enabled = job.has_result
    row.operator(TRACKSHADE_OT_place_again.bl_idname, icon="IMAGE_PLANE").job = job.uid
    row.operator("trackshade.take_out", icon="TRASH").job = job.uid
    row = buttons.row(align=True)
    row.operator(TRACKSHADE_OT_use_settings.bl_idname, icon="COPYDOWN").job = job.uid


class OfJob:
    """What the operators on one job share; without a name they mean the one that is chosen in the list."""

    job: bpy.props.StringProperty(name="Job", options={"HIDDEN", "SKIP_SAVE"})

    def found(self, context: bpy.types.Context) -> Job | None:
        return current().find(self.job) if self.job else chosen(context)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return bool(current().jobs)


def is_free(operator: type[bpy.types.Operator]) -> bool:
    """Whether the scene may be changed, for `poll`: a step of undo during a capture would keep a frame of that."""
    if current().holds_scene:
        operator.poll_message_set("The scene is being captured")
    return not current().holds_scene


class TRACKSHADE_OT_cancel(OfJob, bpy.types.Operator):
    """Stop this job. The scene is as it was, and nothing half done is left"""

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


class TRACKSHADE_OT_remove_job(OfJob, bpy.types.Operator):
    """Take this job off the list; if it still runs it is cancelled. The files of its result stay"""

    bl_idname = "trackshade.remove_job"
    bl_label = "Remove Job"

    def execute(self, context: bpy.types.Context) -> set[str]:
        job = self.found(context)
        if job is None:
            return {"CANCELLED"}
        current().remove(job)
        return {"FINISHED"}


class TRACKSHADE_OT_clear_jobs(bpy.types.Operator):
    """Take all jobs that are over off the list. The files of their results stay"""

    bl_idname = "trackshade.clear_jobs"
    bl_label = "Clear Finished Jobs"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return any(not job.runs for job in current().jobs)

    def execute(self, context: bpy.types.Context) -> set[str]:
        current().remove(*(job for job in current().jobs if not job.runs))
        return {"FINISHED"}


class TRACKSHADE_OT_open_folder(OfJob, bpy.types.Operator):
    """Show the folder with this job's video, frames and record"""

    bl_idname = "trackshade.open_folder"
    bl_label = "Folder"

    def execute(self, context: bpy.types.Context) -> set[str]:
        job = self.found(context)
        if job is None or not job.out.is_dir():
            self.report({"WARNING"}, tr("This job has no folder yet"))
            return {"CANCELLED"}
        return bpy.ops.wm.path_open(filepath=str(job.out))


class TRACKSHADE_OT_place_again(OfJob, bpy.types.Operator):
    """Place this job's result once more, in the place of the earlier plate, by the settings under Placing"""

    bl_idname = "trackshade.place_again"
    bl_label = "Place"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - as Blender wants it

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return bool(current().jobs) and is_free(cls)

    def execute(self, context: bpy.types.Context) -> set[str]:
        job = self.found(context)
        if job is None or job.runs or not job.has_result:
            self.report({"WARNING"}, tr("This job has no result to place"))
            return {"CANCELLED"}
        return _place(self, job.out, job.scene.find() or context.scene, job)


class TRACKSHADE_OT_place_folder(AsksForFolder, bpy.types.Operator):
    """Place a result that was made earlier, or at the command line: choose its folder"""

    bl_idname = "trackshade.place_folder"
    bl_label = "Place a Result"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - as Blender wants it

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return is_free(cls)

    def execute(self, context: bpy.types.Context) -> set[str]:
        return _place(self, Path(bpy.path.abspath(self.directory)), context.scene)


class TRACKSHADE_OT_use_settings(OfJob, bpy.types.Operator):
    """Set the panel to what this job was made with, its seed included and locked"""

    bl_idname = "trackshade.use_settings"
    bl_label = "Use Its Settings"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - as Blender wants it

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return bool(current().jobs) and is_free(cls)

    def execute(self, context: bpy.types.Context) -> set[str]:
        job = self.found(context)
        if job is None:
            return {"CANCELLED"}
        return begun(self, lambda: context.scene.trackshade.take(job.request, job.settings))


def _place(operator: bpy.types.Operator, folder: Path, scene: bpy.types.Scene, job: Job | None = None) -> set[str]:
    placing = scene.trackshade.placing()
    if placing.bakes and not bpy.app.background:  # which takes a while: the list shows how far it is
        current().place(scene, folder, placing, job)
        current().follow()
        return {"FINISHED"}
    try:
        for warning in place(folder, scene, **placing.arguments()).warnings:
            operator.report({"WARNING"}, warning)
    except TrackshadeError as error:
        operator.report({"INFO" if isinstance(error, CancelledError) else "ERROR"}, texts.told(error))
        return {"CANCELLED"}
    if job is not None:
        job.scene = SceneReference(scene)  # which may be another by now
    return {"FINISHED"}


def attach() -> None:
    """Adds the list to Blender, and keeps it what the session holds."""
    bpy.types.WindowManager.trackshade = bpy.props.PointerProperty(type=TrackshadeJobs)
    bpy.app.handlers.load_post.append(reopened)
    current().listeners.append(show_change)


def detach() -> None:
    """Takes it away again."""
    current().listeners.remove(show_change)
    bpy.app.handlers.load_post.remove(reopened)
    thumbnails.close()
    del bpy.types.WindowManager.trackshade


CLASSES = (
    TrackshadeJobItem,
    TrackshadeJobs,
    TRACKSHADE_UL_jobs,
    TRACKSHADE_OT_cancel,
    TRACKSHADE_OT_remove_job,
    TRACKSHADE_OT_clear_jobs,
    TRACKSHADE_OT_open_folder,
    TRACKSHADE_OT_place_again,
    TRACKSHADE_OT_place_folder,
    TRACKSHADE_OT_use_settings,
    TRACKSHADE_PT_jobs,
)
