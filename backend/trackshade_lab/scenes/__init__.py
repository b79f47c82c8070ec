# SPDX-License-Identifier: GPL-3.0-or-later
"""Generated scenes and clips for training and evaluation, with exact tracking videos."""

from trackshade_lab.scenes.clip import Clip, Split, clip_kinds, contact_sheet, generate_clip
from trackshade_lab.scenes.description import Scene, scene_shot
from trackshade_lab.scenes.shards import Shards, generate_shards, load_shards, shard_folders

__all__ = [
    "Clip",
    "Scene",
    "Shards",
    "Split",
    "clip_kinds",
    "contact_sheet",
    "generate_clip",
    "generate_shards",
    "load_shards",
    "scene_shot",
    "shard_folders",
]
