# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens scene files: .blend directly, other types with Blender's importers into an empty scene."""

from .opening import OpenedScene, choose_scene, read_scene

__all__ = ["OpenedScene", "choose_scene", "read_scene"]
