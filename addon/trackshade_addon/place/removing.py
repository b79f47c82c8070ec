# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes a result out of a scene again, and nothing else."""

from __future__ import annotations

from pathlib import Path

import bpy

from .home import PLATE_KEY, holds_anything, root_collection

SHOWN_KEY = "trackshade_showed_backgrounds"  # on a camera whose background images were switched off before


def remove_result(scene: bpy.types.Scene, folder: Path) -> None:
    """Takes everything of a result out of a scene; the result's files stay."""
    tag = str(folder)
    for obj in [item for item in scene.objects if item.get(PLATE_KEY) == tag]:
        bpy.data.objects.remove(obj)
    for data in {item.data for item in scene.objects if isinstance(item.data, bpy.types.Camera)}:
        _remove_backgrounds(data, tag)
    root = root_collection(scene)
    if root is not None:
        for home in [item for item in root.children if item.get(PLATE_KEY) == tag and not holds_anything(item)]:
            bpy.data.collections.remove(home)
        if not holds_anything(root):
            bpy.data.collections.remove(root)
    for blocks in (bpy.data.meshes, bpy.data.cameras, bpy.data.materials, bpy.data.images, bpy.data.actions):
        for block in [item for item in blocks if item.users == 0 and item.get(PLATE_KEY) == tag]:
            blocks.remove(block)


def _remove_backgrounds(data: bpy.types.Camera, tag: str) -> None:
    own = [item for item in data.background_images if item.image is not None and item.image.get(PLATE_KEY) == tag]
    for item in own:
        item.image = None  # else the image keeps a user
        data.background_images.remove(item)
    ours = any(item.image is not None and PLATE_KEY in item.image for item in data.background_images)
    if own and not ours and data.get(SHOWN_KEY):
        data.show_background_images = False
        del data[SHOWN_KEY]
