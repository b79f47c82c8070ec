# SPDX-License-Identifier: GPL-3.0-or-later
"""Buttons that take placed results out of the scene again."""

# No postponed annotations here: Blender reads the properties from them.
import bpy

from ..capture import PLATE_KEY
from ..jobs.session import current
from ..messages.texts import tr
from ..placement import remove_result, remove_textures
from .jobs_list import OfJob, is_free


class TRACKSHADE_OT_restore_materials(bpy.types.Operator):
    """Put back the materials that the scene's objects had before a result was laid onto them"""

    bl_idname = "trackshade.restore_materials"
    bl_label = "Put Materials Back"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - as Blender wants it

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not any(PLATE_KEY in material for material in bpy.data.materials):
            cls.poll_message_set("No object shows a result")
            return False
        return is_free(cls)

    def execute(self, context: bpy.types.Context) -> set[str]:
        count = remove_textures(context.scene, maps=True)
        self.report({"INFO"}, tr("{count} objects have their own materials again", count=count))
        return {"FINISHED"}


class TRACKSHADE_OT_take_out(OfJob, bpy.types.Operator):
    """Take this job's result out of the scene: plate, background, nodes, strip and textures. Its files stay"""

    bl_idname = "trackshade.take_out"
    bl_label = "Take Out"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - as Blender wants it

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return bool(current().jobs) and is_free(cls)

    def execute(self, context: bpy.types.Context) -> set[str]:
        job = self.found(context)
        if job is None:
            return {"CANCELLED"}
        remove_result(job.scene.find() or context.scene, job.out)
        return {"FINISHED"}


CLASSES = (TRACKSHADE_OT_restore_materials, TRACKSHADE_OT_take_out)
