# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes drawn from a seed, for training clips that Blender itself renders: see README.md."""

from .exporting import export_scenes
from .scene import ENGINES, build_scene

__all__ = ["ENGINES", "build_scene", "export_scenes"]
