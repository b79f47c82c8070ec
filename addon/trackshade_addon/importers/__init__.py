# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens scene files: .blend as it is, other types through Blender's own importers into an empty scene."""

from .exchange import animation_range
from .opening import Opened, choose_scene, open_scene, read_scene

__all__ = ["Opened", "animation_range", "choose_scene", "open_scene", "read_scene"]
