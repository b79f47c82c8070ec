# SPDX-License-Identifier: GPL-3.0-or-later
"""The models in the sidebar: which are here, and fetching, checking, adding and moving them."""

# No postponed annotations here: Blender reads the properties from them.
from pathlib import Path

import bpy

from trackshade.core.errors import CancelledError
from trackshade.core.geometry import size_in_words

from .. import backend
from ..backend.model_manager import ModelRow
from ..messages import texts
from ..messages.texts import tr
from . import drawing
from .drawing import draw_online, draw_text
from .shared import AsksForFolder, InSidebar, begun

_ICONS = {
    "here": "CHECKMARK",
    "absent": "IMPORT",
    "part": "PAUSE",
    "fetching": "SORTTIME",
    "checking": "SORTTIME",
    "removing": "SORTTIME",
}


class _OfModel:
    """What the operators on one model share."""

    model: bpy.props.StringProperty(name="Model", options={"HIDDEN", "SKIP_SAVE"})


class TRACKSHADE_OT_fetch_model(_OfModel, bpy.types.Operator):
    """Download this model, or go on where an earlier download ended. Its licence is shown first"""

    bl_idname = "trackshade.fetch_model"
    bl_label = "Fetch Model"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self, width=440, confirm_text="Accept and Fetch")

    def draw(self, context: bpy.types.Context) -> None:
        column = self.layout.column()
        spec = backend.models.spec(self.model)
        if spec is None:
            return
        column.label(text=spec.title, translate=False)
        column.label(text=f"Licence: {spec.licence}", translate=False)
        if spec.licence_url:
            column.operator("wm.url_open", text="Read the Licence", icon="URL").url = spec.licence_url
        column.label(text=f"Needs {size_in_words(spec.memory_bytes)} of memory on the device", translate=False)
        column.label(text=f"Goes to {backend.models.folder()}", translate=False)
        if spec.repo:
            column.label(text=f"From {spec.repo}, at revision {spec.revision}", translate=False)
        draw_online(column, context, "It is to be downloaded, and Blender may not use the network.")

    def execute(self, context: bpy.types.Context) -> set[str]:
        return begun(self, lambda: backend.models.fetch(self.model, backend.current_prefs()))


class TRACKSHADE_OT_pause_model(_OfModel, bpy.types.Operator):
    """Stop this download; the next one goes on from there"""

    bl_idname = "trackshade.pause_model"
    bl_label = "Pause"

    def execute(self, context: bpy.types.Context) -> set[str]:
        return begun(self, lambda: backend.models.pause(self.model))


class TRACKSHADE_OT_cancel_model(_OfModel, bpy.types.Operator):
    """Stop this download, and delete what has arrived"""

    bl_idname = "trackshade.cancel_model"
    bl_label = "Cancel"

    def execute(self, context: bpy.types.Context) -> set[str]:
        return begun(self, lambda: backend.models.cancel(self.model))


class TRACKSHADE_OT_verify_model(_OfModel, bpy.types.Operator):
    """Compare every file of this model with what it should be; takes a while for a large one"""

    bl_idname = "trackshade.verify_model"
    bl_label = "Verify"

    def execute(self, context: bpy.types.Context) -> set[str]:
        return begun(self, lambda: backend.models.verify(self.model, backend.current_prefs()))


class TRACKSHADE_OT_remove_model(_OfModel, bpy.types.Operator):
    """Delete this model from the disk. A checkpoint folder of your own stays, and only leaves the list"""

    bl_idname = "trackshade.remove_model"
    bl_label = "Remove Model"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        row = next((row for row in backend.models.rows() if row.spec.name == self.model), None)
        what = ""
        if row is not None and row.spec.folder:
            what = tr("It leaves the list; its files stay where they are")
        elif row is not None and row.bytes:
            what = tr("Its {size} are deleted from the disk", size=size_in_words(row.bytes))
        return context.window_manager.invoke_confirm(self, event, message=what)

    def execute(self, context: bpy.types.Context) -> set[str]:
        return begun(self, lambda: backend.models.remove(self.model))


class TRACKSHADE_OT_use_checkpoint(AsksForFolder, bpy.types.Operator):
    """Use a checkpoint that is on your disk, in diffusers' layout. It is checked before, and stays where it is"""

    bl_idname = "trackshade.use_checkpoint"
    bl_label = "Use This Checkpoint Folder"

    def execute(self, context: bpy.types.Context) -> set[str]:
        folder = Path(bpy.path.abspath(self.directory))
        return begun(self, lambda: backend.models.use_folder(folder, backend.current_prefs()))


class TRACKSHADE_OT_move_models(AsksForFolder, bpy.types.Operator):
    """Move all models to another folder. They are copied and compared before the old ones are deleted"""

    bl_idname = "trackshade.move_models"
    bl_label = "Move Models Here"

    def execute(self, context: bpy.types.Context) -> set[str]:
        return begun(self, lambda: backend.models.move(Path(bpy.path.abspath(self.directory))))


class TRACKSHADE_OT_cancel_folder(bpy.types.Operator):
    """Stop; everything stays where it was"""

    bl_idname = "trackshade.cancel_folder"
    bl_label = "Cancel"

    def execute(self, context: bpy.types.Context) -> set[str]:
        work = backend.models.task()
        if work is not None:
            work.cancel()
        return {"FINISHED"}


class TRACKSHADE_PT_models(InSidebar, bpy.types.Panel):
    """The models and their folder."""

    bl_idname = "TRACKSHADE_PT_models"
    bl_label = "Models"
    bl_parent_id = "TRACKSHADE_PT_shade"
    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012 - as Blender wants it
    bl_order = 91

    def draw(self, context: bpy.types.Context) -> None:
        draw_models(self.layout, context)


def draw_models(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The list, and what concerns all of them."""
    for row in backend.models.rows():
        _draw_model(layout.box(), context, row)
    work = backend.models.task()
    if work is not None and work.running:
        drawing.watch()
        line = layout.row(align=True)
        line.progress(factor=work.progress or 0.0, text=work.message)
        line.operator(TRACKSHADE_OT_cancel_folder.bl_idname, text="", icon="X")
    elif work is not None and work.error is not None and not isinstance(work.error, CancelledError):
        draw_text(layout, context, texts.told(work.error), "ERROR")
    column = layout.column(align=True)
    column.operator(TRACKSHADE_OT_use_checkpoint.bl_idname, text="Use a Checkpoint Folder", icon="FILE_FOLDER")
    line = column.row(align=True)
    line.operator(TRACKSHADE_OT_move_models.bl_idname, text="Move Models")
    line.operator("wm.path_open", text="", icon="FOLDER_REDIRECT").filepath = str(backend.models.folder())


def _draw_model(layout: bpy.types.UILayout, context: bpy.types.Context, row: ModelRow) -> None:
    spec = row.spec
    line = layout.row()
    offered = _buttons(row)
    draw_text(line.column(), context, spec.title, _ICONS[row.state], boxed=True, buttons=len(offered))
    buttons = line.row(align=True)
    buttons.alignment = "RIGHT"
    for operator, icon in offered:
        buttons.operator(operator, text="", icon=icon).model = spec.name
    here = size_in_words(row.bytes) if row.bytes is not None else tr("here" if row.state == "here" else "not here")
    memory = size_in_words(spec.memory_bytes)
    facts = tr("{here}; needs {memory} of memory; {licence}", here=here, memory=memory, licence=spec.licence)
    draw_text(layout, context, facts)
    if row.state in ("fetching", "checking", "removing"):
        drawing.watch()
        layout.progress(factor=row.progress or 0.0, text=row.message)
    elif row.error is not None:
        draw_text(layout, context, texts.told(row.error), "ERROR")
    elif row.message:
        draw_text(layout, context, row.message, "INFO")


def _buttons(row: ModelRow) -> list[tuple[str, str]]:
    """Operators and icons that make sense for a model."""
    if row.state == "fetching":
        return [(TRACKSHADE_OT_pause_model.bl_idname, "PAUSE"), (TRACKSHADE_OT_cancel_model.bl_idname, "X")]
    if row.state == "checking":
        return [(TRACKSHADE_OT_pause_model.bl_idname, "X")]
    if row.state == "removing" or row.spec.shipped:
        return []
    if row.state == "here" or row.spec.folder:
        return [(TRACKSHADE_OT_verify_model.bl_idname, "CHECKMARK"), (TRACKSHADE_OT_remove_model.bl_idname, "TRASH")]
    if row.state == "part":
        return [(TRACKSHADE_OT_fetch_model.bl_idname, "PLAY"), (TRACKSHADE_OT_cancel_model.bl_idname, "X")]
    return [(TRACKSHADE_OT_fetch_model.bl_idname, "IMPORT")]


CLASSES = (
    TRACKSHADE_OT_fetch_model,
    TRACKSHADE_OT_pause_model,
    TRACKSHADE_OT_cancel_model,
    TRACKSHADE_OT_verify_model,
    TRACKSHADE_OT_remove_model,
    TRACKSHADE_OT_use_checkpoint,
    TRACKSHADE_OT_move_models,
    TRACKSHADE_OT_cancel_folder,
    TRACKSHADE_PT_models,
)
