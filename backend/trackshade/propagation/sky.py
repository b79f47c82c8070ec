# SPDX-License-Identifier: GPL-3.0-or-later
"""A panorama of the background, by direction: what no mesh covers, for directions that no picture shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt

from trackshade.control.compiling import kernel
from trackshade.propagation.fills.push_pull import push_pull
from trackshade.propagation.pictures import SurfacePicture, read
from trackshade.propagation.poses import Pose

RIM = 4  # pixels of the panorama beside meshes, where a picture's outlines may lie on the background
HIGHEST = 720  # rows, from straight up to straight down


def make_panorama(pictures: Sequence[tuple[SurfacePicture, Pose]]) -> np.ndarray:
    """Return the panorama [h, 2·h, 3] float32, as `composing.Fills` describes it; empty if no picture shows background.

    Gaps have the mean color of their elevation, and blend into what is known beside them.
    """
    perspective = [(picture, pose) for picture, pose in pictures if not pose.orthographic and (picture.label < 0).any()]
    if not perspective:
        return np.zeros((0, 0, 3), np.float32)
    height = min(HIGHEST, max(16, math.ceil(math.pi * max(pose.lens[0] for _, pose in perspective))))
    total = np.zeros((height, 2 * height, 4), np.float32)
    for picture, pose in perspective:
        _gather(
            picture.image, picture.label, picture.level, picture.tolerance, picture.trust, picture.inner,
            pose.rotation, pose.lens, total,
        )  # fmt: skip
    known = total[..., 3] > 0
    if not known.any():
        return np.zeros((0, 0, 3), np.float32)
    color = total[..., :3] / np.where(known, total[..., 3], 1)[..., None]
    inner = np.asarray(binary_erosion(known, iterations=RIM), np.bool_)
    known = inner if inner.any() else known
    rows = np.flatnonzero(known.any(axis=1))
    means = np.stack([color[row][known[row]].mean(axis=0) for row in rows])
    every = np.stack([np.interp(np.arange(height), rows, means[:, k]) for k in range(3)], axis=1)[:, None]
    # What differs from the mean fades out towards directions that are far from all known ones.
    difference = np.where(known[..., None], color - every, 0).astype(np.float32)
    anchors = _around(known)
    anchors |= np.asarray(distance_transform_edt(~anchors)) > height / 3
    filled = push_pull(_around(difference), anchors)[:, height : 3 * height]
    out = np.where(known[..., None], color, np.maximum(every + filled, 0))
    return np.ascontiguousarray(out, np.float32)


def _around(panorama: np.ndarray) -> np.ndarray:
    """Return a panorama continued by half a turn on both sides, [h, 4·h, ...]."""
    height = len(panorama)
    return np.concatenate([panorama[:, height:], panorama, panorama[:, :height]], axis=1)


@kernel
def _gather(image, label, level, tolerance, trust, inner, rotation, lens, total):
    height, width = total.shape[0], total.shape[1]
    for i in range(height):
        elevation = (i + 0.5) / height * math.pi
        for j in range(width):
            azimuth = ((j + 0.5) / width - 0.5) * 2.0 * math.pi
            dx, dy = math.sin(elevation) * math.cos(azimuth), math.sin(elevation) * math.sin(azimuth)
            dz = math.cos(elevation)
            x = rotation[0, 0] * dx + rotation[0, 1] * dy + rotation[0, 2] * dz
            y = rotation[1, 0] * dx + rotation[1, 1] * dy + rotation[1, 2] * dz
            z = rotation[2, 0] * dx + rotation[2, 1] * dy + rotation[2, 2] * dz
            if z <= 1e-6:
                continue
            u, v = lens[0] * x / z + lens[2], lens[1] * y / z + lens[3]
            if not (u >= 0.0 and v >= 0.0 and u <= label.shape[1] and v <= label.shape[0]):
                continue
            r, g, b, share = read(image, label, level, tolerance, trust, inner, u, v, -1, 0.0)
            if share > 0.0:
                total[i, j, 0] += share * r
                total[i, j, 1] += share * g
                total[i, j, 2] += share * b
                total[i, j, 3] += share
