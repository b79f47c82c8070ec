# SPDX-License-Identifier: GPL-3.0-or-later
"""The tracking colors in the viewport: the shot's rule, painted on the meshes as they are now."""

from .draw import VIEWPORT_GAMMA, Preview, draw_control
from .reference import Reference, look, looking

__all__ = ["VIEWPORT_GAMMA", "Preview", "Reference", "draw_control", "look", "looking"]
