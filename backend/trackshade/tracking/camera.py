# SPDX-License-Identifier: GPL-3.0-or-later
"""Solves the camera of each frame from features that most of the scene agrees on.

Whether the camera stands still, only turns, or moves is decided by what explains the features. A camera that moves is
begun from two frames (essential matrix), extended to all others (perspective-n-point, triangulation), and refined by
bundle adjustment. An unknown focal length is tried at several values, since one start may end in a wrong solution.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from trackshade.tracking.bundle import (
    Observations,
    Solution,
    adjust,
    cost,
    depths_from_motion,
    host_rays,
    residuals,
)
from trackshade.tracking.features import Features

FOCALS = (0.65, 0.95, 1.4, 2.1)  # longer sides of the picture: tried where the focal length is unknown
_TRIAL_FEATURES, _FEATURES = 160, 650
_STILL = 0.35  # px: features that move less are at rest
_TURNING = 0.6  # px: error up to which a turning camera explains the features
INLIER = 2.0  # px: reprojection error of a feature that stands still
_NO_DISTORTION = np.zeros(5)

CameraKind = Literal["moves", "turns", "stands", "unknown"]


@dataclass(frozen=True, eq=False)
class CameraSolve:
    """The camera of a clip.

    Attributes:
        kind: whether it moves, only turns, or stands still; "unknown" if there was too little to follow.
        solution: cameras, the first one at the origin, and inverse depths of `features`.
        features: what it was solved from.
        error: mean reprojection error of the features that stand still, pixels.
        focal_error: standard deviation of the focal length's natural logarithm; 0 if it was given.
        static: [N] whether each feature stands still.
    """

    kind: CameraKind
    solution: Solution
    features: Features
    error: float
    focal_error: float
    static: np.ndarray


def solve_camera(
    features: Features, size: tuple[int, int], focal: float | None, step: Callable[[float], None], threads: int = 1
) -> CameraSolve | None:
    """Solve the camera; None with too few features.

    Args:
        features: what was followed.
        size: (width, height), pixels.
        focal: focal length, pixels; None if unknown.
        step: called with the fraction that is done.
        threads: number of threads, in which candidate focal lengths are tried.
    """
    if len(features.hosts) < 12:
        return None
    center, longer = np.array(size) / 2, max(size)
    guess = focal or 0.9 * longer
    count = len(features.seen)
    still = Solution(np.repeat(np.eye(3)[None], count, 0), np.zeros((count, 3)), guess, center,
                     np.ones(len(features.hosts)))  # fmt: skip
    everything = Observations.of(features)
    error = residuals(features, everything, still)
    if np.median(error) < _STILL:
        return _finish("stands", features, still, 0.0 if focal else 1.0)
    focals = [focal] if focal else [share * longer for share in FOCALS]
    trial = features.take(_spread_choice(features, size, _TRIAL_FEATURES))
    turning = [_turn(trial, Solution(still.rotations, still.translations, item, center,
                                     np.full(len(trial.hosts), 1e-9))) for item in focals]  # fmt: skip
    _, turned = min(turning, key=lambda item: item[0])
    step(0.1)

    def attempt(length: float) -> list[tuple[Solution, float, float]]:
        begun = _begin(trial, replace(turned, focal=length), center)
        found = [_robustly(trial, one, focal is None, 12, 1e-3) for one in begun]
        for one, *_ in sorted(found, key=lambda candidate: candidate[1])[:1]:
            reversed_one = _reversed(trial, one, turned)
            if reversed_one is not None:
                found.append(_robustly(trial, reversed_one, focal is None, 12, 1e-3))
        return found

    candidates = []
    with ThreadPoolExecutor(threads) as pool:
        for number, found in enumerate(pool.map(attempt, focals)):
            candidates += found
            step(0.1 + 0.6 * (number + 1) / len(focals))
    turn_error = residuals(trial, Observations.of(trial), turned)
    if not candidates:
        return _finish("turns", features, _with_depths(turned, features, 1e-9), 1.0 if focal is None else 0.0)
    best, best_cost, _ = min(candidates, key=lambda item: item[1])
    turn_cost = _unexplained(turn_error, turned)
    if np.median(turn_error) < _TURNING and best_cost > 0.5 * turn_cost:
        return _finish("turns", features, _with_depths(turned, features, 1e-9), 1.0 if focal is None else 0.0)
    full = features.take(_spread_choice(features, size, _FEATURES))
    solution, _, focal_error = _robustly(full, best, focal is None, 30, 1e-4)
    step(1.0)
    return _finish("moves", full, solution, focal_error)


def _reversed(features: Features, solution: Solution, turned: Solution) -> Solution | None:
    """Return a solution with what is far and what is near exchanged, and the cameras that see it so.

    Where parallax is small against the angle of view, both explain the pictures nearly equally (Necker reversal), and
    adjustment does not lead from one to the other.
    """
    chosen = np.flatnonzero(features.seen[0] & (features.hosts == 0))
    if len(chosen) < 12:
        return None
    rho = solution.inverse_depths[chosen]
    middle = float(np.median(rho))
    world = solution.rays(features.pixels[0, chosen]) / np.clip(2 * middle - rho, 0.2 * middle, 5 * middle)[:, None]
    matrix = np.array([[solution.focal, 0, solution.center[0]], [0, solution.focal, solution.center[1]], [0, 0, 1]])
    rotations, translations = turned.rotations.copy(), np.zeros_like(solution.translations)
    for t in range(1, len(rotations)):
        used = features.seen[t, chosen]
        translations[t] = translations[t - 1]
        if used.sum() >= 8:
            pose = _solve_pose(world[used], features.pixels[t, chosen[used]], matrix, rotations[t], translations[t])
            if pose is not None:
                rotations[t], translations[t] = pose
    return replace(solution, rotations=rotations, translations=translations)


def _robustly(
    features: Features, start: Solution, free_focal: bool, steps: int, tolerance: float
) -> tuple[Solution, float, float]:
    """Adjust a solution twice, the second time without the features that do not fit, as those of moving things.

    Returns:
        The solution with the inverse depths of all features, the share of what it does not explain, from 0 to 1, and
        the standard deviation of the focal length's natural logarithm.
    """
    everything, spread = Observations.of(features), 0.0
    now = _triangulated(features, everything, start)
    for _ in range(2):
        error = residuals(features, everything, now)
        tolerance_px = _tolerance(now)
        misses = _mean_of(np.minimum(error, 5 * tolerance_px), everything, features)
        fits = np.flatnonzero(misses < max(0.5 * tolerance_px, 2.5 * float(np.median(misses))))
        if len(fits) < 12:
            fits = np.arange(len(features.hosts))
        some = features.take(fits)
        begin = replace(now, inverse_depths=now.inverse_depths[fits])
        now, _, spread = adjust(some, Observations.of(some), begin, free_focal, steps, tolerance)
        now = _triangulated(features, everything, now)
    error = residuals(features, everything, now)
    return now, _unexplained(error, now), spread


def _tolerance(solution: Solution) -> float:
    """Return the reprojection error, pixels, up to which a feature counts as explained: 2 px in a picture of 720."""
    return float(np.clip(INLIER * 2 * solution.center.max() / 720, 0.7, 3.0))


def _unexplained(error: np.ndarray, solution: Solution) -> float:
    """Return the share of what errors in pixels leave unexplained, from 0 to 1."""
    return float(np.minimum(np.square(error / _tolerance(solution)), 1).mean())


def _triangulated(features: Features, everything: Observations, solution: Solution) -> Solution:
    start = _with_depths(solution, features, 1.0)
    rho, _ = depths_from_motion(features, everything, start)
    positive = rho[rho > 0]
    typical = float(np.median(positive)) if len(positive) else 1.0
    return replace(start, inverse_depths=_sane(rho, typical))


def _mean_of(values: np.ndarray, seen: Observations, features: Features) -> np.ndarray:
    """Return the mean of the values of each feature's observations, [N]."""
    count = len(features.hosts)
    total = np.bincount(seen.points, values, count)
    return total / np.maximum(np.bincount(seen.points, minlength=count), 1)


def _finish(kind: CameraKind, features: Features, solution: Solution, focal_error: float) -> CameraSolve:
    seen = Observations.of(features)
    error = residuals(features, seen, solution)
    static = _mean_of(error < INLIER, seen, features) > 0.7
    inlying = error[static[seen.points] & (error < 3 * INLIER)]
    mean = float(inlying.mean()) if len(inlying) else float("inf")
    return CameraSolve(kind, solution, features, mean, focal_error, static)


def _with_depths(solution: Solution, features: Features, value: float) -> Solution:
    return replace(solution, inverse_depths=np.full(len(features.hosts), value))


def _sane(rho: np.ndarray, typical: float) -> np.ndarray:
    return np.clip(rho, 0.02 * typical, 20 * typical)


def _spread_choice(features: Features, size: tuple[int, int], most: int) -> np.ndarray:
    """Return features that are long and spread over the pictures: the longest of each cell of each host, in turns."""
    place = features.pixels[features.hosts, np.arange(len(features.hosts))]
    cell = (place / (np.array(size) / (8, 6))).astype(int)
    keys = (features.hosts * 64 + cell[:, 1].clip(0, 5) * 8 + cell[:, 0].clip(0, 7)).astype(int)
    length = features.seen.sum(axis=0)
    order = np.lexsort((-length, keys))
    rank = np.zeros(len(keys), int)
    starts = np.flatnonzero(np.r_[True, np.diff(keys[order]) != 0])
    rank[order] = np.arange(len(keys)) - np.repeat(starts, np.diff(np.r_[starts, len(keys)]))
    # Features of the first host count double: they see the most frames.
    chosen = np.lexsort((-length, rank))[:most]
    return np.sort(chosen)


def _turn(features: Features, start: Solution) -> tuple[float, Solution]:
    """Fit a camera that only turns, frame by frame from the one before; return the robust cost and the cameras."""
    rotations = start.rotations.copy()
    rays = host_rays(features, start)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    for t in range(1, len(rotations)):
        rotations[t] = rotations[t - 1]
        used = np.flatnonzero(features.seen[t] & (features.hosts < t))
        if len(used) < 4:
            continue
        world = np.einsum("mji,mj->mi", rotations[features.hosts[used]], rays[used])
        local = start.rays(features.pixels[t, used])
        local /= np.linalg.norm(local, axis=1, keepdims=True)
        for _ in range(6):
            error = start.focal * np.linalg.norm(world @ rotations[t].T - local, axis=1)
            scale = max(1.0, float(np.median(error)))
            weight = 1 / (1 + np.square(error / scale))
            u, _, vt = np.linalg.svd((local * weight[:, None]).T @ world)
            rotations[t] = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    turned = replace(start, rotations=rotations)
    return cost(residuals(features, Observations.of(features), turned)), turned


def _begin(features: Features, turned: Solution, center: np.ndarray) -> list[Solution]:
    """Return solutions that were begun from the pairs of frames with the most parallax."""
    count = len(features.seen)
    pairs = []
    for first in {0, count // 4}:
        for t in range(first + min(2, count - 1), count):
            both = np.flatnonzero(features.seen[first] & features.seen[t])
            if len(both) < 16:
                continue
            one, other = turned.rays(features.pixels[first, both]), turned.rays(features.pixels[t, both])
            relative = turned.rotations[t] @ turned.rotations[first].T
            moved = one @ relative.T
            shift = turned.focal * np.linalg.norm(moved[:, :2] / moved[:, 2:] - other[:, :2], axis=1)
            pairs.append((min(float(np.median(shift)), 0.1 * center.max()) * np.sqrt(len(both)), first, t, both))
    pairs.sort(key=lambda item: -item[0])
    out = []
    far = [pair for pair in pairs if pairs and abs(pair[2] - pairs[0][2]) + abs(pair[1] - pairs[0][1]) > count // 5]
    for _, first, t, both in [*pairs[:1], *far[:1]]:
        for threshold in (0.3, 1.0):
            solution = _from_pair(features, turned, first, t, both, threshold)
            if solution is not None:
                out.append(solution)
    return out


def _from_pair(
    features: Features, turned: Solution, first: int, second: int, both: np.ndarray, threshold: float
) -> Solution | None:
    """Solve two frames by their essential matrix, and extend the solution to all others."""
    matrix = np.array([[turned.focal, 0, turned.center[0]], [0, turned.focal, turned.center[1]], [0, 0, 1]])
    one, other = (np.ascontiguousarray(features.pixels[t, both]) for t in (first, second))
    cv2.setRNGSeed(0)
    essential, inside = cv2.findEssentialMat(one, other, matrix, cv2.RANSAC, 0.999, threshold, 2000)
    if essential is None or essential.shape != (3, 3):
        return None
    good, rotation, translation, _ = cv2.recoverPose(essential, one, other, matrix, mask=inside.copy())
    if good < 8:
        return None
    count = len(features.seen)
    rotations, translations = turned.rotations.copy(), np.zeros((count, 3))
    rotations[first], rotations[second], translations[second] = np.eye(3), rotation, translation[:, 0]
    solved = np.zeros(count, bool)
    solved[[first, second]] = True
    solution = replace(turned, rotations=rotations, translations=translations)
    order = sorted(set(range(count)) - {first, second}, key=lambda t: min(abs(t - first), abs(t - second)))
    inner = [t for t in order if first < t < second]
    for t in [*inner, *(item for item in order if item not in inner)]:
        world, known = _world_points(features, solution, solved)
        used = np.flatnonzero(known & features.seen[t])
        neighbor = int(np.flatnonzero(solved)[np.abs(np.flatnonzero(solved) - t).argmin()])
        rotations[t], translations[t] = rotations[neighbor], translations[neighbor]
        if len(used) >= 8:
            pose = _solve_pose(world[used], features.pixels[t, used], matrix, rotations[t], translations[t])
            if pose is not None:
                rotations[t], translations[t] = pose
        solved[t] = True
    # Relative to the first frame.
    translations -= np.einsum("tij,jk,k->ti", rotations, rotations[0].T, translations[0])
    rotations = rotations @ rotations[0].T
    solution = replace(solution, rotations=rotations, translations=translations)
    rho, _ = depths_from_motion(features, Observations.of(features), solution)
    positive = rho[rho > 0]
    return replace(solution, inverse_depths=_sane(rho, float(np.median(positive)))) if len(positive) >= 8 else None


def _world_points(features: Features, solution: Solution, solved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangulate features in the frames that are solved; returns world positions [N, 3] and which are usable [N].

    Features that are hosted in a frame that is not solved are seen from the first frame that is.
    """
    seen = features.seen & solved[:, None]
    enough = seen.sum(axis=0) >= 2
    hosts = np.where(enough, seen.argmax(axis=0), features.hosts)
    local = Features(hosts, features.pixels, seen)
    rho, parallax = depths_from_motion(local, Observations.of(local), solution)
    ray = host_rays(local, solution)
    with np.errstate(divide="ignore", invalid="ignore"):
        position = ray / rho[:, None] - solution.translations[hosts]
    world = np.einsum("nji,nj->ni", solution.rotations[hosts], position)
    return world, enough & (rho > 1e-6) & (parallax > 1.0) & np.isfinite(world).all(axis=1)


def _solve_pose(
    world: np.ndarray, pixels: np.ndarray, matrix: np.ndarray, rotation: np.ndarray, translation: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Refine a camera, [3, 3] and [3], from points that it sees, most of which stand still."""
    turn, shift = cv2.Rodrigues(rotation)[0], translation[:, None].copy()
    world, pixels = np.ascontiguousarray(world), np.ascontiguousarray(pixels)
    cv2.setRNGSeed(0)
    found, turn, shift, inside = cv2.solvePnPRansac(
        world, pixels, matrix, _NO_DISTORTION, turn, shift, True, 60, 2.5, 0.999, flags=cv2.SOLVEPNP_ITERATIVE
    )
    if not found or inside is None or len(inside) < 8:
        return None
    kept = inside[:, 0].astype(np.intp)
    turn, shift = cv2.solvePnPRefineLM(world[kept], pixels[kept], matrix, _NO_DISTORTION, turn, shift)
    return cv2.Rodrigues(turn)[0], shift[:, 0]
