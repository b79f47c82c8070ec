# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend in the sidebar: how it is, and what can be done about it."""

from __future__ import annotations

import bpy

from trackshade.core.geometry import size_in_words

from .. import backend, relocation
from ..messages import texts
from ..messages.texts import tr
from ..properties.chosen import preferences
from . import drawing
from .drawing import draw_online, draw_text
from .shared import InSidebar, begun

LOG_NAME = "Trackshade Log"
SHOWN = 40  # lines of its end that a text editor begins with
_TITLES = {
    "missing": ("Not set up", "ERROR"),
    "setting-up": ("Setting up", "SORTTIME"),
    "stopped": ("Starts when needed", "PAUSE"),
    "starting": ("Starting", "SORTTIME"),
    "ready": ("Ready", "CHECKMARK"),
    "failed": ("Failed", "CANCEL"),
}


class TRACKSHADE_OT_set_up(bpy.types.Operator):
    """Make the environment that does the shading, outside Blender. Downloads gigabytes once; you can go on working"""

    bl_idname = "trackshade.set_up"
    bl_label = "Set Up"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Asks where packages come from where nobody has said so."""
        if not backend.needs_packages():
            return self.execute(context)
        return context.window_manager.invoke_props_dialog(self, width=440, confirm_text="Set Up")

    def draw(self, context: bpy.types.Context) -> None:
        column = self.layout.column()
        draw_online(column, context, "The set-up has to download packages, and Blender may not use the network.")
        own = preferences()
        if own is not None:
            column.label(text="Or without the network, from packages that were downloaded elsewhere:")
            column.prop(own, "wheels_folder")

    def execute(self, context: bpy.types.Context) -> set[str]:
        return begun(self, backend.set_up)


class TRACKSHADE_OT_cancel_set_up(bpy.types.Operator):
    """Stop the set-up. What was downloaded is kept for the next time; nothing half-made is used"""

    bl_idname = "trackshade.cancel_set_up"
    bl_label = "Cancel"

    def execute(self, context: bpy.types.Context) -> set[str]:
        backend.cancel_set_up()
        return {"FINISHED"}


class TRACKSHADE_OT_start_backend(bpy.types.Operator):
    """Start the shading process now, or once more after it failed. It starts by itself with the first job"""

    bl_idname = "trackshade.start_backend"
    bl_label = "Start"

    def execute(self, context: bpy.types.Context) -> set[str]:
        return begun(self, backend.retry)


class TRACKSHADE_OT_stop_backend(bpy.types.Operator):
    """End the shading process, which gives all its memory back. It goes on while another Blender uses it"""

    bl_idname = "trackshade.stop_backend"
    bl_label = "Stop"

    def execute(self, context: bpy.types.Context) -> set[str]:
        backend.stop()
        drawing.redraw()
        return {"FINISHED"}


class TRACKSHADE_OT_free_memory(bpy.types.Operator):
    """Take the model out of the graphics card's memory, for instance before a render. The next job loads it again"""

    bl_idname = "trackshade.free_memory"
    bl_label = "Free VRAM"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if backend.state().kind != "ready":
            cls.poll_message_set("No backend is running")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        backend.free_memory()
        drawing.watch()
        self.report({"INFO"}, "Memory is given back by what does not work on a job")
        return {"FINISHED"}


class TRACKSHADE_OT_show_log(bpy.types.Operator):
    """Show what the shading process and the set-up said last, in a text of this file"""

    bl_idname = "trackshade.show_log"
    bl_label = "Log"

    def execute(self, context: bpy.types.Context) -> set[str]:
        text = bpy.data.texts.get(LOG_NAME) or bpy.data.texts.new(LOG_NAME)
        text.clear()
        text.write(backend.log_tail())
        text.cursor_set(max(0, len(text.lines) - SHOWN))
        if not bpy.app.background:
            _open(context, text)
        return {"FINISHED"}


class TRACKSHADE_OT_copy_diagnostics(bpy.types.Operator):
    """Copy versions, device, folders and the last log lines, without passwords, to the clipboard for a bug report"""

    bl_idname = "trackshade.copy_diagnostics"
    bl_label = "Copy Diagnostics"

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.window_manager.clipboard = backend.diagnostics()
        self.report({"INFO"}, "Copied to the clipboard")
        return {"FINISHED"}


class TRACKSHADE_OT_cancel_relocation(bpy.types.Operator):
    """Stop. What is not moved yet stays where it is and is used from there"""

    bl_idname = "trackshade.cancel_relocation"
    bl_label = "Cancel"

    def execute(self, context: bpy.types.Context) -> set[str]:
        work = relocation.work()
        if work is not None:
            work.cancel()
        return {"FINISHED"}


class TRACKSHADE_OT_check_environment(bpy.types.Operator):
    """Ask the chosen Python whether it has Trackshade's backend, and of which version"""

    bl_idname = "trackshade.check_environment"
    bl_label = "Check This Environment"

    def execute(self, context: bpy.types.Context) -> set[str]:
        return begun(self, backend.check_environment)


class TRACKSHADE_PT_backend(InSidebar, bpy.types.Panel):
    """State of the shading process."""

    bl_idname = "TRACKSHADE_PT_backend"
    bl_label = "Backend"
    bl_parent_id = "TRACKSHADE_PT_shade"
    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012 - as Blender wants it
    bl_order = 90

    def draw_header_preset(self, context: bpy.types.Context) -> None:
        self.layout.label(text="", icon=_TITLES[backend.state().kind][1])

    def draw(self, context: bpy.types.Context) -> None:
        draw_backend(self.layout, context)


def draw_backend(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """State, and the buttons that make sense in it."""
    _draw_relocation(layout, context)
    state = backend.state()
    title, icon = _TITLES[state.kind]
    column = layout.column()
    if state.kind in ("setting-up", "starting"):
        drawing.watch()
        row = column.row(align=True)
        row.progress(factor=state.progress or 0.0, text=state.message or title)
        if state.kind == "setting-up":
            row.operator(TRACKSHADE_OT_cancel_set_up.bl_idname, text="", icon="X")
    else:
        column.label(text=title, icon=icon)
        said = state.message if state.error is None else texts.told(state.error)
        if said:
            draw_text(column, context, said)
    free, total = size_in_words(state.free_bytes), size_in_words(state.total_bytes)
    memory = tr("{free} of {total} free", free=free, total=total) if state.free_bytes else ""
    if state.device or memory:
        draw_text(column, context, ", ".join(filter(None, (state.device, memory))), "MEMORY")
    _draw_buttons(layout, context, state)


def _draw_relocation(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """What was moved out of the extension's folder in this session, or is being moved."""
    work, moved = relocation.work(), relocation.moved()
    if work is not None:
        drawing.watch()
        row = layout.row(align=True)
        row.progress(factor=work.progress or 0.0, text=work.message)
        row.operator(TRACKSHADE_OT_cancel_relocation.bl_idname, text="", icon="X")
    for pattern, folder in ((relocation.RESULTS, moved.results), (relocation.ENVIRONMENTS, moved.environments)):
        if folder is not None:
            draw_text(layout, context, tr(pattern, folder=folder), "INFO")
    if moved.error is not None:
        draw_text(layout, context, texts.told(moved.error), "ERROR")


def _draw_buttons(layout: bpy.types.UILayout, context: bpy.types.Context, state: backend.BackendState) -> None:
    column = layout.column(align=True)
    for operator, label, icon in buttons(state.kind):
        column.operator(operator, text=label, icon=icon)
    check = backend.backend_manager.check_task
    if check is not None:
        said = check.message if check.running else texts.told(check.error) if check.error else check.result
        draw_text(layout, context, said, "INFO")
    row = column.row(align=True)
    row.operator(TRACKSHADE_OT_show_log.bl_idname, icon="TEXT")
    row.operator(TRACKSHADE_OT_copy_diagnostics.bl_idname, text="Diagnostics", icon="COPYDOWN")
    if context.area is not None and context.area.type != "PREFERENCES":  # which shows the same
        row.operator("trackshade.show_preferences", text="", icon="PREFERENCES")


def buttons(kind: str) -> list[tuple[str, str, str]]:
    """Operators, labels and icons that make sense in a state of the backend, the one that helps most first."""
    set_up, start = TRACKSHADE_OT_set_up.bl_idname, TRACKSHADE_OT_start_backend.bl_idname
    found = {
        "missing": [(set_up, "Set Up", "IMPORT")],
        "failed": [(set_up if backend.set_up_failed() else start, "Try Again", "FILE_REFRESH")],
        "stopped": [(start, "Start", "PLAY")],
        "ready": [
            (TRACKSHADE_OT_free_memory.bl_idname, "Free VRAM", "MEMORY"),
            (TRACKSHADE_OT_stop_backend.bl_idname, "Stop", "PAUSE"),
        ],
    }.get(kind, [])
    again = kind in ("stopped", "ready") or (kind == "failed" and not backend.set_up_failed())
    return [*found, (set_up, "Set Up Again", "IMPORT")] if again and backend.is_managed() else found


def _open(context: bpy.types.Context, text: bpy.types.Text) -> None:
    """Shows a text in a text editor that is open, else in a window of its own."""
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
