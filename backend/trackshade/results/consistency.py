# SPDX-License-Identifier: GPL-3.0-or-later
"""How much the color of a surface point varies over the frames: the measured track consistency of a video.

Definition. Points are drawn from the pixels of the shot's surfaces (holdouts left out) in up to nine frames
spread over the shot, evenly over the picture, with a fixed seed. Each point is a place on a triangle, so it
moves as the mesh moves, also through changes of its topology (`control.locate`). It is *seen* in a frame where
its mesh is visible and has the point, it shows the side from which it was drawn, its depth agrees with the depth
buffer to 1 %, and the 3×3 pixels around it all show the same mesh without a jump in depth: at a silhouette a
bilinear sample would mix in what is behind. In each frame where it is seen, the video is sampled bilinearly at its
projection. A point's spread is the standard deviation of its color over those frames (n - 1 in the denominator;
root mean square of the three channels), and the figure is the mean spread of all points that are seen in at least
two frames, in 8-bit levels.

0 means that the surface carries its colors with it exactly. Light that changes over the surface raises the
figure rightly, and so does texture finer than a pixel; the same figure for the input render says how much of
that the scene itself holds. The figure for the first frame held still says what a video scores that follows
nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trackshade.control.locate import Follower
from trackshade.control.raster import barycentric
from trackshade.control.scene import ShotRaster
from trackshade.core.geometry import project
from trackshade.shot import Shot

if TYPE_CHECKING:
    from trackshade.control.video import TrackingVideo

POINTS = 4000
_SAMPLED_FRAMES = 9
_DEPTH_TOLERANCE = 0.01  # of the depth


@dataclass(frozen=True)
class Consistency:
    """The figures, in 8-bit levels; None where no point was seen twice or there is no such video.

    Attributes:
        points: points that were seen in at least two frames.
        frames_per_point: the mean number of frames in which they were seen.
        result: spread over the shaded video.
        input_render: spread over the input render.
        first_frame_held: spread over the shaded video's first frame, held still.
    """

    points: int
    frames_per_point: float
    result: float | None
    input_render: float | None
    first_frame_held: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class SurfacePoints:
    """P places on triangles."""

    mesh: np.ndarray  # [P] i64, index into Shot.meshes
    geometry: np.ndarray  # [P] i64, index into Shot.geometries: the one that the triangle belongs to
    corners: np.ndarray  # [P, 3] i64, vertices of the triangle
    weights: np.ndarray  # [P, 3] f64, barycentric, in space (not on screen)
    front: np.ndarray  # [P] bool, which side was seen where the point was drawn


def measure(
    shot: Shot, tracking: TrackingVideo, video: np.ndarray, input_render: np.ndarray | None = None
) -> Consistency:
    """The track consistency of `video` [T, H, W, 3] uint8 and, where given, of `input_render`, of the same
    shape.
    """
    points = sample_points(shot)
    positions, seen = follow(shot, tracking, points)
    kept = seen.sum(axis=1) >= 2
    positions, seen = positions[kept], seen[kept]
    if not len(seen):
        return Consistency(0, 0.0, None, None, None)
    held = np.broadcast_to(video[:1], video.shape)
    return Consistency(
        points=len(seen),
        frames_per_point=round(float(seen.sum(axis=1).mean()), 2),
        result=spread(video, positions, seen),
        input_render=None if input_render is None else spread(input_render, positions, seen),
        first_frame_held=spread(held, positions, seen),
    )


def spread(video: np.ndarray, positions: np.ndarray, seen: np.ndarray) -> float:
    """Mean standard deviation of the points' colors, 8-bit levels.

    Args:
        video: [T, H, W, 3] uint8.
        positions: [P, T, 2] pixels.
        seen: [P, T] bool, at least two per point.
    """
    count = seen.sum(axis=1)[:, None]  # [P, 1]
    colors = np.stack([_bilinear(frame, positions[:, t]) for t, frame in enumerate(video)], axis=1)  # [P, T, 3]
    colors = np.where(seen[..., None], colors, 0.0)
    mean = colors.sum(axis=1) / count  # [P, 3]
    squares = np.where(seen[..., None], (colors - mean[:, None]) ** 2, 0.0)
    variance = squares.sum(axis=1) / (count - 1)
    return round(float(np.sqrt(variance.mean(axis=1)).mean()), 4)


def sample_points(shot: Shot, count: int = POINTS) -> SurfacePoints:
    """Draws up to `count` points evenly over the pixels of the visible surfaces, always the same ones."""
    total = len(shot.frame_numbers)
    frames = np.unique(np.rint(np.linspace(0, total - 1, min(total, _SAMPLED_FRAMES))).astype(int))
    random = np.random.default_rng(0)
    raster = ShotRaster(shot)
    found = [_sample_frame(raster, int(t), -(-count // len(frames)), random) for t in frames]
    return SurfacePoints(*(np.concatenate(part) for part in zip(*found, strict=True)))


def follow(shot: Shot, tracking: TrackingVideo, points: SurfacePoints) -> tuple[np.ndarray, np.ndarray]:
    """Where the points are and whether they are seen: [P, T, 2] pixels and [P, T] bool."""
    count, total = len(points.mesh), len(shot.frame_numbers)
    positions, seen = np.zeros((count, total, 2)), np.zeros((count, total), bool)
    for mesh in np.unique(points.mesh).tolist():
        own = np.flatnonzero(points.mesh == mesh)
        follower = Follower(shot, mesh, points.geometry[own], points.corners[own], points.weights[own])
        for t in range(total):
            if not shot.meshes[mesh].visible[t]:
                continue
            there = follower.at(t)
            corners = _in_camera(shot, mesh, there.corners, t)
            place = np.einsum("pc,pcx->px", there.weights, corners)  # [p, 3] camera space
            orthographic = bool(shot.camera.orthographic[t])
            pixels = project(place, shot.camera.intrinsics[t], orthographic)
            near, far = shot.camera.clip[t]
            ahead = (place[:, 2] > near) & (place[:, 2] < far)
            same_side = _front(corners, place, orthographic) == points.front[own]
            clear = _clear(tracking.depth[t], tracking.object_index[t], mesh, pixels, place[:, 2], orthographic)
            positions[own, t] = np.where(clear[:, None], pixels, 0.0)
            seen[own, t] = ahead & same_side & clear & there.exists
    return positions, seen


def _sample_frame(
    raster: ShotRaster, t: int, count: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mesh, geometry, corners, weights and side of up to `count` pixels of sample `t`."""
    shot = raster.shot
    buffers = raster.draw(t)
    holdout = np.array([mesh.holdout for mesh in shot.meshes] + [True])  # the last entry is label -1, nothing
    usable = np.flatnonzero(~holdout[buffers.label])
    pixels = np.sort(random.permutation(usable)[:count])
    meshes = buffers.label.ravel()[pixels].astype(int)
    corners, weights = np.zeros((len(pixels), 3), int), np.zeros((len(pixels), 3))
    front, geometry = np.zeros(len(pixels), bool), np.zeros(len(pixels), int)
    for mesh in np.unique(meshes):
        own = meshes == mesh
        geometry[own] = shot.meshes[mesh].geometry_at(t)
        triangles = shot.geometry_of(int(mesh), t).triangles
        corners[own], weights[own] = barycentric(buffers, pixels[own], raster.vertices(mesh, t), triangles)
        place = _in_camera(shot, int(mesh), corners[own], t)
        front[own] = _front(place, np.einsum("pc,pcx->px", weights[own], place), shot.camera.orthographic[t])
    return meshes, geometry, corners, weights, front


def _in_camera(shot: Shot, mesh: int, corners: np.ndarray, t: int) -> np.ndarray:
    """[p, 3, 3] camera-space places of the vertices [p, 3] of a mesh at sample `t`, metres."""
    track = shot.meshes[mesh]
    matrix = shot.camera.world_to_camera[t] @ track.matrix_world[t]
    local = shot.geometry_of(mesh, t).at(t)[corners].astype(np.float64)
    return local @ matrix[:3, :3].T + matrix[:3, 3]


def _front(corners: np.ndarray, place: np.ndarray, orthographic: bool) -> np.ndarray:
    """[p] bool: on which side of its triangle [p, 3, 3] the camera is, as seen from `place` [p, 3]."""
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    ray = np.broadcast_to([0.0, 0.0, 1.0], place.shape) if orthographic else place
    return np.einsum("px,px->p", normal, ray) > 0


def _clear(
    depth: np.ndarray, label: np.ndarray, mesh: int, pixels: np.ndarray, z: np.ndarray, orthographic: bool
) -> np.ndarray:
    """[p] bool: the points at `pixels` [p, 2] with depth `z` [p] are what is seen there, away from
    silhouettes.
    """
    height, width = depth.shape
    with np.errstate(invalid="ignore"):
        nearest = np.floor(np.where(np.isfinite(pixels), pixels, -1.0))
    inside = ((nearest >= 1) & (nearest <= np.array([width, height]) - 2)).all(axis=1)
    column, row = np.where(inside[:, None], nearest, 1.0).astype(int).T
    if min(height, width) < 3:
        return np.zeros(len(pixels), bool)
    offsets = np.arange(-1, 2)
    rows, columns = row[:, None, None] + offsets[:, None], column[:, None, None] + offsets  # [p, 3, 3]
    same = (label[rows, columns] == mesh).all(axis=(1, 2))
    around = depth[rows, columns].astype(np.float64)
    # 1/z is linear over the screen where a surface is flat (z itself for an orthographic camera), so that
    # second differences show jumps and not slopes.
    with np.errstate(divide="ignore", invalid="ignore"):
        linear = around if orthographic else 1.0 / around
        ends = [(0, 1, 2, 1), (1, 0, 1, 2), (0, 0, 2, 2), (0, 2, 2, 0)]
        bend = np.max([abs(linear[:, a, b] + linear[:, c, d] - 2 * linear[:, 1, 1]) for a, b, c, d in ends], axis=0)
        smooth = bend <= _DEPTH_TOLERANCE * abs(linear[:, 1, 1])
        own = z if orthographic else 1.0 / z
        slope_x, slope_y = (linear[:, 1, 2] - linear[:, 1, 0]) / 2, (linear[:, 2, 1] - linear[:, 0, 1]) / 2
        offset = np.where(inside[:, None], pixels - (nearest + 0.5), 0.0)
        surface = linear[:, 1, 1] + offset[:, 0] * slope_x + offset[:, 1] * slope_y
        agrees = abs(own - surface) <= _DEPTH_TOLERANCE * abs(own)
    return inside & same & smooth & agrees


def _bilinear(frame: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """[p, 3] float64 colors of `frame` [H, W, 3] at `pixels` [p, 2]; pixel centers lie at halves."""
    height, width = frame.shape[:2]
    place = np.clip(pixels - 0.5, 0.0, np.array([width - 1.0, height - 1.0]))
    low = np.minimum(place.astype(int), np.array([max(width - 2, 0), max(height - 2, 0)]))
    x, y = (place - low).T[..., None]  # [p, 1] each
    (column, row), right, below = low.T, min(1, width - 1), min(1, height - 1)
    picture = frame.astype(np.float64)
    top = picture[row, column] * (1 - x) + picture[row, column + right] * x
    bottom = picture[row + below, column] * (1 - x) + picture[row + below, column + right] * x
    return top * (1 - y) + bottom * y
