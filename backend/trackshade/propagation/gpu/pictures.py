# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures on a device of torch, and reading the colors of many surface points from them.

The functions are those of `pictures`, `light` and `surface`, for N points at once: the same steps in the same order,
in float64. Where a kernel branches, the points that need a step are selected, and the step is done for those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trackshade.propagation.composing import ASIDE, CHANGED
from trackshade.propagation.light import DARKEST, LUMINANCE
from trackshade.propagation.pictures import LEAST_SHARE, SNAP, SurfacePicture

_AT_ONCE = 1 << 20  # readings that are averaged at a time


class DevicePicture(NamedTuple):
    """A `SurfacePicture` on a device. Its pixels are flat: [h * w], row by row."""

    image: Tensor
    label: Tensor
    triangle: Tensor
    level: Tensor
    tolerance: Tensor
    trust: Tensor
    inner: Tensor
    height: int
    width: int


@dataclass(frozen=True, eq=False)
class Places:
    """Where N surface points are in a picture.

    Attributes:
        u: [N] float64, pixels.
        v: [N] float64, pixels.
        mesh: [N] int64, index into `Shot.meshes`, -1 for the background.
        level: [N] float64, see `pictures`.
    """

    u: Tensor
    v: Tensor
    mesh: Tensor
    level: Tensor

    def select(self, n: Tensor | tuple[Tensor, Tensor]) -> Places:
        """Return some of the places, by a mask or indices."""
        return Places(self.u[n], self.v[n], self.mesh[n], self.level[n])


def to_device(picture: SurfacePicture, send: Callable[[np.ndarray], Tensor]) -> DevicePicture:
    """Return a picture on the device that `send` copies arrays to."""
    tensors = [send(array) for array in picture]
    height, width = picture.label.shape
    return DevicePicture(
        *(tensor.reshape(height * width, *tensor.shape[2:]) for tensor in tensors), height=height, width=width
    )


def holds(picture: DevicePicture, u: Tensor, v: Tensor) -> Tensor:
    """Return whether positions are within a picture."""
    return (u >= 0.0) & (v >= 0.0) & (u <= picture.width) & (v <= picture.height)


def read(picture: DevicePicture, at: Places) -> tuple[Tensor, Tensor]:
    """Read the colors of surface points within a picture; see `pictures.read`.

    Returns:
        Colors [N, 3] float64, and how far the picture shows each point, [N] float64.
    """
    height, width = picture.height, picture.width
    (j, fx), (i, fy) = _split(at.u - 0.5), _split(at.v - 0.5)
    is_inner = (i >= 1) & (j >= 1) & (i + 2 < height) & (j + 2 < width)
    first = i.clamp(0, height - 1) * width + j.clamp(0, width - 1)
    is_inner &= picture.inner[first] & (picture.label[first] == at.mesh)
    color = torch.zeros((len(i), 3), dtype=torch.float64, device=i.device)
    share = torch.zeros_like(at.u)
    n = torch.nonzero(is_inner)[:, 0]
    color[n], share[n] = _read_inner(picture, first[n], fx[n], fy[n], at.mesh[n], at.level[n])
    n = torch.nonzero(~is_inner)[:, 0]
    color[n], share[n] = _read_rim(picture, i[n], j[n], fx[n], fy[n], at.mesh[n], at.level[n])
    return color, share


def _split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pixels [N] int64 before positions, and the fractions of a pixel beyond their centers."""
    whole = torch.floor(x)
    rest = x - whole
    is_next = rest > 1.0 - SNAP
    return (whole + is_next).long(), torch.where(is_next | (rest < SNAP), 0.0, rest)


def _bilinear(values: Tensor, first: Tensor, width: int, fx: Tensor, fy: Tensor) -> Tensor:
    return mix([values[first + n].double() for n in (0, 1, width, width + 1)], fx, fy)


def mix(corners: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Interpolate between four values: two above, from left to right, and two below."""
    a, b, c, d = corners
    return (a * (1.0 - x) + b * x) * (1.0 - y) + (c * (1.0 - x) + d * x) * y


def _read_inner(
    picture: DevicePicture, first: Tensor, fx: Tensor, fy: Tensor, mesh: Tensor, value: Tensor
) -> tuple[Tensor, Tensor]:
    """Read inside of surfaces, with Catmull-Rom splines; `first` is the pixel before each point."""
    width = picture.width
    level = _bilinear(picture.level, first, width, fx, fy)
    is_other = (mesh >= 0) & ((level - value).abs() > picture.tolerance[first])
    share = _bilinear(picture.trust, first, width, fx, fy) / 255.0
    color = torch.zeros((len(first), 3), dtype=torch.float64, device=first.device)
    across, down = _cubic(fx), _cubic(fy)
    for a in range(4):
        for b in range(4):
            weight = down[a] * across[b]
            color += weight[:, None] * picture.image[first + ((a - 1) * width + b - 1)]
    is_exact = (fx == 0.0) & (fy == 0.0)
    color = torch.where(is_exact[:, None], picture.image[first].double(), color.clamp(min=0.0))
    return torch.where(is_other[:, None], 0.0, color), torch.where(is_other, 0.0, share)


def _cubic(fraction: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the Catmull-Rom weights of the pixels from the one before to the second one after a point."""

    def near(d: Tensor) -> Tensor:
        return (1.5 * d - 2.5) * d * d + 1.0

    def far(d: Tensor) -> Tensor:
        return ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0

    return far(1.0 + fraction), near(fraction), near(1.0 - fraction), far(2.0 - fraction)


def _read_rim(
    picture: DevicePicture, i: Tensor, j: Tensor, fx: Tensor, fy: Tensor, mesh: Tensor, value: Tensor
) -> tuple[Tensor, Tensor]:
    """Read at rims, linearly between pixels of the same surface."""
    color = torch.zeros((len(i), 3), dtype=torch.float64, device=i.device)
    total, trusted = torch.zeros_like(fx), torch.zeros_like(fx)
    for a in range(2):
        for c in range(2):
            weight = (fy if a else 1.0 - fy) * (fx if c else 1.0 - fx)
            pixel = (i + a).clamp(0, picture.height - 1) * picture.width + (j + c).clamp(0, picture.width - 1)
            is_near = (picture.level[pixel].double() - value).abs() <= picture.tolerance[pixel]
            weight = torch.where((picture.label[pixel] == mesh) & (is_near | (mesh < 0)), weight, 0.0)
            total += weight
            trusted += weight * picture.trust[pixel]
            color += weight[:, None] * picture.image[pixel]
    is_shown = total >= LEAST_SHARE
    safe = torch.where(is_shown, total, 1.0)
    color = torch.where(is_shown[:, None], color / safe[:, None], 0.0)
    return color, torch.where(is_shown, trusted / (255.0 * safe), 0.0)


def average(
    picture: DevicePicture,
    at: Places,
    slopes: tuple[Tensor, Tensor, Tensor, Tensor],
    across: Tensor,
    down: Tensor,
    color: Tensor,
) -> Tensor:
    """Average the colors of the parallelograms that pixels cover in a picture; see `surface.pull`.

    Args:
        picture: the picture.
        at: the middles of the pixels.
        slopes: [N] each, changes of u and v with a pixel to the right, and of u and v with one down.
        across: [N] int64, readings along the first direction.
        down: [N] int64, readings along the other one.
        color: [N, 3] colors where no reading shows the surface.

    Returns:
        Colors [N, 3].
    """
    counts = across * down
    ends = torch.cumsum(counts, 0)
    out, begin = color.clone(), 0
    while begin < len(counts):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(torch.searchsorted(ends, before + _AT_ONCE, right=True)))
        part = slice(begin, end)
        own = torch.repeat_interleave(torch.arange(begin, end, device=counts.device), counts[part])
        number = torch.arange(len(own), device=own.device) - (ends[own] - counts[own] - before)
        x = (number % across[own] + 0.5) / across[own] - 0.5
        y = (number // across[own] + 0.5) / down[own] - 0.5
        u = at.u[own] + x * slopes[0][own] + y * slopes[2][own]
        v = at.v[own] + x * slopes[1][own] + y * slopes[3][own]
        sums = torch.zeros((len(own), 4), dtype=torch.float64, device=own.device)
        n = torch.nonzero((u >= 0.0) & (v >= 0.0) & (v < picture.height) & (u < picture.width))[:, 0]
        pixel = v[n].long() * picture.width + u[n].long()
        near, value = picture.level[pixel].double(), at.level[own[n]]
        is_same = (near - value).abs() <= 0.1 * value.abs() + 8.0 * picture.tolerance[pixel].double()
        is_same &= picture.label[pixel] == at.mesh[own[n]]
        n, near = n[is_same], near[is_same]
        read_color, share = read(picture, Places(u[n], v[n], at.mesh[own[n]], near))
        sums[n] = torch.cat([read_color, torch.ones_like(share)[:, None]], dim=1) * (share > 0.0)[:, None]
        total = torch.segment_reduce(sums, "sum", lengths=counts[part], axis=0)
        is_read = total[:, 3:] > 0.0
        out[part] = torch.where(is_read, total[:, :3] / total[:, 3:].clamp(min=1.0), out[part])
        begin = end
    return out


def shows_triangle(picture: DevicePicture, at: Places, face: Tensor) -> Tensor:
    """Return whether triangles are visible in one of the 3 × 3 pixels around their places, [N] bool."""
    found = torch.zeros_like(face, dtype=torch.bool)
    for a in (-1, 0, 1):
        for b in (-1, 0, 1):
            row, column = at.v.long() + a, at.u.long() + b
            is_inside = (row >= 0) & (column >= 0) & (row < picture.height) & (column < picture.width)
            pixel = row.clamp(0, picture.height - 1) * picture.width + column.clamp(0, picture.width - 1)
            found |= is_inside & (picture.label[pixel] == at.mesh) & (picture.triangle[pixel] == face)
    return found


def light_at(picture: DevicePicture, at: Places) -> Tensor:
    """Return the light [N, 3] of surface points in a clay render; see `light.light_at`."""
    color, share = read(picture, at)
    n = torch.nonzero(share <= 0.0)[:, 0]
    pixel, is_found = _find_near(picture, at.select(n))
    near = picture.image[pixel].double()
    color = color.clamp(min=DARKEST)
    color[n] = torch.where(is_found[:, None], near.clamp(min=DARKEST), near)
    return color


def _find_near(picture: DevicePicture, at: Places) -> tuple[Tensor, Tensor]:
    """Return the nearest pixel of a mesh within two pixels, else the pixel of the place, and whether there is one."""
    height, width = picture.height, picture.width
    best = torch.full_like(at.u, torch.inf)
    pixel = at.v.long().clamp(max=height - 1) * width + at.u.long().clamp(max=width - 1)
    for a in range(-2, 3):
        for b in range(-2, 3):
            row, column = torch.floor(at.v).long() + a, torch.floor(at.u).long() + b
            is_inside = (row >= 0) & (column >= 0) & (row < height) & (column < width)
            near = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            away = (row + 0.5 - at.v) ** 2 + (column + 0.5 - at.u) ** 2
            deep = (picture.level[near].double() - at.level).abs() / at.level.abs().clamp(min=1e-9)
            away *= 1.0 + 10.0 * deep
            is_better = is_inside & (picture.label[near] == at.mesh) & (away < best)
            best, pixel = torch.where(is_better, away, best), torch.where(is_better, near, pixel)
    return pixel, best < torch.inf


def light_change(picture: DevicePicture, at: Places, then: Tensor, light: Tensor) -> Tensor:
    """Return by how much the logarithm of the light `then` is out of the range of `light` and that around it, [N]."""

    def level(color: Tensor) -> Tensor:
        r, g, b = (float(weight) for weight in LUMINANCE)
        return torch.log((r * color[:, 0] + g * color[:, 1] + b * color[:, 2]).clamp(min=1e-3))

    now, before = level(light), torch.log(then.clamp(min=1e-3))
    out = torch.zeros_like(now)
    n = torch.nonzero((now - before).abs() > CHANGED[0])[:, 0]
    low = high = now[n]
    for du, dv in ((-ASIDE, 0.0), (0.0, -ASIDE), (ASIDE, 0.0), (0.0, ASIDE)):
        place = at.select(n)
        other = level(light_at(picture, replace(place, u=place.u + du, v=place.v + dv)))
        low, high = torch.minimum(low, other), torch.maximum(high, other)
    out[n] = torch.maximum(low - before[n], before[n] - high).clamp(min=0.0)
    return out
