# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing results into a scene: as a plate, background, compositor nodes, strip, textures or motion, or as a copy."""

from .collection import PlacedResult
from .placing import Prepared, place, prepare, remove
from .removal import remove_result, remove_textures
from .scene_copy import save_copy
from .surfaces import TextureBake

__all__ = [
    "PlacedResult",
    "Prepared",
    "TextureBake",
    "place",
    "prepare",
    "remove",
    "remove_result",
    "remove_textures",
    "save_copy",
]
