# SPDX-License-Identifier: GPL-3.0-or-later
"""Properties of scenes in a Blender in which the add-on is not registered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import bpy

from .lifted import TrackshadeLift, TrackshadeLiftObject
from .scene import TrackshadeCamera, TrackshadeKeyPicture, TrackshadeSettings

_GROUPS = {"trackshade": TrackshadeSettings, "trackshade_lift": TrackshadeLift}


@contextmanager
def scene_properties() -> Iterator[None]:
    """Let scenes have the add-on's settings in the block, so that they are saved with a file."""
    if hasattr(bpy.types.Scene, "trackshade"):
        yield
        return
    classes = (TrackshadeKeyPicture, TrackshadeCamera, TrackshadeLiftObject, *_GROUPS.values())
    for cls in classes:
        bpy.utils.register_class(cls)
    for name, group in _GROUPS.items():
        setattr(bpy.types.Scene, name, bpy.props.PointerProperty(type=group))
    try:
        yield
    finally:
        for name in _GROUPS:
            delattr(bpy.types.Scene, name)
        for cls in reversed(classes):
            bpy.utils.unregister_class(cls)
