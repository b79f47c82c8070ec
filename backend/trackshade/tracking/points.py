# SPDX-License-Identifier: GPL-3.0-or-later
"""From a solved camera to points of the first frame in space, and a better camera."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from trackshade.tracking.bundle import Observations, Solution, depths_from_motion, host_rays, residuals
from trackshade.tracking.camera import CameraSolve
from trackshade.tracking.depth import sweep_depth
from trackshade.tracking.features import Features
from trackshade.tracking.photometric import Patches, patch_offsets, smoothed
from trackshade.tracking.planes import apply_planes
from trackshade.tracking.smoothing import fill_depth, sharpen_steps

ALIKE = 0.5  # least correlation of a point that is seen
_OFFSETS = patch_offsets(4, 2)
_BLUR = 0.7  # px: of the pictures that are compared
_COMPARED = 16  # frames that points are compared with
_CAMERA_POINTS = 1500
_CAMERA_ROUNDS = 2
# Times the standard deviation that corners give the focal length, which is too small: on four rendered scenes it was
# off by two of them (root mean square).
_FOCAL_TRUST = 2.0
_STEEPEST = 0.03  # most that the inverse depth changes from pixel to pixel, relative


@dataclass(frozen=True, eq=False)
class PointSolve:
    """Points of the first frame, on surfaces that stand still.

    Attributes:
        solution: the refined cameras.
        points: [N, 2] pixels of the first frame, on a grid, row by row.
        grid: (rows, columns).
        shape: [N, 3] inverse depth, and how it changes per pixel to the right and downwards.
        pixels: [T, N, 2] where they are in each frame.
        alike: [T, N] correlation of their patches there with those of the first frame; -1 outside the picture.
        contrast: [N] standard deviation of their patches, levels.
        focal_error: standard deviation of the focal length's natural logarithm.
    """

    solution: Solution
    points: np.ndarray
    grid: tuple[int, int]
    shape: np.ndarray
    pixels: np.ndarray
    alike: np.ndarray
    contrast: np.ndarray
    focal_error: float


def point_grid(size: tuple[int, int], spacing: float) -> tuple[np.ndarray, tuple[int, int]]:
    """Return points at the centers of pixels on a grid, [N, 2] row by row, and (rows, columns)."""
    step = max(2, round(spacing))
    x, y = np.arange(step // 2, size[0], step) + 0.5, np.arange(step // 2, size[1], step) + 0.5
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2), (len(y), len(x))


def place_points(
    images: np.ndarray,
    grays: np.ndarray,
    camera: CameraSolve,
    spacing: float,
    free_focal: bool,
    threads: int,
    step: Callable[[float], None],
) -> PointSolve:
    """Find the depth of points on a grid, and refine the camera with them.

    Args:
        images: [T, H, W, 3] uint8.
        grays: [T, H, W] uint8.
        camera: the camera that features gave.
        spacing: distance of the points, pixels.
        free_focal: whether the focal length is unknown.
        threads: number of threads.
        step: called with the fraction that is done.
    """
    size = (grays.shape[2], grays.shape[1])
    points, grid = point_grid(size, spacing)
    levels = smoothed(grays, _BLUR)
    patches = Patches(levels, points, _OFFSETS, threads=threads)
    solution, focal_error = camera.solution, camera.focal_error
    if camera.kind != "moves":
        shape = np.repeat([[1.0, 0.0, 0.0]], len(points), axis=0)
        solution = replace(solution, translations=np.zeros_like(solution.translations))
        pixels, alike = patches.compare(solution, shape)
        return PointSolve(solution, points, grid, shape, pixels, alike, patches.contrast, focal_error)
    known = first_frame_points(camera, size)
    depths = np.sort(1 / known[:, 2])
    limits = 0.4 / float(np.percentile(depths, 98)), 1.35 / float(np.percentile(depths, 1))
    inverse = sweep_depth(grays, solution, limits, known, threads, lambda fraction: step(0.4 * fraction))
    shape = _shape_of(inverse, points, size)
    order = _by_parallax(solution)
    x, y = points.astype(int).T
    colors = cv2.GaussianBlur(images[0], (0, 0), 1.0)[y, x].astype(np.float64)
    distance = float(points[1, 0] - points[0, 0])

    def refine(shape: np.ndarray) -> np.ndarray:
        shape, deviations = patches.refine(solution, shape, order, 8, 100.0)
        shape = fill_depth(*apply_planes(shape[:, 0], deviations, colors, points, grid), colors, grid, distance)
        shape = sharpen_steps(shape, colors, grid, distance)
        shape = patches.refine(solution, shape, order, 4, 1000.0)[0]
        shape[:, 0] = np.clip(shape[:, 0], 0.5 * limits[0], 2 * limits[1])  # of the sky there is no depth
        return shape

    shape = refine(shape)
    step(0.55)
    focal = solution.focal, _FOCAL_TRUST * camera.focal_error if free_focal else 0.0
    rng = np.random.default_rng(0)
    for number in range(_CAMERA_ROUNDS):
        _, alike = patches.compare(solution, shape)
        seen = alike > 0.6
        chosen = np.flatnonzero((patches.contrast > 3) & (seen[1:].sum(axis=0) >= min(6, len(grays) // 2)))
        if len(chosen) < 50:
            break
        chosen = np.sort(rng.permutation(chosen)[:_CAMERA_POINTS])
        some = Patches(levels, points[chosen], _OFFSETS, threads=threads)
        solution, _, focal_error = some.refine_cameras(solution, shape[chosen], seen[:, chosen], 6, focal)
        shape = patches.refine(solution, shape, order, 6, 100.0)[0]
        step(0.55 + 0.2 * (number + 1) / _CAMERA_ROUNDS)
    shape = refine(shape)
    pixels, alike = patches.compare(solution, shape)
    step(1.0)
    return PointSolve(solution, points, grid, shape, pixels, alike, patches.contrast, focal_error)


def with_depths_of_tracks(
    grays: np.ndarray, solved: PointSolve, chosen: np.ndarray, pixels: np.ndarray, known: np.ndarray
) -> tuple[PointSolve, float]:
    """Give points the depths that their tracks have if they stand still.

    Args:
        grays: [T, H, W] uint8.
        solved: the points.
        chosen: [M] which of them.
        pixels: [T, M, 2] their tracks.
        known: [T, M] where these are known.

    Returns:
        The points, with new depths where their patches look more alike then, and the median distance of the tracks from
        those of any depth, pixels.
    """
    tracks = Features(np.zeros(len(chosen), np.intp), pixels, known)
    seen = Observations.of(tracks)
    rho, _ = depths_from_motion(tracks, seen, replace(solved.solution, inverse_depths=np.ones(len(chosen))))
    typical = float(np.median(solved.shape[:, 0]))
    rho = np.clip(rho, 0.02 * typical, 20 * typical)
    miss = residuals(tracks, seen, replace(solved.solution, inverse_depths=rho))
    patches = Patches(smoothed(grays, _BLUR), solved.points[chosen], _OFFSETS)
    shape = np.c_[rho, np.zeros((len(chosen), 2))]
    shape, _ = patches.refine(solved.solution, shape, _by_parallax(solved.solution), 8, 100.0)
    places, alike = patches.compare(solved.solution, shape)
    better = (alike * known).sum(axis=0) > (solved.alike[:, chosen] * known).sum(axis=0)
    merged = {name: getattr(solved, name).copy() for name in ("shape", "pixels", "alike")}
    merged["shape"][chosen[better]] = shape[better]
    merged["pixels"][:, chosen[better]], merged["alike"][:, chosen[better]] = places[:, better], alike[:, better]
    return replace(solved, **merged), float(np.median(miss)) if len(miss) else np.inf


def with_depths(grays: np.ndarray, solved: PointSolve, chosen: np.ndarray, inverse: np.ndarray) -> PointSolve:
    """Give points other depths.

    Args:
        grays: [T, H, W] uint8.
        solved: the points.
        chosen: [M] which of them.
        inverse: [M] their inverse depths.
    """
    if not len(chosen):
        return solved
    patches = Patches(smoothed(grays, _BLUR), solved.points[chosen], _OFFSETS)
    merged = {name: getattr(solved, name).copy() for name in ("shape", "pixels", "alike")}
    merged["shape"][chosen] = np.c_[inverse, np.zeros((len(chosen), 2))]
    merged["pixels"][:, chosen], merged["alike"][:, chosen] = patches.compare(solved.solution, merged["shape"][chosen])
    return replace(solved, **merged)


def picture_of(inverse: np.ndarray, solved: PointSolve, size: tuple[int, int], ratio: np.ndarray) -> np.ndarray:
    """Return the inverse depths between points, [h, w].

    Args:
        inverse: [N] those of the points.
        solved: the points.
        size: (width, height) of the result.
        ratio: [2] this size relative to that of the frames.
    """
    step = float(solved.points[1, 0] - solved.points[0, 0])
    inverse = inverse.reshape(solved.grid)
    x, y = np.meshgrid(*((np.arange(count) + 0.5) / r for count, r in zip(size, ratio, strict=True)))
    x, y = ((axis - first) / step for axis, first in zip((x, y), solved.points[0], strict=True))
    found = cv2.remap(
        inverse.astype(np.float32),
        x.astype(np.float32),
        y.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return found.astype(np.float64)


def first_frame_points(camera: CameraSolve, size: tuple[int, int]) -> np.ndarray:
    """Return the features that stand still as the first frame would show them: [N, 3] x, y and inverse depth."""
    solution, features = camera.solution, camera.features
    host = features.hosts
    ahead = host_rays(features, solution) / solution.inverse_depths[:, None] - solution.translations[host]
    world = np.einsum("nji,nj->ni", solution.rotations[host], ahead)
    depth = np.maximum(world[:, 2], 1e-9)
    pixels = solution.focal * world[:, :2] / depth[:, None] + solution.center
    good = camera.static & (world[:, 2] > 1e-9) & ((pixels >= 0) & (pixels < size)).all(axis=1)
    good = good if good.sum() >= 8 else (world[:, 2] > 1e-9)
    return np.c_[pixels, 1 / depth][good]


def _by_parallax(solution: Solution) -> np.ndarray:
    """Return frames to compare with, evenly spaced in time, those near the first camera first."""
    count = len(solution.translations)
    chosen = np.unique(np.linspace(1, count - 1, min(_COMPARED, count - 1)).round().astype(int))
    return chosen[np.argsort(np.linalg.norm(solution.translations[chosen], axis=1), kind="stable")]


def _shape_of(inverse: np.ndarray, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return inverse depths and slopes of points, [N, 3], from a smaller picture of inverse depths."""
    scale = inverse.shape[1] / size[0]
    smooth = cv2.medianBlur(inverse, 5)
    slopes = [cv2.blur(cv2.Sobel(smooth, cv2.CV_32F, *axis, scale=1 / 8), (7, 7)) * scale for axis in ((1, 0), (0, 1))]
    x, y = np.clip((points * scale).astype(int), 0, np.array(inverse.shape[::-1]) - 1).T
    value = smooth[y, x]
    limit = _STEEPEST * value
    return np.stack([value, *(np.clip(slope[y, x], -limit, limit) for slope in slopes)], axis=1).astype(np.float64)
