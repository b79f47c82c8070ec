# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator that places a file of Gaussian splats, and its entry in the import menu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
from bpy_extras.io_utils import ImportHelper

from trackshade.core.errors import TrackshadeError

from ..messages.texts import error_text, tr
from .splats import place_splats


class TRACKSHADE_OT_place_splats(bpy.types.Operator, ImportHelper):  # noqa: N801
    """Add Gaussian splats of a shot to the scene. A USD file has those of all frames"""  # noqa: D415

    bl_idname = "trackshade.place_splats"
    bl_label = "Splats of a Shot"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012

    filter_glob: bpy.props.StringProperty(default="*.usdc;*.usda;*.usd;*.ply", options={"HIDDEN"})

    def execute(self, context: bpy.types.Context) -> set[str]:  # noqa: D102
        try:
            placed = place_splats(Path(bpy.path.abspath(self.filepath)), context.scene)
        except TrackshadeError as error:
            self.report({"ERROR"}, error_text(error))
            return {"CANCELLED"}
        for warning in placed.warnings:
            self.report({"WARNING"}, warning)
        self.report({"INFO"}, tr("{count} splats placed", count=placed.count))
        return {"FINISHED"}


def _draw_import(menu: Any, context: bpy.types.Context) -> None:
    menu.layout.operator(TRACKSHADE_OT_place_splats.bl_idname, text="Splats of a Shot (Trackshade)")


def attach() -> None:
    """Add the entry to the import menu."""
    bpy.types.TOPBAR_MT_file_import.append(_draw_import)


def detach() -> None:
    """Remove the entry."""
    bpy.types.TOPBAR_MT_file_import.remove(_draw_import)
