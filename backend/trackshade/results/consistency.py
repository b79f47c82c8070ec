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
from scipy.ndimage import map_coordinates

from trackshade.control.locate import Follower, SurfacePoints, in_camera, is_front, points_at, shows_surface
from trackshade.control.scene import ShotRaster
from trackshade.core.geometry import project
from trackshade.results.cells.views import Views, views_from_buffers
from trackshade.shot import Shot

if TYPE_CHECKING:
    from trackshade.control.video import TrackingVideo

POINTS = 4000
_SAMPLED_FRAMES = 9
_DEPTH_TOLERANCE = 0.01  # of the depth


@dataclass(frozen=True)
class Consistency:
    """The consistency, in 8-bit levels; None if no point is visible twice, or there is no such video."""

    points: int  # number of points that are visible in at least two frames
    frames_per_point: float  # the mean number of frames in which they are visible
    result: float | None  # spread over the shaded video
    input_render: float | None  # spread over the input render
    first_frame_held: float | None  # spread over the shaded video's first frame, held still

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values of the record."""
        return asdict(self)


def measure(
    shot: Shot,
    tracking: TrackingVideo,
    video: np.ndarray,  # [T, H, W, 3] uint8
    input_render: np.ndarray | None = None,  # [T, H, W, 3] uint8
) -> Consistency:
    """Measure the track consistency of a video, and of the input render if there is one."""
    points = sample_points(shot)
    positions, seen = follow(shot, points, tracking.depth, tracking.object_index)
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
    colors = np.zeros((*seen.shape, 3))
    for t, frame in enumerate(video):
        colors[seen[:, t], t] = bilinear(frame, positions[seen[:, t], t])
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
    parts = []
    for t in frames.tolist():
        raster.draw(t)
        usable = np.flatnonzero(shows_surface(raster))
        parts.append(points_at(raster, t, np.sort(random.permutation(usable)[: -(-count // len(frames))])))
    return SurfacePoints(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def follow(
    shot: Shot,
    points: SurfacePoints,
    depth: np.ndarray,  # [T, H, W] metres
    object_index: np.ndarray,  # [T, H, W]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the points' pixels [P, T, 2] and whether they are visible, [P, T] bool; see `TrackingVideo` for arrays."""
    count, total = len(points.mesh), len(shot.frame_numbers)
    views = views_from_buffers(shot, depth, object_index)
    positions, seen = np.zeros((count, total, 2)), np.zeros((count, total), bool)
    for mesh in np.unique(points.mesh).tolist():
        here = np.flatnonzero(points.mesh == mesh)
        follower = Follower(shot, mesh, points.geometry[here], points.corners[here], points.weights[here])
        for t in range(total):
            if not shot.meshes[mesh].visible[t]:
                continue
            located = follower.at(t)
            corners = in_camera(shot, mesh, located.corners, t)
            place = np.einsum("pc,pcx->px", located.weights, corners)  # [p, 3] camera space
            orthographic = bool(shot.camera.orthographic[t])
            pixels = project(place, shot.camera.intrinsics[t], orthographic)
            near, far = shot.camera.clip[t]
            in_range = (place[:, 2] > near) & (place[:, 2] < far)
            same_side = is_front(corners, place, orthographic) == points.front[here]
            visible = _is_visible(views, t, mesh, depth[t], pixels, place[:, 2])
            positions[here, t] = np.where(visible[:, None], pixels, 0.0)
            seen[here, t] = in_range & same_side & visible & located.exists
    return positions, seen


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


def bilinear(
    image: np.ndarray,  # [H, W, 3]
    pixels: np.ndarray,  # [P, 2] x and y; pixel centers are at halves
) -> np.ndarray:
    """Return the colors [P, 3] float64 of an image at points."""
    places = pixels[:, ::-1].T - 0.5  # rows and columns
    return np.stack([map_coordinates(image[..., c], places, np.float64, order=1, mode="nearest") for c in range(3)], 1)
