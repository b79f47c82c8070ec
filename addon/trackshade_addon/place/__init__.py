# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back: a result as a plate before its camera, as the camera's background image, and as a file of its
own.
"""

from .copy import save_copy
from .placed import Placed
from .placing import Ready, place, prepare, remove
from .removing import remove_result

__all__ = ["Placed", "Ready", "place", "prepare", "remove", "remove_result", "save_copy"]
