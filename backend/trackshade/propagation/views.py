# SPDX-License-Identifier: GPL-3.0-or-later
"""Which texels of a canvas some frame looks at: a camera over a ground sees a wedge of its rectangle."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation

from trackshade.control.texels import draw_triangles
from trackshade.propagation.survey import survey_times
from trackshade.shot import Shot

BLOCK = 8  # texels along the side of a square that is looked at or not
MARGIN = 2  # squares around those in a frame that count as well
MOST_FRAMES = 256  # of a shot that are tested


def viewed_texels(
    shot: Shot,
    mesh: int,
    faces: np.ndarray,  # [N] int64
    uv: np.ndarray,  # [N, 3, 2] float64
    size: tuple[int, int],
) -> np.ndarray:
    """Return the texels of a canvas that lie within some frame and near them, [h, w] bool, hidden ones included.

    Args:
        shot: the shot.
        mesh: a mesh whose topology does not change.
        faces: its triangles that are on the canvas.
        uv: their corners, texels.
        size: (width, height) of the canvas.
    """
    blocks = -(-size[0] // BLOCK), -(-size[1] // BLOCK)
    owner, weights = draw_triangles(uv / BLOCK, faces.astype(np.int32), blocks)
    track, camera = shot.meshes[mesh], shot.camera
    geometry = shot.geometries[track.geometry]
    left = np.flatnonzero(owner >= 0)
    corners = geometry.triangles[owner.ravel()[left]]
    b, c = weights.reshape(-1, 2)[left].T
    share = np.stack([1 - b - c, b, c], axis=1)
    viewed, moves, points = np.zeros(owner.size, np.bool_), len(geometry.positions) > 1, None
    for t in survey_times(len(shot.frame_numbers), MOST_FRAMES, shot.views):
        if not track.visible[t]:
            continue
        if points is None or moves:
            points = np.einsum("nk,nkx->nx", share, geometry.at(t)[corners])
        matrix = camera.world_to_camera[t] @ track.matrix_world[t]
        x, y, z = (points @ matrix[:3, :3].T + matrix[:3, 3]).T
        depth = np.ones_like(z) if camera.orthographic[t] else z
        (fx, _, cx), (_, fy, cy), _ = camera.intrinsics[t]
        x, y = fx * x + cx * depth, fy * y + cy * depth
        found = (z > 0) & (x >= 0) & (y >= 0) & (x <= shot.size[0] * depth) & (y <= shot.size[1] * depth)
        viewed[left[found]] = True
        left, corners, share, points = left[~found], corners[~found], share[~found], points[~found]
    wide = binary_dilation(viewed.reshape(owner.shape), np.ones((3, 3), np.bool_), iterations=MARGIN)
    return np.asarray(wide, np.bool_).repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)[: size[1], : size[0]]
