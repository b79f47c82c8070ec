# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes a result out of a scene again, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import bpy

from ..capture.animation import curves
from .collection import PLATE_KEY, holds_anything, root_collection
from .compositor import remove_from_compositor
from .coordinates import remove_maps
from .materials import dressed, undress
from .projected import TRACKS_KEY, drop_tracks
from .strip import remove_strips
from .timing import forget_drivers

SHOWN_KEY = "trackshade_showed_backgrounds"  # on a camera whose background images were switched off before
_BACKGROUND = re.compile(r"background_images\[(\d+)\]")


def remove_result(scene: bpy.types.Scene, folder: Path, maps: bool = True) -> None:
    """Takes everything of a result out of a scene; the result's files stay, and, without `maps`, the UV maps that it
    was given."""
    tag = str(folder)
    remove_textures(scene, tag, maps)
    remove_from_compositor(scene, tag)
    remove_strips(scene, tag)
    for obj in [item for item in scene.objects if item.get(PLATE_KEY) == tag]:
        bpy.data.objects.remove(obj)
    for data in {item.data for item in scene.objects if isinstance(item.data, bpy.types.Camera)}:
        _remove_backgrounds(data, tag)
    tidy(scene, tag)


def remove_textures(scene: bpy.types.Scene, tag: str | None = None, maps: bool = False) -> int:
    """Puts back the materials of all objects that wear a result, any or the one of this folder; how many there were.
    The UV maps that their meshes were given go with `maps`."""
    worn = dressed(scene, tag)
    for obj in worn:
        drop_tracks(obj)
        undress(obj)
    carriers = [item for item in scene.objects if item.get(TRACKS_KEY) and tag in (None, item.get(PLATE_KEY))]
    for obj in carriers:
        bpy.data.objects.remove(obj)
    if maps:
        remove_maps(worn)
    tidy(scene, tag)
    return len(worn)


def tidy(scene: bpy.types.Scene, tag: str | None = None) -> None:
    """Removes what nothing uses any more of a result, or of any, and the collections that hold nothing any more."""
    _purge(tag)
    root = root_collection(scene)
    if root is not None:
        for home in [item for item in root.children if PLATE_KEY in item and not holds_anything(item)]:
            bpy.data.collections.remove(home)
        if not holds_anything(root):
            bpy.data.collections.remove(root)


def _purge(tag: str | None) -> None:
    """Removes what nothing uses any more of a result's data, or of any result's."""
    for blocks in (bpy.data.meshes, bpy.data.cameras, bpy.data.materials, bpy.data.node_groups, bpy.data.images,
                   bpy.data.actions):  # fmt: skip
        for block in [item for item in blocks if item.users == 0 and PLATE_KEY in item]:
            if tag in (None, block[PLATE_KEY]):
                blocks.remove(block)


def _remove_backgrounds(data: bpy.types.Camera, tag: str) -> None:
    own = [item for item in data.background_images if item.image is not None and item.image.get(PLATE_KEY) == tag]
    for item in own:
        item.image = None  # else the image keeps a user
        _remove_background(data, item)
    ours = any(item.image is not None and PLATE_KEY in item.image for item in data.background_images)
    if own and not ours and data.get(SHOWN_KEY):
        data.show_background_images = False
        del data[SHOWN_KEY]


def _remove_background(data: bpy.types.Camera, item: bpy.types.CameraBackgroundImage) -> None:
    """Removes a background image; what animates those after it, by their place in the list, goes on doing so."""
    place = list(data.background_images).index(item)
    item.image_user.driver_remove("frame_offset")
    data.background_images.remove(item)
    if data.animation_data is not None:
        for curve in [*curves(data), *data.animation_data.drivers]:
            found = _BACKGROUND.match(curve.data_path)
            if found and int(found[1]) > place:
                curve.data_path = f"background_images[{int(found[1]) - 1}]{curve.data_path[found.end() :]}"
        forget_drivers(data)
