# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel in the sidebar of the 3D viewport: the Shade button, the state of jobs, and the settings of the next job.

Drawing only reads: findings come from `checks`, jobs from the session, and the state of the backend from `backend`.
"""

from __future__ import annotations

import bpy

from trackshade.config.memory_presets import choose_preset
from trackshade.core.errors import CancelledError
from trackshade.core.text import format_count, format_size

from .. import backend
from ..capture.scene_settings import TRACKSHADE_ENGINE
from ..checks.findings import ERROR, NOTE, Finding
from ..checks.watch import ChecksState, watcher
from ..jobs.session import current
from ..messages import texts
from ..messages.texts import tr
from ..properties.placement_options import TEXTURE_MODES
from ..properties.scene import TrackshadeSettings
from .backend_panel import backend_text, buttons
from .drawing import SidebarPanel, SubPanel, draw_progress, draw_properties, draw_text, split_properties
from .looks import TRACKSHADE_PT_looks
from .operators import draw_job_button

_ICONS = {"error": "ERROR", "warning": "ERROR", "note": "INFO"}


class SettingsPanel:
    """Settings of the scene, which cannot be changed while it is captured. A subclass defines `fill`."""

    layout: bpy.types.UILayout
    bl_space_type: str

    def fill(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the settings."""
        raise NotImplementedError

    def draw(self, context: bpy.types.Context) -> None:
        layout = split_properties(self.layout)
        layout.enabled = not current().holds_scene
        self.fill(layout, context)


class LookSettings(SettingsPanel):
    """What the video should look like."""

    bl_label = "Look"

    def fill(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        settings = context.scene.trackshade
        column = layout.column(align=True)
        column.use_property_split = False
        column.label(text="Prompt")
        column.prop(settings, "prompt", text="", placeholder=tr("a red truck on a wet road at dusk"))
        column.label(text="First Frame")
        column.prop(settings, "first_frame", text="")
        column = layout.column()
        if settings.first_frame == "file":
            column.prop(settings, "picture")
        elif settings.first_frame == "image":
            column.template_ID(settings, "image", open="image.open")
        elif settings.first_frame == "render" and context.scene.render.engine == TRACKSHADE_ENGINE:
            column.prop(settings, "look_engine")
        layout.prop(settings, "image_model")
        if settings.image_model != "none":
            _draw_image_model(layout.column(), settings)
        row = layout.row(align=True)
        row.prop(settings, "seed")
        row.prop(settings, "seed_lock", text="", icon="LOCKED" if settings.seed_lock else "UNLOCKED")


def _draw_image_model(column: bpy.types.UILayout, settings: TrackshadeSettings) -> None:
    if settings.image_model == "custom":
        draw_properties(column, settings, "image_family", "image_checkpoint")
    if settings.first_frame != "none":
        column.prop(settings, "image_strength")
    column.prop(settings, "lora")
    if settings.lora:
        column.prop(settings, "lora_strength")
    row = column.row(align=True)
    row.prop(settings, "stills")
    row.operator("trackshade.paint_stills", text="", icon="IMAGE_RGB")


class ModelSettings(SettingsPanel):
    """Model, and how it is used."""

    bl_label = "Model"

    def fill(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        settings = context.scene.trackshade
        column = layout.column()
        column.use_property_split = False
        column.prop(settings, "model", text="")  # the whole width, for long titles
        chosen = backend.models.spec(settings.model)
        if chosen is not None and not chosen.shipped:
            draw_text(layout, context, texts.model_text(chosen), "INFO")
            if len(chosen.controls) > 1:
                layout.prop(settings, "control_clip")
            if settings.control_clip == "footage" and "footage" in chosen.controls:
                layout.prop(settings, "footage")
            if "references" in chosen.inputs:
                layout.prop(settings, "reference")
            if chosen.takes_loras:
                column = layout.column(align=True)
                column.prop(settings, "video_lora")
                if settings.video_lora:
                    column.prop(settings, "video_lora_strength")
        column = layout.column(align=True)
        column.use_property_split = False
        column.label(text="Negative Prompt")
        column.prop(settings, "negative_prompt", text="", placeholder=tr("Model default"))
        draw_properties(layout.column(align=True), settings, "steps", "guidance")
        spec = backend.models.spec(settings.model)
        if spec is not None and not (settings.steps and settings.guidance):
            guidance = f"{spec.guidance:g}"
            text = tr("Model default: steps {steps}, guidance {guidance}", steps=spec.steps, guidance=guidance)
            draw_text(layout, context, text, "INFO")
        column = layout.column(align=True)
        draw_properties(column, settings, "control_scale", "control_start", "control_end", slider=True)
        draw_properties(layout.column(align=True), settings, "key_pictures", "frame_rule", "size", "size_mode")
        layout.prop(settings, "memory")
        preset = (
            None
            if spec is None
            else choose_preset(settings.memory, spec.memory_bytes, _free_gpu_memory(), spec.preset_bytes)
        )
        if preset is not None and preset.name != "full":
            draw_text(layout, context, texts.memory_text(preset), "MEMORY")


def _free_gpu_memory() -> int | None:
    """Return the free memory of the backend's graphics card, bytes; None if it is unknown or there is none."""
    state = backend.manager.state()
    return state.free_bytes if state.is_gpu else None


class ShotSettings(SettingsPanel):
    """What of the scene is captured."""

    bl_label = "Shot"

    def fill(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        settings = context.scene.trackshade
        column = layout.column(align=True)
        column.prop(settings, "use_range")
        if settings.use_range:
            draw_properties(column, settings, "first", "last", "step")
        column = layout.column(align=True)
        column.prop(settings, "output_size")
        row = column.row(align=True)
        row.prop(settings, "image_format")
        row.prop(settings, "alpha", text="", icon="IMAGE_ALPHA")
        draw_properties(column, settings, "light", "splats")
        layout.prop(settings, "camera", placeholder=tr("Scene camera"))
        layout.prop_search(settings, "view_layer", context.scene, "view_layers", icon="RENDERLAYERS")
        draw_properties(layout.column(align=True), settings, "glass", "hair")
        state = _state(context)
        if state is None:
            layout.label(text="Checking the scene", icon="SORTTIME")
            return
        facts = state.facts
        column = layout.column(align=True)
        if facts.frames:  # none if the frame range is invalid
            counts = tr(
                "Objects: {objects}, vertices: {vertices}, size: {bytes}",
                objects=format_count(facts.objects),
                vertices=format_count(facts.vertices),
                bytes=format_size(facts.sent),
            )
            text = counts if facts.whole else tr("{counts} (partial count)", counts=counts)
            draw_text(column, context, text, "MESH_DATA")


class TRACKSHADE_PT_shade(SidebarPanel, bpy.types.Panel):
    """The Shade button, and the state of jobs and backend."""

    bl_label = "Trackshade"

    def draw_header_preset(self, context: bpy.types.Context) -> None:
        self.layout.operator("trackshade.open_manual", text="", icon="HELP", emboss=False)

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        row = layout.row()
        row.scale_y = 1.8
        draw_job_button(row, "trackshade.shade")
        running = [job for job in current().jobs if job.runs]
        for job in running:
            assert job.progress is not None
            row = layout.row(align=True)
            row.progress(factor=job.factor, text=texts.progress_text(job.progress, job.seconds_left()))
            row.operator("trackshade.cancel", text="", icon="X").job = job.uid
        if not current().holds_scene:
            _draw_plan(layout, context)
        if not running:
            _draw_latest_job(layout, context)
            _draw_backend_state(layout, context)
        column = layout.column()
        column.enabled = not current().holds_scene
        for finding in _findings(context):
            if finding.level == ERROR:
                _draw_finding(column, context, finding)


class TRACKSHADE_PT_look(LookSettings, SubPanel, bpy.types.Panel):
    """What the video should look like."""

    bl_options = set()  # noqa: RUF012 - open at first
    bl_order = 10

    def draw_header_preset(self, context: bpy.types.Context) -> None:
        TRACKSHADE_PT_looks.draw_panel_header(self.layout)


class TRACKSHADE_PT_model(ModelSettings, SubPanel, bpy.types.Panel):
    """Model, and how it is used."""

    bl_parent_id = "TRACKSHADE_PT_look"


class TRACKSHADE_PT_shot(ShotSettings, SubPanel, bpy.types.Panel):
    """What of the scene is captured."""

    bl_order = 20


class TRACKSHADE_PT_checks(SettingsPanel, SubPanel, bpy.types.Panel):
    """What may go wrong, and buttons that fix it."""

    bl_label = "Checks"
    bl_order = 25

    def draw_header_preset(self, context: bpy.types.Context) -> None:
        found = _findings(context)
        icon = _ICONS[found[0].level] if found else "CHECKMARK"
        self.layout.label(text=str(len(found)) if found else "", icon=icon)

    def fill(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        state = _state(context)
        for finding in _findings(context):
            _draw_finding(layout, context, finding)
        if state is None:
            draw_text(layout, context, tr("Checking the scene"), "SORTTIME")
        elif not state.findings and state.is_stepped and not state.is_outdated:
            draw_text(layout, context, tr("No problems found"), "CHECKMARK")
        elif not state.findings:
            draw_text(layout, context, tr("No problems found in this frame"), "CHECKMARK")
        layout.operator("trackshade.check", icon="VIEWZOOM")


class TRACKSHADE_PT_placing(SettingsPanel, SubPanel, bpy.types.Panel):
    """How a result is added to the scene."""

    bl_label = "Placement"
    bl_order = 40

    def fill(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        settings = context.scene.trackshade
        layout.prop(settings, "place_as")
        column = layout.column()
        column.enabled = settings.place_as in ("both", "plate")
        draw_properties(column, settings, "distance", "interpolation")
        column = layout.column()
        column.enabled = settings.place_as in TEXTURE_MODES
        column.prop(settings, "texture_size")
        layout.operator("trackshade.restore_materials", icon="LOOP_BACK")
        layout.operator("trackshade.show_preferences", text="Results Folder", icon="PREFERENCES")


def _state(context: bpy.types.Context) -> ChecksState | None:
    return watcher.get(context.scene, context.view_layer)


def _findings(context: bpy.types.Context) -> tuple[Finding, ...]:
    state = _state(context)
    return () if state is None else state.findings


def _draw_plan(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Draw what the button will make: how many images of which size, of what, and about how long that takes."""
    state = _state(context)
    if state is None or not state.facts.plan:
        return
    column = layout.column(align=True)
    draw_text(column, context, state.facts.plan, "IMAGE_DATA")
    draw_text(column, context, state.facts.duration, "TIME")


def _draw_finding(layout: bpy.types.UILayout, context: bpy.types.Context, finding: Finding) -> None:
    """Draw a sentence and the button that fixes the problem."""
    box = layout.box().column(align=True)
    box.alert = finding.level == ERROR
    draw_text(box, context, tr(finding.text, **finding.values), _ICONS[finding.level], boxed=True)
    box.alert = False
    if finding.button is not None:
        row = box.row()
        row.operator_context = "INVOKE_DEFAULT"
        icon = "INFO" if finding.level == NOTE else "MODIFIER"
        button = row.operator(finding.button.operator, text=finding.button.label, icon=icon)
        for name, value in finding.button.arguments.items():
            setattr(button, name, value)


def _draw_latest_job(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Draw how the latest job ended."""
    job = current().latest
    if job is None:
        return
    if job.error is not None and texts.error_text(job.error) != backend_text(backend.manager.state()):  # drawn below it
        icon = "INFO" if isinstance(job.error, CancelledError) else "ERROR"
        draw_text(layout, context, texts.error_text(job.error), icon)
    elif job.result is not None:
        is_placed = job.placement.mode is not None and job.scene.is_scene(context.scene)
        text = "Result placed: {folder}" if is_placed else "Result saved: {folder}"
        draw_text(layout, context, tr(text, folder=job.result.out.name), "CHECKMARK")
        in_camera_view = context.space_data.region_3d.view_perspective == "CAMERA"
        if is_placed and job.placement.is_seen_through_camera and not in_camera_view:
            layout.operator("view3d.view_camera", text="View Through Camera", icon="VIEW_CAMERA")


def _draw_backend_state(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    state = backend.manager.state()
    if state.kind in ("setting-up", "starting"):
        draw_progress(layout, state.progress, state.message, "trackshade.cancel_set_up" * (state.kind == "setting-up"))
    elif state.kind in ("missing", "failed"):
        operator, label, icon = buttons(state.kind)[0]
        draw_text(layout, context, backend_text(state), "ERROR")
        row = layout.row(align=True)
        row.operator(operator, text=label, icon=icon)
        row.operator("trackshade.show_preferences", text="", icon="PREFERENCES")
    elif state.kind == "ready":
        ready = tr("Ready on {device}", device=state.device) if state.device else tr("Ready")
        draw_text(layout, context, ready, "CHECKMARK")
    elif current().latest is None:
        draw_text(layout, context, tr("Ready; the backend starts with the first job"), "CHECKMARK")
