# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes with textures, drawn the obvious way: a texel between its neighbors for each of 2 × 2 points of a pixel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trackshade.control.raster import barycentric
from trackshade.control.scene import ShotRaster
from trackshade.propagation.poses import resize_shot
from trackshade.results.texture.animate import AnimatedTexture
from trackshade.shot import Shot

SAMPLES = 2


def draw_textured(
    shot: Shot, t: int, textures: Mapping[int, AnimatedTexture], n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw sample t of a shot with image n of each mesh's texture.

    Returns the picture [H, W, 3], pixels all of whose texels some cell of the frame shows, and pixels that surfaces
    cover wholly, [H, W] bool.
    """
    width, height = shot.size
    raster = ShotRaster(resize_shot(shot, (width * SAMPLES, height * SAMPLES)))
    buffers = raster.draw(t)
    labels, faces = buffers.label.ravel(), buffers.triangle.ravel()
    grid = np.zeros((len(labels), 5))
    for mesh, texture in textures.items():
        pixels = np.flatnonzero(labels == mesh)
        if not len(pixels):
            continue
        geometry = shot.geometry_of(mesh, t)
        uv = texture.uv[shot.meshes[mesh].geometry_at(t)][faces[pixels]].astype(np.float64)
        _, weights = barycentric(buffers, pixels, raster.vertices(mesh, t), geometry.triangles)
        place = np.einsum("pk,pkx->px", weights, uv)
        size = texture.color.shape[1]
        x, y = place[:, 0] * size - 0.5, (1 - place[:, 1]) * size - 0.5
        grid[pixels, :3] = between(texture.color[n].astype(np.float64), x, y)
        grid[pixels, 3] = between(texture.covered[n][..., None].astype(np.float64), x, y)[:, 0] > 0.99
        grid[pixels, 4] = 1
    mean = grid.reshape(height, SAMPLES, width, SAMPLES, 5).mean(axis=(1, 3))
    return mean[..., :3], mean[..., 3] > 0.99, mean[..., 4] > 0.99


def between(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sample an image [S, S, C] bilinearly, [P, C]."""
    last = np.array(image.shape[:2]) - 1
    j, i = np.floor(x).astype(int), np.floor(y).astype(int)
    total = np.zeros((len(x), image.shape[2]))
    for a in (0, 1):
        for b in (0, 1):
            weight = np.abs(1 - a - (y - i)) * np.abs(1 - b - (x - j))
            total += weight[:, None] * image[np.clip(i + a, 0, last[0]), np.clip(j + b, 0, last[1])]
    return total
