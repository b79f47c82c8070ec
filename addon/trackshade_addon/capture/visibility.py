# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the camera's render shows an instance, by the rules that its engine follows.

An instance is seen when neither its object nor what instances it is hidden from renders or from the camera, nor in a
collection that is indirect only in the view layer. Hidden in the viewport means nothing here: `render_state` makes
the evaluation hold what a render holds. EEVEE shows what is indirect only; Workbench shows that, what is hidden from
the camera, and holdouts like everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import bpy

from .animation import animated_paths, has_frame_scripts
from .engines import EEVEE, WORKBENCH, look_engine

# Custom property of the planes that Trackshade makes for its results; they are no part of the shot.
PLATE_KEY = "trackshade_plate"

_SWITCHES = {"hide_render", "visible_camera", "is_holdout"}
_NO_INDEX = 2**31 - 1  # fills the levels of a persistent id that are not used


class Appearance(NamedTuple):
    visible: bool
    holdout: bool


class Visibility:
    """Answers for one sample; instances of one object by one instancer share an answer."""

    def __init__(self, view_layer: bpy.types.ViewLayer) -> None:
        self._view_layer = view_layer
        scene = view_layer.id_data
        assert isinstance(scene, bpy.types.Scene)
        engine = look_engine(scene)
        self._has_rays = engine != WORKBENCH
        self._has_indirect = self._has_rays and engine not in EEVEE
        self._known: dict[tuple[int, int], Appearance] = {}  # in this sample
        self._lasting: dict[tuple[int, int], Appearance] = {}  # in all samples
        self._constant: dict[int, bool] = {}  # whether an object's switches are
        self._hidden = _hidden_in_layer(view_layer)
        self._hidden_in: dict[int, set[int]] = {}  # by instanced collection

    def begin(self) -> None:
        """Starts a sample: everything may have changed."""
        self._known = dict(self._lasting)

    def of(self, obj: bpy.types.Object, uid: int, parent: bpy.types.Object | None, parent_uid: int) -> Appearance:
        """The appearance of evaluated `obj` as instanced by evaluated `parent` (None where it stands for itself)."""
        key = uid, parent_uid
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._look(obj, parent)
            if self._is_constant(obj, uid) and (parent is None or self._is_constant(parent, parent_uid)):
                self._lasting[key] = known
        return known

    def _is_constant(self, obj: bpy.types.Object, uid: int) -> bool:
        constant = self._constant.get(uid)
        if constant is None:
            constant = not has_frame_scripts() and not animated_paths(obj.original) & _SWITCHES
            self._constant[uid] = constant
        return constant

    def _look(self, obj: bpy.types.Object, parent: bpy.types.Object | None) -> Appearance:
        base = obj if parent is None else parent  # the one that is in the view layer itself
        original = base.original
        layer = self._view_layer
        holdout = self._has_rays and (obj.is_holdout or base.is_holdout or original.holdout_get(view_layer=layer))
        visible = (
            not base.hide_render
            and (not self._has_rays or (base.visible_camera and obj.visible_camera))
            and (holdout or not (self._has_indirect and original.indirect_only_get(view_layer=layer)))
            and original.session_uid not in self._hidden
            and (parent is None or not self._left_out(obj, original))
        )
        return Appearance(visible, holdout)

    def _left_out(self, obj: bpy.types.Object, instancer: bpy.types.Object) -> bool:
        """Whether a render's instancer passes the object over; instances that nodes make are never passed over."""
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
    """Whether an original object's parent instances it on vertices or faces: then renders do not show it itself."""
    return obj.parent is not None and obj.parent.instance_type in ("VERTS", "FACES")


def shows_source(item: bpy.types.DepsgraphObjectInstance) -> bool:
    """Whether an instance of an `is_dupli_source` object is such an object itself, not one of those on its parent.

    Inside an instanced collection only the depth of the persistent id tells the two apart.
    """
    if not item.is_instance:
        return True
    if item.parent.original == item.object.original.parent:
        return False
    return sum(part != _NO_INDEX for part in item.persistent_id) < 2


def _hidden_in_layer(view_layer: bpy.types.ViewLayer) -> set[int]:
    """Identifiers of the view layer's objects that are only in collections which renders leave out."""
    return _hidden(view_layer.layer_collection, lambda item: (item.collection, item.exclude))


def _hidden_in_collection(collection: bpy.types.Collection) -> set[int]:
    """The same for a collection that is instanced; its own switch counts too."""
    return _hidden(collection, lambda item: (item, False))


def _hidden(root: Any, look: Callable[[Any], tuple[bpy.types.Collection, bool]]) -> set[int]:
    shown: set[int] = set()
    found: set[int] = set()

    def walk(item: Any, hidden: bool) -> None:
        collection, excluded = look(item)
        hidden = hidden or collection.hide_render  # exclusion, unlike this, does not reach the children
        (found if hidden or excluded else shown).update(obj.session_uid for obj in collection.objects)
        for child in item.children:
            walk(child, hidden)

    walk(root, False)
    return found - shown
