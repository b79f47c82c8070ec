# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of the backend in the sidebar and the preferences, and the buttons for it."""

from __future__ import annotations

import bpy

from trackshade.core.text import format_size

from .. import backend, relocation
from ..backend import diagnostics
from ..backend.backend_manager import BackendState
from ..backend.prefs import current_prefs
from ..messages import texts
from ..messages.texts import tr
from ..properties.preferences import get_preferences
from .drawing import ActionOperator, SubPanel, action, draw_online, draw_progress, draw_text

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
_DEVICES = {"cuda": "NVIDIA GPU", "mps": "Apple GPU", "cpu": "CPU"}


class TRACKSHADE_OT_set_up(ActionOperator, bpy.types.Operator):
    """Create the Python environment of the backend. Downloads its packages while you can continue to work"""

    bl_idname = "trackshade.set_up"
    bl_label = "Set Up"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask where packages come from, if they cannot be downloaded."""
        if not backend.manager.needs_packages():
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
        backend.manager.set_up()


@action("Cancel")
def cancel_set_up(operator: bpy.types.Operator, context: bpy.types.Context) -> None:
    """Cancel the set-up. Downloaded packages are kept for the next time"""
    backend.manager.cancel_set_up()


@action("Start")
def start_backend(operator: bpy.types.Operator, context: bpy.types.Context) -> None:
    """Start the backend now, or again after a failure. It starts automatically with the first job"""
    backend.manager.retry()


@action("Stop")
def stop_backend(operator: bpy.types.Operator, context: bpy.types.Context) -> None:
    """Stop the backend to free its memory. It keeps running while another Blender uses it"""
    backend.manager.stop()


@classmethod
def _can_free_memory(cls: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    if backend.manager.state().kind != "ready":
        cls.poll_message_set("The backend is not running")
    return backend.manager.state().kind == "ready"


@action("Free VRAM", poll=_can_free_memory)
def free_memory(operator: bpy.types.Operator, context: bpy.types.Context) -> None:
    """Remove the model from GPU memory, for example before a render. The next job loads it again"""
    backend.manager.free_memory()
    operator.report({"INFO"}, tr("Models that no job uses are removed from memory"))


@action("Log")
def show_log(operator: bpy.types.Operator, context: bpy.types.Context) -> None:
    """Show the latest log of the backend and the set-up in a text data-block"""
    text = bpy.data.texts.get(LOG_NAME) or bpy.data.texts.new(LOG_NAME)
    text.clear()
    text.write(diagnostics.log_tail())
    text.cursor_set(max(0, len(text.lines) - LOG_LINES))
    if not bpy.app.background:
        _open(context, text)


@action("Copy Diagnostics")
def copy_diagnostics(operator: bpy.types.Operator, context: bpy.types.Context) -> None:
    """Copy versions, device, folders and log to the clipboard for a bug report. Passwords are left out"""
    context.window_manager.clipboard = diagnostics.describe()
    operator.report({"INFO"}, tr("Copied to the clipboard"))


@action("Cancel")
def cancel_relocation(operator: bpy.types.Operator, context: bpy.types.Context) -> None:
    """Cancel. Files that have not been moved are used from their old folder"""
    task = relocation.task()
    if task is not None:
        task.cancel()


@action("Check Environment")
def check_environment(operator: bpy.types.Operator, context: bpy.types.Context) -> None:
    """Check whether Trackshade's backend is installed for this Python, and which version"""
    backend.manager.check_environment()


@action("Test")
def test_connection(operator: bpy.types.Operator, context: bpy.types.Context) -> None:
    """Connect to the backend at this address, and show its version and device, or why it cannot be used"""
    backend.manager.test_connection()


class TRACKSHADE_PT_backend(SubPanel, bpy.types.Panel):
    """State of the backend."""

    bl_label = "Backend"
    bl_order = 90

    def draw_header_preset(self, context: bpy.types.Context) -> None:
        self.layout.label(text="", icon=_TITLES[backend.manager.state().kind][1])

    def draw(self, context: bpy.types.Context) -> None:
        draw_backend(self.layout, context)


def draw_backend(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Draw the state of the backend, and the buttons for it."""
    _draw_relocation(layout, context)
    state = backend.manager.state()
    title, icon = _TITLES[state.kind]
    if state.kind == "stopped" and current_prefs().address:
        title = "Connects when needed"
    column = layout.column()
    if state.kind in ("setting-up", "starting"):
        cancel = "trackshade.cancel_set_up" if state.kind == "setting-up" else ""
        draw_progress(column, state.progress, state.message or title, cancel)
    else:
        column.label(text=title, icon=icon)
        if backend_text(state):
            draw_text(column, context, backend_text(state))
    free, total = format_size(state.free_bytes), format_size(state.total_bytes)
    memory = tr("{free} of {total} free", free=free, total=total) if state.free_bytes else ""
    if state.device or memory:
        draw_text(column, context, ", ".join(filter(None, (state.device, memory))), "MEMORY")
    _draw_buttons(layout, context, state)


def backend_text(state: BackendState) -> str:
    """Return what there is to say about a state of the backend, with what to do about an error."""
    return state.message if state.error is None else texts.error_text(state.error)


def _draw_relocation(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Draw what was moved out of the extension's folder in this session, or is being moved."""
    task, moved = relocation.task(), relocation.moved()
    if task is not None:
        draw_progress(layout, task.progress, task.message, "trackshade.cancel_relocation")
    for pattern, folder in ((relocation.RESULTS, moved.results), (relocation.ENVIRONMENTS, moved.environments)):
        if folder is not None:
            draw_text(layout, context, tr(pattern, folder=folder), "INFO")
    if moved.error is not None:
        draw_text(layout, context, texts.error_text(moved.error), "ERROR")


def _draw_buttons(layout: bpy.types.UILayout, context: bpy.types.Context, state: BackendState) -> None:
    if state.kind == "missing":
        _draw_set_up_sizes(layout, context)
    column = layout.column(align=True)
    for operator, label, icon in buttons(state.kind):
        column.operator(operator, text=label, icon=icon)
    check = backend.manager.check_task
    if check is not None:
        message = check.message if check.running else texts.error_text(check.error) if check.error else check.result
        draw_text(layout, context, message, "INFO")
    row = column.row(align=True)
    row.operator("trackshade.show_log", icon="TEXT")
    row.operator("trackshade.copy_diagnostics", text="Diagnostics", icon="COPYDOWN")
    if context.area is not None and context.area.type != "PREFERENCES":
        row.operator("trackshade.show_preferences", text="", icon="PREFERENCES")


def _draw_set_up_sizes(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Draw what a set-up is for, downloads and takes, or why there can be none."""
    obstacle = backend.manager.set_up_obstacle()
    if obstacle is not None:
        draw_text(layout, context, texts.error_text(obstacle), "ERROR")
        return
    sizes = backend.manager.set_up_sizes()
    if sizes is None:
        return
    pattern = "For {device}: downloads {download}, takes {space} on disk meanwhile and {unpacked} afterwards"
    device = sizes.device.name or tr(_DEVICES[sizes.device.kind])
    amounts = {name: format_size(getattr(sizes, name)) for name in ("download", "space", "unpacked")}
    draw_text(layout, context, tr(pattern, device=device, **amounts), "INFO")
    if sizes.device.note:
        draw_text(layout, context, sizes.device.note, "INFO")


def buttons(kind: str) -> list[tuple[str, str, str]]:
    """Return operators, labels and icons for a state of the backend, the most useful first."""
    set_up, start = "trackshade.set_up", "trackshade.start_backend"
    failed = backend.manager.set_up_failed()
    begin, end = ("Connect", "Disconnect") if current_prefs().address else ("Start", "Stop")
    found = {
        "missing": [(set_up, "Set Up", "IMPORT")],
        "failed": [(set_up if failed else start, "Try Again", "FILE_REFRESH")],
        "stopped": [(start, begin, "PLAY")],
        "ready": [("trackshade.free_memory", "Free VRAM", "MEMORY"), ("trackshade.stop_backend", end, "PAUSE")],
    }.get(kind, [])
    again = kind in ("stopped", "ready") or (kind == "failed" and not failed)
    return [*found, (set_up, "Set Up Again", "IMPORT")] if again and backend.manager.is_managed() else found


def _open(context: bpy.types.Context, text: bpy.types.Text) -> None:
    """Show a text in an open text editor, or in a new window."""
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "TEXT_EDITOR":
                area.spaces.active.text = text
                return
    bpy.ops.wm.window_new()
    area = context.window_manager.windows[-1].screen.areas[0]
    area.type = "TEXT_EDITOR"
    area.spaces.active.text = text
