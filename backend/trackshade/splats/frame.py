# SPDX-License-Identifier: GPL-3.0-or-later
"""The splats of one frame, as they are written to files. numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class SplatFrame:
    """N splats in one frame.

    Attributes:
        number: the scene's frame number.
        position: [N, 3] float32 world, metres, Z up.
        rotation: [N, 4] float32 quaternions (w, x, y, z).
        size: [N, 3] float32, distances between splats along their axes, metres; the third is across the surface.
        color: [N, 3] float32 sRGB, 0..1.
        exists: [N] bool; the others have no size.
    """

    number: float
    position: np.ndarray
    rotation: np.ndarray
    size: np.ndarray
    color: np.ndarray
    exists: np.ndarray
