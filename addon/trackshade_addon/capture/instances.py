# SPDX-License-Identifier: GPL-3.0-or-later
"""The surfaces of an evaluated frame: objects and instances of every kind, each with an identity that lasts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import bpy

from .geometry import keeps_topology
from .visibility import Appearance, Visibility, is_dupli_source, is_plate, shows_source
from .warnings import WITHOUT_SURFACE

# What finds an instance again in another frame: its object, its instancer (0: none) and its place in that.
Key = tuple[int, int, tuple[int, ...]]


class Facts(NamedTuple):
    """What holds of an original object in every frame."""

    name: str
    pass_index: int
    plate: bool
    dupli_source: bool
    keeps_topology: bool
    hair: tuple[str, ...]  # names of the particle systems that render as hair


class Seen(NamedTuple):
    """A mesh or something without surface in one frame; good only until the next one is asked for.

    Attributes:
        kind: "MESH", or one of `WITHOUT_SURFACE`.
        name: the object's; an instance carries its instancer's too.
        by_counts: its counts of vertices and faces alone tell whether the topology is another one.
    """

    key: Key
    name: str
    obj: bpy.types.Object
    item: bpy.types.DepsgraphObjectInstance
    appearance: Appearance
    pass_index: int
    by_counts: bool
    kind: str
    system: str = ""  # name of the particle system, where `kind` is "HAIR"


class Instances:
    """Goes through the instances of a view layer's frames."""

    def __init__(self, view_layer: bpy.types.ViewLayer) -> None:
        self._visibility = Visibility(view_layer)
        self._facts: dict[int, Facts] = {}
        self._names: dict[tuple[int, int], str] = {}

    def of(self, depsgraph: bpy.types.Depsgraph) -> Iterator[Seen]:
        """All that has extent in the present frame, hidden or not; plates of Trackshade's own are left out."""
        self._visibility.begin()
        for item in depsgraph.object_instances:
            obj = item.object
            kind = obj.type
            original = obj.original
            # Curves that nodes make of anything else than a curve come as one, and render as hair.
            if kind == "CURVE" and item.is_instance and original.type not in ("CURVE", "FONT", "SURFACE"):
                kind = "CURVES"
            # Whatever evaluates to a mesh, a text say, also comes as an instance of that mesh.
            if kind != "MESH" and kind not in WITHOUT_SURFACE:
                continue
            if not item.show_self and not item.show_particles:
                continue
            uid = original.session_uid
            facts = self._facts.get(uid) or self._learn(uid, original)
            if facts.plate or (facts.dupli_source and shows_source(item)):
                continue
            parent, parent_uid, place = None, 0, ()
            if item.is_instance:
                parent = item.parent
                assert parent is not None  # every instance has its instancer
                parent_uid = parent.original.session_uid
                place = tuple(item.persistent_id)
            name = self._names.get((uid, parent_uid))
            if name is None:
                name = facts.name
                if parent is not None and parent_uid != uid:
                    name = f"{parent.original.name}/{name}"
                self._names[uid, parent_uid] = name
            key, appearance = (uid, parent_uid, place), self._visibility.of(obj, uid, parent, parent_uid)
            if item.show_self:
                by_counts = facts.keeps_topology and parent_uid != uid
                yield Seen(key, name, obj, item, appearance, facts.pass_index, by_counts, kind)
            if item.show_particles and kind == "MESH":
                for index, system in enumerate(facts.hair):
                    key = uid, parent_uid, (*place, -1 - index)
                    yield Seen(key, name, obj, item, appearance, facts.pass_index, False, "HAIR", system)

    def _learn(self, uid: int, original: bpy.types.Object) -> Facts:
        facts = self._facts[uid] = Facts(
            name=original.name,
            pass_index=original.pass_index,
            plate=is_plate(original),
            dupli_source=is_dupli_source(original),
            keeps_topology=keeps_topology(original),
            hair=tuple(_hair(original)),
        )
        return facts


def _hair(obj: bpy.types.Object) -> Iterator[str]:
    """Names of an object's particle systems that render as hair; no engine renders other particles as lines."""
    for modifier in obj.modifiers:
        if modifier.type != "PARTICLE_SYSTEM" or not (modifier.show_render or obj.animation_data):
            continue
        settings = modifier.particle_system.settings
        if settings.type == "HAIR" and settings.render_type == "PATH":
            yield modifier.particle_system.name
