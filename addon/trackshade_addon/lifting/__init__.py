# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos and videos as scenes: builds Blender objects from lifted scenes, and runs the backend tasks that make them."""

from .scene import build_scene

__all__ = ["build_scene"]
