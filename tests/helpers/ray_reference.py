# SPDX-License-Identifier: GPL-3.0-or-later
"""The tracking video the slow, obvious way: a ray through every pixel's center against every triangle.

Nothing here is shared with the fast path but the conventions and the rule's vertex colors, so that tests
which compare the two can fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trackshade.shot import Cutout, Shot
from trackshade.shot.track_colors import MeshRule

Shown = Callable[[int, np.ndarray, np.ndarray], np.ndarray]


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
    shown: Shown | None = None,
) -> Traced:
    """Trace triangles `[F, 3]` over `positions` `[V, 3]` in the camera's frame, metres, into an image of
    `size` (w, h).

    Möller and Trumbore 1997, "Fast, minimum storage ray/triangle intersection". Only what lies between `near`
    and `far` along the axis counts, and where `shown` is given, what it says is drawn: it gets a triangle's index,
    weights `[H, W, 3]` and whether each ray meets its front `[H, W]`, and returns `[H, W]`.
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
        if shown is not None:
            drawn = shown(index, weights, np.sum(direction * np.cross(b - a, c - a), axis=-1) < 0)
            depth = np.where(drawn, depth, -1.0)  # which is before any near plane
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
    positions, first, triangles, owners, own = [], [], [], [], []
    for index, track in enumerate(shot.meshes):
        if track.visible[t]:
            mesh = shot.geometry_of(index, t)
            triangles.append(mesh.triangles + sum(map(len, positions)))
            owners.append(np.full(len(mesh.triangles), index))
            own.append(np.arange(len(mesh.triangles)))
            positions.append(_world(mesh.at(t), track.matrix_world[t]) @ m[:3, :3].T + m[:3, 3])
            first.append(_world(mesh.first, track.matrix_world[0]))
    w, h = shot.size
    frame, owner = np.zeros((h, w, 3), np.uint8), np.full((h, w), -1)
    if not positions:
        return frame, owner, np.full((h, w), np.inf), np.ones((h, w), bool)
    faces, first_world = np.concatenate(triangles), np.concatenate(first)
    near, far = camera.clip[t]
    mesh_of, triangle_of = np.concatenate(owners), np.concatenate(own)

    def shown(index: int, weights: np.ndarray, from_front: np.ndarray) -> np.ndarray:
        return _shown(shot, t, mesh_of[index], triangle_of[index], weights, from_front)

    traced = trace(
        np.concatenate(positions), faces, camera.intrinsics[t], bool(camera.orthographic[t]), shot.size, near, far,
        shown if shot.surfaces else None,
    )  # fmt: skip
    for i, j in np.argwhere(traced.triangle >= 0):
        owner[i, j] = mesh_of[traced.triangle[i, j]]
        if not shot.meshes[owner[i, j]].holdout:
            corners = first_world[faces[traced.triangle[i, j]]]
            place = traced.weights[i, j] @ corners
            frame[i, j] = np.rint(255.0 * rule.colors(place[None])[0].astype(np.float64))
    return frame, owner, traced.depth, traced.sure


def _world(local: np.ndarray, m: np.ndarray) -> np.ndarray:
    return local.astype(np.float64) @ m[:3, :3].T + m[:3, 3]


def _shown(shot: Shot, t: int, mesh: int, triangle: int, weights: np.ndarray, from_front: np.ndarray) -> np.ndarray:
    """[H, W] whether the materials of a mesh show a triangle where rays meet it; `from_front` as if not mirrored."""
    track = shot.meshes[mesh]
    if track.surfaces is None:
        return np.ones(from_front.shape, bool)
    geometry, surfaces = shot.geometry_of(mesh, t), shot.surfaces[track.surfaces]
    slot = 0 if geometry.materials is None else min(int(geometry.materials[triangle]), len(surfaces.cutouts) - 1)
    if np.linalg.det(track.matrix_world[t, :3, :3]) < 0:
        from_front = ~from_front
    front, back = surfaces.at(t)
    drawn = np.where(from_front, front[slot], back[slot])
    if surfaces.cutouts[slot] < 0:
        return drawn
    cutout = shot.cutouts[surfaces.cutouts[slot]]
    layers = [geometry.uv, *geometry.more_uv]
    layer = layers[surfaces.uv_layers[slot]]
    assert layer is not None
    uv = np.nan_to_num(weights) @ layer[triangle].astype(np.float64)
    place = np.concatenate([uv, np.ones((*uv.shape[:2], 1))], -1) @ cutout.transform.T
    return drawn & cutout.opaque[_sampled(cutout, place)]


def _sampled(cutout: Cutout, place: np.ndarray) -> np.ndarray:
    """[H, W] values of a cut-out's image at image coordinates [H, W, 2]."""
    height, width = cutout.alpha.shape
    x, y = place[..., 0] * width, place[..., 1] * height
    if not cutout.smooth:
        return _texels(cutout, np.floor(y).astype(int), np.floor(x).astype(int)).astype(int)
    x, y = x - 0.5, y - 0.5
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    total = np.zeros(x.shape)
    for down in (0, 1):
        for along in (0, 1):
            share = np.abs(1 - down - (y - row)) * np.abs(1 - along - (x - column))
            total += share * _texels(cutout, row + down, column + along)
    return np.floor(total + 0.5).astype(int)


def _texels(cutout: Cutout, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    height, width = cutout.alpha.shape
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    if cutout.extension == "MIRROR":
        row = np.where(row // height % 2 == 0, row % height, height - 1 - row % height)
        column = np.where(column // width % 2 == 0, column % width, width - 1 - column % width)
    elif cutout.extension == "REPEAT":
        row, column = row % height, column % width
    else:
        row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
    values = cutout.alpha[row, column].astype(float)
    return np.where(inside, values, 0.0) if cutout.extension == "CLIP" else values
