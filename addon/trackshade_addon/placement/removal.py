# SPDX-License-Identifier: GPL-3.0-or-later
"""Removing results from a scene, and nothing else."""

from __future__ import annotations

from pathlib import Path

import bpy

from .background import remove_backgrounds
from .collection import PLATE_KEY, remove_empty_collections
from .compositor import remove_from_compositor
from .latest_image import remove_latest_image
from .materials import overridden_objects, restore_materials
from .projection import TRACKS_KEY, detach_tracks
from .result_folder import camera_folders
from .sequencer import remove_strips
from .splats import remove_splats
from .uv_maps import remove_uv_maps


def remove_result(scene: bpy.types.Scene, folder: Path, uv_maps: bool = True) -> None:
    """Remove everything of the result in a folder from a scene, with the UV maps that were added for it.

    That of a result with several cameras is removed for all of them. The result's files stay.
    """
    remove_splats(scene, folder / "splats.usdc")
    for part in camera_folders(folder):
        remove_result(scene, part, uv_maps)
    tag = str(folder)
    remove_textures(scene, tag, uv_maps)
    remove_from_compositor(scene, tag)
    remove_strips(scene, tag)
    for obj in [item for item in scene.objects if item.get(PLATE_KEY) == tag]:
        bpy.data.objects.remove(obj)
    for data in {item.data for item in scene.objects if isinstance(item.data, bpy.types.Camera)}:
        remove_backgrounds(data, tag)
    remove_latest_image(tag)
    remove_unused(scene, tag)


def remove_textures(scene: bpy.types.Scene, tag: str | None = None, uv_maps: bool = False) -> int:
    """Restore the materials of all objects that show the result of this folder, or any; return the number of objects.

    UV maps that were added are removed only on demand.
    """
    objects = overridden_objects(scene, tag)
    for obj in objects:
        detach_tracks(obj)
        restore_materials(obj)
    for obj in [item for item in scene.objects if item.get(TRACKS_KEY) and tag in (None, item.get(PLATE_KEY))]:
        bpy.data.objects.remove(obj)
    if uv_maps:
        remove_uv_maps(objects)
    remove_unused(scene, tag)
    return len(objects)


def remove_unused(scene: bpy.types.Scene, tag: str | None = None) -> None:
    """Remove data-blocks of a result (None: of any) that nothing uses any more, and empty collections."""
    for blocks in (bpy.data.meshes, bpy.data.cameras, bpy.data.materials, bpy.data.node_groups, bpy.data.images,
                   bpy.data.actions):  # fmt: skip
        for block in [item for item in blocks if item.users == 0 and PLATE_KEY in item]:
            if tag in (None, block[PLATE_KEY]):
                blocks.remove(block)
    remove_empty_collections(scene)
