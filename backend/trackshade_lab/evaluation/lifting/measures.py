# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares a lifted scene with a scene whose depth is known, from cameras that move."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from trackshade.shot.lifted import LiftedScene

from ..camera import rotation_angle
from .stages import Array, Stage, mesh_depth

_SAME_DEPTH = 0.01  # relative: what is seen from two cameras
_EDGE = 0.1  # relative, between neighboring pixels
_WRONG_DEPTH = 0.02  # relative
_BETWEEN = (0.29, -0.17)  # pixels from the centers
_FIRST_INLIER = 3.0  # pixels of reprojection error
_MATCHED = 0.2  # pixels of it of a good match: what is worse counts little


@dataclass(frozen=True)
class DepthFigures:
    """How a lifted scene looks from a moved camera.

    Attributes:
        error: median projection error of visible points, pixels.
        error_99: 99th percentile of it.
        beyond: share of visible points with an error above half a pixel.
        wrong: share of pixels, among those that the photo shows, whose depth is wrong by more than 2 %.
        holes: share of them where nothing is.
        rotation: error of the camera that the result shows, degrees; NaN if it was not found.
        direction: error of its direction of motion, degrees.
    """

    error: float
    error_99: float
    beyond: float
    wrong: float
    holes: float
    rotation: float
    direction: float


def compare(stage: Stage, scene: LiftedScene, camera: Array, photo: NDArray[np.uint8]) -> DepthFigures:
    """Compare a lifted scene with the truth.

    Args:
        stage: the truth.
        scene: the lifted scene; it has the same units, but its own world.
        camera: [4, 4] the moved camera, in the world of the stage.
        photo: [H, W, 3] what was lifted.
    """
    true_first, true_moved = stage.depth(stage.world_to_camera), stage.depth(camera)
    motion = camera @ np.linalg.inv(stage.world_to_camera)  # from the photo's camera axes to the moved camera's
    solid = [mesh for mesh in scene.meshes if mesh.kind != "sky"]
    meshes = [(np.asarray(mesh.positions[0]), np.asarray(mesh.triangles)) for mesh in solid]
    first = scene.world_to_camera[0]
    moved = mesh_depth(stage.size, stage.intrinsics, motion @ first, meshes).astype(np.float64)
    # Points between pixel centers: vertices lie on those.
    between = stage.intrinsics.copy()
    between[:2, 2] -= _BETWEEN
    truth = stage.draw(stage.world_to_camera, between).astype(np.float64)
    lifted = mesh_depth(stage.size, between, first, meshes).astype(np.float64)
    place, depth = _transfer(stage, truth, motion, between)
    visible = np.isfinite(truth) & _agrees(true_moved, place, depth)
    found, _ = _transfer(stage, lifted, motion, between)
    with np.errstate(invalid="ignore"):
        error = np.linalg.norm(found - place, axis=-1)[visible]
    error = np.where(np.isfinite(error), error, np.inf)
    back, back_depth = _transfer(stage, true_moved, np.linalg.inv(motion))
    known = np.isfinite(true_moved) & _agrees(true_first, back, back_depth)
    with np.errstate(invalid="ignore"):
        holes, wrong = ~np.isfinite(moved), np.abs(moved / true_moved - 1) > _WRONG_DEPTH
    rotation, direction = camera_error(stage, photo, true_first, lifted_view(stage, scene, motion, photo), motion)
    return DepthFigures(
        float(np.median(error)),
        float(np.quantile(error, 0.99, method="higher")),
        float((error > 0.5).mean()),
        float((wrong & ~holes)[known].mean()),
        float(holes[known].mean()),
        rotation,
        direction,
    )


def _transfer(stage: Stage, depth: Array, motion: Array, intrinsics: Array | None = None) -> tuple[Array, Array]:
    """Return the pixels [H, W, 2] and the depth [H, W] at which another camera sees the points of a depth.

    `intrinsics` are those of the depth, if they differ from the stage's.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        points = (stage.rays(intrinsics) * depth[..., None]) @ motion[:3, :3].T + motion[:3, 3]
        pixels = points @ stage.intrinsics.T
        return pixels[..., :2] / pixels[..., 2:], points[..., 2]


def _agrees(depth: Array, pixels: Array, expected: Array) -> NDArray[np.bool_]:
    """Return whether points lie in a picture and on what its depth shows around them."""
    height, width = depth.shape
    with np.errstate(invalid="ignore"):
        inside = (expected > 0) & (pixels >= 0.5).all(axis=-1) & (pixels <= (width - 0.5, height - 0.5)).all(axis=-1)
    x, y = (np.where(inside, pixels[..., axis], 0.5) - 0.5 for axis in (0, 1))
    column, row = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    with np.errstate(divide="ignore"):
        around = [[1 / depth[row + i, column + j] for j in (0, 1)] for i in (0, 1)]
    x, y = x - column, y - row
    upper, lower = (one * (1 - x) + two * x for one, two in around)
    nearest, farthest = (choose.reduce([*around[0], *around[1]]) for choose in (np.maximum, np.minimum))
    # Between samples of one surface its depth is interpolated; at an edge only its nearer side is surely seen.
    smooth = farthest > nearest * (1 - _EDGE)
    shown = np.where(smooth, upper * (1 - y) + lower * y, nearest)
    with np.errstate(invalid="ignore", divide="ignore"):
        return inside & (np.abs(1 / expected / shown - 1) < _SAME_DEPTH)


def lifted_view(stage: Stage, scene: LiftedScene, motion: Array, photo: np.ndarray) -> np.ndarray:
    """Return what a moved camera sees of the lifted scene, with the photo on it; black where nothing is."""
    first = scene.world_to_camera[0]
    meshes = [(np.asarray(mesh.positions[0]), np.asarray(mesh.triangles)) for mesh in scene.meshes]
    depth = mesh_depth(stage.size, stage.intrinsics, motion @ first, meshes).astype(np.float64)
    back = np.linalg.inv(motion)
    pixels, back_depth = _transfer(stage, depth, back)
    hidden = mesh_depth(stage.size, stage.intrinsics, first, meshes).astype(np.float64)
    shown = np.isfinite(depth) & _agrees(hidden, pixels, back_depth)
    places = np.where(shown[..., None], pixels - 0.5, -10).astype(np.float32)
    return cv2.remap(photo, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderValue=(0, 0, 0))


def camera_error(stage: Stage, photo: np.ndarray, depth: Array, view: np.ndarray, motion: Array) -> tuple[float, float]:
    """Return the errors of the camera that a view shows: features of the photo are found in it.

    Args:
        stage: the truth.
        photo: [H, W, 3] the picture of the stage's camera.
        depth: [H, W] its true depth.
        view: [H, W, 3] the picture of the moved camera; black where nothing is known.
        motion: [4, 4] from the photo's camera axes to the moved camera's.

    Returns:
        Errors of the rotation and of the direction of motion, degrees; NaN where they cannot be told.
    """
    shown = (view.max(axis=-1) > 0).astype(np.uint8) * 255
    shown = cv2.erode(shown, np.ones((9, 9), np.uint8))
    sift = cv2.SIFT.create(4000, contrastThreshold=0.015)
    everywhere = np.full_like(shown, 255)
    keys, features = sift.detectAndCompute(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), everywhere)
    other_keys, other_features = sift.detectAndCompute(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY), shown)
    if len(keys) < 8 or len(other_keys) < 8:
        return math.nan, math.nan
    pairs = cv2.BFMatcher().knnMatch(features, other_features, 2)
    matches = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < 0.8 * pair[1].distance]
    start = np.array([keys[match.queryIdx].pt for match in matches]).reshape(-1, 2) + 0.5
    end = np.array([other_keys[match.trainIdx].pt for match in matches]).reshape(-1, 2) + 0.5
    height, width = depth.shape
    column, row = (np.clip(start[:, axis].astype(int), 0, side - 1) for axis, side in ((0, width), (1, height)))
    finite = np.where(np.isfinite(depth), depth, 1e9)
    flat = cv2.dilate(finite, np.ones((3, 3))) / np.maximum(cv2.erode(finite, np.ones((3, 3))), 1e-9) < 1.03
    usable = np.isfinite(depth[row, column]) & flat[row, column]
    start, end, distance = start[usable], end[usable], depth[row, column][usable]
    if len(start) < 12:
        return math.nan, math.nan
    rays = np.column_stack([start, np.ones(len(start))]) @ np.linalg.inv(stage.intrinsics).T
    cv2.setRNGSeed(0)
    points = rays * distance[:, None]
    good, turn, shift, inliers = cv2.solvePnPRansac(
        points, end, stage.intrinsics, np.zeros(5), iterationsCount=2000, reprojectionError=_FIRST_INLIER,
        confidence=0.9999, flags=cv2.SOLVEPNP_EPNP,
    )  # fmt: skip
    if not good or inliers is None or len(inliers) < 12:
        return math.nan, math.nan
    kept = inliers[:, 0].astype(np.intp)
    points, end = points[kept], end[kept]

    def misses(pose: Array) -> Array:
        return (cv2.projectPoints(points, pose[:3], pose[3:], stage.intrinsics, np.zeros(5))[0][:, 0] - end).ravel()

    start_pose = np.concatenate([turn.ravel(), shift.ravel()])
    pose = least_squares(misses, start_pose, loss="cauchy", f_scale=_MATCHED, x_scale="jac").x
    turn, shift = pose[:3], pose[3:, None]
    rotation = cv2.Rodrigues(turn)[0]
    true_center, center = -motion[:3, :3].T @ motion[:3, 3], -rotation.T @ shift[:, 0]
    cosine = true_center @ center / max(float(np.linalg.norm(true_center) * np.linalg.norm(center)), 1e-12)
    return rotation_angle(rotation, motion[:3, :3]), math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
