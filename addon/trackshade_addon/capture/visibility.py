# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the camera's render shows an instance, by the rules that Cycles follows.

An instance is seen when neither its object nor what instances it is hidden from renders or from the camera, nor in a
collection that is indirect only in the view layer. Hidden in the viewport means nothing here: `render_state` makes
the evaluation hold what a render holds.
"""

from __future__ import annotations

from typing import NamedTuple

import bpy

# Custom property of the planes that Trackshade makes for its results; they are no part of the shot.
PLATE_KEY = "trackshade_plate"


class Appearance(NamedTuple):
    visible: bool
    holdout: bool


class Visibility:
    """Answers for one sample; instances of one object by one instancer share an answer."""

    def __init__(self, view_layer: bpy.types.ViewLayer) -> None:
        self._view_layer = view_layer
        self._known: dict[tuple[int, int], Appearance] = {}
        self._hidden = _hidden_by_collections(view_layer)

    def begin(self) -> None:
        """Starts a sample: everything may have changed."""
        self._known.clear()

    def of(self, obj: bpy.types.Object, uid: int, parent: bpy.types.Object | None, parent_uid: int) -> Appearance:
        """The appearance of evaluated `obj` as instanced by evaluated `parent` (None where it stands for itself)."""
        key = uid, parent_uid
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._look(obj, parent)
        return known

    def _look(self, obj: bpy.types.Object, parent: bpy.types.Object | None) -> Appearance:
        base = obj if parent is None else parent  # the one that is in the view layer itself
        original = base.original
        holdout = obj.is_holdout or base.is_holdout or original.holdout_get(view_layer=self._view_layer)
        visible = (
            not base.hide_render
            and base.visible_camera
            and obj.visible_camera
            and (holdout or not original.indirect_only_get(view_layer=self._view_layer))
            and original.session_uid not in self._hidden
        )
        return Appearance(visible, holdout)


def is_plate(obj: bpy.types.Object) -> bool:
    """Whether an original object is a plate that Trackshade placed."""
    return PLATE_KEY in obj


def _hidden_by_collections(view_layer: bpy.types.ViewLayer) -> set[int]:
    """Identifiers of the view layer's objects that are only in collections which renders leave out."""
    shown: set[int] = set()
    found: set[int] = set()

    def walk(layer: bpy.types.LayerCollection, hidden: bool) -> None:
        if layer.exclude:
            hidden = True
        hidden = hidden or layer.collection.hide_render
        (found if hidden else shown).update(obj.session_uid for obj in layer.collection.objects)
        for child in layer.children:
            walk(child, hidden)

    walk(view_layer.layer_collection, False)
    return found - shown
