# SPDX-License-Identifier: GPL-3.0-or-later
"""The first frame moved along the tracks, in pixels: a first estimate of the video, without anything learned.

A point that the first frame shows takes its color from there. A point that was hidden then takes the colors of what
lay about it at its depth, so that ground which an object leaves free is colored as ground. What no track tells about
stays as it was. Where a surface was there then, it is sky, if it reaches to such pixels, and takes their colors; else
it is a surface that was out of the frame, and takes those around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

_LEVEL = 1 / 255  # of an 8-bit tracking video
_REACH = 2  # px: half the side of the window that takes out the steps of 8 bits
_STEEP = 4.0  # px of the first frame from pixel to pixel: what is farther is on another surface
_DEPTH = 2.5 * _LEVEL  # inverse depths of one point differ by less
_CELL, _LAYERS = 3, 24  # px and depth steps of the grid that colors hidden points
_LITTLE = 1e-3  # weight of what is taken only where there is nothing better
_SQUARE = 4  # px: sides of what is searched for the sky's extent


@dataclass(frozen=True)
class Moved:
    colors: torch.Tensor  # [B, T, 3, H, W] in the units of the first frame
    known: torch.Tensor  # [B, T, 1, H, W] 1: the first frame shows it, or there is no track now nor was then; else 0


@torch.no_grad()
def move_first(first: torch.Tensor, coordinates: torch.Tensor) -> Moved:
    """Move the first frame [B, 3, H, W] along its tracks.

    coordinates: [B, T, 4, H, W] (`track_lookup.track_coordinates`): u, v in 0..1 of the first frame, inverse depth
    0..1, covered 0 or 1.
    """
    tracked = coordinates[:, :, 3:]
    places = first_places(coordinates)
    colors, seen = _sampled(first, places, tracked)
    beside, was_beside = _grown(tracked), _grown(tracked[:, :1])
    # What is beside a surface has some of its color, which is to go with the surface.
    still = (1 - tracked) * (1 - tracked[:, :1]) * (1 - was_beside * (1 - beside))
    hidden = tracked * (1 - seen)
    colors = colors * seen + first[:, None] * still + _from_about(first, places, tracked[:, 0]) * hidden
    told = torch.maximum(tracked, still)
    sky = _joined(still, 1 - tracked)
    behind, around = (
        fill((colors * known).flatten(0, 1), known.flatten(0, 1)).unflatten(0, told.shape[:2])
        for known in (still, tracked + _LITTLE * still)
    )
    filled = torch.where(told > 0, colors, torch.where(sky > 0, behind, around))
    return Moved(filled, torch.maximum(seen, still))


def _grown(mask: torch.Tensor) -> torch.Tensor:
    """[B, T, 1, H, W] with the pixels beside it."""
    return F.max_pool2d(mask.flatten(0, 1), 3, 1, 1).unflatten(0, mask.shape[:2])


def _joined(seeds: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """[B, T, 1, H, W] 1 where pixels of a region are joined to a seed within it, in squares of a few pixels."""
    height, width = region.shape[-2:]
    found, within = (F.max_pool2d(x.flatten(0, 1), _SQUARE, ceil_mode=True) for x in (seeds, region))
    for _ in range(sum(within.shape[-2:])):
        found = F.max_pool2d(found, 3, 1, 1) * within
    return F.interpolate(found, scale_factor=_SQUARE)[..., :height, :width].unflatten(0, region.shape[:2])


def first_places(coordinates: torch.Tensor) -> torch.Tensor:
    """[B, T, 4, H, W] in steps of 8 bits -> [B, T, 3, H, W] u, v and inverse depth in the first frame, 0..1, without
    these steps; in the first frame each pixel's point is at the pixel.
    """
    return torch.cat([_at_home(coordinates[:, :1]), _without_steps(coordinates[:, 1:])], dim=1)


def _at_home(coordinates: torch.Tensor) -> torch.Tensor:
    """[B, 1, 4, H, W] of the first frame -> [B, 1, 3, H, W]: there a point is where it is."""
    height, width = coordinates.shape[-2:]
    centers = _centers(height, width, coordinates) / coordinates.new_tensor([width, height]).view(2, 1, 1)
    return torch.cat([centers.expand(len(coordinates), 1, -1, -1, -1), coordinates[:, :, 2:3]], dim=2)


def _centers(height: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """[2, H, W] x and y of the pixels' centers, pixels."""
    rows, columns = (torch.arange(n, device=like.device, dtype=like.dtype) + 0.5 for n in (height, width))
    return torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)])


def _without_steps(coordinates: torch.Tensor) -> torch.Tensor:
    """[B, T, 4, H, W] in steps of 8 bits -> [B, T, 3, H, W]: the value at each pixel of planes through the like pixels
    around it.

    Places vary smoothly over a surface. A point-symmetric pair of neighbors that are both like the pixel leaves the
    mean unbiased on any slope, so the plane's value there is the mean over such pairs.
    """
    values, covered = coordinates[:, :, :3].flatten(0, 1), coordinates[:, :, 3:].flatten(0, 1)
    height, width = values.shape[-2:]
    padded, valid = (F.pad(x, (_REACH,) * 4) for x in (values, covered))

    def at(y: int, x: int, picture: torch.Tensor) -> torch.Tensor:
        return picture[..., _REACH + y : _REACH + y + height, _REACH + x : _REACH + x + width]

    total, weight = values.clone(), torch.ones_like(covered)
    steepest = values.new_tensor([_STEEP / width, _STEEP / height, 6 * _LEVEL]).view(3, 1, 1)
    for y in range(_REACH + 1):
        for x in range(-_REACH, _REACH + 1):
            if y == 0 and x <= 0:
                continue
            one = at(y, x, padded)
            pair = one + at(-y, -x, padded)
            # Steep but even is the same surface: the pair's mean is the pixel's value, within rounding.
            even = (pair - 2 * values).abs().amax(dim=1, keepdim=True) <= 2.01 * _LEVEL
            near = ((one - values).abs() <= steepest * max(abs(x), abs(y)) + 0.01 * _LEVEL).all(dim=1, keepdim=True)
            like = (even & near) * at(y, x, valid) * at(-y, -x, valid)
            total.addcmul_(pair, like)
            weight.add_(like, alpha=2)
    return (total / weight).unflatten(0, coordinates.shape[:2])


def _sampled(first: torch.Tensor, places: torch.Tensor, tracked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[B, T, 3, H, W] colors of the first frame at `places` [B, T, 3, H, W], and [B, T, 1, H, W] 0 or 1 whether the
    point was seen there: of the four pixels around, those that show its depth count, and there must be half of them.

    Within a surface the colors are bicubic, which keeps it sharp; beside its edge they are those four's.
    """
    frames, height, width = places.shape[1], *places.shape[-2:]
    size = places.new_tensor([width, height]).view(2, 1, 1)
    depth, cover = places[:, 0, 2:], tracked[:, 0]
    slope = _slope(depth, cover)
    source = torch.cat([first, depth, cover, slope], dim=1).flatten(2)  # [B, 6, H*W]
    position = places[:, :, :2] * size - 0.5
    inside = ((position >= -0.5) & (position <= size - 0.5)).all(dim=2, keepdim=True) * tracked
    position = position * inside
    low = position.floor()
    rest, low = position - low, low.long()
    here, wanted = (x.transpose(1, 2).flatten(2) for x in (places[:, :, 2:], inside))  # [B, 1, T*H*W]
    total, weight = torch.zeros_like(here).expand(-1, 3, -1).clone(), torch.zeros_like(here)
    for y in (0, 1):
        for x in (0, 1):
            row, column = (low[:, :, 1] + y).clamp(0, height - 1), (low[:, :, 0] + x).clamp(0, width - 1)
            index = (row * width + column).flatten(1)[:, None]
            found = source.gather(2, index.expand(-1, source.shape[1], -1))
            same = (found[:, 3:4] - here).abs() <= _DEPTH + 1.5 * found[:, 5:6]
            part = ((1 - x - rest[:, :, 0]).abs() * (1 - y - rest[:, :, 1]).abs()).flatten(1)[:, None]
            part = part * same * found[:, 4:5] * wanted
            total.addcmul_(found[:, :3], part)
            weight.add_(part)

    def frame_by_frame(flat: torch.Tensor) -> torch.Tensor:
        return flat.unflatten(2, (frames, height, width)).transpose(1, 2)

    colors, seen = frame_by_frame(total / weight.clamp_min(1e-6)), frame_by_frame((weight >= 0.5).to(first.dtype))
    grid = (places[:, :, :2] * 2 - 1).permute(0, 1, 3, 4, 2).flatten(1, 2)  # [B, T*H, W, 2]
    within = _within(depth, cover, slope)
    sharp, deep = (
        F.grid_sample(x, grid, mode=mode, padding_mode="border", align_corners=False)
        .unflatten(2, (frames, height))
        .transpose(1, 2)
        for x, mode in ((first, "bicubic"), (within, "nearest"))
    )
    return torch.where(deep * seen > 0, sharp, colors), seen


def _slope(depth: torch.Tensor, cover: torch.Tensor) -> torch.Tensor:
    """[B, 1, H, W] change of the depth from pixel to pixel: of each axis the smaller of the two sides, which a
    silhouette does not spoil.
    """
    known = torch.where(cover > 0, depth, torch.inf)
    total = torch.zeros_like(depth)
    for axis, before, after in ((-1, (1, 0), (0, 1)), (-2, (0, 0, 1, 0), (0, 0, 0, 1))):
        step = known.diff(dim=axis).abs().nan_to_num(nan=torch.inf)
        least = torch.minimum(F.pad(step, before, value=torch.inf), F.pad(step, after, value=torch.inf))
        total = total + torch.where(least.isfinite(), least, 0.0)
    return total


def _within(depth: torch.Tensor, cover: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """[B, 1, H, W] 1 where the pixels around show one surface."""
    spread = F.max_pool2d(depth, 3, 1, 1) + F.max_pool2d(-depth, 3, 1, 1)
    single = (spread <= 3 * (_LEVEL + slope)).to(depth.dtype) * cover
    return -F.max_pool2d(-single, 3, 1, 1)


def _from_about(first: torch.Tensor, places: torch.Tensor, cover: torch.Tensor) -> torch.Tensor:
    """[B, T, 3, H, W]: for each place the mean color of what the first frame shows near there at that depth.

    The first frame in a grid of columns, rows and depths (a bilateral grid, Chen, Paris and Durand 2007), whose empty
    cells are filled from those around.
    """
    batch, frames, _, height, width = places.shape
    rows, columns = -(-height // _CELL), -(-width // _CELL)
    layer = (places[:, 0, 2].flatten(1) * _LAYERS).long().clamp(0, _LAYERS - 1)
    row, column = (torch.arange(n, device=first.device) // _CELL for n in (height, width))
    index = (layer * rows + row[:, None].expand(height, width).flatten()) * columns + column.repeat(height)
    grid = first.new_zeros(batch, 4, _LAYERS * rows * columns)
    grid.scatter_add_(2, index[:, None].expand(-1, 4, -1), torch.cat([first * cover, cover], dim=1).flatten(2))
    grid = (grid / grid[:, 3:].clamp_min(1.0)).unflatten(2, (_LAYERS, rows, columns))
    filled = fill(grid[:, :3], grid[:, 3:])
    share = places.new_tensor([width / (_CELL * columns), height / (_CELL * rows), 1.0]).view(3, 1, 1)
    grid_places = (places * share * 2 - 1).permute(0, 1, 3, 4, 2).flatten(1, 2)[:, None]  # [B, 1, T*H, W, 3]
    found = F.grid_sample(filled, grid_places, mode="bilinear", padding_mode="border", align_corners=False)
    return found[:, :, 0].unflatten(2, (frames, height)).transpose(1, 2)


def fill(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Pull and push: weighted means over ever larger squares (or cubes) fill in what has no weight.

    values [N, C, (D,) H, W], already multiplied by weights [N, 1, (D,) H, W] in 0..1; returns the values' shape,
    unchanged where the weight is 1.
    """
    sides = values.shape[2:]
    if max(sides) == 1:
        return values / weights.clamp_min(1e-4)
    odd = [n for side in reversed(sides) for n in (0, side % 2)]
    pool, mode = (F.avg_pool2d, "bilinear") if len(sides) == 2 else (F.avg_pool3d, "trilinear")
    coarse = pool(F.pad(torch.cat([values, weights], dim=1), odd), 2) * 2 ** len(sides)
    # A square's pixels count as much as one, or a single stray one would outvote the squares around it.
    coarse = coarse / coarse[:, -1:].clamp_min(1.0)
    around = F.interpolate(fill(coarse[:, :-1], coarse[:, -1:]), scale_factor=2.0, mode=mode, align_corners=False)
    return values + (1 - weights) * around[(..., *(slice(side) for side in sides))]
