# SPDX-License-Identifier: GPL-3.0-or-later
"""Error of the camera that a generated video shows, against the true camera.

The first frame's points have known world positions. The pixels where they are followed to give each frame's camera
(perspective-n-point with RANSAC, then least squares over the inliers). Two cameras fit nearly flat points almost
equally, so least squares also start from the previous frame's camera, whose result is taken unless the other fits
clearly better. Only static points count. Few points, or points on a plane, do not determine a camera; so errors are
taken over the frames whose camera the same points give correctly in the true video. The error left there is the floor.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .points import FollowedPoints, ReferencePoints

_MIN_POINTS = 16
_INLIER_ERROR = 2.0 / 144  # of the frame's width
_NO_DISTORTION = np.zeros(5)
_CLEARLY_BETTER = 0.75  # factor of the squared error
MIN_TRANSLATION = 0.02  # relative to the points' median depth: a shorter translation has no direction
CORRECT = (2.0, 15.0)  # degrees of rotation and of direction up to which a camera from the true video is correct
SMALL_MOTION = (10.0, 0.15)  # degrees, and translation relative to the depth


@dataclass(frozen=True)
class CameraMotion:
    """The true camera's motion over a clip."""

    degrees: float  # largest rotation from the first frame
    translation: float  # largest distance from the first frame's position, relative to the points' median depth

    @property
    def is_moving(self) -> bool:
        """Whether the camera moves enough to be measured."""
        return self.degrees > 0.5 or self.translation > MIN_TRANSLATION

    @property
    def is_small(self) -> bool:
        """Whether both rotation and translation are small."""
        return self.degrees <= SMALL_MOTION[0] and self.translation <= SMALL_MOTION[1]


@dataclass(frozen=True)
class CameraErrors:
    """Errors in each frame, [T], degrees; NaN where there is none, and in the first frame."""

    rotation: np.ndarray  # angle between the estimated and the true rotation
    translation: np.ndarray  # angle between the translations from the first frame, where the true one is long enough


def camera_motion(
    world_to_camera: np.ndarray,  # [T, 4, 4]
    points: np.ndarray,  # [P, 3] world, metres
) -> CameraMotion:
    """Measure the motion of a camera that sees some points."""
    rotation = max(rotation_angle(pose[:3, :3], world_to_camera[0, :3, :3]) for pose in world_to_camera)
    centers = _camera_centers(world_to_camera)
    distance = np.linalg.norm(centers - centers[0], axis=1).max()
    return CameraMotion(rotation, float(distance) / max(_median_depth(points, world_to_camera[0]), 1e-6))


def camera_errors(
    followed: FollowedPoints,
    points: ReferencePoints,
    trusted: np.ndarray,  # [P, T] bool
    world_to_camera: np.ndarray,  # [T, 4, 4]
    intrinsics: np.ndarray,  # [T, 3, 3] pixels
    width: int,  # of the frame, px
) -> CameraErrors:
    """Estimate the camera of each frame of a video from trusted followed points, and compare it with the true one."""
    usable = followed.valid & trusted & points.is_static[:, None]
    min_distance = MIN_TRANSLATION * _median_depth(points.world, world_to_camera[0])
    true_centers = _camera_centers(world_to_camera)
    rotation, translation = np.full((2, len(world_to_camera)), np.nan)
    previous = world_to_camera[0]
    for t in range(1, len(world_to_camera)):
        used = np.flatnonzero(usable[:, t])
        pose = solve_pose(points.world[used], followed.pixels[used, t], intrinsics[t], _INLIER_ERROR * width, previous)
        if pose is None:
            continue
        previous = pose
        rotation[t] = rotation_angle(pose[:3, :3], world_to_camera[t, :3, :3])
        true_translation = true_centers[t] - true_centers[0]
        if np.linalg.norm(true_translation) > min_distance:
            found = _camera_centers(pose[None])[0] - true_centers[0]
            cosine = found @ true_translation / max(np.linalg.norm(found) * np.linalg.norm(true_translation), 1e-300)
            translation[t] = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return CameraErrors(rotation, translation)


def mean_camera_errors(errors: CameraErrors, truth: CameraErrors) -> dict[str, float]:
    """Average a video's errors over the frames that count: those whose camera the true video gives correctly.

    Returns:
        `rotation`, `translation`: means in degrees; NaN without such frames.
        `solved`: fraction of the frames that count for which a camera was found.
        `camera_counted`: fraction of the frames after the first that count.
    """
    rotation_counts = truth.rotation <= CORRECT[0]  # not for NaN
    translation_counts = rotation_counts & (truth.translation <= CORRECT[1])
    solved = np.isfinite(errors.rotation) & rotation_counts
    translations = errors.translation[translation_counts & np.isfinite(errors.translation)]
    return {
        "rotation": float(errors.rotation[solved].mean()) if solved.any() else float("nan"),
        "translation": float(translations.mean()) if len(translations) else float("nan"),
        "solved": float(solved.sum() / rotation_counts.sum()) if rotation_counts.any() else float("nan"),
        "camera_counted": float(rotation_counts[1:].mean()),
    }


def solve_pose(
    points: np.ndarray,  # [P, 3] world, metres
    pixels: np.ndarray,  # [P, 2]
    intrinsics: np.ndarray,  # [3, 3] pixels
    max_error: float,  # reprojection error of an inlier, px
    initial: np.ndarray | None = None,  # [4, 4]
) -> np.ndarray | None:
    """Estimate the camera that sees points at pixels, by RANSAC.

    Returns:
        World to camera [4, 4], refined from `initial` unless another pose fits clearly better; None with too few
        points or inliers.
    """
    if len(points) < _MIN_POINTS:
        return None
    cv2.setRNGSeed(0)  # RANSAC draws from OpenCV's generator
    points, pixels = np.ascontiguousarray(points, np.float64), np.ascontiguousarray(pixels, np.float64)
    found, rotation, translation, inliers = cv2.solvePnPRansac(
        points,
        pixels,
        intrinsics,
        _NO_DISTORTION,
        iterationsCount=200,
        reprojectionError=max_error,
        flags=cv2.SOLVEPNP_SQPNP,
    )
    if not found or inliers is None or len(inliers) < _MIN_POINTS:
        return None
    kept = inliers[:, 0].astype(np.intp)
    error, pose = _refine_pose(points[kept], pixels[kept], intrinsics, rotation, translation)
    if initial is None:
        return pose
    start = cv2.Rodrigues(initial[:3, :3])[0], initial[:3, 3:].copy()
    near_error, near_pose = _refine_pose(points[kept], pixels[kept], intrinsics, *start)
    return pose if error < _CLEARLY_BETTER * near_error else near_pose


def _refine_pose(
    points: np.ndarray, pixels: np.ndarray, intrinsics: np.ndarray, rotation: np.ndarray, translation: np.ndarray
) -> tuple[float, np.ndarray]:
    """Fit a pose by least squares from a rotation vector and translation; return the squared error, px, and [4, 4]."""
    rotation, translation = cv2.solvePnPRefineLM(points, pixels, intrinsics, _NO_DISTORTION, rotation, translation)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = cv2.Rodrigues(rotation)[0], translation[:, 0]
    in_front = (points @ pose[2, :3] + pose[2, 3] > 0).all()
    projected = cv2.projectPoints(points, rotation, translation, intrinsics, _NO_DISTORTION)[0][:, 0]
    return float(np.square(projected - pixels).sum()) if in_front else float("inf"), pose


def _camera_centers(world_to_camera: np.ndarray) -> np.ndarray:
    """Return the world positions [T, 3] of cameras [T, 4, 4]."""
    return -np.einsum("tji,tj->ti", world_to_camera[:, :3, :3], world_to_camera[:, :3, 3])


def _median_depth(points: np.ndarray, pose: np.ndarray) -> float:
    return float(np.median(points @ pose[2, :3] + pose[2, 3])) if len(points) else 1.0


def rotation_angle(one: np.ndarray, other: np.ndarray) -> float:
    """Return the angle in degrees between two rotations [3, 3]."""
    return float(np.degrees(np.arccos(np.clip((np.trace(one @ other.T) - 1) / 2, -1, 1))))
