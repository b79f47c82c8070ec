# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the camera's render shows an instance, by the rules of its engine.

An instance is visible unless its object or its instancer is hidden from renders or from the camera, or lies in a
collection that is indirect only in the view layer. Viewport visibility does not matter here: `render_state` makes the
evaluation contain what a render contains. EEVEE shows what is indirect only; Workbench shows that, what is hidden from
the camera, and holdouts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import bpy

from .animation import animated_paths, has_frame_scripts
from .scene_settings import EEVEE, WORKBENCH, first_frame_engine

# Custom property of the planes that Trackshade makes for its results; they are not part of the shot.
PLATE_KEY = "trackshade_plate"

_SWITCHES = {"hide_render", "visible_camera", "is_holdout"}
_UNUSED_LEVEL = 2**31 - 1  # fills the unused levels of a persistent id


class InstanceVisibility(NamedTuple):
    """Whether the render shows an instance, and whether it is a holdout."""

    visible: bool
    holdout: bool


class Visibility:
    """Finds the visibility of instances, one sample at a time; all instances of an object by one instancer share it."""

    def __init__(self, view_layer: bpy.types.ViewLayer) -> None:
        self._view_layer = view_layer
        scene = view_layer.id_data
        assert isinstance(scene, bpy.types.Scene)
        engine = first_frame_engine(scene)
        self._has_rays = engine != WORKBENCH
        self._has_indirect = self._has_rays and engine not in EEVEE
        self._known: dict[tuple[int, int], InstanceVisibility] = {}  # in this sample
        self._constant: dict[tuple[int, int], InstanceVisibility] = {}  # in all samples
        self._is_static: dict[int, bool] = {}  # by object, whether its switches never change
        self._hidden = _hidden_in_layer(view_layer)
        self._hidden_in: dict[int, set[int]] = {}  # by instanced collection

    def begin_sample(self) -> None:
        """Starts a sample, in which everything may have changed."""
        self._known = dict(self._constant)

    def find(
        self, obj: bpy.types.Object, uid: int, parent: bpy.types.Object | None, parent_uid: int
    ) -> InstanceVisibility:
        """Finds the visibility of an evaluated object, or of its instances by an evaluated `parent`."""
        key = uid, parent_uid
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._evaluate(obj, parent)
            if self._has_static_switches(obj, uid) and (
                parent is None or self._has_static_switches(parent, parent_uid)
            ):
                self._constant[key] = known
        return known

    def _has_static_switches(self, obj: bpy.types.Object, uid: int) -> bool:
        static = self._is_static.get(uid)
        if static is None:
            static = not has_frame_scripts() and not animated_paths(obj.original) & _SWITCHES
            self._is_static[uid] = static
        return static

    def _evaluate(self, obj: bpy.types.Object, parent: bpy.types.Object | None) -> InstanceVisibility:
        base = obj if parent is None else parent  # the one that belongs to the view layer
        original = base.original
        layer = self._view_layer
        holdout = self._has_rays and (obj.is_holdout or base.is_holdout or original.holdout_get(view_layer=layer))
        visible = (
            not base.hide_render
            and (not self._has_rays or (base.visible_camera and obj.visible_camera))
            and (holdout or not (self._has_indirect and original.indirect_only_get(view_layer=layer)))
            and original.session_uid not in self._hidden
            and (parent is None or not self._is_skipped(obj, original))
        )
        return InstanceVisibility(visible, holdout)

    def _is_skipped(self, obj: bpy.types.Object, instancer: bpy.types.Object) -> bool:
        """Whether the instancer leaves the object out of renders; instances of geometry nodes are never left out."""
        if instancer.instance_type == "COLLECTION" and instancer.instance_collection is not None:
            collection = instancer.instance_collection
            hidden = self._hidden_in.get(collection.session_uid)
            if hidden is None:
                hidden = self._hidden_in[collection.session_uid] = _hidden_in_collection(collection)
            return obj.hide_render or obj.original.session_uid in hidden
        return instancer.instance_type != "NONE" and obj.hide_render


def is_plate(obj: bpy.types.Object) -> bool:
    """Whether an original object is a plate that Trackshade placed."""
    return PLATE_KEY in obj


def is_dupli_source(obj: bpy.types.Object) -> bool:
    """Whether an original object's parent instances it on vertices or faces; renders then do not show the object."""
    return obj.parent is not None and obj.parent.instance_type in ("VERTS", "FACES")


def is_source_itself(item: bpy.types.DepsgraphObjectInstance) -> bool:
    """Whether an instance of an `is_dupli_source` object is the object itself, not an instance on its parent.

    In an instanced collection, only the depth of the persistent id distinguishes the two.
    """
    if not item.is_instance:
        return True
    if item.parent.original == item.object.original.parent:
        return False
    return sum(part != _UNUSED_LEVEL for part in item.persistent_id) < 2


def _hidden_in_layer(view_layer: bpy.types.ViewLayer) -> set[int]:
    """Session uids of the view layer's objects that are only in collections left out of renders."""
    return _hidden(view_layer.layer_collection, lambda item: (item.collection, item.exclude))


def _hidden_in_collection(collection: bpy.types.Collection) -> set[int]:
    """The same for an instanced collection, whose own switch counts too."""
    return _hidden(collection, lambda item: (item, False))


def _hidden(root: Any, describe: Callable[[Any], tuple[bpy.types.Collection, bool]]) -> set[int]:
    """Session uids of objects that are only in hidden collections below `root`.

    Args:
        root: a collection or layer collection.
        describe: returns the collection of such an item, and whether it is excluded.
    """
    shown: set[int] = set()
    found: set[int] = set()

    def walk(item: Any, hidden: bool) -> None:
        collection, excluded = describe(item)
        hidden = hidden or collection.hide_render  # unlike this, exclusion does not affect the children
        (found if hidden or excluded else shown).update(obj.session_uid for obj in collection.objects)
        for child in item.children:
            walk(child, hidden)

    walk(root, False)
    return found - shown
