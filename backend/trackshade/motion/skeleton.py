# SPDX-License-Identifier: GPL-3.0-or-later
"""The skeleton of the motion model: joints, their hierarchy and the rest pose of an average body.

A joint is the head of the bone of the same name. Space is right-handed with Z up, in metres. In the rest pose the body
stands upright, faces -Y, has its left side at +X, and its arms hang straight down. A local rotation is expressed in the
axes of its parent, and the rest orientation of every joint is the identity, so that

    orientation[joint] = orientation[parent] @ local[joint]
    position[joint] = position[parent] + orientation[parent] @ REST_OFFSETS[joint]
"""

from __future__ import annotations

from collections.abc import Container

import numpy as np

JOINTS = (
    "pelvis",
    "spine",
    "chest",
    "neck",
    "head",
    "upper_arm_l",
    "forearm_l",
    "hand_l",
    "fingers_l",
    "upper_arm_r",
    "forearm_r",
    "hand_r",
    "fingers_r",
    "thigh_l",
    "shin_l",
    "foot_l",
    "thigh_r",
    "shin_r",
    "foot_r",
)
NUM_JOINTS = len(JOINTS)

# Index of each joint's parent, -1 for the root. Parents come before their children.
PARENTS = (-1, 0, 1, 2, 3, 2, 5, 6, 7, 2, 9, 10, 11, 0, 13, 14, 0, 16, 17)


def nearest_parent(joint: str, known: Container[str]) -> str | None:
    """Return the nearest joint above another one that is among known joints, or None."""
    index = PARENTS[JOINTS.index(joint)]
    while index >= 0 and JOINTS[index] not in known:
        index = PARENTS[index]
    return JOINTS[index] if index >= 0 else None


_LEFT_ARM = ((0.18, 0.0, 0.19), (0.0, 0.0, -0.28), (0.0, 0.0, -0.26), (0.0, 0.0, -0.09))
_LEFT_LEG = ((0.10, 0.0, -0.03), (0.0, 0.0, -0.43), (0.0, 0.0, -0.41))


def _mirror(offsets: tuple[tuple[float, float, float], ...]) -> tuple[tuple[float, float, float], ...]:
    """Return offsets of the other side of the body."""
    return tuple((-x, y, z) for x, y, z in offsets)


# Position of each joint relative to its parent in the rest pose, [J, 3] metres; that of the pelvis is above the floor.
REST_OFFSETS = np.array(
    [
        (0.0, 0.0, 0.95),
        (0.0, 0.0, 0.10),
        (0.0, 0.0, 0.17),
        (0.0, 0.0, 0.24),
        (0.0, -0.01, 0.09),
        *_LEFT_ARM,
        *_mirror(_LEFT_ARM),
        *_LEFT_LEG,
        *_mirror(_LEFT_LEG),
    ]
)

# Where each bone ends relative to its joint in the rest pose, [J, 3] metres. The normalized vector is its direction.
REST_TAILS = np.array(
    [
        (0.0, 0.0, 0.10),
        (0.0, 0.0, 0.17),
        (0.0, 0.0, 0.24),
        (0.0, -0.01, 0.09),
        (0.0, 0.0, 0.20),
        *((0.0, 0.0, -0.28), (0.0, 0.0, -0.26), (0.0, 0.0, -0.09), (0.0, 0.0, -0.09)) * 2,
        *((0.0, 0.0, -0.43), (0.0, 0.0, -0.41), (0.0, -0.17, -0.06)) * 2,
    ]
)
for _array in (REST_OFFSETS, REST_TAILS):
    _array.flags.writeable = False


def orientations(
    local: np.ndarray,  # [..., J, 3, 3]
) -> np.ndarray:
    """Return the orientation of every joint in the space of the body, [..., J, 3, 3], from local rotations."""
    result = np.empty_like(local)
    for joint, parent in enumerate(PARENTS):
        result[..., joint, :, :] = local[..., joint, :, :]
        if parent >= 0:
            result[..., joint, :, :] = result[..., parent, :, :] @ local[..., joint, :, :]
    return result


def positions(
    local: np.ndarray,  # [..., J, 3, 3]
    offsets: np.ndarray = REST_OFFSETS,  # [..., J, 3]
) -> np.ndarray:
    """Return the position of every joint in the space of the body, [..., J, 3] metres.

    Args:
        local: local rotations.
        offsets: positions relative to the parents in the rest pose; those of an average body by default.
    """
    turned = orientations(local)
    offsets = np.broadcast_to(offsets, (*local.shape[:-2], 3))
    result = np.empty(offsets.shape, local.dtype)
    for joint, parent in enumerate(PARENTS):
        result[..., joint, :] = offsets[..., joint, :]
        if parent >= 0:
            moved = (turned[..., parent, :, :] @ offsets[..., joint, :, None])[..., 0]
            result[..., joint, :] = result[..., parent, :] + moved
    return result
