# SPDX-License-Identifier: GPL-3.0-or-later
"""Normals of exported meshes: smooth where surfaces are, sharp where they bend, and along with deformation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from trackshade.exports.normals import SmoothNormals

Mesh = tuple[np.ndarray, np.ndarray]  # points [V, 3], triangles [F, 3]


def hull(points: np.ndarray) -> Mesh:
    """The convex hull of points, with its faces turned outward."""
    found = ConvexHull(points)
    faces = found.simplices.astype(np.int64)
    corners = points[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    inward = (normals * found.equations[:, :3]).sum(axis=1) < 0
    faces[inward] = faces[inward][:, ::-1]
    return points, faces


@pytest.fixture
def sphere() -> Mesh:
    """Points of a spiral, about 7 degrees apart."""
    n = np.arange(1000) + 0.5
    polar, around = np.arccos(1 - 2 * n / 1000), np.pi * (1 + 5**0.5) * n
    return hull(np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], axis=1))


def corner_normals(mesh: Mesh, points: np.ndarray | None = None) -> np.ndarray:
    """[F, 3, 3]"""
    smooth = SmoothNormals(*mesh)
    return smooth.at(mesh[0] if points is None else points)[smooth.groups].reshape(-1, 3, 3)


def degrees(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    other = other / np.linalg.norm(other, axis=-1, keepdims=True)
    return np.degrees(np.arccos(np.clip((one * other).sum(axis=-1), -1, 1)))


def test_a_sphere_is_round(sphere: Mesh) -> None:
    assert degrees(corner_normals(sphere), sphere[0][sphere[1]]).max() < 1.5
    assert SmoothNormals(*sphere).count == len(sphere[0])


def test_a_box_keeps_its_edges() -> None:
    mesh = hull(np.stack(np.meshgrid([0.0, 1.0], [0.0, 2.0], [0.0, 3.0]), axis=-1).reshape(-1, 3))
    found = corner_normals(mesh)
    np.testing.assert_allclose(np.sort(np.abs(found), axis=-1), np.broadcast_to([0, 0, 1], found.shape), atol=1e-6)
    assert np.ptp(found, axis=1).max() < 1e-6
    assert SmoothNormals(*mesh).count == 24


def test_a_cylinder_is_round_around_and_sharp_at_its_caps() -> None:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle), np.ones(48)], axis=1)
    points, faces = hull(np.concatenate([ring, ring * (1, 1, -1)]))
    found = corner_normals((points, faces))
    cap = np.ptp(points[faces][..., 2], axis=1) < 1e-9
    np.testing.assert_allclose(np.abs(found[cap][..., 2]), 1, atol=1e-6)
    assert degrees(found[~cap], points[faces[~cap]] * (1, 1, 0)).max() < 4


def test_they_follow_a_deformation_and_keep_their_groups(sphere: Mesh) -> None:
    scale = np.array([3.0, 1.0, 0.5])
    found = corner_normals(sphere, sphere[0] * scale)
    angle = degrees(found, sphere[0][sphere[1]] / scale)  # the gradient of an ellipsoid
    assert np.percentile(angle, 95) < 6


@pytest.mark.parametrize("faces", [[[0, 1, 2]], [[0, 0, 1]], [[0, 1, 2], [0, 1, 3], [0, 1, 4]]])
def test_odd_meshes_have_finite_normals(faces: list[list[int]]) -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, -1, -1]], np.float32)
    smooth = SmoothNormals(points, np.array(faces))
    found = smooth.at(points)
    assert len(smooth.groups) == 3 * len(faces)
    assert np.isfinite(found).all()
    assert np.linalg.norm(found, axis=1).max() <= 1 + 1e-6
