# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of the backend in the sidebar and the preferences, and the buttons for it."""

from __future__ import annotations

import bpy

from trackshade.core.text import format_size

from .. import backend, relocation
from ..messages import texts
from ..messages.texts import tr
from ..properties.preferences import get_preferences
from .drawing import ActionOperator, SidebarPanel, draw_online, draw_progress, draw_text

LOG_NAME = "Trackshade Log"
LOG_LINES = 40  # lines at its end that a text editor shows first
_TITLES = {
    "missing": ("Not set up", "ERROR"),
    "setting-up": ("Setting up", "SORTTIME"),
    "stopped": ("Starts when needed", "PAUSE"),
    "starting": ("Starting", "SORTTIME"),
    "ready": ("Ready", "CHECKMARK"),
    "failed": ("Failed", "CANCEL"),
}


class TRACKSHADE_OT_set_up(ActionOperator, bpy.types.Operator):
    """Create the Python environment of the backend. Downloads several gigabytes while you can continue to work"""

    bl_idname = "trackshade.set_up"
    bl_label = "Set Up"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Asks where packages come from, if they cannot be downloaded."""
        if not backend.needs_packages():
            return self.execute(context)
        return context.window_manager.invoke_props_dialog(self, width=440, confirm_text="Set Up")

    def draw(self, context: bpy.types.Context) -> None:
        column = self.layout.column()
        draw_online(column, context, "The set-up needs network access, which is disabled in Blender.")
        preferences = get_preferences()
        if preferences is not None:
            column.label(text="To set up offline, select a folder with downloaded packages:")
            column.prop(preferences, "wheels_folder")

    def act(self, context: bpy.types.Context) -> None:
        backend.set_up()


class TRACKSHADE_OT_cancel_set_up(ActionOperator, bpy.types.Operator):
    """Cancel the set-up. Downloaded packages are kept for the next time"""

    bl_idname = "trackshade.cancel_set_up"
    bl_label = "Cancel"

    def act(self, context: bpy.types.Context) -> None:
        backend.cancel_set_up()


class TRACKSHADE_OT_start_backend(ActionOperator, bpy.types.Operator):
    """Start the backend now, or again after a failure. It starts automatically with the first job"""

    bl_idname = "trackshade.start_backend"
    bl_label = "Start"

    def act(self, context: bpy.types.Context) -> None:
        backend.retry()


class TRACKSHADE_OT_stop_backend(ActionOperator, bpy.types.Operator):
    """Stop the backend to free its memory. It keeps running while another Blender uses it"""

    bl_idname = "trackshade.stop_backend"
    bl_label = "Stop"

    def act(self, context: bpy.types.Context) -> None:
        backend.stop()


class TRACKSHADE_OT_free_memory(ActionOperator, bpy.types.Operator):
    """Remove the model from GPU memory, for example before a render. The next job loads it again"""

    bl_idname = "trackshade.free_memory"
    bl_label = "Free VRAM"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if backend.state().kind != "ready":
            cls.poll_message_set("The backend is not running")
            return False
        return True

    def act(self, context: bpy.types.Context) -> None:
        backend.free_memory()
        self.report({"INFO"}, tr("Models that no job uses are removed from memory"))


class TRACKSHADE_OT_show_log(ActionOperator, bpy.types.Operator):
    """Show the latest log of the backend and the set-up in a text data-block"""

    bl_idname = "trackshade.show_log"
    bl_label = "Log"

    def act(self, context: bpy.types.Context) -> None:
        text = bpy.data.texts.get(LOG_NAME) or bpy.data.texts.new(LOG_NAME)
        text.clear()
        text.write(backend.log_tail())
        text.cursor_set(max(0, len(text.lines) - LOG_LINES))
        if not bpy.app.background:
            _open(context, text)


class TRACKSHADE_OT_copy_diagnostics(ActionOperator, bpy.types.Operator):
    """Copy versions, device, folders and log to the clipboard for a bug report. Passwords are left out"""

    bl_idname = "trackshade.copy_diagnostics"
    bl_label = "Copy Diagnostics"

    def act(self, context: bpy.types.Context) -> None:
        context.window_manager.clipboard = backend.diagnostics()
        self.report({"INFO"}, tr("Copied to the clipboard"))


class TRACKSHADE_OT_cancel_relocation(ActionOperator, bpy.types.Operator):
    """Cancel. Files that have not been moved are used from their old folder"""

    bl_idname = "trackshade.cancel_relocation"
    bl_label = "Cancel"

    def act(self, context: bpy.types.Context) -> None:
        task = relocation.task()
        if task is not None:
            task.cancel()


class TRACKSHADE_OT_check_environment(ActionOperator, bpy.types.Operator):
    """Check whether Trackshade's backend is installed for this Python, and which version"""

    bl_idname = "trackshade.check_environment"
    bl_label = "Check Environment"

    def act(self, context: bpy.types.Context) -> None:
        backend.check_environment()


class TRACKSHADE_PT_backend(SidebarPanel, bpy.types.Panel):
    """State of the backend."""

    bl_idname = "TRACKSHADE_PT_backend"
    bl_label = "Backend"
    bl_parent_id = "TRACKSHADE_PT_shade"
    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012 - as Blender requires it
    bl_order = 90

    def draw_header_preset(self, context: bpy.types.Context) -> None:
        self.layout.label(text="", icon=_TITLES[backend.state().kind][1])

    def draw(self, context: bpy.types.Context) -> None:
        draw_backend(self.layout, context)


def draw_backend(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Draws the state of the backend, and the buttons for it."""
    _draw_relocation(layout, context)
    state = backend.state()
    title, icon = _TITLES[state.kind]
    column = layout.column()
    if state.kind in ("setting-up", "starting"):
        cancel = TRACKSHADE_OT_cancel_set_up.bl_idname if state.kind == "setting-up" else ""
        draw_progress(column, state.progress, state.message or title, cancel)
    else:
        column.label(text=title, icon=icon)
        message = state.message if state.error is None else texts.error_text(state.error)
        if message:
            draw_text(column, context, message)
    free, total = format_size(state.free_bytes), format_size(state.total_bytes)
    memory = tr("{free} of {total} free", free=free, total=total) if state.free_bytes else ""
    if state.device or memory:
        draw_text(column, context, ", ".join(filter(None, (state.device, memory))), "MEMORY")
    _draw_buttons(layout, context, state)


def _draw_relocation(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Draws what was moved out of the extension's folder in this session, or is being moved."""
    task, moved = relocation.task(), relocation.moved()
    if task is not None:
        draw_progress(layout, task.progress, task.message, TRACKSHADE_OT_cancel_relocation.bl_idname)
    for pattern, folder in ((relocation.RESULTS, moved.results), (relocation.ENVIRONMENTS, moved.environments)):
        if folder is not None:
            draw_text(layout, context, tr(pattern, folder=folder), "INFO")
    if moved.error is not None:
        draw_text(layout, context, texts.error_text(moved.error), "ERROR")


def _draw_buttons(layout: bpy.types.UILayout, context: bpy.types.Context, state: backend.BackendState) -> None:
    column = layout.column(align=True)
    for operator, label, icon in buttons(state.kind):
        column.operator(operator, text=label, icon=icon)
    check = backend.backend_manager.check_task
    if check is not None:
        message = check.message if check.running else texts.error_text(check.error) if check.error else check.result
        draw_text(layout, context, message, "INFO")
    row = column.row(align=True)
    row.operator(TRACKSHADE_OT_show_log.bl_idname, icon="TEXT")
    row.operator(TRACKSHADE_OT_copy_diagnostics.bl_idname, text="Diagnostics", icon="COPYDOWN")
    if context.area is not None and context.area.type != "PREFERENCES":
        row.operator("trackshade.show_preferences", text="", icon="PREFERENCES")


def buttons(kind: str) -> list[tuple[str, str, str]]:
    """Returns operators, labels and icons for a state of the backend, the most useful first."""
    set_up, start = TRACKSHADE_OT_set_up.bl_idname, TRACKSHADE_OT_start_backend.bl_idname
    failed = backend.set_up_failed()
    found = {
        "missing": [(set_up, "Set Up", "IMPORT")],
        "failed": [(set_up if failed else start, "Try Again", "FILE_REFRESH")],
        "stopped": [(start, "Start", "PLAY")],
        "ready": [
            (TRACKSHADE_OT_free_memory.bl_idname, "Free VRAM", "MEMORY"),
            (TRACKSHADE_OT_stop_backend.bl_idname, "Stop", "PAUSE"),
        ],
    }.get(kind, [])
    again = kind in ("stopped", "ready") or (kind == "failed" and not failed)
    return [*found, (set_up, "Set Up Again", "IMPORT")] if again and backend.is_managed() else found


def _open(context: bpy.types.Context, text: bpy.types.Text) -> None:
    """Shows a text in an open text editor, or in a new window."""
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "TEXT_EDITOR":
                area.spaces.active.text = text
                return
    bpy.ops.wm.window_new()
    area = context.window_manager.windows[-1].screen.areas[0]
    area.type = "TEXT_EDITOR"
    area.spaces.active.text = text


CLASSES = (
    TRACKSHADE_OT_set_up,
    TRACKSHADE_OT_cancel_set_up,
    TRACKSHADE_OT_start_backend,
    TRACKSHADE_OT_stop_backend,
    TRACKSHADE_OT_free_memory,
    TRACKSHADE_OT_show_log,
    TRACKSHADE_OT_copy_diagnostics,
    TRACKSHADE_OT_cancel_relocation,
    TRACKSHADE_OT_check_environment,
    TRACKSHADE_PT_backend,
)
