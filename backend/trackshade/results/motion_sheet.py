# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of a skeleton, for the overview of a motion."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from trackshade.motion.bvh import JointMotion

_BACKGROUND, _MIDDLE, _LEFT, _RIGHT = (24, 24, 28), (200, 200, 200), (90, 170, 255), (255, 150, 80)
_MORE = 4  # drawn so many times larger, for smooth lines


def draw_skeleton(motion: JointMotion, t: int, size: tuple[int, int], azimuth: float = 25.0) -> np.ndarray:
    """Draw one frame of a motion of the motion model's skeleton, [H, W, 3] uint8; its left side is blue.

    Args:
        motion: the motion, with Z up and the body facing -Y.
        t: the frame.
        size: (width, height) of the picture, pixels.
        azimuth: of the camera, degrees; it looks horizontally.
    """
    width, height = size[0] * _MORE, size[1] * _MORE
    angle = np.radians(azimuth)
    right = np.array([np.cos(angle), np.sin(angle), 0.0])
    places = motion.positions()[t]
    scale = height / 2.4  # metres that the picture shows

    def project(point: np.ndarray) -> tuple[float, float]:
        return width / 2 + scale * float(point @ right), height / 2 - scale * float(point[2] - 1.0)

    image = Image.new("RGB", (width, height), _BACKGROUND)
    pen = ImageDraw.Draw(image)
    turned = motion.global_rotations()[t]
    for joint, parent in enumerate(motion.parents):
        color = {"l": _LEFT, "r": _RIGHT}.get(motion.names[joint].rpartition("_")[2], _MIDDLE)
        if parent >= 0:
            pen.line([project(places[parent]), project(places[joint])], color, width=2 * _MORE, joint="curve")
        if joint in motion.ends:
            end = places[joint] + turned[joint] @ motion.ends[joint]
            pen.line([project(places[joint]), project(end)], color, width=2 * _MORE)
    return np.asarray(image.resize(size, Image.Resampling.BOX))
