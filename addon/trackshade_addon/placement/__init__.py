# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing results into a scene: as a plate, background image, compositor nodes, strip or textures, or as a copy."""

from .collection import PlacedResult
from .placing import PreparedCameras, PreparedResult, PreparedSplats, place, prepare, remove
from .removal import remove_result, remove_textures
from .scene_copy import save_copy
from .surfaces import PreparedTextures, TextureBake

__all__ = [
    "PlacedResult",
    "PreparedCameras",
    "PreparedResult",
    "PreparedSplats",
    "PreparedTextures",
    "TextureBake",
    "place",
    "prepare",
    "remove",
    "remove_result",
    "remove_textures",
    "save_copy",
]
