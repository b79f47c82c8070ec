# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws frames with torch, for graphics cards.

What `surface` and `composing` do pixel by pixel, on threads of the processor, happens here for all pixels of many rows
at once, with the same operations in the same order, in float64. Almost all values are equal bit for bit; logarithms,
powers and angles of torch differ in the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trackshade.propagation.composing import CHANGED, TRUSTED, Fills, background_rays
from trackshade.propagation.drawing import Drawer, DrawnFrame, FrameSources, Source
from trackshade.propagation.poses import NOWHERE, Pose, PoseTable
from trackshade.propagation.surface import BEND, ENOUGH, MOST_READINGS, NO_POINT, READING_STEP, background_map
from trackshade.propagation.torch_pictures import (
    DevicePicture,
    Places,
    average,
    holds,
    light_at,
    light_change,
    mix,
    read,
    shows_triangle,
    to_device,
)

_AT_ONCE = 1 << 20  # samples that are drawn at a time: about 1 GB


class TorchDrawer:
    """Draws frames of a shot on a device of torch that has float64. Thread-safe.

    Args:
        table: the shot's poses.
        samples: visibility samples along each side of a pixel.
        device: the device.
        fallback: draws the frames once the device has run out of memory.
    """

    def __init__(self, table: PoseTable, samples: int, device: str, fallback: Drawer) -> None:
        self._table, self._samples, self._device = table, samples, torch.device(device)
        self._fallback, self._is_full = fallback, False
        self._kept: dict[int, tuple[np.ndarray, Tensor]] = {}
        self._most_faces = max((len(geometry.triangles) for geometry in table.shot.geometries), default=1)
        self._holdout = np.array([mesh.holdout for mesh in table.shot.meshes], np.bool_)

    def send(self, array: np.ndarray) -> Tensor:
        """Return a copy of an array on the device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def keep(self, array: np.ndarray) -> Tensor:
        """Return an array on the device, where it stays for the next frames."""
        if id(array) not in self._kept:
            self._kept[id(array)] = array, self.send(array)
        return self._kept[id(array)][1]

    def draw(self, sources: FrameSources) -> DrawnFrame:
        """Draw a frame."""
        if not self._is_full:
            try:
                return self._draw(sources)
            except torch.OutOfMemoryError:
                self._is_full = True
                self._kept.clear()
        return self._fallback.draw(sources)

    def _draw(self, sources: FrameSources) -> DrawnFrame:
        height, width = (length // self._samples for length in sources.buffers.label.shape)
        frame = DrawnFrame(
            np.empty((height, width, 3), np.float32),
            np.empty((height, width), np.float32),
            np.empty((height, width), np.float32),
        )
        step = max(1, _AT_ONCE // (width * self._samples**2))
        with torch.inference_mode():
            scene = self._upload(sources)
            for row in range(0, height, step):
                rows = slice(row, min(row + step, height))
                for out, value in zip(frame, scene.draw(rows), strict=True):
                    out[rows] = value.reshape(out[rows].shape).cpu().numpy()
        return frame

    def _upload(self, sources: FrameSources) -> _Scene:
        light = sources.light
        changing = ("vertex_start", "vertices")
        fills = {name: (self.send if name in changing else self.keep)(x) for name, x in sources.fills._asdict().items()}
        return _Scene(
            self._samples,
            self._most_faces,
            sources,
            self.send,
            _padded(self.send(sources.starts)),
            _padded(self.keep(self._table.triangles)),
            _padded(self.keep(self._table.still)),
            _padded(self.keep(self._holdout)),
            self._pose(sources.frame),
            [self._source(source, sources.frame) for source in sources.keys],
            [self._source(source, sources.frame) for source in sources.factors],
            Fills(**{name: _padded(value) if name != "panorama" else value for name, value in fills.items()}),
            None if light is None else to_device(light, self.send),
        )

    def _source(self, source: Source, frame: Pose) -> _Source:
        background = background_map(frame, source.pose).tolist()
        return _Source(to_device(source.picture, self.keep), self._pose(source.pose), background, source.weight)

    def _pose(self, pose: Pose) -> _Pose:
        moving, where, to_camera = (_padded(self.send(array)) for array in (pose.moving, pose.where, pose.to_camera))
        return _Pose(moving, where, to_camera, pose.lens.tolist(), pose.orthographic)


class _Pose(NamedTuple):
    """A `Pose` on the device."""

    moving: Tensor
    where: Tensor
    to_camera: Tensor
    lens: list[float]
    orthographic: bool


class _Source(NamedTuple):
    """A `Source` on the device, and the matrix of `surface.background_map`."""

    picture: DevicePicture
    pose: _Pose
    background: list[list[float]]
    weight: float


class _Points(NamedTuple):
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
class _Scene:
    """What a frame is drawn from, on the device; see `FrameSources`."""

    samples: int
    most_faces: int
    sources: FrameSources
    send: Callable[[np.ndarray], Tensor]
    starts: Tensor
    triangles: Tensor
    still: Tensor
    holdout: Tensor
    frame: _Pose
    keys: Sequence[_Source]
    factors: Sequence[_Source]
    fills: Fills  # of tensors
    light: DevicePicture | None

    def draw(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Return the colors [P, 3], sRGB-coded, alpha [P] and shown [P] of the pixels of some rows; float32."""
        points = self._find_points(rows)
        pulled = self._pull_all(points, self.keys)
        low = self._pull_all(points, self.factors) if self.factors else None
        return self._compose(points, pulled, low)

    def _find_points(self, rows: slice) -> _Points:
        """Find the surface points of some rows; see `surface.find_points`."""
        samples, buffers, frame = self.samples, self.sources.buffers, self.frame
        part = slice(rows.start * samples, rows.stop * samples)
        mesh, triangle, depth = (
            _by_pixel(self.send(array[part]), samples) for array in (buffers.label, buffers.triangle, buffers.depth)
        )
        mesh = mesh.long()
        level = (torch.where(depth.isfinite(), depth, 0.0) if frame.orthographic else 1.0 / depth).double()
        used, triangle = torch.unique(mesh.clamp(min=0) * self.most_faces + triangle.clamp(min=0), return_inverse=True)
        meshes, faces = used // self.most_faces, used % self.most_faces
        row, column = torch.meshgrid(
            torch.arange(part.start, part.stop, dtype=torch.float64, device=mesh.device),
            torch.arange(buffers.label.shape[1], dtype=torch.float64, device=mesh.device),
            indexing="ij",
        )
        x, y = (_by_pixel((value + 0.5) / samples, samples) for value in (column, row))
        corners = self._corners(frame, meshes, faces)
        inverse, plane = _invert(*corners, frame.orthographic)
        ray_x, ray_y = (x - frame.lens[2]) / frame.lens[0], (y - frame.lens[3]) / frame.lens[1]
        a, b, c = (_along(row[triangle], ray_x, ray_y) for row in inverse)
        total = a + b + c
        b, c = b / total, c / total
        own = plane[triangle]
        here, there = _along(own, ray_x, ray_y), _along(own[:, :1], ray_x, ray_y)
        is_flat = ((here - there).abs() <= BEND * here.abs())[:, 1:].all(dim=1)
        uniform = (mesh == mesh[:, :1]).all(dim=1) & (is_flat | (mesh[:, 0] < 0))
        weights = torch.stack([1.0 - b - c, b, c], dim=-1)
        side = _is_clockwise(*corners, frame.orthographic)
        return _Points(mesh, triangle, level, weights, x, y, uniform, meshes, faces, side)

    def _corners(self, pose: _Pose, meshes: Tensor, faces: Tensor) -> list[Tensor]:
        """Return camera-space x, y and z of the corners of triangles, [U, 3] float64 each."""
        at = self.triangles[self.starts[meshes] + faces].long()
        where = pose.where[meshes][:, None]
        is_still = where >= 0
        still = self.still[torch.where(is_still, where + at, 0)]
        moving = pose.moving[torch.where(is_still | (where == NOWHERE), 0, at - 1 - where)]
        x, y, z = torch.where(is_still[..., None], still, moving).double().unbind(-1)
        m = pose.to_camera[meshes][:, :, :, None]
        return [m[:, n, 0] * x + m[:, n, 1] * y + m[:, n, 2] * z + m[:, n, 3] for n in range(3)]

    def _pull_all(self, points: _Points, sources: Sequence[_Source]) -> Tensor:
        """Add up the colors of the points in pictures, [P, K, 5] float32; see `surface.pull`."""
        out = torch.zeros((*points.mesh.shape, 5), dtype=torch.float32, device=points.mesh.device)
        for source in sources:
            u, v, level, is_seen, is_other = self._project(points, source)
            self._pull_samples(points, source, Places(u, v, points.mesh, level), is_seen, is_other, out)
            self._pull_pixels(points, source, Places(u, v, points.mesh, level), is_seen, is_other, out)
        return out

    def _project(self, points: _Points, source: _Source) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return u, v and level of points in a picture, whether they have a place, and whether it is the other side."""
        pose, lens, x, y = source.pose, source.pose.lens, points.x, points.y
        bx, by, bz = (row[0] * x + row[1] * y + row[2] for row in source.background)
        corners = self._corners(pose, points.meshes, points.faces)
        w, at = points.weights, points.triangle
        cx, cy, cz = (w[..., 0] * axis[at, 0] + w[..., 1] * axis[at, 1] + w[..., 2] * axis[at, 2] for axis in corners)
        is_mesh = points.mesh >= 0
        has_vertices = (pose.where[points.meshes] != NOWHERE)[at]
        is_seen = torch.where(is_mesh, has_vertices & (cz > NO_POINT), bz > 1e-6)
        scale = torch.ones_like(cz) if pose.orthographic else 1.0 / cz
        u = torch.where(is_mesh, lens[0] * cx * scale + lens[2], lens[0] * bx / bz + lens[2])
        v = torch.where(is_mesh, lens[1] * cy * scale + lens[3], lens[1] * by / bz + lens[3])
        level = torch.where(is_mesh, cz if pose.orthographic else scale, 0.0)
        is_other = is_mesh & (_is_clockwise(*corners, pose.orthographic) != points.side)[at]
        return u, v, level, is_seen, is_other

    def _pull_samples(
        self, points: _Points, source: _Source, places: Places, is_seen: Tensor, is_other: Tensor, out: Tensor
    ) -> None:
        """Pull the samples of pixels that are not uniform, one by one."""
        picture, pose = source.picture, source.pose
        pixel, s = torch.nonzero(is_seen & ~points.uniform[:, None] & holds(picture, places.u, places.v), as_tuple=True)
        at = places.select((pixel, s))
        n = self._visible(points, picture, at, points.triangle[pixel, s], is_other[pixel, s])
        pixel, s, at = pixel[n], s[n], at.select(n)
        color, share = read(picture, at)
        least = torch.full_like(share, pose.lens[0] / self.frame.lens[0])
        there = at.level if not pose.orthographic else torch.ones_like(at.level)
        here = points.level[pixel, s] if not self.frame.orthographic else torch.ones_like(at.level)
        least = torch.where(at.mesh >= 0, least * (there / here), least)
        _add(out, pixel, s, color, share, source.weight, least)

    def _pull_pixels(
        self, points: _Points, source: _Source, places: Places, is_seen: Tensor, is_other: Tensor, out: Tensor
    ) -> None:
        """Pull pixels that are uniform, at the mean of their samples."""
        picture = source.picture
        middle = Places(_mean(places.u), _mean(places.v), points.mesh[:, 0], _mean(places.level))
        pixel = torch.nonzero(points.uniform & is_seen.all(dim=1) & holds(picture, middle.u, middle.v))[:, 0]
        at = middle.select(pixel)
        n = self._visible(points, picture, at, points.triangle[pixel, 0], is_other[pixel].any(dim=1))
        pixel, at = pixel[n], at.select(n)
        color, share = read(picture, at)
        least = torch.ones_like(share)
        if self.samples > 1:
            ux, uy = _slopes(places.u[pixel], self.samples)
            vx, vy = _slopes(places.v[pixel], self.samples)
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

    def _visible(
        self, points: _Points, picture: DevicePicture, at: Places, triangle: Tensor, is_other: Tensor
    ) -> Tensor:
        """Return which places show the side that the frame shows, or show the very triangle; indices [N]."""
        is_visible = ~is_other
        n = torch.nonzero(is_other)[:, 0]
        is_visible[n] = shows_triangle(picture, at.select(n), points.faces[triangle[n]])
        return torch.nonzero(is_visible)[:, 0]

    def _compose(self, points: _Points, pulled: Tensor, low: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the colors, alpha and shown of pixels; see `composing.compose`."""
        count = points.mesh.shape[1]
        is_mesh = points.mesh >= 0
        is_drawn = ~(is_mesh & self.holdout[points.mesh.clamp(min=0)])
        pixel = torch.nonzero(points.uniform & is_drawn[:, 0])[:, 0]
        whole, is_whole = self._shade(points, pulled, low, pixel, torch.zeros_like(pixel))
        pixel, whole = pixel[is_whole], whole[is_whole]
        is_left = is_drawn.clone()
        is_left[pixel] = False
        left = torch.nonzero(is_left, as_tuple=True)
        color = torch.zeros((*points.mesh.shape, 3), dtype=torch.float64, device=points.mesh.device)
        color[left], _ = self._shade(points, pulled, low, *left)
        mean = _sum(color) / count
        mean[pixel] = whole * count / count
        mean = mean.clamp(min=0.0)
        coded = torch.where(mean <= 0.0031308, mean * 12.92, 1.055 * mean ** (1.0 / 2.4) - 0.055)
        sums = torch.where(points.uniform[:, None], pulled[:, :1, 3], pulled[:, :, 3])
        is_hidden = is_drawn & (sums <= 0.0)
        alpha, hidden = ((mask.sum(dim=1).double() / count) for mask in (is_mesh & is_drawn, is_hidden))
        return coded.float(), alpha.float(), (1.0 - hidden).float()

    def _shade(
        self, points: _Points, pulled: Tensor, low: Tensor | None, pixel: Tensor, s: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the linear colors [N, 3] of samples, and which of them are that of their whole pixel."""
        is_uniform, mesh, light = points.uniform[pixel], points.mesh[pixel, s], self.light
        x, y, at = points.x[pixel, s], points.y[pixel, s], (pixel, torch.where(is_uniform, 0, s))
        color, weight, share = (pulled[at].double()[:, part] for part in (slice(0, 3), 3, 4))
        is_known = weight > 0.0
        color = torch.where(is_known[:, None], color / weight[:, None], 0.0)
        share = torch.where(is_known, share, 0.0)
        shine, place = torch.ones_like(color), Places(x, y, mesh, torch.zeros_like(x))
        if light is not None:
            sx, sy = light.width / self.frame.lens[4], light.height / self.frame.lens[5]
            level = points.level[pixel]
            place = Places(
                torch.where(is_uniform, torch.floor(x) + 0.5, x) * sx,
                torch.where(is_uniform, torch.floor(y) + 0.5, y) * sy,
                mesh,
                torch.where(is_uniform, _sum(level) / level.shape[1], points.level[pixel, s]),
            )
            n = torch.nonzero(mesh >= 0)[:, 0]
            shine[n] = light_at(light, place.select(n))
        is_doubtful = (share < TRUSTED) if light is not None else torch.zeros_like(is_known)
        share = (share / TRUSTED).clamp(max=1.0)
        n = torch.nonzero((share < 1.0) | ((mesh >= 0) & (self.fills.start[mesh.clamp(min=0)] >= 0)))[:, 0]
        fill, better, then = self._fill(points, pixel[n], s[n])
        is_compared = is_known[n] & is_doubtful[n] & (then >= 0.0)
        is_kept = is_known[n] & ~is_compared & ((better < 0.0) | (is_doubtful[n] & (mesh[n] >= 0)))
        own = torch.where(is_kept, 1.0, share[n])
        if light is not None:
            k = torch.nonzero(is_compared)[:, 0]
            change = light_change(light, place.select(n[k]), then[k], shine[n[k]])
            own[k] = 1.0 - ((change - CHANGED[0]) / (CHANGED[1] - CHANGED[0])).clamp(0.0, 1.0)
        own = own * (1.0 - better.clamp(min=0.0))
        color[n] = color[n] * own[:, None] + fill * (1.0 - own)[:, None]
        share[n] = own
        color = color * shine
        if low is not None:
            factor = low[at].double()
            color = color * torch.where(factor[:, 3:4] > 0.0, factor[:, :3] / factor[:, 3:4], 1.0)
        return color, is_uniform & is_known & (share >= 1.0)

    def _fill(self, points: _Points, pixel: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return fills [N, 3], how much better they are, and the light there, [N] each; see `composing.fill_color`."""
        fills, mesh, triangle = self.fills, points.mesh[pixel, s], points.triangle[pixel, s]
        face, weights = points.faces[triangle], points.weights[pixel, s]
        color = fills.plain[torch.where(mesh < 0, len(fills.plain) - 1, mesh)].double()
        better, then = torch.full_like(weights[:, 0], -1.0), torch.full_like(weights[:, 0], -1.0)
        if len(fills.panorama):
            n = torch.nonzero(mesh < 0)[:, 0]
            color[n] = self._panorama(points.x[pixel[n], s[n]], points.y[pixel[n], s[n]])
            better[n] = 0.0
        start, vertex_start = fills.start[mesh.clamp(min=0)], fills.vertex_start[mesh.clamp(min=0)]
        at = torch.where(start >= 0, start + face, 0)
        number = torch.where((mesh >= 0) & (start >= 0), fills.canvas[at].long(), -1)
        n = torch.nonzero((mesh >= 0) & (number < 0) & (vertex_start >= 0))[:, 0]
        corners = vertex_start[n, None] + self.triangles[self.starts[mesh[n]] + face[n]].long()
        color[n] = _weigh(weights[n, :, None], fills.vertices[corners])
        n = torch.nonzero(number >= 0)[:, 0]
        u, v = (_weigh(weights[n], fills.uv[at[n], :, axis]) - 0.5 for axis in (0, 1))
        first, height, width = fills.table[number[n]].unbind(1)
        u, v = (torch.minimum(x.clamp(min=0.0), length.double() - 1.001) for x, length in ((u, width), (v, height)))
        i, j = v.long(), u.long()
        fx, fy, above = u - j, v - i, first + i * width + j
        below = above + width
        corners = [fills.texels[k, :4].double() for k in (above, above + 1, below, below + 1)]
        mixed = mix(*corners, fx[:, None], fy[:, None])
        nearest = torch.where(fy < 0.5, above, below) + (fx >= 0.5)
        color[n], better[n], then[n] = mixed[:, :3], mixed[:, 3], fills.texels[nearest, 4].double()
        return color, better, then

    def _panorama(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the background's colors [N, 3] at places of the frame."""
        panorama = self.fills.panorama
        height, width = panorama.shape[:2]
        dx, dy, dz = (row[0] * x + row[1] * y + row[2] for row in background_rays(self.sources.frame).tolist())
        length = torch.sqrt(dx * dx + dy * dy + dz * dz)
        v = torch.acos((dz / length).clamp(-1.0, 1.0)) / math.pi * height - 0.5
        u = (torch.atan2(dy, dx) / (2.0 * math.pi) + 0.5) * width - 0.5
        v = v.clamp(0.0, height - 1.001)
        i, j = v.long(), torch.floor(u).long()
        left, right = j % width, (j + 1) % width
        corners = (panorama[p, q].double() for p, q in ((i, left), (i, right), (i + 1, left), (i + 1, right)))
        return mix(*corners, (u - j)[:, None], (v - i)[:, None])


def _padded(values: Tensor) -> Tensor:
    """Return an array with a row at least, so that it can be indexed where nothing of it is used."""
    return values if len(values) else values.new_zeros((1, *values.shape[1:]))


def _by_pixel(values: Tensor, samples: int) -> Tensor:
    """Return an image of samples [h * S, W * S] by pixels, [h * W, S * S]."""
    rows, columns = values.shape
    blocks = values.reshape(rows // samples, samples, columns // samples, samples)
    return blocks.transpose(1, 2).reshape(-1, samples * samples)


def _along(row: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the product of a row of matrices, [..., 3], and rays (x, y, 1)."""
    return row[..., 0] * x + row[..., 1] * y + row[..., 2]


def _sum(values: Tensor) -> Tensor:
    """Return the sum over the samples, [P, K, ...] to [P, ...], in their order."""
    total = values[:, 0]
    for s in range(1, values.shape[1]):
        total = total + values[:, s]
    return total


def _mean(values: Tensor) -> Tensor:
    return _sum(values / values.shape[1])


def _weigh(weights: Tensor, values: Tensor) -> Tensor:
    """Return the sums over the second axis, of three elements, of weights times values."""
    return weights[:, 0] * values[:, 0] + weights[:, 1] * values[:, 1] + weights[:, 2] * values[:, 2]


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


def _invert(x: Tensor, y: Tensor, z: Tensor, orthographic: bool) -> tuple[list[Tensor], Tensor]:
    """Return the rows, [U, 3] each, of matrices from rays (x, y, 1) to weights, and planes of levels, [U, 3]."""
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


def _is_clockwise(x: Tensor, y: Tensor, z: Tensor, orthographic: bool) -> Tensor:
    """Return whether the corners of triangles run clockwise as the camera sees them, [U] bool."""
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
