# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's preferences as Blender shows them, and the button that opens them."""

from __future__ import annotations

import bpy

from trackshade.core import folders

from .. import backend
from ..properties.preferences import ADDON, PreferencesProperties
from .backend_panel import draw_backend
from .drawing import action, draw_properties, draw_text, split_properties
from .models_panel import draw_models


class TrackshadePreferences(PreferencesProperties, bpy.types.AddonPreferences):
    """Preferences of the add-on."""

    bl_idname = ADDON

    def draw(self, context: bpy.types.Context) -> None:
        layout = split_properties(self.layout)
        column = layout.column()
        column.prop(self, "results")
        column.prop(self, "unsaved_results", placeholder=str(folders.unsaved_results_dir()))
        header, body = layout.panel("TRACKSHADE_preferences_backend")
        header.label(text="Backend")
        if body is not None:
            draw_backend(body, context)
            column = body.column(heading="Set Up")
            column.enabled = backend.manager.state().kind != "setting-up"
            names = ("device", "environment_folder", "base_python", "wheels_folder", "package_index")
            draw_properties(column, self, *names)
            column = body.column(heading="Alternatives")
            draw_properties(column, self, "python", "endpoint")
            if self.python:
                column.operator("trackshade.check_environment", icon="CHECKMARK")
            if self.endpoint:
                draw_properties(column, self, "token", "server_key", "client_key")
                column.operator("trackshade.test_connection", icon="CHECKMARK")
        header, body = layout.panel("TRACKSHADE_preferences_models")
        header.label(text="Models")
        if body is not None:
            draw_models(body, context)
            draw_text(body, context, str(backend.models.folder()), "FILE_FOLDER")


@action("Preferences")
def show_preferences(operator: bpy.types.Operator, context: bpy.types.Context) -> set[str]:
    """Open the add-on's preferences, with settings for models and folders"""
    if bpy.app.background or context.preferences.addons.get(ADDON) is None:
        return {"CANCELLED"}
    return bpy.ops.preferences.addon_show(module=ADDON)
