# SPDX-License-Identifier: GPL-3.0-or-later
"""Geometry of triangle meshes with numpy: closest points of triangles, normals, and triangles around vertices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]


def closest_weights(
    points: Float64,  # [N, 3]
    corners: Float64,  # [N, 3, 3] triangles
) -> tuple[Float64, Float64]:
    """Return barycentric weights [N, 3] of each triangle's closest point, and the distances [N]."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    u, v, w = b - a, c - a, points - a
    d11, d12, d22 = row_dot(u, u), row_dot(u, v), row_dot(v, v)
    s1, s2 = row_dot(w, u), row_dot(w, v)
    determinant = d11 * d22 - d12 * d12
    third = d11 - 2 * d12 + d22
    with np.errstate(divide="ignore", invalid="ignore"):
        inside_b, inside_c = (d22 * s1 - d12 * s2) / determinant, (d11 * s2 - d12 * s1) / determinant
        on1 = np.clip(np.nan_to_num(s1 / d11), 0, 1)
        on2 = np.clip(np.nan_to_num(s2 / d22), 0, 1)
        on3 = np.clip(np.nan_to_num((s2 - s1 + d11 - d12) / third), 0, 1)
        inside = (determinant > 1e-14 * d11 * d22) & (inside_b >= 0) & (inside_c >= 0) & (inside_b + inside_c <= 1)
    zero = np.zeros_like(on1)
    choices_b, choices_c = np.stack([inside_b, on1, zero, 1 - on3]), np.stack([inside_c, zero, on2, on3])
    with np.errstate(invalid="ignore", over="ignore"):  # a triangle without area has no inside
        far = choices_b * (choices_b * d11 - 2 * s1) + choices_c * (choices_c * d22 - 2 * s2)
        far += 2 * choices_b * choices_c * d12
    far[0] = np.where(inside, -np.inf, np.inf)
    best = far.argmin(axis=0)[None]
    second, last = np.take_along_axis(choices_b, best, 0)[0], np.take_along_axis(choices_c, best, 0)[0]
    weights = np.maximum(np.stack([1 - second - last, second, last], axis=1), 0)
    away = w - second[:, None] * u - last[:, None] * v
    return weights, np.sqrt(row_dot(away, away))


def facing(
    normals: Float32,  # [3, N]
) -> NDArray[np.int8]:
    """Return the axis that directions are nearest to, with its sign, as 0 to 5; [N]."""
    size = np.abs(normals)
    x, y, z = size
    axis = np.where((x >= y) & (x >= z), 0, np.where(y >= z, 1, 2)).astype(np.int8)
    sign = np.where(axis == 0, normals[0] < 0, np.where(axis == 1, normals[1] < 0, normals[2] < 0))
    return (2 * axis + sign).astype(np.int8)


def face_normals(
    columns: Float32,  # [3, V] positions
    triangles: Int32,  # [F, 3]
) -> Float32:
    """Return the normals of triangles, [3, F], of any length."""
    a, b, c = (np.take(columns, triangles[:, k], axis=1) for k in range(3))
    return cross(b - a, c - a)


def vertex_normals(
    positions: Float32,  # [V, 3]
    triangles: Int32,  # [F, 3]
) -> Float32:
    """Return the normal of some triangle of each vertex, [V, 3], of any length; zero for a vertex without one."""
    normals = face_normals(np.ascontiguousarray(positions.T), triangles).T
    found = np.zeros(positions.shape, np.float32)
    for k in range(3):
        found[triangles[:, k]] = normals
    return found


def cosines_to_normals(
    directions: NDArray[np.floating],  # [N, 3]
    vertices: NDArray[np.int64],  # [N]
    positions: Float32,  # [V, 3]
    triangles: Int32,  # [F, 3]
) -> tuple[Float32, Float32]:
    """Compare directions at vertices with the normals of the vertices' faces, of up to six of them.

    Returns:
        The least and the greatest absolute cosine between them, [N] each.
    """
    normal = normalized(face_normals(np.ascontiguousarray(positions.T), triangles))
    ahead = normalized(np.ascontiguousarray(directions.T, dtype=np.float32))
    least, most = np.ones(len(vertices), np.float32), np.zeros(len(vertices), np.float32)
    for neighbors in triangles_around(len(positions), triangles):
        cosine = np.abs(dot(np.take(normal, neighbors[vertices], axis=1), ahead))
        np.minimum(least, cosine, out=least)
        np.maximum(most, cosine, out=most)
    return least, most


def triangles_around(
    vertices: int,
    triangles: Int32,  # [F, 3]
) -> list[Int32]:
    """Return six tables [V] of triangles at each vertex, with repetitions if it has fewer."""
    numbers = np.arange(len(triangles), dtype=np.int32)
    tables = []
    for k in range(3):
        corner = triangles[:, k]
        last, first = np.full(vertices, -1, np.int32), np.full(vertices, -1, np.int32)
        last[corner] = numbers
        first[corner[::-1]] = numbers[::-1]
        tables += [last, first]
    any_one = tables[0].copy()
    for table in tables[1:]:
        np.copyto(any_one, table, where=any_one < 0)
    np.maximum(any_one, 0, out=any_one)
    for table in tables:
        np.copyto(table, any_one, where=table < 0)
    return tables


def cross(a: Float32, b: Float32) -> Float32:
    """Return the cross products of vectors [3, N]."""
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def normalized(vectors: Float32) -> Float32:
    """Return vectors [3, N] with length 1; zero stays zero."""
    return vectors / np.maximum(np.sqrt(dot(vectors, vectors)), np.float32(1e-30))


def dot(a: Float32, b: Float32) -> Float32:
    """Return the dot products [N] of vectors [3, N]."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def row_dot(a: Float64, b: Float64) -> Float64:
    """Return the dot products [N] of vectors [N, 3]."""
    return np.einsum("nc,nc->n", a, b)
