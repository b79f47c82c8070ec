# SPDX-License-Identifier: GPL-3.0-or-later
"""Look presets: prompt, first frame and strengths under a name, stored with Blender's other presets for all files."""

from __future__ import annotations

from pathlib import Path

import bpy
from bl_operators.presets import AddPresetBase
from bl_ui.utils import PresetPanel

_PRESETS_PARENT = Path(__file__).parents[1]  # of the folder `presets`
FOLDER = "trackshade/looks"  # in a folder of presets
NAMES = (
    *("prompt", "negative_prompt", "first_frame", "picture", "model", "steps", "guidance"),
    *("control_scale", "control_start", "control_end"),
    *("image_model", "image_family", "image_checkpoint", "image_strength", "lora", "lora_strength"),
    *("video_lora", "video_lora_strength"),
)


class TRACKSHADE_MT_looks(bpy.types.Menu):
    """Menu of look presets."""

    bl_idname = "TRACKSHADE_MT_looks"
    bl_label = "Look Presets"
    preset_subdir = FOLDER
    preset_operator = "script.execute_preset"
    draw = bpy.types.Menu.draw_preset


class TRACKSHADE_OT_look_add(AddPresetBase, bpy.types.Operator):
    """Add the current look as a preset for all files. It does not include the seed and the shot"""

    bl_idname = "trackshade.look_add"
    bl_label = "Add Look Preset"
    preset_menu = "TRACKSHADE_MT_looks"
    preset_subdir = FOLDER
    preset_defines = ("own = bpy.context.scene.trackshade",)
    preset_values = tuple(f"own.{name}" for name in NAMES)


class TRACKSHADE_PT_looks(PresetPanel, bpy.types.Panel):
    """Look presets in the header of the panel."""

    bl_idname = "TRACKSHADE_PT_looks"
    bl_label = "Look Presets"
    bl_space_type = "VIEW_3D"
    bl_region_type = "HEADER"
    preset_subdir = FOLDER
    preset_operator = "script.execute_preset"
    preset_add_operator = "trackshade.look_add"


def attach() -> None:
    """List the presets of the add-on with the user's presets."""
    bpy.utils.register_preset_path(str(_PRESETS_PARENT))


def detach() -> None:
    """Remove the presets of the add-on from the list."""
    bpy.utils.unregister_preset_path(str(_PRESETS_PARENT))
