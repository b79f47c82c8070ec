# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects and instances of an evaluated frame that have a surface or hair, each with a lasting identity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import bpy

from .geometry import keeps_topology
from .visibility import InstanceVisibility, Visibility, is_dupli_source, is_plate, is_source_itself
from .warnings import WITHOUT_SURFACE

# Identifies an instance over the frames: its object, its instancer (0 for none) and its persistent id.
InstanceKey = tuple[int, int, tuple[int, ...]]


class _ObjectFacts(NamedTuple):
    """Properties of an original object that are the same in every frame."""

    name: str
    pass_index: int
    is_plate: bool
    is_dupli_source: bool
    keeps_topology: bool
    hair: tuple[str, ...]  # names of the particle systems that render as hair


class Instance(NamedTuple):
    """A mesh, or something without a surface, in one frame; valid only until the next one is requested.

    Attributes:
        key: its identity.
        name: the object's name; an instance's name begins with that of its instancer.
        obj: the evaluated object.
        item: the instance in the depsgraph.
        visibility: whether the render shows it.
        pass_index: pass index of the object.
        by_counts: whether equal counts of vertices and faces mean equal topology.
        kind: "MESH", or a key of `WITHOUT_SURFACE`.
        system: name of the particle system if `kind` is "HAIR".
    """

    key: InstanceKey
    name: str
    obj: bpy.types.Object
    item: bpy.types.DepsgraphObjectInstance
    visibility: InstanceVisibility
    pass_index: int
    by_counts: bool
    kind: str
    system: str = ""


class InstanceReader:
    """Reads the instances of a view layer, frame by frame."""

    def __init__(self, view_layer: bpy.types.ViewLayer) -> None:
        self._visibility = Visibility(view_layer)
        self._facts: dict[int, _ObjectFacts] = {}
        self._names: dict[tuple[int, int], str] = {}

    def read(self, depsgraph: bpy.types.Depsgraph) -> Iterator[Instance]:
        """Yields everything with extent in the present frame, hidden or not, except plates of Trackshade."""
        self._visibility.begin_sample()
        for item in depsgraph.object_instances:
            obj = item.object
            kind = obj.type
            original = obj.original
            # Geometry nodes of anything but a curve object output their curves as one, and these render as hair.
            if kind == "CURVE" and item.is_instance and original.type not in ("CURVE", "FONT", "SURFACE"):
                kind = "CURVES"
            # Whatever evaluates to a mesh, such as a text, also appears as an instance of that mesh.
            if kind != "MESH" and kind not in WITHOUT_SURFACE:
                continue
            if not item.show_self and not item.show_particles:
                continue
            uid = original.session_uid
            facts = self._facts.get(uid) or self._read_facts(uid, original)
            if facts.is_plate or (facts.is_dupli_source and is_source_itself(item)):
                continue
            parent, parent_uid, persistent_id = None, 0, ()
            if item.is_instance:
                parent = item.parent
                assert parent is not None  # every instance has an instancer
                parent_uid = parent.original.session_uid
                persistent_id = tuple(item.persistent_id)
            name = self._names.get((uid, parent_uid))
            if name is None:
                name = facts.name
                if parent is not None and parent_uid != uid:
                    name = f"{parent.original.name}/{name}"
                self._names[uid, parent_uid] = name
            key, visibility = (uid, parent_uid, persistent_id), self._visibility.find(obj, uid, parent, parent_uid)
            if item.show_self:
                by_counts = facts.keeps_topology and parent_uid != uid
                yield Instance(key, name, obj, item, visibility, facts.pass_index, by_counts, kind)
            if item.show_particles and kind == "MESH":
                for index, system in enumerate(facts.hair):
                    key = uid, parent_uid, (*persistent_id, -1 - index)
                    yield Instance(key, name, obj, item, visibility, facts.pass_index, False, "HAIR", system)

    def _read_facts(self, uid: int, original: bpy.types.Object) -> _ObjectFacts:
        facts = self._facts[uid] = _ObjectFacts(
            name=original.name,
            pass_index=original.pass_index,
            is_plate=is_plate(original),
            is_dupli_source=is_dupli_source(original),
            keeps_topology=keeps_topology(original),
            hair=tuple(_hair_systems(original)),
        )
        return facts


def _hair_systems(obj: bpy.types.Object) -> Iterator[str]:
    """Names of an object's particle systems that render as hair; no engine renders other particles as lines."""
    for modifier in obj.modifiers:
        if modifier.type != "PARTICLE_SYSTEM" or not (modifier.show_render or obj.animation_data):
            continue
        settings = modifier.particle_system.settings
        if settings.type == "HAIR" and settings.render_type == "PATH":
            yield modifier.particle_system.name
