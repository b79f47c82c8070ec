# SPDX-License-Identifier: GPL-3.0-or-later
"""What a mesh is painted with while it is drawn: nothing, black, or each surface point's place in the first frame."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from trackshade.control.compiling import inlined
from trackshade.shot.track_colors import MeshRule

NOTHING, BLACK, PLACES, ORTHOGRAPHIC_PLACES = range(4)
_NUMBERS = 18


@dataclass(frozen=True, eq=False)
class PaintMode:
    """How to paint the pixels of a mesh; see `PaintMode.by`."""

    kind: int
    first: np.ndarray  # [V, 3] f32, origins of the vertices: their places in the first frame, object space
    numbers: np.ndarray = field(default_factory=lambda: np.zeros(_NUMBERS))  # f64, see `MeshRule.numbers`
    out: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 3), np.uint8))  # [H, W, 3]

    @classmethod
    def by(cls, rule: MeshRule, first: np.ndarray, matrix_world: np.ndarray, out: np.ndarray) -> PaintMode:
        """Ink that paints 8-bit `out` `[H, W, 3]` by a rule and the places of the surface points seen.

        `first` `[V, 3]` f32 are the origins of the mesh's vertices (`Geometry.first`), in object space, and
        `matrix_world` `[4, 4]` takes them to the world in the first frame.
        """
        return cls(ORTHOGRAPHIC_PLACES if rule.orthographic else PLACES, first, rule.numbers(matrix_world), out)


@inlined
def paint_place(kind, n, px, py, pz, out, i, j):
    """Paint pixel (i, j) by the place of a point (px, py, pz), object space, in the first frame; n as made by
    `MeshRule.numbers`. Outside the frame and behind the camera it is black."""
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
