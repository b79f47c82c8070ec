# SPDX-License-Identifier: GPL-3.0-or-later
"""The framing of figures that the motion model is trained with: camera, crop and landmarks.

The camera looks at a point above the floor on the axis of the body, which stands at the origin. An azimuth of 0 sees
the front of the body, pi / 2 its left side: an increasing azimuth moves the camera to its right. Image coordinates are
pixels, x to the right and y down, with the origin at the top-left corner.
"""

from __future__ import annotations

import numpy as np

DISTANCE = 4.2  # of the camera from the point that it looks at, metres
CENTER_HEIGHT = 1.0  # of that point above the floor, metres
VISIBLE_HEIGHT = 2.4  # of the plane through that point that the frame shows, metres
HAND_WIDTH = 0.46  # of the plane through a hand that its crop shows, metres

# Points of the body whose places in the image the model says.
LANDMARKS = (
    "neck",
    "head_top",
    "upper_arm_l",
    "forearm_l",
    "hand_l",
    "fingertip_l",
    "upper_arm_r",
    "forearm_r",
    "hand_r",
    "fingertip_r",
    "thigh_l",
    "shin_l",
    "foot_l",
    "toe_l",
    "thigh_r",
    "shin_r",
    "foot_r",
    "toe_r",
)
NUM_LANDMARKS = len(LANDMARKS)
# Elbows, wrists, knees and ankles: the joints that measures are about.
LIMBS = tuple(LANDMARKS.index(f"{name}_{side}") for name in ("forearm", "hand", "shin", "foot") for side in "lr")


def focal_length(height: int) -> float:
    """Return the focal length in pixels of a frame of some height in pixels."""
    return height / VISIBLE_HEIGHT * DISTANCE


def project(
    points: np.ndarray,  # [..., P, 3] metres
    azimuth: np.ndarray,  # [...] radians
    elevation: np.ndarray,  # [...] radians
    distance: np.ndarray | float = DISTANCE,  # [...] metres
) -> tuple[np.ndarray, np.ndarray]:
    """Project points of the body.

    Returns:
        Places on the plane one unit before the camera, relative to the image's center, [..., P, 2], and depths
        [..., P] in metres. A place times the focal length is a distance in pixels.
    """
    sine, cosine = np.sin(azimuth)[..., None], np.cos(azimuth)[..., None]
    rise, level = np.sin(elevation)[..., None], np.cos(elevation)[..., None]
    distance = np.asarray(distance)[..., None]
    x, y, z = points[..., 0], points[..., 1], points[..., 2] - CENTER_HEIGHT
    right, forward = cosine * x + sine * y, cosine * y - sine * x
    up, depth = level * z + rise * forward, distance + level * forward - rise * z
    return np.stack([right / depth, -up / depth], axis=-1), depth
