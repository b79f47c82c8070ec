# SPDX-License-Identifier: GPL-3.0-or-later
"""What panels and operators share: wrapped text, mixin classes, and redrawing while the backend is busy."""

# No postponed annotations here: Blender reads the properties from them.
import bisect
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blf
import bpy

from trackshade.core.errors import CancelledError, TrackshadeError

from .. import backend, relocation
from ..messages import texts
from ..messages.texts import tr
from ..redraw import redraw, redraw_settled

CATEGORY = "Trackshade"  # tab of the sidebar
TICK = 0.2  # seconds between two redraws while the backend is busy
_MARGIN = 78.0  # pixels at scale 1 beside a text: its icon, the panel's frame, and the tabs
_BOX = 16.0  # frame of a box
_BUTTON = 22.0  # a button that is only an icon


class SidebarPanel:
    """A panel in the sidebar of the 3D viewport."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = CATEGORY


class SubPanel(SidebarPanel):
    """A subpanel that is rarely opened."""

    bl_parent_id = "TRACKSHADE_PT_shade"
    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012 - as Blender requires it


class ActionOperator:
    """An operator that does one thing at once, or starts it, by `act`, which may raise TrackshadeError."""

    act: Callable[..., set[str] | None]

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            returned = self.act(context)
        except TrackshadeError as error:
            return report_error(self, error)
        redraw()
        watch()
        return returned or {"FINISHED"}


def action(label: str, base: type = ActionOperator, **members: Any) -> Callable[[Callable[..., Any]], type[Any]]:
    """Make a function an operator: its name becomes the operator's, and its docstring the tooltip.

    Args:
        label: Label of the operator.
        base: Class that calls the function as the method `act`.
        **members: Other members of the operator's class, such as `bl_options`.
    """

    def make(function: Callable[..., Any]) -> type[Any]:
        name = function.__name__
        own = {"__doc__": function.__doc__, "__module__": function.__module__, "act": function}
        own |= {"bl_idname": f"trackshade.{name}", "bl_label": label}
        return type(f"TRACKSHADE_OT_{name}", (base, bpy.types.Operator), members | own)

    return make


def report_error(operator: Any, error: TrackshadeError) -> set[str]:
    """Report why an operator failed or was canceled; return what it returns then."""
    operator.report({"INFO" if isinstance(error, CancelledError) else "ERROR"}, texts.error_text(error))
    return {"CANCELLED"}


class FolderOperator(ActionOperator):
    """An operator that asks for a folder first."""

    directory: bpy.props.StringProperty(name="Folder", subtype="DIR_PATH", options={"SKIP_SAVE"})
    filter_folder: bpy.props.BoolProperty(default=True, options={"HIDDEN"})

    @property
    def folder(self) -> Path:
        return Path(bpy.path.abspath(self.directory))

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}


def split_properties(layout: bpy.types.UILayout) -> bpy.types.UILayout:
    """Have a layout draw the labels of properties in a column of their own; return the layout."""
    layout.use_property_split = True
    layout.use_property_decorate = False
    return layout


def draw_properties(layout: bpy.types.UILayout, owner: Any, *names: str, **options: Any) -> None:
    """Draw several properties of one structure with the same options."""
    for name in names:
        layout.prop(owner, name, **options)


def draw_text(
    layout: bpy.types.UILayout, context: bpy.types.Context, text: str, icon: str = "NONE", boxed: bool = False,
    buttons: int = 0,
) -> None:  # fmt: skip
    """Draw a translated text over as many lines as the width of the region requires, the first with an icon.

    A layout in a box (`boxed`) or with `buttons` icon buttons beside the text leaves less width.
    """
    region = context.region
    scale = context.preferences.system.ui_scale
    width = (300 if region is None else region.width) - (_MARGIN + _BOX * boxed + _BUTTON * buttons) * scale
    column = layout.column(align=True)
    for number, line in enumerate(_lines(text, width, context.preferences.ui_styles[0].widget.points * scale)):
        column.label(text=line, icon=icon if number == 0 or icon == "NONE" else "BLANK1", translate=False)


def draw_progress(layout: bpy.types.UILayout, progress: float | None, text: str, cancel: str = "") -> None:
    """Draw a progress bar, with a button for the operator `cancel` if given, and keep it up to date."""
    watch()
    row = layout.row(align=True)
    row.progress(factor=progress or 0.0, text=text)
    if cancel:
        row.operator(cancel, text="", icon="X")


def draw_online(layout: bpy.types.UILayout, context: bpy.types.Context, reason: str) -> None:
    """Draw why network access is needed, and Blender's setting for it, if it is disabled."""
    if bpy.app.online_access:
        return
    layout.label(text=reason, icon="INTERNET_OFFLINE")
    row = layout.row()
    row.enabled = not bpy.app.online_access_override  # Blender was started offline
    row.prop(context.preferences.system, "use_online_access", text="Allow Online Access")


def wrap(text: str, width: float, measure: Callable[[str], float]) -> list[str]:
    """Break a text into lines that are not wider than `width` by `measure`; a word that is too long is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if measure(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        while len(word) > 1 and measure(word) > width:
            cut = max(1, bisect.bisect_right(range(1, len(word)), width, key=lambda n, word=word: measure(word[:n])))
            lines[-1:] = [word[:cut], ""]
            word = word[cut:]
        lines[-1] = word
    return lines


@functools.lru_cache(256)
def _lines(text: str, width: float, points: float) -> list[str]:
    """Break a text in Blender's font; cached, since panels are drawn many times a second."""
    blf.size(0, points)
    return wrap(text, width, lambda line: blf.dimensions(0, line)[0])


def tr_count(one: str, many: str, count: int) -> str:
    """Translate the pattern for one or for many things."""
    return tr(one if count == 1 else many, count=count)


def watch() -> None:
    """Redraw until the backend is idle, unless Blender has no window."""
    if not bpy.app.background and not bpy.app.timers.is_registered(tick):
        bpy.app.timers.register(tick, first_interval=TICK, persistent=True)


def unwatch() -> None:
    """End the redrawing."""
    if bpy.app.timers.is_registered(tick):
        bpy.app.timers.unregister(tick)


def tick() -> float | None:
    """Redraw, for a timer; return the seconds until the next call, or None if there is none."""
    if backend.is_busy() or relocation.task() is not None:
        redraw()
        return TICK
    redraw_settled()
    return None
