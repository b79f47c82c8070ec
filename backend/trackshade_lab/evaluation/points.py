# SPDX-License-Identifier: GPL-3.0-or-later
"""Surface points of the first frame that can be followed by eye, and where they truly are in every frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import KDTree

from trackshade.control.locate import Follower
from trackshade.control.raster import barycentric
from trackshade.control.scene import ShotRaster
from trackshade.control.video import TrackingVideo
from trackshade.results.consistency import SurfacePoints, follow
from trackshade.shot import Shot
from trackshade.shot.track_colors import mesh_rule

from .tracks import DenseTracks, Surfaces

COUNT = 500
WINDOW = 9  # px: side of the patch that must have texture
LEAST_TEXTURE = 1.5  # 8-bit levels per pixel: gradient in the weakest direction of a patch, root mean square
_STILL = 1e-4  # metres: what moves less is part of a static scene


@dataclass(frozen=True)
class TruePoints:
    """P points, all seen in the first frame.

    Attributes:
        pixels: [P, T, 2] float64, true places; anything where not seen.
        seen: [P, T] bool, in view and not hidden, away from silhouettes.
        world: [P, 3] float64, world places in the first frame, metres; NaN where only pixels are known.
        still: [P] bool, the point does not move in the world.
    """

    pixels: np.ndarray
    seen: np.ndarray
    world: np.ndarray
    still: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)


def texture(frame: np.ndarray) -> np.ndarray:
    """[H, W] float32, levels per pixel: how well a patch of [H, W, 3] uint8 can be told from its neighbors in every
    direction (Shi and Tomasi 1994: the smaller eigenvalue of the structure tensor, here as a root mean square).
    """
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY).astype(np.float32)
    eigen = cv2.cornerMinEigenVal(grey, WINDOW, ksize=3)
    # OpenCV's scale makes its gradients twice as large.
    return np.sqrt(np.maximum(eigen, 0)) / 2


def shot_points(shot: Shot, surfaces: Surfaces, first: np.ndarray, count: int = COUNT, seed: int = 0) -> TruePoints:
    """Points on the surfaces of a shot, at textured pixels of its first frame [H, W, 3] uint8."""
    raster = ShotRaster(shot)
    buffers = raster.draw(0)
    moving = np.array([not _rests(shot, mesh) for mesh in range(len(shot.meshes))] + [False])  # the last: no surface
    pixels = choose_pixels(first, surfaces.mesh[0] >= 0, moving[surfaces.mesh[0]], count, seed)
    meshes = buffers.label.ravel()[pixels]
    corners, weights = np.zeros((len(pixels), 3), np.int64), np.zeros((len(pixels), 3))
    world = np.zeros((len(pixels), 3))
    still = np.zeros(len(pixels), bool)
    front, geometry = np.zeros(len(pixels), bool), np.zeros(len(pixels), np.int64)
    for mesh in np.unique(meshes):
        own = np.flatnonzero(meshes == mesh)
        geometry[own] = shot.meshes[mesh].geometry
        triangles = shot.geometries[geometry[own[0]]].triangles
        corners[own], weights[own] = barycentric(buffers, pixels[own], raster.vertices(int(mesh), 0), triangles)
        follower = Follower(shot, int(mesh), shot.meshes[mesh].geometry, corners[own], weights[own])
        places = np.stack(
            [follower.at(t).interpolate(shot.world_positions(int(mesh), t)) for t in range(len(shot.frame_numbers))]
        )  # [T, n, 3]
        moved = np.abs(places - places[0]).max(axis=2)  # [T, n]
        gone = ~np.stack([follower.at(t).exists for t in range(len(shot.frame_numbers))])
        world[own], still[own] = places[0], (moved < _STILL).all(axis=0) & ~gone.any(axis=0)
        front[own] = _front(shot, int(mesh), corners[own], places[0])
    found = SurfacePoints(meshes.astype(np.int64), geometry, corners, weights, front)
    video = TrackingVideo(shot, np.zeros((0, 0, 0, 3), np.uint8), surfaces.mesh, surfaces.depth, mesh_rule(shot), None)
    places, seen = follow(shot, video, found)
    kept = seen[:, 0]
    return TruePoints(places[kept], seen[kept], world[kept], still[kept])


def choose_pixels(first: np.ndarray, usable: np.ndarray, preferred: np.ndarray, count: int, seed: int) -> np.ndarray:
    """[P] int32 flat indices of up to `count` textured pixels of a frame [H, W, 3] uint8, at random and
    where `usable` [H, W] bool: half of them where `preferred` [H, W] bool, half elsewhere, if each has that many.
    """
    textured = texture(first) >= LEAST_TEXTURE
    rng = np.random.default_rng(seed)
    some = [rng.permutation(np.flatnonzero(usable & textured & own)) for own in (preferred, ~preferred)]
    most = [max(count // 2, count - len(other)) for other in some[::-1]]
    return np.sort(np.concatenate([x[:n] for x, n in zip(some, most, strict=True)])).astype(np.int32)


def _rests(shot: Shot, mesh: int) -> bool:
    """Whether no vertex of a mesh moves in the world, and none comes or goes."""
    if shot.meshes[mesh].changes:
        return False
    first = shot.world_positions(mesh, 0)
    return all(np.abs(shot.world_positions(mesh, t) - first).max() < _STILL for t in range(1, len(shot.frame_numbers)))


def track_points(tracks: DenseTracks, first: np.ndarray, count: int = COUNT, seed: int = 0) -> TruePoints:
    """Points at textured pixels of the first frame [H, W, 3] uint8, found again in each frame by their places.

    A point is seen where a pixel shows its place to within half a pixel after correction by the places around.
    """
    moving = np.linalg.norm(tracks.place - tracks.place[0], axis=-1).max(axis=0) > 1  # another point comes here
    pixels = choose_pixels(first, tracks.first_tracked, moving, count, seed)
    width = tracks.first_tracked.shape[1]
    start = np.stack([pixels % width, pixels // width], axis=1) + 0.5  # [P, 2]
    near = tracks.first_nearness.ravel()[pixels]
    found = np.zeros((len(pixels), len(tracks.place), 2))
    seen = np.zeros((len(pixels), len(tracks.place)), bool)
    found[:, 0], seen[:, 0] = start, True
    for t in range(1, len(tracks.place)):
        found[:, t], seen[:, t] = _find(tracks, t, start, near)
    unknown = np.full((len(pixels), 3), np.nan)
    return TruePoints(found, seen, unknown, np.zeros(len(pixels), bool))


def _find(tracks: DenseTracks, t: int, start: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [P, 2] of frame `t` that show the places `start` [P, 2], and whether they do [P]."""
    height, width = tracks.first_tracked.shape
    inner = np.zeros((height, width), bool)
    inner[1:-1, 1:-1] = True
    candidates = np.flatnonzero(tracks.tracked[t] & inner)
    if not len(candidates):
        return np.zeros_like(start), np.zeros(len(start), bool)
    place, nearness = tracks.place[t].astype(np.float64), tracks.nearness[t]
    away, nearest = KDTree(place.reshape(-1, 2)[candidates]).query(start)
    row, column = np.divmod(candidates[nearest], width)
    # Places change evenly around a pixel of a surface: one Newton step from the nearest one.
    right = (place[row, column + 1] - place[row, column - 1]) / 2
    down = (place[row + 1, column] - place[row - 1, column]) / 2
    jacobian = np.stack([right, down], axis=-1)  # [P, 2, 2], d place / d pixel
    regular = np.abs(np.linalg.det(jacobian)) > 0.05
    step = np.zeros_like(start)
    step[regular] = np.linalg.solve(jacobian[regular], (start - place[row, column])[regular][..., None])[..., 0]
    share, absolute = tracks.tolerance
    same = np.abs(nearness[row, column] - near) <= (3 * share + 0.01) * near + 2 * absolute
    around = np.stack([tracks.tracked[t][row + y, column + x] for y in (-1, 0, 1) for x in (-1, 0, 1)]).all(axis=0)
    seen = same & regular & around & (np.abs(step).max(axis=1) <= 0.75) & (away < 2.0)
    return np.stack([column, row], axis=1) + 0.5 + step, seen


def _front(shot: Shot, mesh: int, corners: np.ndarray, places: np.ndarray) -> np.ndarray:
    """[n] bool: which side of its triangle each point [n, 3] shows in the first frame, as `consistency` has it."""
    camera = shot.camera
    m = camera.world_to_camera[0]
    triangle = shot.world_positions(mesh, 0)[corners] @ m[:3, :3].T + m[:3, 3]
    normal = np.cross(triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0])
    ray = places @ m[:3, :3].T + m[:3, 3]
    if camera.orthographic[0]:
        ray = np.broadcast_to([0.0, 0.0, 1.0], ray.shape)
    return np.einsum("nx,nx->n", normal, ray) > 0
