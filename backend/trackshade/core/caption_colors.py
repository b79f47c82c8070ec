# SPDX-License-Identifier: GPL-3.0-or-later
"""What captions of training clips call colors, procedural ones and those that Blender renders."""

from __future__ import annotations

# sRGB, 0..1. The eight named colors of captions; the others are for second colors, grounds and tyres.
COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.83, 0.11, 0.11),
    "orange": (0.95, 0.50, 0.08),
    "yellow": (0.95, 0.86, 0.15),
    "green": (0.16, 0.62, 0.20),
    "blue": (0.13, 0.29, 0.83),
    "purple": (0.51, 0.18, 0.69),
    "pink": (0.95, 0.50, 0.67),
    "white": (0.92, 0.92, 0.90),
}
DARKS: dict[str, tuple[float, float, float]] = {
    "black": (0.08, 0.08, 0.09),
    "grey": (0.50, 0.50, 0.52),
    "brown": (0.45, 0.29, 0.16),
    "teal": (0.12, 0.50, 0.50),
}
