# SPDX-License-Identifier: GPL-3.0-or-later
"""Identity destroyed: a tracking video whose silhouettes and depths are right and whose points are not.

The surface of each object is cut into cells by where its points were in the first frame, and the cells' places are
exchanged within the object. The same point has the same wrong place in every frame. Within a cell places still vary
as they did, so that the video stays as even as a real one; blue, the depth, is not touched. A model that only follows
silhouettes loses nothing by this.
"""

from __future__ import annotations

import numpy as np

CELL = 1 / 36  # of the frame's width


def destroy_identity(tracking: np.ndarray, objects: np.ndarray, seed: int = 0, cell: float = CELL) -> np.ndarray:
    """[T, H, W, 3] uint8 of a tracking video by the mesh rule and the object that each pixel shows [T, H, W].

    An object with a single cell keeps its places.
    """
    height, width = tracking.shape[1:3]
    side = cell * width  # px
    columns, rows = int(np.ceil(width / side)), int(np.ceil(height / side))
    # Of the 255 steps that stand for the frame.
    step = np.array([255 / columns, 255 / rows])
    covered = tracking.any(axis=-1)
    places = tracking[covered][:, :2].astype(np.float64)  # [N, 2]
    cells = np.minimum((places // step).astype(int), [columns - 1, rows - 1])
    number = cells[:, 1] * columns + cells[:, 0]
    owners = objects[covered]
    rng = np.random.default_rng(seed)
    moved = number.copy()
    for owner in np.unique(owners):
        own = owners == owner
        present = np.unique(number[own])
        order = rng.permutation(present)
        # Every cell gets the place of the next in a random ring: none keeps its own.
        new = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
        moved[own] = np.array([new[n] for n in present])[np.searchsorted(present, number[own])]
    target = np.stack([moved % columns, moved // columns], axis=1)
    shuffled = np.rint(places + (target - cells) * step).clip(0, 255)
    out = tracking.copy()
    colors = out[covered]
    colors[:, :2] = shuffled
    # Black means no track: a point in the frame's first corner keeps a trace of green.
    colors[~colors.any(axis=1), 1] = 1
    out[covered] = colors
    return out
