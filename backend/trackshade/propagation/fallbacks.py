# SPDX-License-Identifier: GPL-3.0-or-later
"""Colors for surfaces that have no canvas: those that are small in all frames, and the background."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trackshade.propagation.pictures import SurfacePicture
from trackshade.shot import Shot


def plain_colors(shot: Shot, pictures: Sequence[SurfacePicture]) -> np.ndarray:
    """Return one color for each mesh and, last, the background: [M + 1, 3] float32 linear light.

    It is the mean over the pixels that show the mesh in any picture; of a mesh that none shows, the mean over the
    meshes with its geometry, else over all meshes.
    """
    count = len(shot.meshes) + 1
    total, number = np.zeros((count, 3)), np.zeros(count)
    for picture in pictures:
        weight = picture.trust.ravel().astype(np.float64)
        label = np.where(picture.label < 0, count - 1, picture.label).ravel()
        number += np.bincount(label, weight, count)
        for k in range(3):
            total[:, k] += np.bincount(label, weight * picture.image[..., k].ravel(), count)
    geometry = np.array([mesh.geometry for mesh in shot.meshes] + [len(shot.geometries)])
    shared, weight = np.zeros((len(shot.geometries) + 1, 3)), np.bincount(geometry, number, len(shot.geometries) + 1)
    for k in range(3):
        shared[:, k] = np.bincount(geometry, total[:, k], len(shared))
    mean = total.sum(axis=0) / max(number.sum(), 1e-9)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_geometry = np.where(weight[:, None] > 0, shared / weight[:, None], mean)
        return np.where(number[:, None] > 0, total / number[:, None], by_geometry[geometry]).astype(np.float32)
