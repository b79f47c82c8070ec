# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills texels that no frame shows, and the gutters around islands, from the texels next to them.

First the covered texels grow by a few texels, so that bilinear samples at an island's rim have its own colors. The rest
is filled by push-pull.
"""

from __future__ import annotations

import numpy as np

from trackshade.control.compiling import kernel
from trackshade.propagation.fills.push_pull import push_pull

RIM = 4  # texels


def fill(
    values: np.ndarray,  # [S, S, C] float32
    known: np.ndarray,  # [S, S] bool
    rim: int = RIM,
) -> np.ndarray:
    """Return the values with unknown ones filled, [S, S, C] float32; all zero if none is known.

    Known values stay as they are. `rim` is the number of texels by which they grow first.
    """
    values = np.where(known[..., None], values, np.float32(0)).astype(np.float32)
    weight = known.astype(np.float32)
    for _ in range(rim):
        grown, more = np.empty_like(values), np.empty_like(weight)
        _grow(values, weight, grown, more)
        values, weight = grown, more
    return push_pull(values, weight > 0)


@kernel
def _grow(values, weight, out, out_weight):
    height, width, channels = values.shape
    for i in range(height):
        for j in range(width):
            out[i, j] = values[i, j]
            out_weight[i, j] = weight[i, j]
            if weight[i, j] > 0.0:
                continue
            total = np.float32(0.0)
            for a in range(max(0, i - 1), min(height, i + 2)):
                for b in range(max(0, j - 1), min(width, j + 2)):
                    if weight[a, b] > 0.0:
                        total += np.float32(1.0)
                        for k in range(channels):
                            out[i, j, k] += values[a, b, k]
            if total > 0.0:
                out[i, j] /= total
                out_weight[i, j] = 1.0
