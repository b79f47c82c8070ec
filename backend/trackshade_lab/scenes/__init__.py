# SPDX-License-Identifier: GPL-3.0-or-later
"""Procedural training data: shaded clips with exact tracking videos, drawn by the same code as real
shots'.
"""

from trackshade_lab.scenes.clip import Clip, Split, clip_kinds, generate_clip
from trackshade_lab.scenes.shards import Shards, generate_shards, load_shards, shard_folders
from trackshade_lab.scenes.sheet import contact_sheet, save_sheet
from trackshade_lab.scenes.shots import scene_shot
from trackshade_lab.scenes.views import generate_views

__all__ = [
    "Clip",
    "Shards",
    "Split",
    "clip_kinds",
    "contact_sheet",
    "generate_clip",
    "generate_shards",
    "generate_views",
    "load_shards",
    "save_sheet",
    "scene_shot",
    "shard_folders",
]
