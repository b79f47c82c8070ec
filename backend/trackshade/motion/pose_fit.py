# SPDX-License-Identifier: GPL-3.0-or-later
"""Fits joint rotations of the skeleton to landmarks in space, near rotations that are given."""

from __future__ import annotations

import numpy as np

from trackshade.motion.framing import LANDMARKS
from trackshade.motion.skeleton import JOINTS, NUM_JOINTS, PARENTS, REST_TAILS, orientations, positions

# The joint that each landmark is, or at whose bone's end it is.
_ENDS = {
    "head_top": "head",
    "fingertip_l": "fingers_l",
    "fingertip_r": "fingers_r",
    "toe_l": "foot_l",
    "toe_r": "foot_r",
}
_JOINTS = [JOINTS.index(_ENDS.get(name, name)) for name in LANDMARKS]
_TAILS = np.array([REST_TAILS[JOINTS.index(_ENDS[name])] if name in _ENDS else np.zeros(3) for name in LANDMARKS])
_HIPS = [LANDMARKS.index(f"thigh_{side}") for side in "lr"]
_STEPS = 6
# How far a joint turns from the given rotation for a landmark that is 1 m off counts as much as this many radians.
_STIFFNESS = 0.4


def _moved_by() -> np.ndarray:
    """Return whether a joint's rotation moves a landmark, [L, J]."""
    result = np.zeros((len(LANDMARKS), NUM_JOINTS), bool)
    for landmark, joint in enumerate(_JOINTS):
        ancestor = joint if _TAILS[landmark].any() else PARENTS[joint]
        while ancestor > 0:  # the root does not turn
            result[landmark, ancestor] = True
            ancestor = PARENTS[ancestor]
    return result


_MOVED_BY = _moved_by()


def fit_rotations(
    local: np.ndarray,  # [T, J, 3, 3]
    landmarks: np.ndarray,  # [T, L, 3] metres
    stiffness: float = _STIFFNESS,
) -> np.ndarray:
    """Return local rotations [T, J, 3, 3] near given ones with which a body of average build has landmarks.

    The sum of the squared distances of the landmarks, and of the squared angles from the given rotations, is minimized
    by damped Gauss-Newton steps. What no landmark tells, such as how a straight arm is turned about its axis, stays as
    given.

    Args:
        local: local rotations to begin with; the root's is not changed.
        landmarks: landmarks in the space of the body, in the order of `trackshade.motion.framing.LANDMARKS`. Their
            place does not matter.
        stiffness: weight of the angles: metres a radian.
    """
    start, result = np.asarray(local, np.float64), np.array(local, np.float64)
    target = landmarks - landmarks[:, _HIPS].mean(axis=1, keepdims=True)
    prior = stiffness * np.eye(3 * (NUM_JOINTS - 1))
    for _ in range(_STEPS):
        turned, places = orientations(result), positions(result)
        points = places[:, _JOINTS] + (turned[:, _JOINTS] @ _TAILS[:, :, None])[..., 0]
        residual = target - (points - points[:, _HIPS].mean(axis=1, keepdims=True))
        arms = (points[:, :, None] - places[:, None]) * _MOVED_BY[:, :, None]  # [T, L, J, 3]
        parents = turned[:, list(PARENTS[1:])]
        jacobian = np.cross(np.moveaxis(parents, -1, -2)[:, None], arms[:, :, 1:, None])  # [T, L, J-1, axis, 3]
        jacobian = np.moveaxis(jacobian, -1, 2).reshape(len(points), points.shape[1] * 3, -1)
        away = _rotation_vectors(result[:, 1:] @ np.swapaxes(start[:, 1:], -1, -2)).reshape(len(points), -1)
        system = np.swapaxes(jacobian, 1, 2) @ jacobian + prior @ prior
        right = (np.swapaxes(jacobian, 1, 2) @ residual.reshape(len(points), -1, 1))[..., 0] - stiffness**2 * away
        turn = np.linalg.solve(system, right[..., None])[..., 0].reshape(len(points), NUM_JOINTS - 1, 3)
        result[:, 1:] = _rotations(turn) @ result[:, 1:]
    return result


def _rotations(
    vectors: np.ndarray,  # [..., 3] axis times angle in radians
) -> np.ndarray:
    """Return rotation matrices, [..., 3, 3]; angles are limited to one radian."""
    angle = np.linalg.norm(vectors, axis=-1, keepdims=True)
    axis = vectors / np.maximum(angle, 1e-12)
    angle = np.minimum(angle, 1.0)[..., None]
    x, y, z = np.moveaxis(axis, -1, 0)
    zero = np.zeros_like(x)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*vectors.shape, 3)
    return np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * (skew @ skew)


def _rotation_vectors(
    matrices: np.ndarray,  # [..., 3, 3]
) -> np.ndarray:
    """Return axis times angle in radians, [..., 3], of rotations by less than a half turn."""
    skew = matrices - np.swapaxes(matrices, -1, -2)
    axis = np.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], axis=-1)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True) / 2
    cosine = (np.trace(matrices, axis1=-2, axis2=-1)[..., None] - 1) / 2
    return axis / 2 * (np.arctan2(sine, cosine) / np.maximum(sine, 1e-9))
