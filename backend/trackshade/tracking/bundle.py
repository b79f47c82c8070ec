# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundle adjustment: cameras, focal length and inverse depths that explain where features were seen.

A feature is a point on the ray through its pixel in its host frame, at an inverse depth along that camera's axis: one
unknown for each (Civera et al., Inverse Depth Parametrization for Monocular SLAM, 2008), which also serves points that
are far away. The normal equations are reduced to those of the cameras (Schur complement; Triggs et al., Bundle
Adjustment - A Modern Synthesis, 2000) and solved by Levenberg-Marquardt steps; residuals are weighted by Cauchy's
function, so that what moves by itself counts little.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from trackshade.control.compiling import kernel
from trackshade.tracking.features import Features

SCALE = 0.7  # px: residual from which Cauchy's function reduces a feature's weight
_TINY = 1e-6
PRIOR_FOCAL, PRIOR_SPREAD = 0.9, 0.5  # a weak prior of an unknown focal length: longer sides, and natural logarithms


@dataclass(frozen=True, eq=False)
class Solution:
    """Cameras and depths.

    Attributes:
        rotations: [T, 3, 3] of world to camera.
        translations: [T, 3].
        focal: pixels.
        center: [2] principal point, pixels.
        inverse_depths: [N] of the features in their hosts.
    """

    rotations: np.ndarray
    translations: np.ndarray
    focal: float
    center: np.ndarray
    inverse_depths: np.ndarray

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Return directions with z = 1 in the camera of pixels [..., 2]: [..., 3]."""
        flat = (pixels - self.center) / self.focal
        return np.concatenate([flat, np.ones((*flat.shape[:-1], 1))], axis=-1)


@dataclass(frozen=True, eq=False)
class Observations:
    """Where features were seen outside their hosts, one after the other.

    Attributes:
        frames: [M] frame of each.
        points: [M] feature of each.
        pixels: [M, 2] where it was seen.
    """

    frames: np.ndarray
    points: np.ndarray
    pixels: np.ndarray

    @staticmethod
    def of(features: Features, frames: np.ndarray | None = None) -> Observations:
        """Return the observations in some frames, all by default, of features whose host is among these frames."""
        used = features.seen.copy()
        used[features.hosts, np.arange(len(features.hosts))] = False
        if frames is not None:
            chosen = np.isin(np.arange(len(used)), frames)
            used &= chosen[:, None] & chosen[features.hosts]
        t, n = np.nonzero(used)
        return Observations(t, n, features.pixels[t, n])


def host_rays(features: Features, solution: Solution) -> np.ndarray:
    """Return the rays of features in their hosts, [N, 3]."""
    return solution.rays(features.pixels[features.hosts, np.arange(len(features.hosts))])


def project(features: Features, seen: Observations, solution: Solution) -> tuple[np.ndarray, np.ndarray]:
    """Return the projections of observed features, [M, 2] pixels, and the scaled depth of each, positive in front."""
    host = features.hosts[seen.points]
    rho = solution.inverse_depths[seen.points, None]
    ahead = host_rays(features, solution)[seen.points] - rho * solution.translations[host]
    world = np.einsum("mji,mj->mi", solution.rotations[host], ahead)
    local = np.einsum("mij,mj->mi", solution.rotations[seen.frames], world) + rho * solution.translations[seen.frames]
    depth = np.where(np.abs(local[:, 2]) < _TINY, _TINY, local[:, 2])
    return solution.focal * local[:, :2] / depth[:, None] + solution.center, local[:, 2]


def residuals(features: Features, seen: Observations, solution: Solution) -> np.ndarray:
    """Return the reprojection errors, [M] pixels; those of points behind a camera are large."""
    pixels, depth = project(features, seen, solution)
    error = np.linalg.norm(pixels - seen.pixels, axis=1)
    return np.where(depth > _TINY, error, 1e3)


def cost(error: np.ndarray) -> float:
    """Return the mean of Cauchy's function of errors in pixels."""
    return float(np.log1p(np.square(error / SCALE)).mean()) if len(error) else np.inf


def depths_from_motion(features: Features, seen: Observations, solution: Solution) -> tuple[np.ndarray, np.ndarray]:
    """Triangulate all features linearly, given the cameras.

    Returns:
        [N] inverse depths, and [N] the parallax that they rest on: the root of the summed squared change of the
        observed pixels when the inverse depth changes by the median inverse depth; 0 without observations.
    """
    host = features.hosts[seen.points]
    ray = host_rays(features, solution)[seen.points]
    relative = solution.rotations[seen.frames] @ np.swapaxes(solution.rotations[host], 1, 2)
    far = np.einsum("mij,mj->mi", relative, ray)  # local position is far + rho * near
    near = solution.translations[seen.frames] - np.einsum("mij,mj->mi", relative, solution.translations[host])
    at = (seen.pixels - solution.center) / solution.focal
    # The pixel times the depth equals the position: linear in the inverse depth.
    left = near[:, :2] - at * near[:, 2:]
    right = at * far[:, 2:] - far[:, :2]
    count = len(features.hosts)
    bottom = np.bincount(seen.points, np.square(left).sum(axis=1), count)
    top = np.bincount(seen.points, (left * right).sum(axis=1), count)
    rho = top / np.maximum(bottom, 1e-18)
    typical = np.median(np.abs(rho[bottom > 0])) if (bottom > 0).any() else 1.0
    return rho, solution.focal * np.sqrt(bottom) * typical


def adjust(
    features: Features,
    seen: Observations,
    start: Solution,
    free_focal: bool,
    steps: int = 30,
    tolerance: float = 1e-4,
) -> tuple[Solution, float, float]:
    """Minimize the robust reprojection error.

    Args:
        features: what is seen.
        seen: where.
        start: the first guess. Cameras without observations stay as they are.
        free_focal: whether the focal length is unknown.
        steps: most iterations.
        tolerance: relative decrease of the cost at which to stop.

    Returns:
        The solution, the robust cost, and the standard deviation of the focal length's natural logarithm.
    """
    count = len(start.translations)
    active = np.zeros(count, bool)
    active[seen.frames] = active[features.hosts[seen.points]] = True
    anchor = int(np.flatnonzero(active)[0])
    free = np.flatnonzero(active & (np.arange(count) != anchor))
    # The scale is not observable: the farthest camera keeps its longest component.
    lengths = np.abs(start.translations[free] - start.translations[anchor])
    fixed = 6 * int(lengths.max(axis=1).argmax()) + 3 + int(lengths[lengths.max(axis=1).argmax()].argmax())
    column = np.full(count, -1)
    column[free] = 6 * np.arange(len(free))
    size = 6 * len(free) + 1
    kept = np.setdiff1d(np.arange(size), [fixed] if free_focal else [fixed, size - 1])
    prior = np.log(PRIOR_FOCAL * 2 * float(start.center.max()))
    # The observations of a feature err alike, since all are relative to its patch in its host: they count as one.
    repeats = len(seen.points) / max(1, len(np.unique(seen.points)))
    firm = repeats * (SCALE / PRIOR_SPREAD) ** 2 if free_focal else 0.0
    now, damping = start, 1e-3
    error = residuals(features, seen, now)
    value, spread = _total(error, now, prior, firm), 0.0
    for _ in range(steps):
        weight = 1 / (1 + np.square(error / SCALE))
        normal, right, coupling, stiffness, slope = _equations(features, seen, now, weight, column, size)
        if free_focal:
            normal[-1, -1] += firm
            right[-1] -= firm * (np.log(now.focal) - prior)
        trial, trial_error, trial_value = now, error, value
        while damping < 1e6 and trial_value >= value:
            stiff = stiffness * (1 + damping) + 1e-12
            reduced = normal + np.diag(damping * np.diag(normal) + 1e-12) - (coupling.T / stiff) @ coupling
            step = np.zeros(size)
            step[kept] = np.linalg.solve(reduced[np.ix_(kept, kept)], (right - coupling.T @ (slope / stiff))[kept])
            depth_step = (slope - coupling @ step) / stiff
            trial = _moved(now, step, depth_step, free)
            trial_error = residuals(features, seen, trial)
            trial_value = _total(trial_error, trial, prior, firm)
            damping *= 0.2 if trial_value < value else 5.0
        if trial_value >= value:
            break
        gain = (value - trial_value) / max(value, 1e-12)
        now, error, value = trial, trial_error, trial_value
        damping = max(damping, 1e-9)
        if gain < tolerance:
            break
    if free_focal:
        weight = 1 / (1 + np.square(error / SCALE))
        normal, _, coupling, stiffness, _ = _equations(features, seen, now, weight, column, size)
        reduced = normal - (coupling.T / (stiffness + 1e-12)) @ coupling
        covariance = np.linalg.pinv(reduced[np.ix_(kept, kept)], rcond=1e-13)
        noise = np.average(np.square(error), weights=weight) / 2 if len(error) else 1.0
        spread = float(np.sqrt(max(covariance[-1, -1], 0) * noise * repeats))
    return now, cost(error), spread


def _total(error: np.ndarray, solution: Solution, prior: float, firm: float) -> float:
    total = float(np.log1p(np.square(error / SCALE)).sum()) * SCALE**2
    return total + firm * (np.log(solution.focal) - prior) ** 2


def _moved(solution: Solution, step: np.ndarray, depth_step: np.ndarray, free: np.ndarray) -> Solution:
    rotations, translations = solution.rotations.copy(), solution.translations.copy()
    for number, t in enumerate(free):
        change = step[6 * number : 6 * number + 6]
        rotations[t] = cv2.Rodrigues(change[:3])[0] @ rotations[t]
        translations[t] += change[3:]
    focal = solution.focal * float(np.exp(np.clip(step[-1], -0.3, 0.3)))
    return replace(
        solution,
        rotations=rotations,
        translations=translations,
        focal=focal,
        inverse_depths=np.maximum(solution.inverse_depths + depth_step, 1e-7),
    )


def _equations(
    features: Features, seen: Observations, now: Solution, weight: np.ndarray, column: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the weighted normal equations.

    Returns:
        [C, C] matrix and [C] right side of the cameras and the focal length, [N, C] coupling with the inverse depths,
        and the [N] matrix and right side of these.
    """
    count = len(features.hosts)
    normal, right, coupling = np.zeros((size, size)), np.zeros(size), np.zeros((count, size))
    stiffness, slope = np.zeros(count), np.zeros(count)
    _add_equations(
        now.rotations, now.translations, np.array([now.focal, *now.center]), column, seen.frames, features.hosts,
        seen.points, seen.pixels, weight, host_rays(features, now), now.inverse_depths, normal, right, coupling,
        stiffness, slope,
    )  # fmt: skip
    return normal, right, coupling, stiffness, slope


@kernel
def _add_equations(
    rotations, translations, lens, column, frames, hosts, points, pixels, weight, rays, inverse_depths,
    normal, right, coupling, stiffness, slope,
):  # fmt: skip
    """Add observations to the normal equations: see `_equations`; `column` [T] is less than 0 for cameras that stay."""
    focal = lens[0]
    relative, ahead, turned, shift = np.empty((3, 3)), np.empty(3), np.empty(3), np.empty(3)
    flat, to_pixel, from_host = np.empty(2), np.empty(3), np.empty(3)
    jacobian = np.empty((2, 13))  # frame's rotation and translation, host's, focal length
    by_depth, residual = np.empty(2), np.empty(2)
    columns = np.empty(13, np.intp)
    for m in range(points.size):
        n = points[m]
        frame, host, rho = frames[m], hosts[n], inverse_depths[n]
        there, here = rotations[frame], rotations[host]
        for i in range(3):
            ahead[i] = rays[n, i] - rho * translations[host, i]
            for j in range(3):
                relative[i, j] = there[i, 0] * here[j, 0] + there[i, 1] * here[j, 1] + there[i, 2] * here[j, 2]
        for i in range(3):
            turned[i], shift[i] = 0.0, translations[frame, i]
            for j in range(3):
                turned[i] += relative[i, j] * ahead[j]
                shift[i] -= relative[i, j] * translations[host, j]
        z = turned[2] + rho * translations[frame, 2]
        z = z if abs(z) >= _TINY else _TINY
        for r in range(2):
            flat[r] = (turned[r] + rho * translations[frame, r]) / z
            to_pixel[:] = 0.0
            to_pixel[r], to_pixel[2] = focal / z, -focal * flat[r] / z
            for j in range(3):
                from_host[j] = (
                    to_pixel[0] * relative[0, j] + to_pixel[1] * relative[1, j] + to_pixel[2] * relative[2, j]
                )
                after, last = (j + 1) % 3, (j + 2) % 3
                jacobian[r, j] = turned[after] * to_pixel[last] - turned[last] * to_pixel[after]
                jacobian[r, 3 + j] = rho * to_pixel[j]
            for j in range(3):
                after, last = (j + 1) % 3, (j + 2) % 3
                jacobian[r, 6 + j] = from_host[after] * ahead[last] - from_host[last] * ahead[after]
                jacobian[r, 9 + j] = -rho * from_host[j]
            jacobian[r, 12] = focal * flat[r] - from_host[0] * rays[n, 0] - from_host[1] * rays[n, 1]
            by_depth[r] = to_pixel[0] * shift[0] + to_pixel[1] * shift[1] + to_pixel[2] * shift[2]
            residual[r] = pixels[m, r] - (focal * flat[r] + lens[1 + r])
        for i in range(6):
            columns[i] = column[frame] + i if column[frame] >= 0 else -1
            columns[6 + i] = column[host] + i if column[host] >= 0 else -1
        columns[12] = right.size - 1
        w = weight[m]
        stiffness[n] += w * (by_depth[0] ** 2 + by_depth[1] ** 2)
        slope[n] += w * (by_depth[0] * residual[0] + by_depth[1] * residual[1])
        for i in range(13):
            if columns[i] < 0:
                continue
            x, y = w * jacobian[0, i], w * jacobian[1, i]
            right[columns[i]] += x * residual[0] + y * residual[1]
            coupling[n, columns[i]] += x * by_depth[0] + y * by_depth[1]
            for j in range(13):
                if columns[j] >= 0:
                    normal[columns[i], columns[j]] += x * jacobian[0, j] + y * jacobian[1, j]
