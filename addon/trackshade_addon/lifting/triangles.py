# SPDX-License-Identifier: GPL-3.0-or-later
"""Joins tracked points to a surface: Delaunay triangles in the picture, cut where the surface is not continuous."""

from __future__ import annotations

import numpy as np
from mathutils.geometry import delaunay_2d_cdt

from trackshade.shot.lifted import LiftedMesh, LiftedScene

_LONGEST = 4.0  # edges in the picture that are longer are cut, times the median edge
_DEPTH_RATIO = 1.25  # edges between points whose depths differ more are cut
_STRETCH = 1.5  # edges that become longer, or shorter, over time are cut, times their length in the first frame
_MIN_NEW = 3  # points that have to appear together to be joined


def triangulate(
    points: LiftedMesh,
    scene: LiftedScene,
) -> np.ndarray:
    """Join points that are neighbors in the picture, lie at similar depths, and move together.

    The points seen in the picture's frame are joined there, and those that appear later in the frame in which they
    appear, to each other and to the points that are seen there already.

    Args:
        points: the points.
        scene: the scene they belong to.

    Returns:
        [F, 3] indices of points, counter-clockwise in the picture as Blender's front faces are.
    """
    count, vertices = len(scene.world_to_camera), points.positions.shape[1]
    positions = np.broadcast_to(points.positions, (count, vertices, 3))
    visible = points.visible if len(points.visible) else np.ones((1, vertices), np.bool_)
    visible = np.broadcast_to(visible, (count, vertices))
    order = [scene.picture_frame, *(t for t in range(count) if t != scene.picture_frame)]
    is_joined = np.zeros(vertices, np.bool_)
    parts = []
    for t in order:
        is_new = visible[t] & ~is_joined
        if is_new.sum() >= _MIN_NEW:
            seen = np.flatnonzero(visible[t])
            triangles = seen[_delaunay(positions[t, seen], scene, t)]
            parts.append(triangles[is_new[triangles].any(1)])
            is_joined |= visible[t]
    triangles = np.concatenate(parts) if parts else np.zeros((0, 3), np.int64)
    return triangles[_move_together(triangles, positions, visible)].astype(np.int32)


def _project(positions: np.ndarray, scene: LiftedScene, t: int) -> np.ndarray:
    """Return where points are in the picture of a frame, and their depth: [V, 3]."""
    camera = positions @ scene.world_to_camera[t, :3, :3].T + scene.world_to_camera[t, :3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = (camera / camera[:, 2:]) @ scene.intrinsics[:2].T
    return np.column_stack([pixels, camera[:, 2]])


def _join(pixels: np.ndarray) -> np.ndarray:
    """Triangulate points of a picture, [V, 2]: [F, 3], counter-clockwise as Blender's front faces are."""
    _, _, faces, origins, *_ = delaunay_2d_cdt([tuple(pixel) for pixel in pixels], [], [], 0, 1e-4)
    names = np.array([origin[0] for origin in origins], np.int64)  # points at the same place are one vertex
    triangles = names[np.array(faces, np.int64).reshape(-1, 3)]
    corners = pixels[triangles]
    flipped = np.linalg.det(corners[:, 1:] - corners[:, :1]) > 0  # y points down
    triangles[flipped] = triangles[flipped][:, ::-1]
    return triangles


def _delaunay(positions: np.ndarray, scene: LiftedScene, t: int) -> np.ndarray:  # [V, 3] -> [F, 3]
    """Triangulate points in the picture of a frame, without long edges and those between different depths."""
    projected = _project(positions, scene, t)
    ahead = np.flatnonzero(projected[:, 2] > 1e-6)
    if len(ahead) < 3:
        return np.zeros((0, 3), np.int64)
    pixels, depth = projected[ahead, :2], projected[ahead, 2]
    triangles = _join(pixels)
    corners = pixels[triangles]
    lengths = np.linalg.norm(corners - np.roll(corners, 1, 1), axis=2)
    depths = depth[triangles]
    keeps = lengths.max(1) <= _LONGEST * np.median(lengths) if len(lengths) else np.zeros(0, np.bool_)
    keeps &= depths.max(1) <= _DEPTH_RATIO * depths.min(1)
    return ahead[triangles[keeps]]


def _move_together(triangles: np.ndarray, positions: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Return which triangles keep their edges' lengths in all frames in which all of their points are seen."""
    keeps = np.ones(len(triangles), np.bool_)
    shortest, longest = np.full((len(triangles), 3), np.inf), np.zeros((len(triangles), 3))
    for shape, seen in zip(positions, visible, strict=True):
        corners, is_seen = shape[triangles], seen[triangles].all(1)
        lengths = np.linalg.norm(corners - np.roll(corners, 1, 1), axis=2)
        shortest[is_seen] = np.minimum(shortest, lengths)[is_seen]
        longest[is_seen] = np.maximum(longest, lengths)[is_seen]
    keeps &= (longest <= _STRETCH * shortest).all(1)
    return keeps
