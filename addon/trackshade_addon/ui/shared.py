# SPDX-License-Identifier: GPL-3.0-or-later
"""What several panels and operators share."""

# No postponed annotations here: Blender reads the properties from them.
from collections.abc import Callable

import bpy

from trackshade.core.errors import TrackshadeError

from ..messages import texts
from . import drawing

# A path's options where it may be relative to the file; newer Blenders show such a path in red without.
MAY_BE_RELATIVE = (
    {"PATH_SUPPORTS_BLEND_RELATIVE"}
    if "is_path_supports_blend_relative" in bpy.types.Property.bl_rna.properties
    else set[str]()
)


class InSidebar:
    """Where the panels are."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = drawing.CATEGORY


class AsksForFolder:
    """An operator that asks for a folder first."""

    directory: bpy.props.StringProperty(name="Folder", subtype="DIR_PATH", options={"SKIP_SAVE"})
    filter_folder: bpy.props.BoolProperty(default=True, options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}


def begun(operator: bpy.types.Operator, call: Callable[[], object]) -> set[str]:
    """What an operator returns that begins something; an error of ours becomes a report."""
    try:
        call()
    except TrackshadeError as error:
        operator.report({"ERROR"}, texts.told(error))
        return {"CANCELLED"}
    drawing.watch()
    return {"FINISHED"}
