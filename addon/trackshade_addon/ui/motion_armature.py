# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel Motion to Armature: joint rotations of footage, or of a motion file, as keyframes of an armature."""

# No postponed annotations here: Blender reads the properties from them.
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy

from trackshade.core.errors import UsageError
from trackshade.motion.bone_names import match_bones
from trackshade.motion.bvh import read_bvh
from trackshade.motion.hand_places import HandPlaces
from trackshade.motion.skeleton import JOINTS

from ..capture.stepping import Steps
from ..jobs.session import current
from ..messages.texts import tr
from ..motion.armature import animate_armature, find_armature
from ..motion.driving import MotionOrder
from ..properties.motion import JOINT_LABELS, TrackshadeMotion
from ..properties.placement_options import PlacementOptions
from .drawing import SubPanel, action, draw_properties, draw_text, split_properties, tr_count
from .modal import is_scene_free
from .motion_footage import FootageOperator, footage_of, hands_of, model_of


class TRACKSHADE_OT_motion_to_armature(FootageOperator, bpy.types.Operator):
    """Animate the armature with the motion of the footage, or of the motion file. Its present action is kept"""

    bl_idname = "trackshade.motion_to_armature"
    bl_label = "Animate Armature"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - as Blender requires it

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.scene.trackshade_motion.motion:  # which needs no backend
            return is_scene_free(cls)
        return super().poll(context)

    def steps(self, context: bpy.types.Context) -> Generator[Steps, None, HandPlaces | None]:
        """Check what can be checked before the footage is read, and find the hands of an armature that it shows."""
        settings: Any = context.scene.trackshade_motion
        _armature(context.scene)
        yield 1, 1
        if settings.motion:
            return None
        footage_of(settings)
        return (yield from hands_of(context.scene))

    def finish(self, context: bpy.types.Context, result: HandPlaces | None) -> set[str]:
        """Animate the armature, or start the job that reads the footage."""
        scene: Any = context.scene
        settings: TrackshadeMotion = scene.trackshade_motion
        if not settings.motion:
            request = replace(settings.driving_request(), mode="reenact")
            order = MotionOrder(footage_of(settings), request, model=model_of(settings), has_result=False, hands=result)
            return self.start(context, order, PlacementOptions("armature"))
        path = Path(bpy.path.abspath(settings.motion))
        warnings = animate_armature(
            _armature(scene), read_bvh(path), scene, table=settings.bone_table(), name=path.stem
        )
        for warning in warnings:
            self.report({"WARNING"}, warning)
        return {"FINISHED"}


@action("Match Bones", bl_options={"REGISTER", "UNDO"}, poll=classmethod(is_scene_free))
def match_bones_by_name(operator: Any, context: bpy.types.Context) -> None:
    """Fill the table with the bones whose names are known: Rigify, Mixamo, Unreal, motion capture and others"""
    settings: Any = context.scene.trackshade_motion
    found = match_bones(bone.name for bone in _armature(context.scene).data.bones)
    settings.bones.clear()
    for joint in JOINTS:
        item = settings.bones.add()
        item.name, item.bone = joint, found.get(joint, "")
    operator.report({"INFO"}, tr_count("1 bone is known", "{count} bones are known", len(found)))


@action("Clear Table", bl_options={"REGISTER", "UNDO"}, poll=classmethod(is_scene_free))
def clear_bones(operator: Any, context: bpy.types.Context) -> None:
    """Remove the table: bones are found by their names"""
    settings: Any = context.scene.trackshade_motion
    settings.bones.clear()


class TRACKSHADE_PT_motion_armature(SubPanel, bpy.types.Panel):
    """Motion of footage, or of a motion file, on an armature."""

    bl_label = "Motion to Armature"
    bl_parent_id = "TRACKSHADE_PT_motion"

    def draw(self, context: bpy.types.Context) -> None:
        settings: Any = context.scene.trackshade_motion
        layout = split_properties(self.layout)
        layout.enabled = not current().holds_scene
        draw_properties(layout.column(), settings, "motion", "armature")
        row = layout.row(align=True)
        row.operator("trackshade.match_bones_by_name", icon="BONE_DATA")
        if len(settings.bones):
            row.operator("trackshade.clear_bones", text="", icon="X")
        armature = settings.armature
        column = layout.column(align=True)
        for item in settings.bones:
            label = JOINT_LABELS.get(item.name, item.name)
            if armature is not None:
                column.prop_search(item, "bone", armature.data, "bones", text=label)
            else:
                column.prop(item, "bone", text=label)
        draw_text(layout, context, tr("The armature gives full size: shade the scene afterwards"), "INFO")
        layout.operator("trackshade.motion_to_armature", icon="ARMATURE_DATA")


def _armature(scene: Any) -> bpy.types.Object:
    """Return the armature that the settings name, or the only one of the scene. Raise UsageError."""
    chosen = scene.trackshade_motion.armature
    if chosen is not None and chosen.name not in scene.objects:
        raise UsageError("no-armature", f"Armature '{chosen.name}' is not in this scene.", "Choose another one.")
    return find_armature(scene) if chosen is None else chosen
