# SPDX-License-Identifier: GPL-3.0-or-later
"""The models in the sidebar and the preferences: downloading, verifying, adding and moving them."""

# No postponed annotations here: Blender reads the properties from them.
import bpy

from trackshade.core.errors import CancelledError
from trackshade.core.text import format_size

from .. import backend
from ..backend.model_manager import ModelRow
from ..backend.prefs import current_prefs
from ..messages import texts
from ..messages.texts import tr
from .drawing import ActionOperator, FolderOperator, SubPanel, action, draw_online, draw_progress, draw_text

_ICONS = {"here": "CHECKMARK", "absent": "IMPORT", "part": "PAUSE"}


class _ModelOperator(ActionOperator):
    """An operator on one model."""

    model: bpy.props.StringProperty(name="Model", options={"HIDDEN", "SKIP_SAVE"})


class TRACKSHADE_OT_fetch_model(_ModelOperator, bpy.types.Operator):
    """Download this model, or continue an earlier download. The license is shown first"""

    bl_idname = "trackshade.fetch_model"
    bl_label = "Download Model"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        spec = backend.models.spec(self.model)
        confirm = "Open Download Page" if spec is not None and spec.source else "Accept and Download"
        return context.window_manager.invoke_props_dialog(self, width=440, confirm_text=confirm)

    def draw(self, context: bpy.types.Context) -> None:
        column = self.layout.column()
        spec = backend.models.spec(self.model)
        if spec is None:
            return
        column.label(text=spec.title, translate=False)
        column.label(text=tr("License: {license}", license=spec.license), translate=False)
        if spec.license_url:
            column.operator("wm.url_open", text="Read License", icon="URL").url = spec.license_url
        if spec.use:
            draw_text(column, context, spec.use)
        memory = tr("Memory on the device: {size}", size=format_size(spec.memory_bytes))
        column.label(text=memory, translate=False)
        if spec.download_bytes:
            size = tr("Download: about {size}", size=format_size(spec.download_bytes))
            column.label(text=size, translate=False)
        if spec.source:
            text = tr(
                "You download this model yourself from {source}, then select its folder below", source=spec.source
            )
            draw_text(column, context, text)
            return
        column.label(text=tr("Folder: {folder}", folder=backend.models.folder()), translate=False)
        if spec.repo:
            source = tr("Source: {repository}, revision {revision}", repository=spec.repo, revision=spec.revision)
            column.label(text=source, translate=False)
        draw_online(column, context, "The download needs network access, which is disabled in Blender.")

    def act(self, context: bpy.types.Context) -> None:
        spec = backend.models.spec(self.model)
        if spec is not None and spec.source:
            bpy.ops.wm.url_open(url=spec.source)
        else:
            backend.models.fetch(self.model, current_prefs())


@action("Pause", _ModelOperator)
def pause_model(operator: _ModelOperator, context: bpy.types.Context) -> None:
    """Pause this download. It can be continued later"""
    backend.models.pause(operator.model)


@action("Cancel", _ModelOperator)
def cancel_model(operator: _ModelOperator, context: bpy.types.Context) -> None:
    """Cancel this download and delete its files"""
    backend.models.cancel(operator.model)


@action("Verify", _ModelOperator)
def verify_model(operator: _ModelOperator, context: bpy.types.Context) -> None:
    """Compare the checksums of all files of this model, which takes a while for a large model"""
    backend.models.verify(operator.model, current_prefs())


class TRACKSHADE_OT_remove_model(_ModelOperator, bpy.types.Operator):
    """Delete this model from disk. A checkpoint folder of yours is only removed from the list"""

    bl_idname = "trackshade.remove_model"
    bl_label = "Remove Model"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        row = next((row for row in backend.models.rows() if row.spec.name == self.model), None)
        message = ""
        if row is not None and row.spec.folder:
            message = tr("The model is removed from the list; its files are kept")
        elif row is not None and row.bytes:
            message = tr("Its files ({size}) are deleted from disk", size=format_size(row.bytes))
        return context.window_manager.invoke_confirm(self, event, message=message)

    def act(self, context: bpy.types.Context) -> None:
        backend.models.remove(self.model)


@action("Use This Checkpoint Folder", FolderOperator)
def use_checkpoint(operator: FolderOperator, context: bpy.types.Context) -> None:
    """Use a checkpoint folder on your disk, in the layout of diffusers. It is checked first and stays where it is"""
    backend.models.use_folder(operator.folder, current_prefs())


@action("Move Models Here", FolderOperator)
def move_models(operator: FolderOperator, context: bpy.types.Context) -> None:
    """Move all models to another folder. They are copied and compared before the old files are deleted"""
    backend.models.move(operator.folder)


@action("Cancel")
def cancel_folder(operator: bpy.types.Operator, context: bpy.types.Context) -> None:
    """Cancel. All files stay where they were"""
    task = backend.models.task()
    if task is not None:
        task.cancel()


class TRACKSHADE_PT_models(SubPanel, bpy.types.Panel):
    """The models and their folder."""

    bl_label = "Models"
    bl_order = 91

    def draw(self, context: bpy.types.Context) -> None:
        draw_models(self.layout, context)


def draw_models(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Draw the list of models, and the buttons for all of them."""
    for row in backend.models.rows():
        _draw_model(layout.box(), context, row)
    task = backend.models.task()
    if task is not None and task.running:
        draw_progress(layout, task.progress, task.message, "trackshade.cancel_folder")
    elif task is not None and task.error is not None and not isinstance(task.error, CancelledError):
        draw_text(layout, context, texts.error_text(task.error), "ERROR")
    column = layout.column(align=True)
    column.operator("trackshade.use_checkpoint", text="Use Checkpoint Folder", icon="FILE_FOLDER")
    line = column.row(align=True)
    line.operator("trackshade.move_models", text="Move Models")
    line.operator("wm.path_open", text="", icon="FOLDER_REDIRECT").filepath = str(backend.models.folder())


def _draw_model(layout: bpy.types.UILayout, context: bpy.types.Context, row: ModelRow) -> None:
    spec = row.spec
    line = layout.row()
    operators = _operators(row)
    icon = _ICONS.get(row.state, "SORTTIME")
    draw_text(line.column(), context, spec.title, icon, boxed=True, buttons=len(operators))
    buttons = line.row(align=True)
    buttons.alignment = "RIGHT"
    for operator, icon in operators:
        buttons.operator(operator, text="", icon=icon).model = spec.name
    size = tr("Not downloaded")
    if row.bytes is not None or row.state == "here":
        size = tr("Downloaded") if row.bytes is None else format_size(row.bytes)
    memory = format_size(spec.memory_bytes)
    draw_text(layout, context, tr("{size}, memory: {memory}, license: {license}", size=size, memory=memory,
                                  license=spec.license))  # fmt: skip
    if row.state in ("fetching", "checking", "removing"):
        draw_progress(layout, row.progress, row.message)
    elif row.error is not None:
        draw_text(layout, context, texts.error_text(row.error), "ERROR")
    elif row.message:
        draw_text(layout, context, row.message, "INFO")


def _operators(row: ModelRow) -> list[tuple[str, str]]:
    """Return operators for a model in its state, with their icons."""
    if row.state == "fetching":
        return [("trackshade.pause_model", "PAUSE"), ("trackshade.cancel_model", "X")]
    if row.state == "checking":
        return [("trackshade.pause_model", "X")]
    if row.state == "removing" or row.spec.shipped:
        return []
    if row.state == "here" or row.spec.folder:
        return [("trackshade.verify_model", "CHECKMARK"), ("trackshade.remove_model", "TRASH")]
    if row.state == "part":
        return [("trackshade.fetch_model", "PLAY"), ("trackshade.cancel_model", "X")]
    return [("trackshade.fetch_model", "IMPORT")]
