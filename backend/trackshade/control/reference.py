# SPDX-License-Identifier: GPL-3.0-or-later
"""The tracking video the slow, obvious way: a ray through every pixel's centre against every triangle.

Nothing here is shared with the fast path but the conventions and the rule's vertex colours, so that tests
which compare the two can fail.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackshade.colours import MeshRule
from trackshade.shot import Shot


@dataclass(frozen=True, eq=False)
class Traced:
    """The nearest hit of every pixel's ray."""

    triangle: np.ndarray  # [H, W] i32, -1 where nothing is
    weights: np.ndarray  # [H, W, 3] f64, of the triangle's vertices
    depth: np.ndarray  # [H, W] f64, metres along the camera's axis, inf where nothing is
    sure: np.ndarray  # [H, W] bool: no edge is hit, and no second triangle at nearly the same depth


def trace(
    positions: np.ndarray,
    triangles: np.ndarray,
    intrinsics: np.ndarray,
    orthographic: bool,
    size: tuple[int, int],
    near: float,
    far: float,
) -> Traced:
    """Trace triangles `[F, 3]` over `positions` `[V, 3]` in the camera's frame, metres, into an image of
    `size` (w, h).

    Möller and Trumbore 1997, "Fast, minimum storage ray/triangle intersection". Only what lies between `near`
    and `far` along the axis counts.
    """
    w, h = size
    x, y = np.meshgrid(np.arange(w) + 0.5, np.arange(h) + 0.5)
    k = intrinsics
    plane = np.stack([(x - k[0, 2]) / k[0, 0], (y - k[1, 2]) / k[1, 1]], -1)
    nothing, ahead = np.zeros((h, w, 1)), np.ones((h, w, 1))
    if orthographic:
        origin, direction = np.concatenate([plane, nothing], -1), np.concatenate([0 * plane, ahead], -1)
    else:
        origin, direction = np.zeros((h, w, 3)), np.concatenate([plane, ahead], -1)
    found = Traced(np.full((h, w), -1, np.int32), np.zeros((h, w, 3)), np.full((h, w), np.inf), np.ones((h, w), bool))
    for index, (a, b, c) in enumerate(np.asarray(positions, np.float64)[triangles]):
        weights, depth = _hit(origin, direction, a, b, c)
        _keep_nearest(found, index, weights, depth, near, far)
    return found


def _hit(
    origin: np.ndarray, direction: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weights `[H, W, 3]` and distance along the ray `[H, W]`, which is the depth, of a triangle's plane."""
    p = np.cross(direction, c - a)
    determinant = p @ (b - a)
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.sum((origin - a) * p, axis=-1) / determinant
        q = np.cross(origin - a, b - a)
        v = np.sum(direction * q, axis=-1) / determinant
        depth = q @ (c - a) / determinant
    return np.stack([1.0 - u - v, u, v], axis=-1), depth


def _keep_nearest(found: Traced, index: int, weights: np.ndarray, depth: np.ndarray, near: float, far: float) -> None:
    least = weights.min(axis=-1)
    hit = (least >= 0.0) & (depth >= near) & (depth <= far)
    # An edge, a clip plane or another surface within rounding: either answer is right there.
    close = np.abs(depth - found.depth) <= 1e-5 * np.abs(depth)
    edge = (np.abs(least) < 1e-6) & (depth >= near * (1 - 1e-6))
    clipped = (least > -1e-6) & ((np.abs(depth - near) < 1e-6 * near) | (np.abs(depth - far) < 1e-6 * far))
    found.sure[edge | clipped | (hit & close) | ~np.isfinite(depth)] = False
    nearer = hit & (depth < found.depth)
    found.triangle[nearer] = index
    found.weights[nearer] = weights[nearer]
    found.depth[nearer] = depth[nearer]


def tracking_frame(shot: Shot, t: int, rule: MeshRule) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frame `t` by the mesh rule: frame `[H, W, 3]` u8, object index, depth and `sure` `[H, W]`."""
    camera = shot.camera
    m = camera.world_to_camera[t]
    positions, first, triangles, owners = [], [], [], []
    for index, track in enumerate(shot.meshes):
        if track.visible[t]:
            mesh = shot.geometry_of(index, t)
            triangles.append(mesh.triangles + sum(map(len, positions)))
            owners.append(np.full(len(mesh.triangles), index))
            positions.append(_world(mesh.at(t), track.matrix_world[t]) @ m[:3, :3].T + m[:3, 3])
            first.append(_world(mesh.first, track.matrix_world[0]))
    w, h = shot.size
    frame, owner = np.zeros((h, w, 3), np.uint8), np.full((h, w), -1)
    if not positions:
        return frame, owner, np.full((h, w), np.inf), np.ones((h, w), bool)
    faces, first_world = np.concatenate(triangles), np.concatenate(first)
    near, far = camera.clip[t]
    traced = trace(
        np.concatenate(positions), faces, camera.intrinsics[t], bool(camera.orthographic[t]), shot.size, near, far
    )
    for i, j in np.argwhere(traced.triangle >= 0):
        owner[i, j] = np.concatenate(owners)[traced.triangle[i, j]]
        if not shot.meshes[owner[i, j]].holdout:
            corners = first_world[faces[traced.triangle[i, j]]]
            place = traced.weights[i, j] @ corners
            frame[i, j] = np.rint(255.0 * rule.colours(place[None])[0].astype(np.float64))
    return frame, owner, traced.depth, traced.sure


def _world(local: np.ndarray, m: np.ndarray) -> np.ndarray:
    return local.astype(np.float64) @ m[:3, :3].T + m[:3, 3]
