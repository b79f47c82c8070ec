# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries pictures of single frames to all frames of a shot, along its exact tracks, at any size."""

from trackshade.propagation.light import Light, LightMatch
from trackshade.propagation.measures import Alignment, Coverage, NextKey, alignment, coverage
from trackshade.propagation.propagation import KeyPicture, PropagatedFrame, Propagation, match_light

__all__ = [
    "Alignment",
    "Coverage",
    "KeyPicture",
    "Light",
    "LightMatch",
    "NextKey",
    "PropagatedFrame",
    "Propagation",
    "alignment",
    "coverage",
    "match_light",
]
