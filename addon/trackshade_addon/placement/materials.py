# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts a material onto an object without touching its own, and takes it away again.

The object's slots are linked to the object and given the material; the mesh keeps its own, so that other users of it
stay as they are. What each slot held before is kept on the object as a custom property, which is saved with the file
and keeps those materials from being purged.
"""

from __future__ import annotations

import bpy

KEY = "trackshade_materials"  # on an object: what its slots held before
_SLOT = "trackshade_slot"  # on a mesh without slots: one was added


def dress(obj: bpy.types.Object, material: bpy.types.Material, result: str) -> None:
    """Shows a material of a result on all of an object; what it showed before is kept."""
    undress(obj)
    if not obj.material_slots:
        obj.data.materials.append(None)
        obj.data[_SLOT] = True
    before = {}
    for number, slot in enumerate(obj.material_slots):
        held = {"link": slot.link}
        own = obj.material_slots[number]
        own.link = "OBJECT"
        if own.material is not None:
            held["material"] = own.material
        before[str(number)] = held
        own.material = material
    obj[KEY] = {"result": result, "slots": before}


def undress(obj: bpy.types.Object) -> None:
    """Puts back what `dress` took off; does nothing where an object wears its own."""
    before = obj.get(KEY)
    if before is None:
        return
    for number, held in before["slots"].items():
        if int(number) < len(obj.material_slots):  # slots may have been removed since
            slot = obj.material_slots[int(number)]
            slot.link = "OBJECT"
            slot.material = held.get("material")
            slot.link = held["link"]
    del obj[KEY]
    mesh = obj.data
    if mesh.get(_SLOT) and not any(KEY in user for user in bpy.data.objects if user.data == mesh):
        del mesh[_SLOT]
        if len(mesh.materials) == 1 and mesh.materials[0] is None:
            mesh.materials.clear()  # `pop` would leave the slots of the objects


def dressed(scene: bpy.types.Scene, result: str | None = None) -> list[bpy.types.Object]:
    """The objects of a scene that wear a result, any or this one."""
    return [obj for obj in scene.objects if KEY in obj and result in (None, obj[KEY]["result"])]
