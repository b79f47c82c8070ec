# SPDX-License-Identifier: GPL-3.0-or-later
"""Points on a surface, as weights on its triangles: how a track is carried across a change of topology."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
# (points [V, 3], surface [N, 3], triangles [F, 3]) -> triangle [V] on which the nearest point [V, 3] lies
Nearest = Callable[[Float32, Float32, NDArray[np.int32]], tuple[NDArray[np.int64], NDArray[np.float64]]]


@dataclass(frozen=True, eq=False)
class Attachment:
    """Points on a surface: `positions[corners] · weights`.

    Attributes:
        corners: [V, 3] vertex indices of the triangle that each point lies on.
        weights: [V, 3] float32 barycentric.
    """

    corners: NDArray[np.int32]
    weights: Float32

    def positions(self, surface: Float32) -> Float32:
        """[V, 3] the points on the surface's present positions [N, 3]."""
        return np.einsum("vk,vkc->vc", self.weights, surface[self.corners])


def attach(points: Float32, surface: Float32, triangles: NDArray[np.int32], nearest: Nearest) -> Attachment:
    """Attaches points [V, 3] to the nearest points of a surface: [N, 3] positions, [F, 3] triangles, F > 0."""
    index, found = nearest(points, surface, triangles)
    corners = triangles[index]
    return Attachment(corners, barycentric(found, surface[corners].astype(np.float64)).astype(np.float32))


def barycentric(points: NDArray[np.float64], triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    """[V, 3] weights of points [V, 3] that lie on triangles [V, 3, 3]; the nearest corner's where one has no area."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    normal = np.cross(b - a, c - a)
    area = np.einsum("vc,vc->v", normal, normal)
    flat = area <= 1e-30
    scale = 1.0 / np.where(flat, 1.0, area)
    second = np.einsum("vc,vc->v", np.cross(c - points, a - points), normal) * scale
    third = np.einsum("vc,vc->v", np.cross(a - points, b - points), normal) * scale
    weights = np.stack([1.0 - second - third, second, third], axis=1)
    nearest = np.linalg.norm(triangles - points[:, None], axis=2).argmin(axis=1)
    weights[flat] = np.eye(3)[nearest[flat]]
    weights = np.clip(weights, 0.0, 1.0)
    return weights / weights.sum(axis=1, keepdims=True)
