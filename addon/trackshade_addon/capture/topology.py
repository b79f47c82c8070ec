# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries points across a change of topology: each stays on the nearest point of the new surface.

A track's geometry is that of its first sample. When a later sample has other vertices or faces, every point of the
track is attached to the nearest point of the new surface (object space, from where it was one sample before), as
barycentric weights on one triangle. The attachment holds while that topology lasts, so that points ride on the new
surface instead of sliding over it, and is made anew with the next change. When the first topology comes back, so
does the exact identity of its vertices.
"""

from __future__ import annotations

import numpy as np
from mathutils.bvhtree import BVHTree
from numpy.typing import NDArray

from trackshade.shot import attachment
from trackshade.shot.attachment import Attachment, barycentric

__all__ = ["Attachment", "attach", "barycentric", "nearest"]
Float32 = NDArray[np.float32]


def attach(points: Float32, surface: Float32, triangles: NDArray[np.int32]) -> Attachment:
    """Attaches points [V, 3] to the nearest points of a surface: [N, 3] positions, [F, 3] triangles, F > 0."""
    return attachment.attach(points, surface, triangles, nearest)


def nearest(
    points: Float32, surface: Float32, triangles: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The triangle [V] on which the nearest point [V, 3] of a surface lies, by Blender's own search."""
    tree = BVHTree.FromPolygons(surface.tolist(), triangles.tolist(), all_triangles=True)
    found = [tree.find_nearest(point) for point in points.tolist()]
    index = np.fromiter((hit[2] for hit in found), np.int64, len(found))
    return index, np.array([hit[0] for hit in found], np.float64).reshape(-1, 3)
