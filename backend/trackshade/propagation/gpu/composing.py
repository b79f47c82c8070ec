# SPDX-License-Identifier: GPL-3.0-or-later
"""The pixels of a frame on a device of torch; see `propagation.composing`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from trackshade.propagation.composing import BLENDED, CHANGED, TRUSTED
from trackshade.propagation.gpu.pictures import Places, light_at, light_change, mix
from trackshade.propagation.gpu.surface import Points, Scene, sum_samples


def compose(
    scene: Scene, points: Points, pulled: Tensor, soft: Tensor | None, low: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the colors, alpha and shown of pixels; see `composing.compose`."""
    count = points.mesh.shape[1]
    is_mesh = points.mesh >= 0
    is_drawn = ~(is_mesh & scene.holdout[points.mesh.clamp(min=0)])
    pixel = torch.nonzero(points.uniform & is_drawn[:, 0])[:, 0]
    whole, is_whole = _shade(scene, points, pulled, soft, low, pixel, torch.zeros_like(pixel))
    pixel, whole = pixel[is_whole], whole[is_whole]
    is_left = is_drawn.clone()
    is_left[pixel] = False
    left = torch.nonzero(is_left, as_tuple=True)
    color = torch.zeros((*points.mesh.shape, 3), dtype=torch.float64, device=points.mesh.device)
    color[left], _ = _shade(scene, points, pulled, soft, low, *left)
    mean = sum_samples(color) / count
    mean[pixel] = whole * count / count
    mean = mean.clamp(min=0.0)
    coded = torch.where(mean <= 0.0031308, mean * 12.92, 1.055 * mean ** (1.0 / 2.4) - 0.055)
    sums = pulled[..., 3] if soft is None else pulled[..., 3] + soft[..., 3]
    sums = torch.where(points.uniform[:, None], sums[:, :1], sums)
    is_hidden = is_drawn & (sums <= 0.0)
    alpha, hidden = ((mask.sum(dim=1).double() / count) for mask in (is_mesh & is_drawn, is_hidden))
    return coded.float(), alpha.float(), (1.0 - hidden).float()


def _shade(
    scene: Scene, points: Points, pulled: Tensor, soft: Tensor | None, low: Tensor | None, pixel: Tensor, s: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the linear colors [N, 3] of samples, and which of them are that of their whole pixel."""
    is_uniform, mesh, light = points.uniform[pixel], points.mesh[pixel, s], scene.light
    x, y, at = points.x[pixel, s], points.y[pixel, s], (pixel, torch.where(is_uniform, 0, s))
    color, weight, share = (pulled[at].double()[:, part] for part in (slice(0, 3), 3, 4))
    is_known = weight > 0.0
    color = torch.where(is_known[:, None], color / weight[:, None], 0.0)
    share = torch.where(is_known, share, 0.0)
    shine, place = torch.ones_like(color), Places(x, y, mesh, torch.zeros_like(x))
    if light is not None:
        sx, sy = light.width / scene.frame.lens[4], light.height / scene.frame.lens[5]
        level = points.level[pixel]
        place = Places(
            torch.where(is_uniform, torch.floor(x) + 0.5, x) * sx,
            torch.where(is_uniform, torch.floor(y) + 0.5, y) * sy,
            mesh,
            torch.where(is_uniform, sum_samples(level) / level.shape[1], points.level[pixel, s]),
        )
        n = torch.nonzero(mesh >= 0)[:, 0]
        shine[n] = light_at(light, place.select(n))
    is_doubtful = (share < TRUSTED) if light is not None else torch.zeros_like(is_known)
    share = (share / TRUSTED).clamp(max=1.0)
    n = torch.nonzero((share < 1.0) | ((mesh >= 0) & (scene.fills.start[mesh.clamp(min=0)] >= 0)))[:, 0]
    fill, better, then = _fill(scene, points, pixel[n], s[n])
    is_compared = is_known[n] & is_doubtful[n] & (then >= 0.0)
    is_kept = is_known[n] & ~is_compared & ((better < 0.0) | (is_doubtful[n] & (mesh[n] >= 0)))
    own = torch.where(is_kept, 1.0, share[n])
    if light is not None:
        k = torch.nonzero(is_compared)[:, 0]
        change = light_change(light, place.select(n[k]), then[k], shine[n[k]])
        own[k] = 1.0 - ((change - CHANGED[0]) / (CHANGED[1] - CHANGED[0])).clamp(0.0, 1.0)
    own = own * (1.0 - better.clamp(min=0.0))
    if soft is not None:
        coarse = soft[at].double()[n]
        has, part = coarse[:, 3] > 0.0, better.clamp(min=0.0)[:, None]
        own[has & is_doubtful[n] & (better <= 0.0) & (coarse[:, 4] >= TRUSTED)] = 0.0
        fill = torch.where(has[:, None], fill * part + coarse[:, :3] / coarse[:, 3:4] * (1.0 - part), fill)
    color[n] = color[n] * own[:, None] + fill * (1.0 - own)[:, None]
    share[n] = own
    color = color * shine
    if low is not None:
        factor = low[at].double()
        color = color * torch.where(factor[:, 3:4] > 0.0, factor[:, :3] / factor[:, 3:4], 1.0)
    return color, is_uniform & is_known & (share >= 1.0)


def _fill(scene: Scene, points: Points, pixel: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return fills [N, 3], how much better they are, and the light there, [N] each; see `composing.fill_color`."""
    fills, mesh, triangle = scene.fills, points.mesh[pixel, s], points.triangle[pixel, s]
    face, weights = points.faces[triangle], points.weights[pixel, s]
    color = fills.plain[torch.where(mesh < 0, len(fills.plain) - 1, mesh)].double()
    better, then = torch.full_like(weights[:, 0], -1.0), torch.full_like(weights[:, 0], -1.0)
    if len(fills.panorama):
        n = torch.nonzero(mesh < 0)[:, 0]
        color[n] = _panorama(scene, points.x[pixel[n], s[n]], points.y[pixel[n], s[n]])
        better[n] = 0.0
    start, vertex_start = fills.start[mesh.clamp(min=0)], fills.vertex_start[mesh.clamp(min=0)]
    at = torch.where(start >= 0, start + face, 0)
    number = torch.where((mesh >= 0) & (start >= 0), fills.canvas[at].long(), -1)
    n = torch.nonzero((mesh >= 0) & (number < 0) & (vertex_start >= 0))[:, 0]
    corners = vertex_start[n, None] + scene.triangles[scene.starts[mesh[n]] + face[n]].long()
    color[n] = _weigh(weights[n, :, None], fills.vertices[corners])
    n = torch.nonzero(number >= 0)[:, 0]
    spread = _spread(scene, points, pixel[n], s[n], number[n])
    color[n], better[n], then[n] = _read(fills, number[n], *_texel(fills, at[n], weights[n]), spread)
    return color, better, then


def _texel(fills: Any, at: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places of surface points on their coarsest canvases, texels."""
    return _weigh(weights, fills.uv[at, :, 0]), _weigh(weights, fills.uv[at, :, 1])


def _spread(scene: Scene, points: Points, pixel: Tensor, s: Tensor, number: Tensor) -> Tensor:
    """Return the sides of pixels in texels of samples' coarsest canvases [N]; see `composing.fill_color`."""
    count, fills = scene.samples, scene.fills
    spread = torch.zeros(len(pixel), dtype=torch.float64, device=pixel.device)
    n = torch.nonzero(fills.insets[number, 0] >= 0)[:, 0]
    if count < 2 or not len(n):
        return spread
    pixel, s, number = pixel[n], s[n], number[n]

    def place(s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mesh = points.mesh[pixel, s]
        start = fills.start[mesh.clamp(min=0)]
        has = (mesh >= 0) & (start >= 0)
        at = torch.where(has, start + points.faces[points.triangle[pixel, s]], 0)
        return has & (fills.canvas[at] == number), *_texel(fills, at, points.weights[pixel, s])

    row, column = s // count, s % count
    _, u, v = place(s)
    is_beside, x, y = place(row * count + torch.where(column + 1 < count, column + 1, column - 1))
    is_below, z, w = place(torch.where(row + 1 < count, row + 1, row - 1) * count + column)
    area = torch.abs((x - u) * (w - v) - (y - v) * (z - u))
    spread[n] = count * torch.sqrt(torch.where(is_beside & is_below, area, 0.0))
    return spread


def _read(fills: Any, number: Tensor, u: Tensor, v: Tensor, spread: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what canvases or their insets have at places: colors [N, 3], how much better they are, and the light."""
    first, height, width = fills.table[number].unbind(1)
    x, y = (torch.minimum((k - 0.5).clamp(min=0.0), side.double() - 1.001) for k, side in ((u, width), (v, height)))
    i, j = y.long(), x.long()
    fx, fy, above = x - j, y - i, first + i * width + j
    below = above + width
    corners = [fills.texels[k, :4].double() for k in (above, above + 1, below, below + 1)]
    mixed = mix(corners, fx[:, None], fy[:, None])
    light = fills.texels[torch.where(fy < 0.5, above, below) + (fx >= 0.5), 4].double()
    finer, factor, left, top = fills.insets[number].unbind(1)
    x, y = u * factor + left, v * factor + top
    inset = fills.table[finer.long().clamp(min=0)]
    is_inside = (x >= 0.5) & (x <= inset[:, 2] - 0.5) & (y >= 0.5) & (y <= inset[:, 1] - 0.5)
    n = torch.nonzero((finer >= 0) & (spread < BLENDED[1]) & is_inside)[:, 0]
    if len(n):
        part = ((BLENDED[1] - spread[n]) / (BLENDED[1] - BLENDED[0])).clamp(max=1.0)
        deeper = torch.where(part < 1.0, math.inf, spread[n] * factor[n])  # a mixture of two canvases, not of three
        color, better, then = _read(fills, finer[n].long(), x[n], y[n], deeper)
        fine = torch.cat([color, better[:, None]], dim=1)
        mixed[n] = torch.where(part[:, None] < 1.0, fine * part[:, None] + mixed[n] * (1.0 - part[:, None]), fine)
        light[n] = torch.where(part >= 0.5, then, light[n])
    return mixed[:, :3], mixed[:, 3], light


def _panorama(scene: Scene, x: Tensor, y: Tensor) -> Tensor:
    """Return the background's colors [N, 3] at places of the frame."""
    panorama = scene.fills.panorama
    height, width = panorama.shape[:2]
    dx, dy, dz = (row[0] * x + row[1] * y + row[2] for row in scene.rays)
    length = torch.sqrt(dx * dx + dy * dy + dz * dz)
    v = torch.acos((dz / length).clamp(-1.0, 1.0)) / math.pi * height - 0.5
    u = (torch.atan2(dy, dx) / (2.0 * math.pi) + 0.5) * width - 0.5
    v = v.clamp(0.0, height - 1.001)
    i, j = v.long(), torch.floor(u).long()
    left, right = j % width, (j + 1) % width
    corners = [panorama[p, q].double() for p, q in ((i, left), (i, right), (i + 1, left), (i + 1, right))]
    return mix(corners, (u - j)[:, None], (v - i)[:, None])


def _weigh(weights: Tensor, values: Tensor) -> Tensor:
    """Return the sums over the second axis, of three elements, of weights times values."""
    return weights[:, 0] * values[:, 0] + weights[:, 1] * values[:, 1] + weights[:, 2] * values[:, 2]
