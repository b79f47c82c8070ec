# SPDX-License-Identifier: GPL-3.0-or-later
"""How far the camera of a made video is from the one that was asked for.

The first frame's points have known places in space. Where the eye follows them to gives the camera of each frame
(perspective-n-point with RANSAC, then least squares over the inliers), which is compared with the true one. Of nearly
flat points two cameras fit almost alike, so least squares also start from the frame before, and unless the other fits
clearly better that is taken. Only points that do not move in the world count. Few points, or points on a plane, do not
say where a camera was; so errors are taken over the frames whose camera the same points give right in the true video.
What is left there is the floor.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .following import Followed
from .points import TruePoints

_LEAST = 16  # points
_REACH = 2.0 / 144  # of the frame's width: how far an inlier may be from its projection
_UNDISTORTED = np.zeros(5)
_CLEARLY = 0.75  # of the squared error: below it another camera is not mistaken for that of nearly flat points
LEAST_MOVE = 0.02  # of the points' median depth: a camera that moves less has no direction
RIGHT = (2.0, 15.0)  # degrees of rotation and of direction up to which a camera from the true video is right
SMALL = (10.0, 0.15)  # degrees turned, way gone as a share of the depth: up to both, a movement is small


@dataclass(frozen=True)
class Movement:
    """The true camera's movement over a clip.

    Attributes:
        degrees: largest turn away from the first frame.
        share: largest way from the first frame's place, as a share of the points' median depth.
    """

    degrees: float
    share: float

    @property
    def moves(self) -> bool:
        return self.degrees > 0.5 or self.share > LEAST_MOVE

    @property
    def small(self) -> bool:
        return self.degrees <= SMALL[0] and self.share <= SMALL[1]


@dataclass(frozen=True)
class CameraErrors:
    """Degrees in each frame, [T]; NaN where there is none, and in the first.

    Attributes:
        rotation: between the camera's axes and the true ones.
        translation: between the ways from the first frame's camera, where the true one is long enough.
    """

    rotation: np.ndarray
    translation: np.ndarray

    @property
    def right(self) -> CameraErrors:
        """The errors of the frames in which the camera is right, NaN in the others."""
        turned = np.where(self.rotation <= RIGHT[0], self.rotation, np.nan)
        known = np.isfinite(turned) & (self.translation <= RIGHT[1])
        return CameraErrors(turned, np.where(known, self.translation, np.nan))


@dataclass(frozen=True)
class CameraError:
    """Means over the frames that count; NaN where there is none.

    Attributes:
        rotation, translation: see `CameraErrors`.
        solved: share of the frames that count for which a camera was found.
        counted: share of the frames after the first that count.
    """

    rotation: float
    translation: float
    solved: float
    counted: float


def movement(world_to_camera: np.ndarray, world: np.ndarray) -> Movement:
    """Of a camera [T, 4, 4], over points [P, 3], metres."""
    first = world_to_camera[0]
    depth = max(float(np.median(world @ first[2, :3] + first[2, 3])), 1e-6) if len(world) else 1.0
    turned = [degrees_between(pose[:3, :3], first[:3, :3]) for pose in world_to_camera]
    gone = np.linalg.norm(centers(world_to_camera) - centers(world_to_camera)[0], axis=1)
    return Movement(float(np.max(turned)), float(gone.max()) / depth)


def camera_errors(
    found: Followed,
    points: TruePoints,
    trust: np.ndarray,
    world_to_camera: np.ndarray,
    intrinsics: np.ndarray,
    width: int,
) -> CameraErrors:
    """Errors of the camera found from followed points against the true one: [T, 4, 4] and [T, 3, 3], pixels."""
    usable = found.held & trust & points.still[:, None]
    first = world_to_camera[0]
    depth = float(np.median(points.world @ first[2, :3] + first[2, 3])) if len(points) else 1.0
    true_centers = centers(world_to_camera)
    rotation, translation = np.full((2, len(world_to_camera)), np.nan)
    before = world_to_camera[0]  # of the last frame that has a camera
    for t in range(1, len(world_to_camera)):
        own = np.flatnonzero(usable[:, t])
        pose = solve(points.world[own], found.pixels[own, t], intrinsics[t], _REACH * width, before)
        if pose is None:
            continue
        before = pose
        rotation[t] = degrees_between(pose[:3, :3], world_to_camera[t, :3, :3])
        true_way = true_centers[t] - true_centers[0]
        if np.linalg.norm(true_way) > LEAST_MOVE * depth:
            translation[t] = angle(centers(pose[None])[0] - true_centers[0], true_way)
    return CameraErrors(rotation, translation)


def camera_error(errors: CameraErrors, truth: CameraErrors) -> CameraError:
    """Means of a video's errors over the frames in which those of the true video are `right`."""
    turned, gone = np.isfinite(truth.right.rotation), np.isfinite(truth.right.translation)
    found = np.isfinite(errors.rotation) & turned
    return CameraError(
        _mean(errors.rotation[found]),
        _mean(errors.translation[gone & np.isfinite(errors.translation)]),
        float(found.sum() / turned.sum()) if turned.any() else float("nan"),
        float(turned[1:].mean()),
    )


def solve(
    world: np.ndarray, pixels: np.ndarray, intrinsics: np.ndarray, reach: float, near: np.ndarray | None = None
) -> np.ndarray | None:
    """World to camera [4, 4] from points [P, 3] seen at [P, 2] px; None where there are too few or no camera fits.

    near: a camera [4, 4] that it is likely to be near to; what is found from there on is taken unless another camera
    fits clearly better.
    """
    if len(world) < _LEAST:
        return None
    # Seeded: RANSAC draws from the library's generator.
    cv2.setRNGSeed(0)
    objects, images = np.ascontiguousarray(world, np.float64), np.ascontiguousarray(pixels, np.float64)
    found, turn, shift, inliers = cv2.solvePnPRansac(
        objects,
        images,
        intrinsics,
        _UNDISTORTED,
        iterationsCount=200,
        reprojectionError=reach,
        flags=cv2.SOLVEPNP_SQPNP,
    )
    if not found or inliers is None or len(inliers) < _LEAST:
        return None
    own = inliers[:, 0].astype(np.intp)
    error, pose = _fitted(objects[own], images[own], intrinsics, turn, shift)
    if near is None:
        return pose
    start = cv2.Rodrigues(near[:3, :3])[0], near[:3, 3:].copy()
    close_error, close = _fitted(objects[own], images[own], intrinsics, *start)
    return pose if error < _CLEARLY * close_error else close


def _fitted(
    objects: np.ndarray, images: np.ndarray, intrinsics: np.ndarray, turn: np.ndarray, shift: np.ndarray
) -> tuple[float, np.ndarray]:
    """The camera by least squares from a start on: squared error in px, and world to camera [4, 4]."""
    turn, shift = cv2.solvePnPRefineLM(objects, images, intrinsics, _UNDISTORTED, turn, shift)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = cv2.Rodrigues(turn)[0], shift[:, 0]
    in_front = (objects @ pose[2, :3] + pose[2, 3] > 0).all()
    seen = cv2.projectPoints(objects, turn, shift, intrinsics, _UNDISTORTED)[0][:, 0]
    return float(np.square(seen - images).sum()) if in_front else float("inf"), pose


def centers(world_to_camera: np.ndarray) -> np.ndarray:
    """[T, 3] places of cameras [T, 4, 4] in the world."""
    return -np.einsum("tji,tj->ti", world_to_camera[:, :3, :3], world_to_camera[:, :3, 3])


def degrees_between(one: np.ndarray, other: np.ndarray) -> float:
    """Angle of the rotation between two rotations [3, 3]."""
    return float(np.degrees(np.arccos(np.clip((np.trace(one @ other.T) - 1) / 2, -1, 1))))


def angle(one: np.ndarray, other: np.ndarray) -> float:
    """Degrees between two vectors [3]; 90 where the first has no length."""
    length = np.linalg.norm(one) * np.linalg.norm(other)
    return float(np.degrees(np.arccos(np.clip(one @ other / length, -1, 1)))) if length > 0 else 90.0


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
