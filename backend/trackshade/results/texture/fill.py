# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills texels that no frame shows, and the gutters around islands, from the texels next to them.

First the covered texels grow by a few texels, so that bilinear samples at an island's rim have its own colors. The rest
is filled by push-pull (Gortler et al. 1996, "The lumigraph", section 3.4): averages of known texels over larger and
larger squares are taken back into the unknown, from the smallest square that has a known texel.
"""

from __future__ import annotations

import numpy as np

from trackshade.control.compiling import kernel

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
    return _push_pull(values, weight)


def _push_pull(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    if min(weight.shape) < 2 or weight.all():
        return values
    half = tuple(-(-side // 2) for side in weight.shape)
    coarse, coarse_weight = np.empty((*half, values.shape[2]), np.float32), np.empty(half, np.float32)
    _pull(values, weight, coarse, coarse_weight)
    coarse = _push_pull(coarse, coarse_weight)
    out = values.copy()
    _push(coarse, weight, out)
    return out


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


@kernel
def _pull(values, weight, out, out_weight):
    height, width, channels = values.shape
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            total = np.float32(0.0)
            out[i, j] = 0.0
            for a in range(2 * i, min(height, 2 * i + 2)):
                for b in range(2 * j, min(width, 2 * j + 2)):
                    total += weight[a, b]
                    for k in range(channels):
                        out[i, j, k] += weight[a, b] * values[a, b, k]
            if total > 0.0:
                out[i, j] /= total
            out_weight[i, j] = min(total, np.float32(1.0))


@kernel
def _push(coarse, weight, out):
    """Interpolate the coarser level bilinearly into unknown texels."""
    height, width, channels = out.shape
    for i in range(height):
        y = 0.5 * i - 0.25
        top = max(0, int(np.floor(y)))
        below = min(top + 1, coarse.shape[0] - 1)
        r = min(max(y - top, 0.0), 1.0)
        for j in range(width):
            if weight[i, j] > 0.0:
                continue
            x = 0.5 * j - 0.25
            left = max(0, int(np.floor(x)))
            right = min(left + 1, coarse.shape[1] - 1)
            s = min(max(x - left, 0.0), 1.0)
            for k in range(channels):
                up = coarse[top, left, k] * (1.0 - s) + coarse[top, right, k] * s
                down = coarse[below, left, k] * (1.0 - s) + coarse[below, right, k] * s
                out[i, j, k] = up * (1.0 - r) + down * r
