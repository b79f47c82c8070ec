# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of earlier sessions and of the command line: the import menu, drag and drop, and the button under Jobs."""

# No postponed annotations here: Blender reads the properties from them.
from pathlib import Path
from typing import Any

import bpy

from ..jobs.session import current
from ..messages.texts import tr
from ..placement.result_folder import find_result_folder
from .drawing import ActionOperator, split_properties
from .jobs_list import place_result
from .modal import is_scene_free


class TRACKSHADE_OT_import_result(ActionOperator, bpy.types.Operator):
    """Place a result of an earlier session or of the command line: its folder, or its video, a frame or its record"""

    bl_idname = "trackshade.import_result"
    bl_label = "Place Result from Folder"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - as Blender requires it

    filepath: bpy.props.StringProperty(name="Folder or File", subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_folder: bpy.props.BoolProperty(default=True, options={"HIDDEN"})
    filter_glob: bpy.props.StringProperty(default="*.json;*.mp4;*.png;*.exr", options={"HIDDEN"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return is_scene_free(cls)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if self.filepath:  # a file was dropped
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def draw(self, context: bpy.types.Context) -> None:
        split_properties(self.layout).prop(context.scene.trackshade, "place_as")

    def act(self, context: bpy.types.Context) -> set[str]:
        folder = find_result_folder(Path(bpy.path.abspath(self.filepath)))
        returned = place_result(self, folder, context.scene)
        if not current().busy:  # otherwise the list shows how far it is
            self.report({"INFO"}, tr("Result placed: {folder}", folder=folder.name))
        return returned


class TRACKSHADE_FH_result(bpy.types.FileHandler):
    """Dropping the record or the video of a result onto a viewport, the outliner or the properties editor places it."""

    bl_idname = "TRACKSHADE_FH_result"
    bl_label = "Trackshade Result"
    bl_import_operator = "trackshade.import_result"
    bl_file_extensions = ".json;.mp4"

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        return context.area is not None and context.area.type in ("VIEW_3D", "OUTLINER", "PROPERTIES")


def _draw_import(menu: Any, context: bpy.types.Context) -> None:
    menu.layout.operator(TRACKSHADE_OT_import_result.bl_idname, text="Trackshade Result")


def attach() -> None:
    """Add the entry to the import menu."""
    bpy.types.TOPBAR_MT_file_import.append(_draw_import)


def detach() -> None:
    """Remove the entry."""
    bpy.types.TOPBAR_MT_file_import.remove(_draw_import)
