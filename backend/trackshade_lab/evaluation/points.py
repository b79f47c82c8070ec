# SPDX-License-Identifier: GPL-3.0-or-later
"""Textured surface points of the first frame, their true positions in every frame, and how they are followed.

Points are followed through a video by pyramidal Lucas-Kanade in color from frame to frame, with a forward-backward
check. The follower errs by itself: at silhouettes, on plain surfaces, where light moves over a surface. So the
end-point error of a generated video is taken over the points and frames that are followed correctly in the true video,
and the error left there is its floor.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import KDTree

from trackshade.control.locate import Follower, points_at
from trackshade.control.scene import ShotRaster
from trackshade.results.consistency import follow
from trackshade.shot import Shot

from .tracks import DenseTracks, Surfaces

_NUM_POINTS = 500
_WINDOW = 9  # px: side of the patch whose texture counts
_MIN_TEXTURE = 1.5  # 8-bit levels per pixel
_STATIC = 1e-4  # metres: a point that moves less is static
_BACKWARD_ERROR = 0.5  # px in a frame of width 144: tolerance of the forward-backward check
_TRUSTED_ERROR = 1 / 144  # of the frame's width: tolerance in the true video
_MIN_MOTION = 1 / 144  # of the frame's width: how far a point must be from its first position to count
_MIN_SAMPLES = 20  # points and frames


@dataclass(frozen=True)
class ReferencePoints:
    """P points, all visible in the first frame."""

    pixels: np.ndarray  # [P, T, 2] float64, true positions; arbitrary where not visible
    visible: np.ndarray  # [P, T] bool, in view, not hidden, and away from silhouettes
    world: np.ndarray  # [P, 3] float64, world positions in the first frame, metres; NaN if only pixels are known
    is_static: np.ndarray  # [P] bool, the point does not move in the world

    def __len__(self) -> int:
        return len(self.pixels)


def texture_strength(
    frame: np.ndarray,  # [H, W, 3] uint8
) -> np.ndarray:
    """Compute the texture around each pixel [H, W] float32: the RMS gradient in the weakest direction, in levels.

    It is the root of the structure tensor's smaller eigenvalue (Shi and Tomasi 1994).
    """
    gray = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY).astype(np.float32)
    # OpenCV scales gradients by two.
    return np.sqrt(np.maximum(cv2.cornerMinEigenVal(gray, _WINDOW, ksize=3), 0)) / 2


def shot_points(
    shot: Shot,
    surfaces: Surfaces,
    first_frame: np.ndarray,  # [H, W, 3] uint8
    count: int = _NUM_POINTS,
) -> ReferencePoints:
    """Choose up to `count` points on the surfaces of a shot, at textured pixels of its true first frame."""
    raster = ShotRaster(shot)
    raster.draw(0)
    num_frames = len(shot.frame_numbers)
    moving = np.array([not _is_static(shot, mesh) for mesh in range(len(shot.meshes))] + [False])  # last: no surface
    pixels = choose_pixels(first_frame, surfaces.mesh[0] >= 0, moving[surfaces.mesh[0]], count)
    points = points_at(raster, 0, pixels)
    world, is_static = np.zeros((len(pixels), 3)), np.zeros(len(pixels), bool)
    for mesh in np.unique(points.mesh).tolist():
        own = points.mesh == mesh
        follower = Follower(shot, mesh, points.geometry[own], points.corners[own], points.weights[own])
        located = [follower.at(t) for t in range(num_frames)]
        positions = np.stack(
            [at.interpolate(shot.world_positions(mesh, t)) for t, at in enumerate(located)]
        )  # [T, n, 3]
        distance = np.abs(positions - positions[0]).max(axis=2)  # [T, n]
        world[own] = positions[0]
        is_static[own] = (distance < _STATIC).all(axis=0) & np.stack([at.exists for at in located]).all(axis=0)
    positions, visible = follow(shot, points, surfaces.depth, surfaces.mesh)
    kept = visible[:, 0]
    return ReferencePoints(positions[kept], visible[kept], world[kept], is_static[kept])


def choose_pixels(
    first_frame: np.ndarray,  # [H, W, 3] uint8
    usable: np.ndarray,  # [H, W] bool
    preferred: np.ndarray,  # [H, W] bool
    count: int = _NUM_POINTS,
) -> np.ndarray:
    """Choose up to `count` usable textured pixels at random: half of them preferred ones, if there are as many.

    Returns:
        Flat indices [P] int32.
    """
    textured = texture_strength(first_frame) >= _MIN_TEXTURE
    rng = np.random.default_rng(0)
    groups = [rng.permutation(np.flatnonzero(usable & textured & group)) for group in (preferred, ~preferred)]
    limits = [max(count // 2, count - len(other)) for other in groups[::-1]]
    chosen = [group[:limit] for group, limit in zip(groups, limits, strict=True)]
    return np.sort(np.concatenate(chosen)).astype(np.int32)


def _is_static(shot: Shot, mesh: int) -> bool:
    """Return whether no vertex of a mesh moves in the world, appears or disappears."""
    if shot.meshes[mesh].changes:
        return False
    first = shot.world_positions(mesh, 0)
    return all(np.abs(shot.world_positions(mesh, t) - first).max() < _STATIC for t in range(1, len(shot.frame_numbers)))


def tracking_video_points(
    tracks: DenseTracks,
    first_frame: np.ndarray,  # [H, W, 3] uint8
) -> ReferencePoints:
    """Choose points at textured pixels of the true first frame, and find them in each frame by tracks.

    A point is visible where a pixel shows its place to within half a pixel, after correction by the pixels around.
    """
    # Pixels that another point passes.
    moving = np.linalg.norm(tracks.position - tracks.position[0], axis=-1).max(axis=0) > 1
    pixels = choose_pixels(first_frame, tracks.first_tracked, moving)
    width = tracks.first_tracked.shape[1]
    start = np.stack([pixels % width, pixels // width], axis=1) + 0.5  # [P, 2]
    inverse_depth = tracks.first_inverse_depth.ravel()[pixels]
    positions = np.zeros((len(pixels), len(tracks.position), 2))
    visible = np.zeros((len(pixels), len(tracks.position)), bool)
    positions[:, 0], visible[:, 0] = start, True
    for t in range(1, len(tracks.position)):
        positions[:, t], visible[:, t] = _find_points(tracks, t, start, inverse_depth)
    return ReferencePoints(positions, visible, np.full((len(pixels), 3), np.nan), np.zeros(len(pixels), bool))


def _find_points(
    tracks: DenseTracks, t: int, start: np.ndarray, start_inverse_depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels [P, 2] of frame `t` that show points at `start` [P, 2] of the first frame, and if they do [P]."""
    height, width = tracks.first_tracked.shape
    inner = np.zeros((height, width), bool)
    inner[1:-1, 1:-1] = True
    candidates = np.flatnonzero(tracks.tracked[t] & inner)
    if not len(candidates):
        return np.zeros_like(start), np.zeros(len(start), bool)
    position, inverse_depth = tracks.position[t].astype(np.float64), tracks.inverse_depth[t]
    distance, nearest = KDTree(position.reshape(-1, 2)[candidates]).query(start)
    row, column = np.divmod(candidates[nearest], width)
    # Positions vary linearly around a pixel of a surface: one Newton step from the nearest one.
    right = (position[row, column + 1] - position[row, column - 1]) / 2
    down = (position[row + 1, column] - position[row - 1, column]) / 2
    jacobian = np.stack([right, down], axis=-1)  # [P, 2, 2], d position / d pixel
    regular = np.abs(np.linalg.det(jacobian)) > 0.05
    step = np.zeros_like(start)
    step[regular] = np.linalg.solve(jacobian[regular], (start - position[row, column])[regular][..., None])[..., 0]
    relative, absolute = tracks.tolerance
    allowed = (3 * relative + 0.01) * start_inverse_depth + 2 * absolute
    same = np.abs(inverse_depth[row, column] - start_inverse_depth) <= allowed
    around = np.stack([tracks.tracked[t][row + y, column + x] for y in (-1, 0, 1) for x in (-1, 0, 1)]).all(axis=0)
    visible = same & regular & around & (np.abs(step).max(axis=1) <= 0.75) & (distance < 2.0)
    return np.stack([column, row], axis=1) + 0.5 + step, visible


@dataclass(frozen=True)
class FollowedPoints:
    """Points followed through a video."""

    pixels: np.ndarray  # [P, T, 2] float64, positions
    valid: np.ndarray  # [P, T] bool, the point has not been lost up to this frame


def follow_points(
    video: np.ndarray,  # [T, H, W, 3] uint8
    start: np.ndarray,  # [P, 2] px
) -> FollowedPoints:
    """Follow points of the first frame through a video."""
    frames = [np.ascontiguousarray(frame) for frame in video]
    pixels = np.empty((len(start), len(frames), 2))
    valid = np.zeros((len(start), len(frames)), bool)
    pixels[:, 0], valid[:, 0] = start, True
    if not len(start):
        return FollowedPoints(pixels, valid)
    window = max(9, 2 * round(video.shape[2] / 40) + 1)
    tolerance = _BACKWARD_ERROR * max(1.0, video.shape[2] / 144)
    current = np.asarray(start - 0.5, np.float32).reshape(-1, 1, 2)  # OpenCV counts from pixel centers
    for t in range(1, len(frames)):
        forward, found = _optical_flow(frames[t - 1], frames[t], current, window)
        backward, found_again = _optical_flow(frames[t], frames[t - 1], forward, window)
        consistent = np.linalg.norm((backward - current)[:, 0], axis=1) <= tolerance
        valid[:, t] = valid[:, t - 1] & found & found_again & consistent
        pixels[:, t], current = forward[:, 0] + 0.5, forward
    return FollowedPoints(pixels, valid)


def _optical_flow(
    before: np.ndarray, after: np.ndarray, points: np.ndarray, window: int
) -> tuple[np.ndarray, np.ndarray]:
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, points, np.empty_like(points), winSize=(window, window), maxLevel=3, criteria=criteria
    )
    return moved, found[:, 0] > 0


def find_trusted(followed: FollowedPoints, points: ReferencePoints, width: int) -> np.ndarray:
    """Return the points and frames, [P, T] bool, that are followed correctly in the true video of a width in px."""
    error = np.linalg.norm(followed.pixels - points.pixels, axis=-1)
    correct = followed.valid & _visible_so_far(points) & (error <= _TRUSTED_ERROR * width)
    return np.logical_and.accumulate(correct, axis=1)


def end_point_error(
    followed: FollowedPoints,
    points: ReferencePoints,
    trusted: np.ndarray,  # [P, T] bool, see `find_trusted`
    width: int,  # of the frame, px
) -> dict[str, float]:
    """Compare points followed through a generated video with their true positions, where these have moved.

    Returns:
        `end_px`: mean distance in pixels, and `end_share`: relative to the width; NaN with too few points.
        `held`: fraction of the trusted points and frames in which the point was not lost.
        `trusted`: fraction of the visible points and frames that are followed correctly in the true video.
    """
    moved = np.linalg.norm(points.pixels - points.pixels[:, :1], axis=-1) >= _MIN_MOTION * width
    visible, counted = (_visible_so_far(points) & moved)[:, 1:], (trusted & moved)[:, 1:]
    kept = counted & followed.valid[:, 1:]
    error = np.linalg.norm(followed.pixels - points.pixels, axis=-1)[:, 1:][kept]
    pixels = float(error.mean()) if len(error) >= _MIN_SAMPLES else float("nan")
    return {
        "end_px": pixels,
        "end_share": pixels / width,
        "held": float(kept.sum() / counted.sum()) if counted.any() else float("nan"),
        "trusted": float(counted.sum() / visible.sum()) if visible.any() else float("nan"),
    }


def _visible_so_far(points: ReferencePoints) -> np.ndarray:
    """Return whether a point is visible in a frame and in all before, [P, T] bool."""
    return np.logical_and.accumulate(points.visible, axis=1)
