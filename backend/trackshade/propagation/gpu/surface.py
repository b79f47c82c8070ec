# SPDX-License-Identifier: GPL-3.0-or-later
"""The surface points of a frame on a device of torch, and their colors from pictures; see `propagation.surface`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trackshade.propagation.gpu.pictures import DevicePicture, Places, average, holds, read, shows_triangle
from trackshade.propagation.poses import NOWHERE
from trackshade.propagation.surface import BEND, ENOUGH, MOST_READINGS, NO_POINT, READING_STEP


class DevicePose(NamedTuple):
    """A `Pose` on the device."""

    moving: Tensor
    where: Tensor
    to_camera: Tensor
    lens: list[float]
    orthographic: bool


class DeviceSource(NamedTuple):
    """A `Source` on the device, and the matrix of `surface.background_map`."""

    picture: DevicePicture
    pose: DevicePose
    background: list[list[float]]
    weight: float


class Points(NamedTuple):
    """The surface points of P pixels with K samples each; see `surface.Points`.

    Attributes:
        mesh: [P, K] int64, index into `Shot.meshes`; -1 for the background.
        triangle: [P, K] int64, index into `meshes` and `faces`; any for the background.
        level: [P, K] float64, see `pictures`.
        weights: [P, K, 3] float64, barycentric.
        x: [P, K] float64, place in the frame, pixels.
        y: [P, K] float64.
        uniform: [P] bool.
        meshes: [U] int64, the mesh of each triangle that is visible.
        faces: [U] int64, which triangle of the mesh it is.
        side: [U] bool, whether its corners run clockwise as the camera sees them.
    """

    mesh: Tensor
    triangle: Tensor
    level: Tensor
    weights: Tensor
    x: Tensor
    y: Tensor
    uniform: Tensor
    meshes: Tensor
    faces: Tensor
    side: Tensor


@dataclass(frozen=True, eq=False)
class Scene:
    """What a frame is drawn from; see `drawing.FrameSources` and `poses.PoseTable`.

    Attributes:
        samples: S, visibility samples along each side of a pixel.
        most_faces: number of triangles of the largest geometry.
        label: [H * S, W * S] int32, the mesh of each sample, -1 for the background.
        triangle: [H * S, W * S] int32, its triangle.
        depth: [H * S, W * S] float32, metres; inf for the background.
        frame: the frame's pose.
        rays: matrix [3][3] from pixels of the frame to directions in world space.
        starts: [M] int64, where each mesh's triangles begin.
        triangles: [N, 3] int32, triangles of all geometries.
        still: [N, 3] float32, vertices of the geometries that do not deform.
        holdout: [M] bool.
        keys: pictures that show colors.
        soft: see `drawing.FrameSources`.
        factors: pictures of factors of the colors.
        fills: `composing.Fills` of tensors.
        light: the frame's clay render, or None.
    """

    samples: int
    most_faces: int
    label: Tensor
    triangle: Tensor
    depth: Tensor
    frame: DevicePose
    rays: list[list[float]]
    starts: Tensor
    triangles: Tensor
    still: Tensor
    holdout: Tensor
    keys: Sequence[DeviceSource]
    soft: Sequence[DeviceSource]
    factors: Sequence[DeviceSource]
    fills: Any
    light: DevicePicture | None


def find_points(scene: Scene, rows: slice) -> Points:
    """Find the surface points of some rows; see `surface.find_points`."""
    samples, frame = scene.samples, scene.frame
    part = slice(rows.start * samples, rows.stop * samples)
    mesh, triangle, depth = (_by_pixel(values[part], samples) for values in (scene.label, scene.triangle, scene.depth))
    mesh = mesh.long()
    level = (torch.where(depth.isfinite(), depth, 0.0) if frame.orthographic else 1.0 / depth).double()
    used, triangle = torch.unique(mesh.clamp(min=0) * scene.most_faces + triangle.clamp(min=0), return_inverse=True)
    meshes, faces = used // scene.most_faces, used % scene.most_faces
    row, column = torch.meshgrid(
        torch.arange(part.start, part.stop, dtype=torch.float64, device=mesh.device),
        torch.arange(scene.label.shape[1], dtype=torch.float64, device=mesh.device),
        indexing="ij",
    )
    x, y = (_by_pixel((value + 0.5) / samples, samples) for value in (column, row))
    corners = _corners(scene, frame, meshes, faces)
    inverse, plane = _invert(corners, frame.orthographic)
    ray_x, ray_y = (x - frame.lens[2]) / frame.lens[0], (y - frame.lens[3]) / frame.lens[1]
    a, b, c = (_along(row[triangle], ray_x, ray_y) for row in inverse)
    total = a + b + c
    b, c = b / total, c / total
    own = plane[triangle]
    here, there = _along(own, ray_x, ray_y), _along(own[:, :1], ray_x, ray_y)
    is_flat = ((here - there).abs() <= BEND * here.abs())[:, 1:].all(dim=1)
    uniform = (mesh == mesh[:, :1]).all(dim=1) & (is_flat | (mesh[:, 0] < 0))
    weights = torch.stack([1.0 - b - c, b, c], dim=-1)
    side = _is_clockwise(corners, frame.orthographic)
    return Points(mesh, triangle, level, weights, x, y, uniform, meshes, faces, side)


def _corners(scene: Scene, pose: DevicePose, meshes: Tensor, faces: Tensor) -> list[Tensor]:
    """Return camera-space x, y and z of the corners of triangles, [U, 3] float64 each."""
    at = scene.triangles[scene.starts[meshes] + faces].long()
    where = pose.where[meshes][:, None]
    is_still = where >= 0
    still = scene.still[torch.where(is_still, where + at, 0)]
    moving = pose.moving[torch.where(is_still | (where == NOWHERE), 0, at - 1 - where)]
    x, y, z = torch.where(is_still[..., None], still, moving).double().unbind(-1)
    m = pose.to_camera[meshes][:, :, :, None]
    return [m[:, n, 0] * x + m[:, n, 1] * y + m[:, n, 2] * z + m[:, n, 3] for n in range(3)]


def pull(scene: Scene, points: Points, sources: Sequence[DeviceSource]) -> Tensor:
    """Add up the colors of the points in pictures, [P, K, 5] float32; see `surface.pull`."""
    out = torch.zeros((*points.mesh.shape, 5), dtype=torch.float32, device=points.mesh.device)
    for source in sources:
        u, v, level, is_seen, is_other = _project(scene, points, source)
        _pull_samples(scene, points, source, Places(u, v, points.mesh, level), is_seen, is_other, out)
        _pull_pixels(scene, points, source, Places(u, v, points.mesh, level), is_seen, is_other, out)
    return out


def _project(scene: Scene, points: Points, source: DeviceSource) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return u, v and level of points in a picture, whether they have a place, and whether it is the other side."""
    pose, lens, x, y = source.pose, source.pose.lens, points.x, points.y
    bx, by, bz = (row[0] * x + row[1] * y + row[2] for row in source.background)
    corners = _corners(scene, pose, points.meshes, points.faces)
    w, at = points.weights, points.triangle
    cx, cy, cz = (w[..., 0] * axis[at, 0] + w[..., 1] * axis[at, 1] + w[..., 2] * axis[at, 2] for axis in corners)
    is_mesh = points.mesh >= 0
    has_vertices = (pose.where[points.meshes] != NOWHERE)[at]
    is_seen = torch.where(is_mesh, has_vertices & (cz > NO_POINT), bz > 1e-6)
    scale = torch.ones_like(cz) if pose.orthographic else 1.0 / cz
    u = torch.where(is_mesh, lens[0] * cx * scale + lens[2], lens[0] * bx / bz + lens[2])
    v = torch.where(is_mesh, lens[1] * cy * scale + lens[3], lens[1] * by / bz + lens[3])
    level = torch.where(is_mesh, cz if pose.orthographic else scale, 0.0)
    is_other = is_mesh & (_is_clockwise(corners, pose.orthographic) != points.side)[at]
    return u, v, level, is_seen, is_other


def _pull_samples(
    scene: Scene, points: Points, source: DeviceSource, places: Places, is_seen: Tensor, is_other: Tensor, out: Tensor
) -> None:
    """Pull the samples of pixels that are not uniform, one by one."""
    picture, pose = source.picture, source.pose
    pixel, s = torch.nonzero(is_seen & ~points.uniform[:, None] & holds(picture, places.u, places.v), as_tuple=True)
    at = places.select((pixel, s))
    n = _visible(points, picture, at, points.triangle[pixel, s], is_other[pixel, s])
    pixel, s, at = pixel[n], s[n], at.select(n)
    color, share = read(picture, at)
    least = torch.full_like(share, pose.lens[0] / scene.frame.lens[0])
    there = at.level if not pose.orthographic else torch.ones_like(at.level)
    here = points.level[pixel, s] if not scene.frame.orthographic else torch.ones_like(at.level)
    least = torch.where(at.mesh >= 0, least * (there / here), least)
    _add(out, pixel, s, color, share, source.weight, least)


def _pull_pixels(
    scene: Scene, points: Points, source: DeviceSource, places: Places, is_seen: Tensor, is_other: Tensor, out: Tensor
) -> None:
    """Pull pixels that are uniform, at the mean of their samples."""
    picture = source.picture
    middle = Places(_mean(places.u), _mean(places.v), points.mesh[:, 0], _mean(places.level))
    pixel = torch.nonzero(points.uniform & is_seen.all(dim=1) & holds(picture, middle.u, middle.v))[:, 0]
    at = middle.select(pixel)
    n = _visible(points, picture, at, points.triangle[pixel, 0], is_other[pixel].any(dim=1))
    pixel, at = pixel[n], at.select(n)
    color, share = read(picture, at)
    least = torch.ones_like(share)
    if scene.samples > 1:
        ux, uy = _slopes(places.u[pixel], scene.samples)
        vx, vy = _slopes(places.v[pixel], scene.samples)
        least = _least_scale(ux, vx, uy, vy)
        across, down = (
            torch.ceil(torch.hypot(*slope) / READING_STEP).clamp(1, MOST_READINGS).long()
            for slope in ((ux, vx), (uy, vy))
        )
        n = torch.nonzero((share > 0.0) & ((across > 1) | (down > 1)))[:, 0]
        color[n] = average(
            picture, at.select(n), (ux[n], vx[n], uy[n], vy[n]), across[n], down[n], color[n]
        )  # fmt: skip
    _add(out, pixel, torch.zeros_like(pixel), color, share, source.weight, least)


def _visible(points: Points, picture: DevicePicture, at: Places, triangle: Tensor, is_other: Tensor) -> Tensor:
    """Return which places show the side that the frame shows, or show the very triangle; indices [N]."""
    is_visible = ~is_other
    n = torch.nonzero(is_other)[:, 0]
    is_visible[n] = shows_triangle(picture, at.select(n), points.faces[triangle[n]])
    return torch.nonzero(is_visible)[:, 0]


def _by_pixel(values: Tensor, samples: int) -> Tensor:
    """Return an image of samples [h * S, W * S] by pixels, [h * W, S * S]."""
    rows, columns = values.shape
    blocks = values.reshape(rows // samples, samples, columns // samples, samples)
    return blocks.transpose(1, 2).reshape(-1, samples * samples)


def _along(row: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the product of a row of matrices, [..., 3], and rays (x, y, 1)."""
    return row[..., 0] * x + row[..., 1] * y + row[..., 2]


def sum_samples(values: Tensor) -> Tensor:
    """Return the sum over the samples, [P, K, ...] to [P, ...], in their order."""
    total = values[:, 0]
    for s in range(1, values.shape[1]):
        total = total + values[:, s]
    return total


def _mean(values: Tensor) -> Tensor:
    return sum_samples(values / values.shape[1])


def _add(out: Tensor, pixel: Tensor, s: Tensor, color: Tensor, share: Tensor, importance: float, scale: Tensor) -> None:
    """Add colors of samples, each at most once, to what was pulled; see `surface.pull`."""
    n = torch.nonzero(share > 0.0)[:, 0]
    at, share = (pixel[n], s[n]), share[n]
    weight = importance * share * scale[n].clamp(1e-3, ENOUGH) ** 4
    sums = out[at]
    out[at] = torch.cat(
        [
            (sums[:, :3] + weight[:, None] * color[n]).float(),
            (sums[:, 3] + weight).float()[:, None],
            torch.maximum(sums[:, 4], share.float())[:, None],
        ],
        dim=1,
    )


def _invert(corners: Sequence[Tensor], orthographic: bool) -> tuple[list[Tensor], Tensor]:
    """Return the rows, [U, 3] each, of matrices from rays (x, y, 1) to weights, and planes of levels, [U, 3]."""
    x, y, z = corners
    w = torch.ones_like(z) if orthographic else z
    rows = []
    for a, b in ((1, 2), (2, 0), (0, 1)):
        rows.append(
            torch.stack(
                [
                    y[:, a] * w[:, b] - y[:, b] * w[:, a],
                    x[:, b] * w[:, a] - x[:, a] * w[:, b],
                    x[:, a] * y[:, b] - x[:, b] * y[:, a],
                ],
                dim=1,
            )
        )
    determinant = rows[0][:, 0] * x[:, 0] + rows[1][:, 0] * x[:, 1] + rows[2][:, 0] * x[:, 2]
    rows = [row / determinant[:, None] for row in rows]
    scale = z if orthographic else torch.ones_like(z)
    plane = rows[0] * scale[:, :1] + rows[1] * scale[:, 1:2] + rows[2] * scale[:, 2:]
    return rows, plane


def _is_clockwise(corners: Sequence[Tensor], orthographic: bool) -> Tensor:
    """Return whether the corners of triangles run clockwise as the camera sees them, [U] bool."""
    x, y, z = corners
    w = torch.ones_like(z) if orthographic else z
    parts = (x[:, a] * (y[:, b] * w[:, c] - y[:, c] * w[:, b]) for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)))
    return sum(parts, start=torch.zeros_like(x[:, 0])) > 0.0


def _slopes(places: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Return the changes of a coordinate [P, K] with a pixel of the frame to the right, and with one down."""
    end, last, below = samples - 1, samples * samples - 1, samples * samples - samples
    first, right, left, both = places[:, 0], places[:, end], places[:, below], places[:, last]
    span = 2.0 * (samples - 1) / samples
    return (right - first + both - left) / span, (left - first + both - right) / span


def _least_scale(ux: Tensor, vx: Tensor, uy: Tensor, vy: Tensor) -> Tensor:
    """Return the smaller singular values [N] of derivatives; see `surface`."""
    half = 0.5 * (ux * ux + vx * vx + uy * uy + vy * vy)
    determinant = ux * vy - uy * vx
    return torch.sqrt((half - torch.sqrt((half * half - determinant * determinant).clamp(min=0.0))).clamp(min=0.0))
