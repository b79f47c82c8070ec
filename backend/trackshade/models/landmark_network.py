# SPDX-License-Identifier: GPL-3.0-or-later
"""A convolutional network that finds the landmarks of a figure in a picture by heat maps.

Places are the means of heat maps (Sun et al. 2018, Integral Human Pose Regression, arXiv 1711.08229), which the maps'
cross-entropy with the truth helps to train. Against a linear map of all patches to coordinates it needs far fewer
frames, because a convolution finds a hand everywhere that has seen it in one place.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..motion.framing import NUM_LANDMARKS

STRIDE = 4  # pixels per side of a cell of a heat map
SUMMARY_CHANNELS = 32  # of each patch of 8x8 pixels
FEATURES = 16  # read from the picture at each landmark
_SHARPNESS = 4.0  # of the heat maps at the beginning of training
_DEVIATION = 0.1  # of the heat map that is the target of training, in units of a quarter of the frame's height


class Layout(NamedTuple):
    """Where the figure is in N frames. Places are in units of a quarter of the frame's height from its center."""

    places: torch.Tensor  # [N, L, 2]
    depths: torch.Tensor  # [N, L] relative to the axis of the body, in units of a quarter of the visible height
    azimuth: torch.Tensor  # [N, 2] sine and cosine of the camera's azimuth about the body
    log_heat: torch.Tensor  # [N, L, cells] logarithms of the heat maps


class FoundFigure(NamedTuple):
    """What the network finds in N frames."""

    layout: Layout
    landmarks: torch.Tensor  # [N, L, 4 + FEATURES]: place, depth, spread of the heat map, and features
    summary: torch.Tensor  # [N, S] of the whole picture, with all that is in `landmarks`


class MatrixConv2d(nn.Module):
    """A convolution with padding whose weight is stored as a matrix, so that Muon can train it.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: side of the kernel in pixels, odd.
        stride: pixels between outputs.
        gain: factor of the initial weights.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, gain: float = 1.0
    ) -> None:
        super().__init__()
        initial = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.weight = nn.Parameter(initial.weight.data.flatten(1) * gain)
        self.bias = nn.Parameter(initial.bias.data if initial.bias is not None else torch.zeros(out_channels))
        self.kernel_size, self.stride = kernel_size, stride

    def forward(
        self,
        hidden: torch.Tensor,  # [N, C, H, W]
    ) -> torch.Tensor:
        """Return the convolved features, [N, out_channels, H / stride, W / stride]."""
        kernel = self.weight.unflatten(1, (-1, self.kernel_size, self.kernel_size))
        return F.conv2d(hidden, kernel, self.bias, self.stride, self.kernel_size // 2)


class ResidualBlock(nn.Module):
    """Adds a convolution of normalized features to them.

    Args:
        channels: number of channels, a multiple of 8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.conv, self.mix = MatrixConv2d(channels, channels), MatrixConv2d(channels, channels, 1, gain=0.3)

    def forward(
        self,
        hidden: torch.Tensor,  # [N, C, H, W]
    ) -> torch.Tensor:
        """Return the features after the block, of the same shape."""
        return hidden + self.mix(F.relu(self.conv(self.norm(hidden))))


class LandmarkNetwork(nn.Module):
    """Finds the landmarks of a figure: down to patches of 8x8 pixels, and up again to heat maps.

    Args:
        size: width and height of a frame in pixels, multiples of 8.
        channels: channels at the heat maps' resolution, a multiple of 8; patches have twice as many.
        blocks: residual blocks on the patches.
    """

    def __init__(self, size: tuple[int, int], channels: int = 64, blocks: int = 3) -> None:
        super().__init__()
        self.size = size
        columns, rows = size[0] // 8, size[1] // 8
        fine = max(8, channels * 3 // 8)
        self.stem = nn.Conv2d(3, fine, 3, stride=2, padding=1)
        self.down_fine = MatrixConv2d(fine, channels, stride=2)
        self.down_coarse = MatrixConv2d(channels, 2 * channels, stride=2)
        self.blocks_fine = ResidualBlock(channels)
        self.blocks_coarse = nn.Sequential(*(ResidualBlock(2 * channels) for _ in range(blocks)))
        self.positions = nn.Parameter(torch.randn(2 * channels, rows, columns) * 0.1)
        self.up, self.blocks_up = MatrixConv2d(2 * channels, channels, 1), ResidualBlock(channels)
        self.norm_fine, self.norm_coarse = nn.GroupNorm(8, channels), nn.GroupNorm(8, 2 * channels)
        self.heads = nn.Conv2d(channels, 2 * NUM_LANDMARKS + FEATURES, 1)  # heat, depth, features
        self.reduce = MatrixConv2d(2 * channels, SUMMARY_CHANNELS, 1)
        self.summary_size = rows * columns * SUMMARY_CHANNELS + NUM_LANDMARKS * (4 + FEATURES)
        self.azimuth = nn.Linear(self.summary_size, 2)

    def forward(
        self,
        frames: torch.Tensor,  # [N, 3, H, W] in 0..1
    ) -> FoundFigure:
        """Find the landmarks in frames."""
        pictures = ((frames - 0.5) * 3).contiguous(memory_format=torch.channels_last)
        fine = self.blocks_fine(self.down_fine(F.relu(self.stem(pictures))))
        coarse = self.blocks_coarse(self.down_coarse(F.relu(fine)) + self.positions)
        upsampled = F.interpolate(self.up(coarse), scale_factor=2, mode="nearest")
        maps = self.heads(F.relu(self.norm_fine(self.blocks_up(fine + upsampled)))).flatten(2)
        heat, depth, features = maps.split([NUM_LANDMARKS, NUM_LANDMARKS, FEATURES], dim=1)
        log_heat = (heat.float() * _SHARPNESS).log_softmax(-1)
        share = log_heat.exp()
        cells = cell_places(self.size, frames.device)
        places = share @ cells
        variance = share @ cells.square().sum(-1) - places.square().sum(-1)
        depths = (share * depth.float()).sum(-1)
        read = share.to(features.dtype) @ features.transpose(1, 2)
        landmarks = [places, depths[..., None], variance.clamp_min(1e-6).sqrt()[..., None], read.float()]
        joined = torch.cat(landmarks, dim=-1)
        patches = F.relu(self.reduce(self.norm_coarse(coarse))).flatten(1)
        summary = torch.cat([patches.float(), joined.flatten(1)], dim=1)
        layout = Layout(places, depths, self.azimuth(summary).float(), log_heat)
        return FoundFigure(layout, joined, summary)


def cell_places(size: tuple[int, int], device: torch.device | str = "cpu") -> torch.Tensor:
    """Return the centers of the cells of heat maps, [cells, 2] in units of a quarter of the height from the center."""
    columns, rows = ((torch.arange(side // STRIDE, device=device) + 0.5) * STRIDE - side / 2 for side in size)
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).flatten(0, 1) / (size[1] / 4)


def mean_distance(
    places: torch.Tensor,  # [..., D]
    target: torch.Tensor,  # [..., D]
    softness: float = 0.05,
) -> torch.Tensor:
    """Return the mean distance of points, which is quadratic for distances that are small against the softness."""
    return ((places - target).square().sum(-1) + softness**2).sqrt().mean()


def layout_loss(
    layout: Layout,
    places: torch.Tensor,  # [N, L, 2]
    azimuth: torch.Tensor,  # [N] radians
    size: tuple[int, int],
    depths: torch.Tensor | None = None,  # [N, L]
) -> torch.Tensor:
    """Return how far a layout is from the truth.

    Args:
        layout: what was found.
        places: true landmarks, in the units of the layout.
        azimuth: true azimuths.
        size: width and height of the frames in pixels.
        depths: true depths, in the units of the layout; not compared if None.
    """
    squared = (cell_places(size, places.device) - places[:, :, None]).square().sum(-1)  # [N, L, cells]
    target = (-squared / (2 * _DEVIATION**2)).softmax(-1)
    loss = 2 * mean_distance(layout.places, places) - 0.3 * (target * layout.log_heat).sum(-1).mean()
    angles = torch.stack([azimuth.sin(), azimuth.cos()], dim=1)
    loss = loss + 0.6 * F.mse_loss(layout.azimuth, angles)
    return loss if depths is None else loss + 2 * F.l1_loss(layout.depths, depths)
