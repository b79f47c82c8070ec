# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks: prompt, first frame and strengths under a name, kept for all files by Blender's own presets."""

from __future__ import annotations

from pathlib import Path

import bpy
from bl_operators.presets import AddPresetBase
from bl_ui.utils import PresetPanel

_HOME = Path(__file__).parents[1]  # of the folder `presets`
FOLDER = "trackshade/looks"  # in the user's folder of presets
NAMES = (
    *("prompt", "negative_prompt", "first_frame", "picture", "model", "steps", "guidance"),
    *("control_scale", "control_start", "control_end"),
)


class TRACKSHADE_MT_looks(bpy.types.Menu):
    """The looks by name."""

    bl_idname = "TRACKSHADE_MT_looks"
    bl_label = "Looks"
    preset_subdir = FOLDER
    preset_operator = "script.execute_preset"
    draw = bpy.types.Menu.draw_preset


class TRACKSHADE_OT_look_add(AddPresetBase, bpy.types.Operator):
    """Keep the present look under a name, for this and all other files. The seed and the shot are not part of it"""

    bl_idname = "trackshade.look_add"
    bl_label = "Add Look"
    preset_menu = "TRACKSHADE_MT_looks"
    preset_subdir = FOLDER
    preset_defines = ("own = bpy.context.scene.trackshade",)
    preset_values = tuple(f"own.{name}" for name in NAMES)


class TRACKSHADE_PT_looks(PresetPanel, bpy.types.Panel):
    """The looks, in the header of the panel Look."""

    bl_idname = "TRACKSHADE_PT_looks"
    bl_label = "Looks"
    bl_space_type = "VIEW_3D"
    bl_region_type = "HEADER"
    preset_subdir = FOLDER
    preset_operator = "script.execute_preset"
    preset_add_operator = "trackshade.look_add"


def attach() -> None:
    """The looks that come with the add-on are listed with the user's own."""
    bpy.utils.register_preset_path(str(_HOME))


def detach() -> None:
    bpy.utils.unregister_preset_path(str(_HOME))


CLASSES = (TRACKSHADE_MT_looks, TRACKSHADE_OT_look_add, TRACKSHADE_PT_looks)
