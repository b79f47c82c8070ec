# SPDX-License-Identifier: GPL-3.0-or-later
"""Colors and visibility of a mesh's vertices in a tracking video."""

from __future__ import annotations

import numpy as np

from trackshade.control import TrackingVideo
from trackshade.control.locate import Follower
from trackshade.control.scene import ShotRaster
from trackshade.control.visibility import is_visible


def vertex_colors(video: TrackingVideo, mesh: int, t: int = 0) -> np.ndarray:
    """[V, 3] in 0..1, of the vertices that a mesh has in sample `t`; black for a holdout."""
    first = video.shot.first_places(mesh, t)
    return np.zeros_like(first) if video.shot.meshes[mesh].holdout else video.rule.colors(first)


def visible_vertices(video: TrackingVideo, mesh: int) -> np.ndarray:
    """Which vertices of a mesh's first geometry the camera sees, [T, V] bool."""
    shot, track = video.shot, video.shot.meshes[mesh]
    count = len(shot.geometries[track.geometry].first)
    corners = np.repeat(np.arange(count, dtype=np.int32)[:, None], 3, axis=1)
    points = Follower(shot, mesh, track.geometry, corners, np.tile([1.0, 0.0, 0.0], (count, 1)))
    raster = ShotRaster(shot)
    table = np.zeros((len(video.frames), count), np.bool_)
    for t in np.flatnonzero(track.visible).tolist():
        near, far = shot.camera.clip[t]
        positions = None if track.geometry_at(t) == track.geometry else points.positions(t)
        table[t] = is_visible(raster.vertices(mesh, t, positions), video.depth[t], float(near), float(far))
    return table
