# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back: a result as a plate before its camera, as its background image, over the rendered picture, on the
surfaces that it shows, and as a file of its own.
"""

from .baking import Baking
from .copy import save_copy
from .placed import Placed
from .placing import Ready, place, prepare, remove
from .removing import remove_result, remove_textures
from .texture import PLACEMENT_MODES as TEXTURE_WAYS
from .texture import ReadyTexture

__all__ = [
    "TEXTURE_WAYS",
    "Baking",
    "Placed",
    "Ready",
    "ReadyTexture",
    "place",
    "prepare",
    "remove",
    "remove_result",
    "remove_textures",
    "save_copy",
]
