# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills of what no key picture shows, once per surface point, on images of surfaces (canvases)."""

from trackshade.propagation.fills.canvas import (
    FLAT,
    KNOWN,
    LATTICE,
    METHODS,
    OUTSIDE,
    PATCH_MATCH,
    PUSH_PULL,
    SYMMETRY,
    FilledCanvas,
    Method,
    fill_canvas,
)
from trackshade.propagation.fills.symmetry import SurfacePoints

__all__ = [
    "FLAT",
    "KNOWN",
    "LATTICE",
    "METHODS",
    "OUTSIDE",
    "PATCH_MATCH",
    "PUSH_PULL",
    "SYMMETRY",
    "FilledCanvas",
    "Method",
    "SurfacePoints",
    "fill_canvas",
]
