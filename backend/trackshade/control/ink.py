# SPDX-License-Identifier: GPL-3.0-or-later
"""What a mesh is painted with while it is drawn: nothing, black, or each surface point's place in the first frame."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from trackshade.control.compiling import inlined

NOTHING, BLACK, PLACES, ORTHOGRAPHIC_PLACES = range(4)
_NUMBERS = 20


@dataclass(frozen=True, eq=False)
class Ink:
    """How to paint the pixels of a mesh; see `MeshRule.ink`."""

    kind: int
    first: np.ndarray  # [V, 3] f32, the vertices in the first frame, object space
    numbers: np.ndarray = field(default_factory=lambda: np.zeros(_NUMBERS))  # f64, see `place_numbers`
    out: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 3), np.uint8))  # [H, W, 3]


def place_numbers(
    to_camera: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int], limits: tuple[float, float]
) -> np.ndarray:
    """The mesh rule for the kernel, `[20]` f64: object to the first frame's camera (12), focal lengths and centre as
    shares of the frame (4), the range of inverse distances as its low end and the inverse of its width (2), zeros."""
    w, h = size
    k, (low, high) = intrinsics, limits
    frame = [k[0, 0] / w, k[1, 1] / h, k[0, 2] / w, k[1, 2] / h]
    return np.array([*to_camera[:3].ravel(), *frame, low, 1.0 / (high - low) if high > low else 0.0, 0.0, 0.0])


@inlined
def paint_place(kind, n, px, py, pz, out, i, j):
    """Paint pixel (i, j) by the place of a point (px, py, pz), object space, in the first frame; n as made by
    `place_numbers`. Outside the frame and behind the camera it is black."""
    x = n[0] * px + n[1] * py + n[2] * pz + n[3]
    y = n[4] * px + n[5] * py + n[6] * pz + n[7]
    z = n[8] * px + n[9] * py + n[10] * pz + n[11]
    distance = math.sqrt(x * x + y * y + z * z)
    both = 1.0 / (z * distance)  # one division for two inverses: this is the innermost loop
    q = both * distance if kind == PLACES else 1.0
    red, green = n[12] * x * q + n[14], n[13] * y * q + n[15]
    if z > 0.0 and red >= 0.0 and red <= 1.0 and green >= 0.0 and green <= 1.0:
        blue = (both * z - n[16]) * n[17]
        out[i, j, 0] = np.uint8(red * 255.0 + 0.5)
        out[i, j, 1] = np.uint8(green * 255.0 + 0.5)
        out[i, j, 2] = np.uint8(min(max(blue, 0.0), 1.0) * 255.0 + 0.5)
    else:
        out[i, j, 0] = out[i, j, 1] = out[i, j, 2] = 0
