# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel in the 3D view's sidebar: the button, how things are, and what the next job is made with.

Drawing reads and never computes: what there is to send and what is wrong comes from `checks_watch`, jobs from the
session, the backend's state from `backend`.
"""

from __future__ import annotations

import bpy

from trackshade.core.errors import CancelledError
from trackshade.core.geometry import number_in_words, size_in_words

from .. import backend
from ..capture.scene_settings import TRACKSHADE_ENGINE
from ..jobs.job import Job
from ..jobs.session import current
from ..messages import texts
from ..messages.texts import tr
from ..placement import TEXTURE_WAYS
from . import drawing
from .backend_panel import buttons
from .checks import ERROR, NOTE, Finding
from .checks_fixes import TRACKSHADE_OT_check
from .checks_watch import watch
from .drawing import draw_text
from .jobs_list import TRACKSHADE_OT_cancel
from .looks import TRACKSHADE_PT_looks
from .operators import TRACKSHADE_OT_shade
from .placed import TRACKSHADE_OT_restore_materials
from .shared import InSidebar

_ICONS = {"error": "ERROR", "warning": "ERROR", "note": "INFO"}


class Settings:
    """Settings of the scene; nothing in them is to be changed while it is captured."""

    layout: bpy.types.UILayout

    def fill(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draws the part."""

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.enabled = not current().holds_scene
        self.fill(layout, context)


class _Part(Settings, InSidebar):
    """A part that is rarely opened."""

    bl_parent_id = "TRACKSHADE_PT_shade"
    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012 - as Blender wants it


class TRACKSHADE_PT_shade(InSidebar, bpy.types.Panel):
    """The button, and how things are."""

    bl_idname = "TRACKSHADE_PT_shade"
    bl_label = "Trackshade"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        found = watch.findings(context)
        row = layout.row()
        row.scale_y = 1.8
        if current().holds_scene:  # Blender would leave the button grey for as long as the mouse rests on it
            row.alignment = "CENTER"
            row.label(text="The scene is being captured", icon="SORTTIME")
        else:
            row.operator(TRACKSHADE_OT_shade.bl_idname, icon="RENDER_ANIMATION")
        running = [job for job in current().jobs if job.runs]
        for job in running:
            _draw_running(layout, job)
        if not running:
            _draw_rest(layout, context)
        column = layout.column()
        column.enabled = not current().holds_scene
        for finding in found:
            if finding.level == ERROR:
                draw_finding(column, context, finding)


class TRACKSHADE_PT_look(_Part, bpy.types.Panel):
    """How the video should look."""

    bl_idname = "TRACKSHADE_PT_look"
    bl_label = "Look"
    bl_options = set()  # noqa: RUF012 - open at first
    bl_order = 10

    def draw_header_preset(self, context: bpy.types.Context) -> None:
        TRACKSHADE_PT_looks.draw_panel_header(self.layout)

    def fill(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        own = context.scene.trackshade
        column = layout.column(align=True)
        column.use_property_split = False
        column.label(text="Prompt")
        column.prop(own, "prompt", text="", placeholder=tr("a red truck on a wet road at dusk"))
        column.label(text="First Frame")
        column.prop(own, "first_frame", text="")
        column = layout.column()
        if own.first_frame == "file":
            column.prop(own, "picture")
        elif own.first_frame == "image":
            column.template_ID(own, "image", open="image.open")
        elif own.first_frame == "render":
            if context.scene.render.engine == TRACKSHADE_ENGINE:
                column.prop(own, "look_engine")
            if self.bl_space_type == "VIEW_3D":  # a render has it made by another Blender
                draw_text(column, context, tr("Blender waits for this one frame"), "INFO")
        row = layout.row(align=True)
        row.prop(own, "seed")
        row.prop(own, "seed_lock", text="", icon="LOCKED" if own.seed_lock else "UNLOCKED")


class TRACKSHADE_PT_model(_Part, bpy.types.Panel):
    """What shades, and how."""

    bl_idname = "TRACKSHADE_PT_model"
    bl_label = "Model and Strengths"
    bl_parent_id = "TRACKSHADE_PT_look"

    def fill(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        own = context.scene.trackshade
        layout.prop(own, "model")
        layout.prop(own, "negative_prompt", placeholder=tr("the model's own words"))
        column = layout.column(align=True)
        column.prop(own, "steps")
        column.prop(own, "guidance")
        spec = backend.models.spec(own.model)
        if spec is not None and not (own.steps and own.guidance):
            steps, guidance = spec.steps, f"{spec.guidance:g}"
            text = tr("0: the model's own (steps {steps}, guidance {guidance})", steps=steps, guidance=guidance)
            draw_text(layout, context, text, "INFO")
        column = layout.column(align=True)
        column.prop(own, "control_scale", slider=True)
        column.prop(own, "control_start", slider=True)
        column.prop(own, "control_end", slider=True)


class TRACKSHADE_PT_shot(_Part, bpy.types.Panel):
    """What of the scene is shaded."""

    bl_idname = "TRACKSHADE_PT_shot"
    bl_label = "Shot"
    bl_order = 20

    def fill(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        own, scene = context.scene.trackshade, context.scene
        column = layout.column(align=True)
        column.prop(own, "use_range")
        if own.use_range:
            column.prop(own, "first")
            column.prop(own, "last")
            column.prop(own, "step")
        layout.prop(own, "frame_rule")
        layout.prop(own, "camera", placeholder=tr("the scene's own"))
        layout.prop_search(own, "view_layer", scene, "view_layers", icon="RENDERLAYERS")
        column = layout.column(align=True)
        column.prop(own, "size")
        column.prop(own, "size_mode")
        column = layout.column(align=True)
        column.prop(own, "glass")
        column.prop(own, "hair")
        facts = watch.facts(context)
        if facts is None:
            layout.label(text="Looking at the scene", icon="SORTTIME")
            return
        column = layout.column(align=True)
        if facts.plan:
            draw_text(column, context, facts.plan, "TIME")
        if not facts.frames:  # none was looked at, since the range is none
            return
        about = tr("{objects} objects, {vertices} vertices, ≈ {bytes}", objects=number_in_words(facts.objects),
                   vertices=number_in_words(facts.vertices), bytes=size_in_words(facts.sent))  # fmt: skip
        draw_text(column, context, about if facts.whole else tr("More than {what}", what=about), "MESH_DATA")


class TRACKSHADE_PT_checks(_Part, bpy.types.Panel):
    """What may go wrong, and the buttons that mend it."""

    bl_idname = "TRACKSHADE_PT_checks"
    bl_label = "Checks"
    bl_order = 25

    def draw_header_preset(self, context: bpy.types.Context) -> None:
        found = watch.findings(context)
        worst = found[0].level if found else ""
        self.layout.label(text=str(len(found)) if found else "", icon=_ICONS.get(worst, "CHECKMARK"))

    def fill(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        found = watch.findings(context)
        for finding in found:
            draw_finding(layout, context, finding)
        if not found:
            facts = watch.facts(context)
            where = tr("Nothing stands in the way in this frame")
            if watch.stepped(context):
                where = tr("Nothing stands in the way")
            if facts is None:
                draw_text(layout, context, tr("Looking at the scene"), "SORTTIME")
            else:
                draw_text(layout, context, where, "CHECKMARK")
        layout.operator(TRACKSHADE_OT_check.bl_idname, icon="VIEWZOOM")


class TRACKSHADE_PT_placing(_Part, bpy.types.Panel):
    """How a result comes into the scene."""

    bl_idname = "TRACKSHADE_PT_placing"
    bl_label = "Placing"
    bl_order = 40

    def fill(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        own = context.scene.trackshade
        layout.prop(own, "place_as")
        column = layout.column()
        column.enabled = own.place_as in ("both", "plate")
        column.prop(own, "distance")
        column.prop(own, "interpolation")
        column = layout.column()
        column.enabled = own.place_as in TEXTURE_WAYS
        column.prop(own, "texture_size")
        layout.operator(TRACKSHADE_OT_restore_materials.bl_idname, icon="LOOP_BACK")
        layout.operator("trackshade.show_preferences", text="Folder of the Results", icon="PREFERENCES")


def draw_finding(layout: bpy.types.UILayout, context: bpy.types.Context, finding: Finding) -> None:
    """A sentence and the button that mends it."""
    box = layout.box().column(align=True)
    box.alert = finding.level == ERROR
    draw_text(box, context, tr(finding.text, **finding.values), _ICONS[finding.level], boxed=True)
    box.alert = False
    if finding.operator:
        row = box.row()
        row.operator_context = "INVOKE_DEFAULT"
        button = row.operator(
            finding.operator, text=finding.label, icon="INFO" if finding.level == NOTE else "MODIFIER"
        )
        for name, value in finding.arguments.items():
            setattr(button, name, value)


def _draw_running(layout: bpy.types.UILayout, job: Job) -> None:
    assert job.progress is not None
    row = layout.row(align=True)
    row.progress(factor=job.factor, text=texts.headline(job.progress, job.seconds_left()))
    row.operator(TRACKSHADE_OT_cancel.bl_idname, text="", icon="X").job = job.uid


def _draw_rest(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """How the latest job ended, and whether there is a backend."""
    job = current().latest
    state = backend.state()
    why = state.message if state.error is None else texts.told(state.error)
    if job is not None and job.error is not None and texts.told(job.error) != why:  # which follows
        icon = "INFO" if isinstance(job.error, CancelledError) else "ERROR"
        draw_text(layout, context, texts.told(job.error), icon)
    elif job is not None and job.result is not None:
        placed = job.placement.mode is not None and job.scene.is_scene(context.scene)
        said = "Placed: {folder}" if placed else "Fetched: {folder}"
        draw_text(layout, context, tr(said, folder=job.result.out.name), "CHECKMARK")
        if placed and job.placement.is_seen_through_camera and context.space_data.region_3d.view_perspective != "CAMERA":
            layout.operator("view3d.view_camera", text="Look Through the Camera", icon="VIEW_CAMERA")
    if state.kind in ("setting-up", "starting"):
        drawing.watch()
        row = layout.row(align=True)
        row.progress(factor=state.progress or 0.0, text=state.message)
        if state.kind == "setting-up":
            row.operator("trackshade.cancel_set_up", text="", icon="X")
    elif state.kind in ("missing", "failed"):
        operator, label, icon = buttons(state.kind)[0]
        draw_text(layout, context, why, "ERROR")
        row = layout.row(align=True)
        row.operator(operator, text=label, icon=icon)
        row.operator("trackshade.show_preferences", text="", icon="PREFERENCES")
    elif state.kind == "ready":
        ready = tr("Ready on {device}", device=state.device) if state.device else tr("Ready")
        draw_text(layout, context, ready, "CHECKMARK")
    elif job is None:
        draw_text(layout, context, tr("Ready; the backend starts with the first job"), "CHECKMARK")


CLASSES = (
    TRACKSHADE_PT_shade,
    TRACKSHADE_PT_look,
    TRACKSHADE_PT_model,
    TRACKSHADE_PT_shot,
    TRACKSHADE_PT_checks,
    TRACKSHADE_PT_placing,
)
