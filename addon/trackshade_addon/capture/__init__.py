# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures the evaluated scene of a view layer as a `trackshade.shot.Shot`, in one pass over the frames."""

from .scene import Capture, capture
from .scene_settings import frame_rate, plan_scene, render_size
from .visibility import PLATE_KEY

__all__ = ["PLATE_KEY", "Capture", "capture", "frame_rate", "plan_scene", "render_size"]
