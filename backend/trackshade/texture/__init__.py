# SPDX-License-Identifier: GPL-3.0-or-later
"""Texture: a video gathered onto the surfaces that it shows, through their tracks. numpy, numba and Pillow only."""

from trackshade.texture.bake import Baked, bake
from trackshade.texture.folder import bake_result

__all__ = ["Baked", "bake", "bake_result"]
