# SPDX-License-Identifier: GPL-3.0-or-later
"""The nearest points of a surface, without Blender."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CANDIDATES = 16  # triangles by their centres, of which the nearest is found exactly


def nearest(
    points: NDArray[np.float32], surface: NDArray[np.float32], triangles: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The triangle [V] on which the nearest point [V, 3] of a surface lies: [N, 3] positions, [F, 3] triangles.

    It is looked for among those whose centres, or one of whose corners, are nearest.
    """
    import trimesh
    from scipy.spatial import KDTree

    corners = surface.astype(np.float64)[triangles]  # [F, 3, 3]
    anchors = np.concatenate([corners.mean(axis=1), *corners.transpose(1, 0, 2)])  # [4 F, 3]
    _, found = KDTree(anchors).query(points, k=min(CANDIDATES, len(anchors)))
    candidates = found.reshape(len(points), -1) % len(triangles)  # [V, K]
    asked = np.repeat(points.astype(np.float64), candidates.shape[1], axis=0)
    places = trimesh.triangles.closest_point(corners[candidates.reshape(-1)], asked).reshape(*candidates.shape, 3)
    best = np.linalg.norm(places - points[:, None], axis=2).argmin(axis=1)
    rows = np.arange(len(points))
    return candidates[rows, best].astype(np.int64), places[rows, best]
