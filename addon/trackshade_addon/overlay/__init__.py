# SPDX-License-Identifier: GPL-3.0-or-later
"""The tracking colors in the viewport: the colors of the tracking video, drawn on the meshes as they are now."""

from .draw import VIEWPORT_GAMMA, Overlay, draw_overlay
from .reference import Reference, read_reference, read_reference_steps

__all__ = ["VIEWPORT_GAMMA", "Overlay", "Reference", "draw_overlay", "read_reference", "read_reference_steps"]
