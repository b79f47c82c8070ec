# SPDX-License-Identifier: GPL-3.0-or-later
"""Propagation the slow, obvious way, by rays and numpy, and small shots with known colors.

Nothing here is shared with the fast path but the conventions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tests.helpers.ray_reference import trace
from trackshade.shot import CameraTrack, Geometry, MeshTrack, Shot

Texture = Callable[[int, np.ndarray], np.ndarray]  # mesh, points [N, 3] of its first sample -> linear colors [N, 3]
SIZE = (72, 48)


@dataclass(frozen=True, eq=False)
class Seen:
    """What each pixel's center shows in a sample, [H, W]."""

    mesh: np.ndarray
    face: np.ndarray
    weights: np.ndarray
    depth: np.ndarray
    sure: np.ndarray


def look(shot: Shot, t: int, size: tuple[int, int]) -> Seen:
    """Trace a sample at any size."""
    k, m = scaled(shot, t, size), shot.camera.world_to_camera[t]
    positions, triangles, owners, own = [], [], [], []
    for index, track in enumerate(shot.meshes):
        if track.visible[t]:
            geometry = shot.geometry_of(index, t)
            triangles.append(geometry.triangles + sum(map(len, positions)))
            owners.append(np.full(len(geometry.triangles), index))
            own.append(np.arange(len(geometry.triangles)))
            matrix = m @ track.matrix_world[t]
            positions.append(geometry.at(t).astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3])
    near, far = shot.camera.clip[t]
    traced = trace(
        np.concatenate(positions), np.concatenate(triangles), k, bool(shot.camera.orthographic[t]), size, near, far
    )
    hit = traced.triangle >= 0
    mesh, face = np.full(hit.shape, -1), np.full(hit.shape, -1)
    mesh[hit], face[hit] = np.concatenate(owners)[traced.triangle[hit]], np.concatenate(own)[traced.triangle[hit]]
    return Seen(mesh, face, traced.weights, traced.depth, traced.sure)


def scaled(shot: Shot, t: int, size: tuple[int, int]) -> np.ndarray:
    """The intrinsics [3, 3] at another size."""
    return np.diag([size[0] / shot.size[0], size[1] / shot.size[1], 1.0]) @ shot.camera.intrinsics[t]


def paint(shot: Shot, t: int, texture: Texture, size: tuple[int, int] | None = None) -> np.ndarray:
    """The picture [h, w, 3] of a sample in linear light, one ray for each pixel; the background is (.2, .3, .4)."""
    seen = look(shot, t, size or shot.size)
    image = np.tile(np.array([0.2, 0.3, 0.4]), (*seen.mesh.shape, 1))
    for index in range(len(shot.meshes)):
        own = seen.mesh == index
        if own.any():
            geometry = shot.geometry_of(index, t)
            corners = geometry.first.astype(np.float64)[geometry.triangles[seen.face[own]]]
            image[own] = texture(index, np.einsum("nk,nkx->nx", seen.weights[own], corners))
    return image


def carry(
    shot: Shot, image: np.ndarray, key: int, t: int, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Carry a picture of sample `key` to sample `t`.

    Returns the colors [H, W, 3], where they are surely right [H, W], and what the picture surely does not show [H, W].
    """
    height, width = image.shape[:2]
    there, here = look(shot, key, (width, height)), look(shot, t, size)
    k = scaled(shot, key, (width, height))
    color, right = np.zeros((*here.mesh.shape, 3)), np.zeros(here.mesh.shape, bool)
    hidden = np.zeros(here.mesh.shape, bool)
    for i, j in np.argwhere((here.mesh >= 0) & here.sure):
        index = int(here.mesh[i, j])
        geometry, track = shot.geometry_of(index, t), shot.meshes[index]
        point = here.weights[i, j] @ geometry.at(key).astype(np.float64)[geometry.triangles[here.face[i, j]]]
        x, y, z, _ = shot.camera.world_to_camera[key] @ track.matrix_world[key] @ np.append(point, 1.0)
        if not shot.camera.orthographic[key]:
            x, y = x / z, y / z
        u, v = k[0, 0] * x + k[0, 2], k[1, 1] * y + k[1, 2]
        if z <= 0.01 or u < -0.5 or v < -0.5 or u > width + 0.5 or v > height + 0.5:
            hidden[i, j] = True
            continue
        a, b = int(np.floor(v - 0.5)), int(np.floor(u - 0.5))
        window = np.s_[a - 1 : a + 3, b - 1 : b + 3]
        if a < 1 or b < 1 or a + 2 >= height or b + 2 >= width:
            continue
        around, deep = there.mesh[window], there.depth[window]
        if (around == index).all() and there.sure[window].all():
            if np.ptp(deep) < 0.15 and np.abs(deep - z).max() < 0.15:
                weights = np.outer(_cubic(v - 0.5 - a), _cubic(u - 0.5 - b))
                color[i, j], right[i, j] = np.einsum("ab,abc->c", weights, image[window]), True
            elif (deep < z - 0.5).all():
                hidden[i, j] = True
        elif (around != index).all():
            hidden[i, j] = True
    return np.maximum(color, 0), right, hidden


def _cubic(at: float) -> np.ndarray:
    """Weights [4] of Catmull and Rom's spline at a fraction between the second and the third point."""
    powers = np.array([1.0, at, at * at, at**3])
    matrix = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
    return powers @ matrix


def smooth_texture(mesh: int, points: np.ndarray) -> np.ndarray:
    """Waves along all axes, of another phase for each mesh."""
    phase = mesh + np.array([0.0, 1.0, 2.0])
    waves = (
        np.sin(1.7 * points[:, :1] + phase)
        + np.sin(2.1 * points[:, 1:2] + 2 * phase)
        + np.sin(1.3 * points[:, 2:] - phase)
    )
    return 0.5 + 0.13 * waves


def look_at(eye: tuple[float, float, float], target: tuple[float, float, float]) -> np.ndarray:
    """World-to-camera matrix [4, 4] of a camera with x right, y down, z forward; z is up in the world."""
    forward = np.subtract(target, eye)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, (0, 0, 1.0))
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ np.array(eye)
    return matrix


def camera(matrices: list[np.ndarray], orthographic: bool = False, focal: float = 60.0) -> CameraTrack:
    """A camera for pictures of `SIZE`; 12 pixels a metre if orthographic."""
    count, f = len(matrices), 12.0 if orthographic else focal
    k = np.array([[f, 0, SIZE[0] / 2 + 0.3], [0, f, SIZE[1] / 2 - 0.2], [0, 0, 1]])
    return CameraTrack(
        "Camera", ("Camera",) * count, np.repeat(k[None], count, 0), np.stack(matrices),
        np.full(count, orthographic), np.tile([0.1, 100.0], (count, 1)),
    )  # fmt: skip


def floor(half: float = 6.0) -> Geometry:
    """A square of two triangles at z = 0."""
    corners = np.array([(-half, -half, 0), (half, -half, 0), (half, half, 0), (-half, half, 0)], np.float32)
    return Geometry(corners[None], np.array([[0, 1, 2], [0, 2, 3]], np.int32))


def box(half: float = 0.7) -> Geometry:
    """A cube around the origin, its triangles counter-clockwise as seen from outside."""
    corners = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32) * half
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = [triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))]
    return Geometry(corners[None], np.array(triangles, np.int32))


def moved(*offsets: tuple[float, float, float]) -> np.ndarray:
    """Matrices [T, 4, 4] that move by an offset for each sample."""
    matrices = np.tile(np.eye(4), (len(offsets), 1, 1))
    matrices[:, :3, 3] = offsets
    return matrices


def mesh(geometry: int, matrices: np.ndarray, **more) -> MeshTrack:
    return MeshTrack("Mesh", geometry, matrices, np.ones(len(matrices), bool), **more)


def make_shot(geometries, meshes, cameras: CameraTrack, **more) -> Shot:
    count = len(cameras.sources)
    return Shot(np.arange(1.0, count + 1), 24.0, SIZE, cameras, tuple(geometries), tuple(meshes), **more)


def box_over_floor(count: int = 4, orthographic: bool = False, travel: float = 0.5) -> Shot:
    """A box that moves over a floor, under a camera that moves, too."""
    eyes = [(-3.0 + travel * t, -5.0, 3.5) for t in range(count)]
    offsets = [(0.3 * t, 0.2 * t, 1.0) for t in range(count)]
    return make_shot(
        (floor(), box()),
        (mesh(0, moved(*[(0, 0, 0)] * count)), mesh(1, moved(*offsets))),
        camera([look_at(eye, (0, 0, 0.4)) for eye in eyes], orthographic),
    )


def plain_to_the_horizon(half: float = 200.0) -> Shot:
    """A large floor, under a low camera that turns by 60 degrees about its own place."""
    targets = [(8 * np.cos(angle), 8 * np.sin(angle), 0.9) for angle in np.radians([0, 30, 60])]
    return make_shot(
        (floor(half),),
        (mesh(0, moved(*[(0, 0, 0)] * 3)),),
        camera([look_at((0, 0, 1.6), target) for target in targets]),
    )


def still(shot: Shot, t: int = 0) -> Shot:
    """The shot with all samples like one."""
    count = len(shot.frame_numbers)
    hold = lambda values: np.repeat(values[t : t + 1], count, 0)  # noqa: E731
    cameras = replace(shot.camera, world_to_camera=hold(shot.camera.world_to_camera))
    meshes = tuple(replace(item, matrix_world=hold(item.matrix_world)) for item in shot.meshes)
    return replace(shot, camera=cameras, meshes=meshes)
