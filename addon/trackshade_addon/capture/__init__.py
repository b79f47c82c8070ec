# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures the evaluated scene of a view layer as a `trackshade.shot.Shot`, in one pass over the frames."""

from .plan import frame_rate, plan, render_size
from .scene import Capture, capture
from .visibility import PLATE_KEY

__all__ = ["PLATE_KEY", "Capture", "capture", "frame_rate", "plan", "render_size"]
