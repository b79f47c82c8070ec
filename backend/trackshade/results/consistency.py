# SPDX-License-Identifier: GPL-3.0-or-later
"""Track consistency of a video: how much the color of a surface point varies over the frames.

Definition. Points are sampled from the pixels of the shot's surfaces (without holdouts) in up to nine frames spread
over the shot, evenly over the image, with a fixed seed. Each point is fixed to a triangle and moves with the mesh, also
through changes of its topology (`control.locate`). It is *visible* in a frame if its mesh is visible and has the point,
it shows the side from which it was sampled, its depth agrees with the depth buffer to 1 %, and its pixel is clear
(`texture.views`): at a silhouette a bilinear sample would mix in what is behind. In each frame where it is visible, the
video is sampled bilinearly at its projection. A point's spread is the standard deviation of its color over those frames
(n - 1 in the denominator; root mean square of the three channels), and the consistency is the mean spread of all points
that are visible in at least two frames, in 8-bit levels.

0 means that the surface carries its colors with it exactly. Light that changes over the surface and texture finer than
a pixel raise it; its value for the input render tells how much of that is in the scene itself. Its value for the first
frame, held still, is that of a video that follows nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trackshade.control.locate import Follower
from trackshade.control.raster import barycentric
from trackshade.control.scene import ShotRaster
from trackshade.core.geometry import project
from trackshade.results.texture.views import Views, views_from_buffers
from trackshade.shot import Shot

if TYPE_CHECKING:
    from trackshade.control.video import TrackingVideo

POINTS = 4000
_SAMPLED_FRAMES = 9
_DEPTH_TOLERANCE = 0.01  # of the depth


@dataclass(frozen=True)
class Consistency:
    """The consistency, in 8-bit levels; None if no point is visible twice, or there is no such video.

    Attributes:
        points: number of points that are visible in at least two frames.
        frames_per_point: the mean number of frames in which they are visible.
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
        """Return the plain values of the record."""
        return asdict(self)


@dataclass(frozen=True)
class SurfacePoints:
    """P points on triangles.

    Attributes:
        mesh: [P] int64, index into `Shot.meshes`.
        geometry: [P] int64, index into `Shot.geometries` of the geometry that the triangle belongs to.
        corners: [P, 3] int64, vertices of the triangle.
        weights: [P, 3] float64, barycentric, in space.
        front: [P] bool, which side was visible where the point was sampled.
    """

    mesh: np.ndarray
    geometry: np.ndarray
    corners: np.ndarray
    weights: np.ndarray
    front: np.ndarray


def measure(
    shot: Shot,
    tracking: TrackingVideo,
    video: np.ndarray,  # [T, H, W, 3] uint8
    input_render: np.ndarray | None = None,  # [T, H, W, 3] uint8
) -> Consistency:
    """Measure the track consistency of a video, and of the input render if there is one."""
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


def spread(
    video: np.ndarray,  # [T, H, W, 3] uint8
    positions: np.ndarray,  # [P, T, 2] pixels
    seen: np.ndarray,  # [P, T] bool, at least two for each point
) -> float:
    """Return the mean standard deviation of the points' colors, 8-bit levels."""
    count = seen.sum(axis=1)[:, None]  # [P, 1]
    colors = np.stack([bilinear(frame, positions[:, t]) for t, frame in enumerate(video)], axis=1)  # [P, T, 3]
    colors = np.where(seen[..., None], colors, 0.0)
    mean = colors.sum(axis=1) / count  # [P, 3]
    squares = np.where(seen[..., None], (colors - mean[:, None]) ** 2, 0.0)
    variance = squares.sum(axis=1) / (count - 1)
    return round(float(np.sqrt(variance.mean(axis=1)).mean()), 4)


def sample_points(shot: Shot, count: int = POINTS) -> SurfacePoints:
    """Sample up to `count` points evenly over the pixels of the visible surfaces, always the same ones."""
    total = len(shot.frame_numbers)
    frames = np.unique(np.rint(np.linspace(0, total - 1, min(total, _SAMPLED_FRAMES))).astype(int))
    random = np.random.default_rng(0)
    raster = ShotRaster(shot)
    parts = [_sample_frame(raster, int(t), -(-count // len(frames)), random) for t in frames]
    return SurfacePoints(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def follow(shot: Shot, tracking: TrackingVideo, points: SurfacePoints) -> tuple[np.ndarray, np.ndarray]:
    """Return the points' pixels [P, T, 2] and whether they are visible, [P, T] bool."""
    count, total = len(points.mesh), len(shot.frame_numbers)
    views = views_from_buffers(shot, tracking.depth, tracking.object_index)
    positions, seen = np.zeros((count, total, 2)), np.zeros((count, total), bool)
    for mesh in np.unique(points.mesh).tolist():
        here = np.flatnonzero(points.mesh == mesh)
        follower = Follower(shot, mesh, points.geometry[here], points.corners[here], points.weights[here])
        for t in range(total):
            if not shot.meshes[mesh].visible[t]:
                continue
            located = follower.at(t)
            corners = _in_camera(shot, mesh, located.corners, t)
            place = np.einsum("pc,pcx->px", located.weights, corners)  # [p, 3] camera space
            orthographic = bool(shot.camera.orthographic[t])
            pixels = project(place, shot.camera.intrinsics[t], orthographic)
            near, far = shot.camera.clip[t]
            in_range = (place[:, 2] > near) & (place[:, 2] < far)
            same_side = _is_front(corners, place, orthographic) == points.front[here]
            visible = _is_visible(views, t, mesh, tracking.depth[t], pixels, place[:, 2])
            positions[here, t] = np.where(visible[:, None], pixels, 0.0)
            seen[here, t] = in_range & same_side & visible & located.exists
    return positions, seen


def _sample_frame(
    raster: ShotRaster, t: int, count: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return mesh, geometry, corners, weights and side of up to `count` pixels of sample `t`."""
    shot = raster.shot
    buffers = raster.draw(t)
    holdout = np.array([mesh.holdout for mesh in shot.meshes] + [True])  # the last entry is label -1, nothing
    usable = np.flatnonzero(~holdout[buffers.label])
    pixels = np.sort(random.permutation(usable)[:count])
    meshes = buffers.label.ravel()[pixels].astype(int)
    corners, weights = np.zeros((len(pixels), 3), int), np.zeros((len(pixels), 3))
    front, geometry = np.zeros(len(pixels), bool), np.zeros(len(pixels), int)
    for mesh in np.unique(meshes):
        here = meshes == mesh
        geometry[here] = shot.meshes[mesh].geometry_at(t)
        triangles = shot.geometry_of(int(mesh), t).triangles
        corners[here], weights[here] = barycentric(buffers, pixels[here], raster.vertices(mesh, t), triangles)
        place = _in_camera(shot, int(mesh), corners[here], t)
        front[here] = _is_front(place, np.einsum("pc,pcx->px", weights[here], place), shot.camera.orthographic[t])
    return meshes, geometry, corners, weights, front


def _in_camera(shot: Shot, mesh: int, corners: np.ndarray, t: int) -> np.ndarray:
    """Return camera-space positions [p, 3, 3] of the vertices [p, 3] of a mesh in sample `t`, metres."""
    track = shot.meshes[mesh]
    matrix = shot.camera.world_to_camera[t] @ track.matrix_world[t]
    local = shot.geometry_of(mesh, t).at(t)[corners].astype(np.float64)
    return local @ matrix[:3, :3].T + matrix[:3, 3]


def _is_front(corners: np.ndarray, place: np.ndarray, orthographic: bool) -> np.ndarray:
    """Return on which side of its triangle [p, 3, 3] the camera is, seen from `place` [p, 3]; [p] bool."""
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    ray = np.broadcast_to([0.0, 0.0, 1.0], place.shape) if orthographic else place
    return np.einsum("px,px->p", normal, ray) > 0


def _is_visible(
    views: Views,
    t: int,
    mesh: int,
    depth: np.ndarray,  # [H, W] metres
    pixels: np.ndarray,  # [p, 2]
    z: np.ndarray,  # [p] metres
) -> np.ndarray:
    """Return which points are what clear pixels show, [p] bool, by their depth `z`."""
    orthographic = bool(views.shot.camera.orthographic[t])
    with np.errstate(divide="ignore", invalid="ignore"):
        nearest = np.floor(np.where(np.isfinite(pixels), pixels, -1.0))
        inside = ((nearest >= 1) & (nearest <= np.array(depth.shape[::-1]) - 2)).all(axis=1)
        column, row = np.where(inside[:, None], nearest, 0.0).astype(int).T
        visible = inside & (views.clear_mesh[t, row, column] == mesh)
        column, row, z = column[visible], row[visible], z[visible]
        # 1/z is linear over the screen where a surface is flat (z itself for an orthographic camera).
        middle, left, right, above, below, own = (
            value if orthographic else 1.0 / value
            for value in (
                *(depth[row + i, column + j].astype(np.float64) for i, j in ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0))),
                z,
            )
        )
        offset = pixels[visible] - (nearest[visible] + 0.5)
        surface = middle + offset[:, 0] * (right - left) / 2 + offset[:, 1] * (below - above) / 2
        visible[visible] = abs(own - surface) <= _DEPTH_TOLERANCE * abs(own)
    return visible


def bilinear(frame: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return the colors [p, 3] of `frame` [H, W, 3] at `pixels` [p, 2]; pixel centers are at halves."""
    height, width = frame.shape[:2]
    place = np.clip(pixels - 0.5, 0.0, np.array([width - 1.0, height - 1.0]))
    low = np.minimum(place.astype(int), np.array([max(width - 2, 0), max(height - 2, 0)]))
    x, y = (place - low).T[..., None]  # [p, 1] each
    (column, row), right, below = low.T, min(1, width - 1), min(1, height - 1)
    picture = frame.astype(np.float64)
    top = picture[row, column] * (1 - x) + picture[row, column + right] * x
    bottom = picture[row + below, column] * (1 - x) + picture[row + below, column + right] * x
    return top * (1 - y) + bottom * y
