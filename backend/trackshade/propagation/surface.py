# SPDX-License-Identifier: GPL-3.0-or-later
"""The surface points of a frame, at S × S samples for each pixel, and their colors from pictures of other frames.

A pixel whose samples all show one smooth surface is *uniform*: its color is read once for each picture, at the mean
position of its samples. Their differences say how many of the picture's pixels one of the frame's covers: where more
than one, several places are read and averaged; where less, another picture with more detail is preferred.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from trackshade.control.compiling import inlined, kernel
from trackshade.propagation.pictures import SurfacePicture, read, to_levels
from trackshade.propagation.poses import NOWHERE, Pose, PoseTable, load_corners

BEND = 0.01  # relative difference of levels from the plane of another triangle, above which it is another surface
READING_STEP = 1.5  # pixels of a picture up to which one reading is enough
MOST_READINGS = 8  # readings along an axis
ENOUGH = 1.25  # pixels of a picture for each of the frame's, beyond which it has no more detail to give
NO_POINT = 1e-9  # depth, metres
_CLEAN = 170  # trust of pixels whose colors are those of their surface


class Points(NamedTuple):
    """The surface points of some rows of a frame. A plain tuple of arrays, so that kernels can take it.

    Attributes:
        label: [h·S, W·S] int32, index into `Shot.meshes`; -1 for the background, -2 for nothing at all.
        triangle: [h·S, W·S] int32.
        level: [h·S, W·S] float32, see `pictures`.
        weights: [h·S, W·S, 2] float64, barycentric, of the triangle's second and third vertex.
        side: [h·S, W·S] int8, 1 where the triangle's corners run clockwise as the camera sees them, else -1.
        uniform: [h, W] bool, see above.
        first_row: row of the frame that the arrays begin with.
    """

    label: np.ndarray
    triangle: np.ndarray
    level: np.ndarray
    weights: np.ndarray
    side: np.ndarray
    uniform: np.ndarray
    first_row: int


def find_points(
    label: np.ndarray,  # [h * S, W * S] int32
    triangle: np.ndarray,  # [h * S, W * S] int32
    depth: np.ndarray,  # [h * S, W * S] float32 metres
    first_row: int,
    samples: int,
    pose: Pose,
    still: np.ndarray,
    triangles: np.ndarray,
    face_start: np.ndarray,
) -> Points:
    """Return the surface points of some rows of a frame.

    Args:
        label: the mesh of each sample.
        triangle: its triangle.
        depth: its depth, inf for the background.
        first_row: row of the frame that the arrays begin with.
        samples: S.
        pose: the frame's sample, at the frame's size.
        still: see `PoseTable`.
        triangles: see `PoseTable`.
        face_start: where each mesh's triangles begin, [M].
    """
    rows, columns = label.shape
    weights, side = np.zeros((rows, columns, 2)), np.zeros((rows, columns), np.int8)
    uniform = np.zeros((rows // samples, columns // samples), np.bool_)
    _find_points(
        label, triangle, first_row, samples, still, pose.moving, pose.where, triangles, face_start, pose.to_camera,
        pose.lens, pose.orthographic, weights, side, uniform,
    )  # fmt: skip
    return Points(label, triangle, to_levels(depth, pose.orthographic), weights, side, uniform, first_row)


class ShownPoints(NamedTuple):
    """The surface points of a mesh that pictures show, one for each pixel.

    Attributes:
        positions: [N, 3] float64, at the geometry's first positions, object space.
        faces: [N] int32, their triangles.
        colors: [N, 3] float32.
    """

    positions: np.ndarray
    faces: np.ndarray
    colors: np.ndarray


def shown_points(
    table: PoseTable, pictures: Collection[tuple[SurfacePicture, int]], meshes: Collection[int]
) -> dict[int, ShownPoints]:
    """Return what pictures show of some meshes, but for their rims; without meshes that none shows.

    Args:
        table: the shot's poses.
        pictures: pictures and their samples.
        meshes: indices into `Shot.meshes`.
    """
    found: dict[int, list[ShownPoints]] = {}
    for picture, t in pictures if meshes else ():
        starts, pose = table.face_starts(t), table.pose(t, picture.size)
        depth = np.ones(picture.label.shape, np.float32)
        points = find_points(picture.label, picture.triangle, depth, 0, 1, pose, table.still, table.triangles, starts)
        clean = np.flatnonzero((picture.trust >= _CLEAN) & np.isin(picture.label, list(meshes)))
        clean = clean[np.argsort(picture.label.ravel()[clean], kind="stable")]
        own, first = np.unique(picture.label.ravel()[clean], return_index=True)
        for mesh, pixels in zip(own.tolist(), np.split(clean, first[1:]), strict=False):
            geometry, faces = table.shot.geometry_of(mesh, t), picture.triangle.ravel()[pixels]
            b, c = points.weights.reshape(-1, 2)[pixels].T
            corners = geometry.first.astype(np.float64)[geometry.triangles[faces]]
            positions = np.einsum("nk,nkx->nx", np.stack([1 - b - c, b, c], axis=1), corners)
            found.setdefault(mesh, []).append(ShownPoints(positions, faces, picture.image.reshape(-1, 3)[pixels]))
    return {mesh: ShownPoints(*map(np.concatenate, zip(*parts, strict=True))) for mesh, parts in found.items()}


@kernel
def _find_points(
    label, triangle, first_row, samples, still, moving, where, triangles, face_start, to_camera, lens, orthographic,
    weights, side, uniform,
):  # fmt: skip
    rows, columns = uniform.shape
    last_mesh, last_face = -2, -2
    inverse, plane, first_plane = np.zeros((3, 3)), np.zeros(3), np.zeros(3)
    x, y, z = np.zeros(3), np.zeros(3), np.zeros(3)
    turn = 0
    for i in range(rows):
        for j in range(columns):
            is_uniform = True
            mesh = label[i * samples, j * samples]
            for s in range(samples * samples):
                p, q = i * samples + s // samples, j * samples + s % samples
                m, f = label[p, q], triangle[p, q]
                is_uniform &= m == mesh
                if m < 0:
                    continue
                if m != last_mesh or f != last_face:
                    last_mesh, last_face = m, f
                    load_corners(still, moving, where[m], triangles, face_start[m] + f, to_camera, m, x, y, z)
                    turn = _invert(x, y, z, orthographic, inverse, plane)
                ray_x = (q + 0.5) / samples
                ray_y = first_row + (p + 0.5) / samples
                ray_x, ray_y = (ray_x - lens[2]) / lens[0], (ray_y - lens[3]) / lens[1]
                a = inverse[0, 0] * ray_x + inverse[0, 1] * ray_y + inverse[0, 2]
                b = inverse[1, 0] * ray_x + inverse[1, 1] * ray_y + inverse[1, 2]
                c = inverse[2, 0] * ray_x + inverse[2, 1] * ray_y + inverse[2, 2]
                total = a + b + c
                weights[p, q, 0], weights[p, q, 1] = b / total, c / total
                side[p, q] = turn
                if s == 0:
                    first_plane[:] = plane
                elif is_uniform:
                    here = plane[0] * ray_x + plane[1] * ray_y + plane[2]
                    there = first_plane[0] * ray_x + first_plane[1] * ray_y + first_plane[2]
                    is_uniform = abs(here - there) <= BEND * abs(here)
            uniform[i, j] = is_uniform


@inlined
def _invert(x, y, z, orthographic, inverse, plane):
    """Write the matrix that takes a ray (x, y, 1) to weights, not normalized, and the plane of the triangle's levels.

    Returns 1 if the corners run clockwise as the camera sees them, else -1.
    """
    w0, w1, w2 = (1.0, 1.0, 1.0) if orthographic else (z[0], z[1], z[2])
    inverse[0, 0], inverse[0, 1], inverse[0, 2] = (
        y[1] * w2 - y[2] * w1,
        x[2] * w1 - x[1] * w2,
        x[1] * y[2] - x[2] * y[1],
    )
    inverse[1, 0], inverse[1, 1], inverse[1, 2] = (
        y[2] * w0 - y[0] * w2,
        x[0] * w2 - x[2] * w0,
        x[2] * y[0] - x[0] * y[2],
    )
    inverse[2, 0], inverse[2, 1], inverse[2, 2] = (
        y[0] * w1 - y[1] * w0,
        x[1] * w0 - x[0] * w1,
        x[0] * y[1] - x[1] * y[0],
    )
    determinant = inverse[0, 0] * x[0] + inverse[1, 0] * x[1] + inverse[2, 0] * x[2]
    for n in range(3):
        for k in range(3):
            inverse[n, k] /= determinant
    for k in range(3):
        if orthographic:
            plane[k] = inverse[0, k] * z[0] + inverse[1, k] * z[1] + inverse[2, k] * z[2]
        else:
            plane[k] = inverse[0, k] + inverse[1, k] + inverse[2, k]
    return 1 if determinant > 0.0 else -1


def pull(
    points: Points,
    samples: int,
    frame: Pose,
    picture: SurfacePicture,
    pose: Pose,
    still: np.ndarray,
    triangles: np.ndarray,
    face_start: np.ndarray,
    importance: float,
    out: np.ndarray,
) -> None:
    """Add the colors of the points in a picture, weighted by how well it shows them.

    Args:
        points: surface points of some rows of the frame.
        samples: S.
        frame: the frame's pose.
        picture: the picture.
        pose: the picture's sample, at the picture's size, with the triangles of the frame.
        still: see `PoseTable`.
        triangles: see `PoseTable`.
        face_start: where each mesh's triangles begin, [M].
        importance: factor of the weight.
        out: [h * S, W * S, 5] float32: weighted color, weight, and how far a picture shows the point (0 to 1). Of a
            uniform pixel, only the first sample is used.
    """
    _pull(
        *points, samples, background_map(frame, pose), frame.lens, frame.orthographic, *picture, still, pose.moving,
        pose.where, triangles, face_start, pose.to_camera, pose.lens, pose.orthographic, importance, out,
    )  # fmt: skip


def background_map(frame: Pose, pose: Pose) -> np.ndarray:
    """Return the matrix [3, 3] from pixels of the frame to directions in the camera of a picture."""
    fx, fy, cx, cy, width, height = frame.lens
    if frame.orthographic or pose.orthographic:  # the background has no place: it stays in the picture
        ax, ay = pose.lens[4] / width, pose.lens[5] / height
        return np.array(
            [
                [ax / pose.lens[0], 0, -pose.lens[2] / pose.lens[0]],
                [0, ay / pose.lens[1], -pose.lens[3] / pose.lens[1]],
                [0, 0, 1.0],
            ]
        )
    unproject = np.array([[1 / fx, 0, -cx / fx], [0, 1 / fy, -cy / fy], [0, 0, 1.0]])
    return pose.rotation @ frame.rotation.T @ unproject


@inlined
def _least_scale(ux, vx, uy, vy):
    """Return the smaller singular value of the derivative of a position in the picture by that in the frame."""
    half = 0.5 * (ux * ux + vx * vx + uy * uy + vy * vy)
    determinant = ux * vy - uy * vx
    return math.sqrt(max(0.0, half - math.sqrt(max(0.0, half * half - determinant * determinant))))


@kernel
def _shows_triangle(label, triangle, u, v, mesh, face):
    """Return whether a triangle is visible in one of the 3 × 3 pixels around a position."""
    height, width = label.shape
    i, j = int(v), int(u)
    for a in range(max(0, i - 1), min(height, i + 2)):
        for b in range(max(0, j - 1), min(width, j + 2)):
            if label[a, b] == mesh and triangle[a, b] == face:
                return True
    return False


@kernel
def _pull(
    labels, faces, levels, weights, side, uniform, first_row, samples, background, frame_lens, frame_flat,
    image, label, triangle, level, tolerance, trust, inner,
    still, moving, where, triangles, face_start, to_camera, lens, orthographic, importance, out,
):  # fmt: skip
    rows, columns = uniform.shape
    height, width = label.shape
    x, y, z = np.zeros(3), np.zeros(3), np.zeros(3)
    count = samples * samples
    us, vs, values = np.zeros(count), np.zeros(count), np.zeros(count)
    last_mesh, last_face, turn = -2, -2, 0
    for i in range(rows):
        for j in range(columns):
            whole = uniform[i, j]
            mesh = labels[i * samples, j * samples]
            if whole and mesh >= 0 and where[mesh] == NOWHERE:
                continue
            is_seen = True
            u = v = value = 0.0
            is_other_side = False
            for s in range(count):
                p, q = i * samples + s // samples, j * samples + s % samples
                m, f = labels[p, q], faces[p, q]
                if m >= 0:
                    if where[m] == NOWHERE:
                        is_seen = False
                        continue
                    if m != last_mesh or f != last_face:
                        last_mesh, last_face = m, f
                        load_corners(still, moving, where[m], triangles, face_start[m] + f, to_camera, m, x, y, z)
                        turn = _turn(x, y, z, orthographic)
                    b, c = weights[p, q, 0], weights[p, q, 1]
                    a = 1.0 - b - c
                    cx, cy = a * x[0] + b * x[1] + c * x[2], a * y[0] + b * y[1] + c * y[2]
                    cz = a * z[0] + b * z[1] + c * z[2]
                    if not cz > NO_POINT:
                        is_seen = False
                        continue
                    scale = 1.0 if orthographic else 1.0 / cz
                    us[s], vs[s] = lens[0] * cx * scale + lens[2], lens[1] * cy * scale + lens[3]
                    values[s] = cz if orthographic else scale
                    other = turn != side[p, q]
                elif m < -1:
                    continue
                else:
                    px, py = (q + 0.5) / samples, first_row + (p + 0.5) / samples
                    cx = background[0, 0] * px + background[0, 1] * py + background[0, 2]
                    cy = background[1, 0] * px + background[1, 1] * py + background[1, 2]
                    cz = background[2, 0] * px + background[2, 1] * py + background[2, 2]
                    if not cz > 1e-6:
                        is_seen = False
                        continue
                    us[s], vs[s], values[s] = lens[0] * cx / cz + lens[2], lens[1] * cy / cz + lens[3], 0.0
                    other = False
                if whole:
                    u += us[s] / count
                    v += vs[s] / count
                    value += values[s] / count
                    is_other_side |= other
                elif us[s] >= 0.0 and vs[s] >= 0.0 and us[s] <= width and vs[s] <= height:
                    if other and not _shows_triangle(label, triangle, us[s], vs[s], m, f):
                        continue
                    r, g, b, share = read(image, label, level, tolerance, trust, inner, us[s], vs[s], m, values[s])
                    if share > 0.0:
                        least = lens[0] / frame_lens[0]
                        if m >= 0:
                            least *= (1.0 if orthographic else values[s]) / (1.0 if frame_flat else levels[p, q])
                        _add(out, p, q, r, g, b, share, importance * share * _quality(least))
            if not whole or not is_seen or not (u >= 0.0 and v >= 0.0 and u <= width and v <= height):
                continue
            p, q = i * samples, j * samples
            if is_other_side and not _shows_triangle(label, triangle, u, v, mesh, faces[p, q]):
                continue
            r, g, b, share = read(image, label, level, tolerance, trust, inner, u, v, mesh, value)
            if share <= 0.0:
                continue
            least = 1.0
            if samples > 1:
                end, span = samples - 1, 2.0 * (samples - 1) / samples
                ux = (us[end] - us[0] + us[count - 1] - us[count - samples]) / span
                vx = (vs[end] - vs[0] + vs[count - 1] - vs[count - samples]) / span
                uy = (us[count - samples] - us[0] + us[count - 1] - us[end]) / span
                vy = (vs[count - samples] - vs[0] + vs[count - 1] - vs[end]) / span
                across, down = math.hypot(ux, vx), math.hypot(uy, vy)
                least = _least_scale(ux, vx, uy, vy)
                if across > READING_STEP or down > READING_STEP:
                    across, down = (
                        min(MOST_READINGS, math.ceil(across / READING_STEP)),
                        min(MOST_READINGS, math.ceil(down / READING_STEP)),
                    )
                    r, g, b = _average(
                        image, label, level, tolerance, trust, inner, u, v, ux, vx, uy, vy, across, down, mesh, value,
                        r, g, b,
                    )  # fmt: skip
            _add(out, p, q, r, g, b, share, importance * share * _quality(least))


@inlined
def _quality(scale):
    """Return the weight of a picture that has `scale` pixels for each pixel of the frame."""
    return min(max(scale, 1e-3), ENOUGH) ** 4


@inlined
def _turn(x, y, z, orthographic):
    w0, w1, w2 = (1.0, 1.0, 1.0) if orthographic else (z[0], z[1], z[2])
    determinant = x[0] * (y[1] * w2 - y[2] * w1) + x[1] * (y[2] * w0 - y[0] * w2) + x[2] * (y[0] * w1 - y[1] * w0)
    return 1 if determinant > 0.0 else -1


@inlined
def _add(out, p, q, r, g, b, share, weight):
    out[p, q, 0] += weight * r
    out[p, q, 1] += weight * g
    out[p, q, 2] += weight * b
    out[p, q, 3] += weight
    out[p, q, 4] = max(out[p, q, 4], np.float32(share))


@kernel
def _average(
    image, label, level, tolerance, trust, inner, u, v, ux, vx, uy, vy, across, down, mesh, value, r0, g0, b0
):  # fmt: skip
    """Return the average color of the parallelogram that a pixel covers in a picture, of its own surface."""
    r = g = b = total = 0.0
    for s in range(down):
        for k in range(across):
            x, y = (k + 0.5) / across - 0.5, (s + 0.5) / down - 0.5
            pu, pv = u + x * ux + y * uy, v + x * vx + y * vy
            row, column = int(pv), int(pu)
            if not (pu >= 0.0 and pv >= 0.0 and row < label.shape[0] and column < label.shape[1]):
                continue
            # What the middle shows is known to be visible; beside it, only other surfaces are left out.
            near = np.float64(level[row, column])
            if label[row, column] != mesh or abs(near - value) > 0.1 * abs(value) + 8.0 * tolerance[row, column]:
                continue
            pr, pg, pb, share = read(image, label, level, tolerance, trust, inner, pu, pv, mesh, near)
            if share > 0.0:
                r, g, b, total = r + pr, g + pg, b + pb, total + 1.0
    if total == 0.0:
        return r0, g0, b0
    return r / total, g / total, b / total
