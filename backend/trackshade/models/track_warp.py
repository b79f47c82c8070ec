# SPDX-License-Identifier: GPL-3.0-or-later
"""The first frame warped along the tracks, in pixels: a first estimate of the video, without anything learned.

A point that the first frame shows takes its color from there. A point that was hidden takes the colors of what lay
around it at its depth, so that ground which an object uncovers is colored as ground. A pixel without a track, now and
in the first frame, keeps its color. Where a surface moved away from a pixel that has no track now, the pixel is sky if
it is connected to such unchanged pixels, and takes their colors; otherwise it is a surface that was outside the frame,
and takes the colors of the surfaces around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

_LEVEL = 1 / 255  # one step of an 8-bit tracking video
_RADIUS = 2  # px, of the window that smooths the quantization steps
_MAX_SLOPE = 4.0  # px of the first frame from pixel to pixel; beyond it the pixels show different surfaces
_DEPTH_TOLERANCE = 2.5 * _LEVEL  # inverse depths of one point differ by less
_CELL, _LAYERS = 3, 24  # px and depth steps of the grid that colors hidden points
_FALLBACK_WEIGHT = 1e-3  # of colors that are used only where there is nothing better
_SQUARE = 4  # px, side of the squares in which the sky's extent is searched


@dataclass(frozen=True)
class WarpedFrames:
    """The first frame warped along the tracks."""

    colors: torch.Tensor  # [B, T, 3, H, W] in the units of the first frame
    # [B, T, 1, H, W] 1 where the first frame shows the pixel's surface, or where there is no track now and was none
    # then; 0 elsewhere
    visibility: torch.Tensor


def track_coordinates(
    tracking_video: torch.Tensor,  # [B, T, 3, H, W] in 0..1
) -> torch.Tensor:
    """Return the coordinates that a tracking video of exact colors stores.

    Returns:
        [B, T, 4, H, W]: u and v in 0..1 (position in the first frame, x right, y down), inverse depth in 0..1, and 1
        where a track covers the pixel, else 0.
    """
    covered = (tracking_video.amax(dim=2, keepdim=True) > 0).to(tracking_video.dtype)
    return torch.cat([tracking_video, covered], dim=2)


@torch.no_grad()
def warp_first_frame(
    first_frame: torch.Tensor,  # [B, 3, H, W]
    coordinates: torch.Tensor,  # [B, T, 4, H, W]
) -> WarpedFrames:
    """Warp the first frame along its tracks (`track_coordinates`)."""
    tracked = coordinates[:, :, 3:]
    places = dequantize_coordinates(coordinates)
    colors, visible = _sample(first_frame, places, tracked)
    beside, was_beside = _dilate(tracked), _dilate(tracked[:, :1])
    # A pixel beside a surface has some of the surface's color, which leaves with the surface.
    still = (1 - tracked) * (1 - tracked[:, :1]) * (1 - was_beside * (1 - beside))
    hidden = tracked * (1 - visible)
    nearby_colors = _sample_grid(first_frame, places, tracked[:, 0])
    colors = colors * visible + first_frame[:, None] * still + nearby_colors * hidden
    sky = _connected(still, 1 - tracked)
    sky_colors, surface_colors = (
        pull_push((colors * weights).flatten(0, 1), weights.flatten(0, 1)).unflatten(0, tracked.shape[:2])
        for weights in (still, tracked + _FALLBACK_WEIGHT * still)
    )
    filled = torch.where(torch.maximum(tracked, still) > 0, colors, torch.where(sky > 0, sky_colors, surface_colors))
    return WarpedFrames(colors=filled, visibility=torch.maximum(visible, still))


def _dilate(mask: torch.Tensor) -> torch.Tensor:
    """Return [B, T, 1, H, W] with the neighboring pixels."""
    return F.max_pool2d(mask.flatten(0, 1), 3, 1, 1).unflatten(0, mask.shape[:2])


def _connected(seeds: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """Return 1 where a region is connected to a seed within it, in squares of a few pixels, [B, T, 1, H, W]."""
    height, width = region.shape[-2:]
    found, within = (F.max_pool2d(x.flatten(0, 1), _SQUARE, ceil_mode=True) for x in (seeds, region))
    for _ in range(sum(within.shape[-2:])):
        found = F.max_pool2d(found, 3, 1, 1) * within
    return F.interpolate(found, scale_factor=_SQUARE)[..., :height, :width].unflatten(0, region.shape[:2])


def dequantize_coordinates(
    coordinates: torch.Tensor,  # [B, T, 4, H, W], of an 8-bit tracking video
) -> torch.Tensor:
    """Return the coordinates without their quantization steps.

    Returns:
        [B, T, 3, H, W]: u, v and inverse depth, 0..1. In the first frame each pixel's point is at the pixel.
    """
    return torch.cat([_pixel_coordinates(coordinates[:, :1]), _smooth_planes(coordinates[:, 1:])], dim=1)


def _pixel_coordinates(coordinates: torch.Tensor) -> torch.Tensor:
    """Return the pixels' own centers, and the inverse depth, [B, 1, 3, H, W], of the first frame, [B, 1, 4, H, W]."""
    height, width = coordinates.shape[-2:]
    centers = _centers(height, width, coordinates) / coordinates.new_tensor([width, height]).view(2, 1, 1)
    return torch.cat([centers.expand(len(coordinates), 1, -1, -1, -1), coordinates[:, :, 2:3]], dim=2)


def _centers(height: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """Return x and y [2, H, W] of the pixels' centers, in pixels, with the device and precision of `like`."""
    rows, columns = (torch.arange(n, device=like.device, dtype=like.dtype) + 0.5 for n in (height, width))
    return torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)])


def _smooth_planes(coordinates: torch.Tensor) -> torch.Tensor:
    """Return at each pixel the value of a plane through the similar pixels around it, [B, T, 3, H, W].

    Coordinates vary smoothly over a surface. A point-symmetric pair of neighbors that are both similar to the pixel
    leaves the mean unbiased on any slope, so the plane's value at the pixel is the mean over such pairs.
    """
    values, covered = coordinates[:, :, :3].flatten(0, 1), coordinates[:, :, 3:].flatten(0, 1)
    height, width = values.shape[-2:]
    padded, valid = (F.pad(x, (_RADIUS,) * 4) for x in (values, covered))

    def shifted(image: torch.Tensor, y: int, x: int) -> torch.Tensor:
        return image[..., _RADIUS + y : _RADIUS + y + height, _RADIUS + x : _RADIUS + x + width]

    total, weight = values.clone(), torch.ones_like(covered)
    steepest = values.new_tensor([_MAX_SLOPE / width, _MAX_SLOPE / height, 6 * _LEVEL]).view(3, 1, 1)
    for y in range(_RADIUS + 1):
        for x in range(-_RADIUS, _RADIUS + 1):
            if y == 0 and x <= 0:
                continue
            neighbor = shifted(padded, y, x)
            pair = neighbor + shifted(padded, -y, -x)
            # Steep but even is the same surface: the pair's mean is the pixel's value, within rounding.
            even = (pair - 2 * values).abs().amax(dim=1, keepdim=True) <= 2.01 * _LEVEL
            near = ((neighbor - values).abs() <= steepest * max(abs(x), abs(y)) + 0.01 * _LEVEL).all(
                dim=1, keepdim=True
            )
            similar = (even & near) * shifted(valid, y, x) * shifted(valid, -y, -x)
            total.addcmul_(pair, similar)
            weight.add_(similar, alpha=2)
    return (total / weight).unflatten(0, coordinates.shape[:2])


def _sample(first: torch.Tensor, places: torch.Tensor, tracked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample the first frame at `places` [B, T, 3, H, W], and find whether the point was visible there.

    Of the four pixels around a place those count that show its depth; the point was visible if they have at least half
    of the weight. Within a surface the colors are interpolated bicubically, which keeps them sharp; beside its edge
    they are the mean of those four pixels.

    Returns:
        [B, T, 3, H, W] colors and [B, T, 1, H, W] visibility, 0 or 1.
    """
    num_frames, height, width = places.shape[1], *places.shape[-2:]
    size = places.new_tensor([width, height]).view(2, 1, 1)
    depth, covered = places[:, 0, 2:], tracked[:, 0]
    slope = _slope(depth, covered)
    source = torch.cat([first, depth, covered, slope], dim=1).flatten(2)  # [B, 6, H*W]
    position = places[:, :, :2] * size - 0.5
    inside = ((position >= -0.5) & (position <= size - 0.5)).all(dim=2, keepdim=True) * tracked
    position = position * inside
    corner = position.floor()
    fraction, corner = position - corner, corner.long()
    point_depth, is_inside = (x.transpose(1, 2).flatten(2) for x in (places[:, :, 2:], inside))  # [B, 1, T*H*W]
    total, weight = torch.zeros_like(point_depth).expand(-1, 3, -1).clone(), torch.zeros_like(point_depth)
    for y in (0, 1):
        for x in (0, 1):
            row, column = (corner[:, :, 1] + y).clamp(0, height - 1), (corner[:, :, 0] + x).clamp(0, width - 1)
            index = (row * width + column).flatten(1)[:, None]
            found = source.gather(2, index.expand(-1, source.shape[1], -1))
            is_same = (found[:, 3:4] - point_depth).abs() <= _DEPTH_TOLERANCE + 1.5 * found[:, 5:6]
            share = ((1 - x - fraction[:, :, 0]).abs() * (1 - y - fraction[:, :, 1]).abs()).flatten(1)[:, None]
            share = share * is_same * found[:, 4:5] * is_inside
            total.addcmul_(found[:, :3], share)
            weight.add_(share)

    def per_frame(flat: torch.Tensor) -> torch.Tensor:
        return flat.unflatten(2, (num_frames, height, width)).transpose(1, 2)

    colors, visible = per_frame(total / weight.clamp_min(1e-6)), per_frame((weight >= 0.5).to(first.dtype))
    grid = (places[:, :, :2] * 2 - 1).permute(0, 1, 3, 4, 2).flatten(1, 2)  # [B, T*H, W, 2]
    interior = _interior(depth, covered, slope)
    sharp, is_interior = (
        F.grid_sample(x, grid, mode=mode, padding_mode="border", align_corners=False)
        .unflatten(2, (num_frames, height))
        .transpose(1, 2)
        for x, mode in ((first, "bicubic"), (interior, "nearest"))
    )
    return torch.where(is_interior * visible > 0, sharp, colors), visible


def _slope(depth: torch.Tensor, covered: torch.Tensor) -> torch.Tensor:
    """Return the change [B, 1, H, W] of the depth from pixel to pixel, summed over the axes.

    On each axis the smaller change of the two sides counts, which a silhouette does not distort.
    """
    known = torch.where(covered > 0, depth, torch.inf)
    total = torch.zeros_like(depth)
    for axis, before, after in ((-1, (1, 0), (0, 1)), (-2, (0, 0, 1, 0), (0, 0, 0, 1))):
        step = known.diff(dim=axis).abs().nan_to_num(nan=torch.inf)
        least = torch.minimum(F.pad(step, before, value=torch.inf), F.pad(step, after, value=torch.inf))
        total = total + torch.where(least.isfinite(), least, 0.0)
    return total


def _interior(depth: torch.Tensor, covered: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Return 1, [B, 1, H, W], where the pixels around show one surface."""
    spread = F.max_pool2d(depth, 3, 1, 1) + F.max_pool2d(-depth, 3, 1, 1)
    single = (spread <= 3 * (_LEVEL + slope)).to(depth.dtype) * covered
    return -F.max_pool2d(-single, 3, 1, 1)


def _sample_grid(first: torch.Tensor, places: torch.Tensor, covered: torch.Tensor) -> torch.Tensor:
    """Return for each place the mean color of what the first frame shows near it at its depth, [B, T, 3, H, W].

    The first frame is put into a grid of columns, rows and depths (a bilateral grid, Chen, Paris and Durand 2007),
    whose empty cells are filled from the cells around them.
    """
    batch, num_frames, _, height, width = places.shape
    rows, columns = -(-height // _CELL), -(-width // _CELL)
    layer = (places[:, 0, 2].flatten(1) * _LAYERS).long().clamp(0, _LAYERS - 1)
    row, column = (torch.arange(n, device=first.device) // _CELL for n in (height, width))
    index = (layer * rows + row[:, None].expand(height, width).flatten()) * columns + column.repeat(height)
    grid = first.new_zeros(batch, 4, _LAYERS * rows * columns)
    grid.scatter_add_(2, index[:, None].expand(-1, 4, -1), torch.cat([first * covered, covered], dim=1).flatten(2))
    grid = (grid / grid[:, 3:].clamp_min(1.0)).unflatten(2, (_LAYERS, rows, columns))
    filled = pull_push(grid[:, :3], grid[:, 3:])
    share = places.new_tensor([width / (_CELL * columns), height / (_CELL * rows), 1.0]).view(3, 1, 1)
    grid_places = (places * share * 2 - 1).permute(0, 1, 3, 4, 2).flatten(1, 2)[:, None]  # [B, 1, T*H, W, 3]
    found = F.grid_sample(filled, grid_places, mode="bilinear", padding_mode="border", align_corners=False)
    return found[:, :, 0].unflatten(2, (num_frames, height)).transpose(1, 2)


def pull_push(
    values: torch.Tensor,  # [N, C, (D,) H, W], already multiplied by the weights
    weights: torch.Tensor,  # [N, 1, (D,) H, W] in 0..1
) -> torch.Tensor:
    """Fill what has no weight with weighted means over ever larger squares or cubes (pull-push).

    Returns:
        An array of the shape of `values`, unchanged where the weight is 1.
    """
    sides = values.shape[2:]
    if max(sides) == 1:
        return values / weights.clamp_min(1e-4)
    odd = [n for side in reversed(sides) for n in (0, side % 2)]
    pool, mode = (F.avg_pool2d, "bilinear") if len(sides) == 2 else (F.avg_pool3d, "trilinear")
    coarse = pool(F.pad(torch.cat([values, weights], dim=1), odd), 2) * 2 ** len(sides)
    # A square's pixels count as much as one, or a single stray one would outvote the squares around it.
    coarse = coarse / coarse[:, -1:].clamp_min(1.0)
    around = F.interpolate(pull_push(coarse[:, :-1], coarse[:, -1:]), scale_factor=2.0, mode=mode, align_corners=False)
    return values + (1 - weights) * around[(..., *(slice(side) for side in sides))]
