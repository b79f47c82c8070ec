# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""The view adapter: motion tokens as a camera sees them.

Motion tokens do not know the camera. The adapter reads landmarks in the space of the body from them, projects these
into the camera, and returns tokens that hold the pose as that camera sees it. A large model has to learn this product
of pose and view by itself; a small one does not in the time of a training on a CPU.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ..motion.framing import CENTER_HEIGHT, DISTANCE, NUM_LANDMARKS, focal_length
from .checkpoint import StrictLoading


class ViewedMotion(NamedTuple):
    """The motion of N frames as their cameras see it."""

    tokens: torch.Tensor  # [N, K, dim]
    landmarks: torch.Tensor  # [N, L, 2] pixels
    depths: torch.Tensor  # [N, L] metres, relative to the axis of the body


class ViewAdapter(StrictLoading, ModelMixin, ConfigMixin):
    """Reads landmarks of the body from motion tokens, and says them and the tokens for a camera.

    Args:
        frame_width: width of a frame in pixels.
        frame_height: height of a frame in pixels.
        num_tokens: number K of motion tokens of a frame.
        dim: their width.
        hidden: width of the hidden layers.
    """

    @register_to_config
    def __init__(
        self, frame_width: int = 48, frame_height: int = 64, num_tokens: int = 7, dim: int = 128, hidden: int = 512
    ) -> None:
        super().__init__()
        inputs = num_tokens * dim
        self.lift = nn.Sequential(
            nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, 3 * NUM_LANDMARKS),
        )  # fmt: skip
        # Landmarks of the standing body, [L, 3] metres; `lift` says differences from them.
        self.rest = nn.Parameter(torch.zeros(NUM_LANDMARKS, 3), requires_grad=False)
        self.view = nn.Sequential(
            nn.Linear(inputs + 3 * NUM_LANDMARKS + 6, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, inputs),
        )  # fmt: skip
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)

    def body_landmarks(
        self,
        tokens: torch.Tensor,  # [N, K, dim]
    ) -> torch.Tensor:
        """Return the landmarks in the space of the body, [N, L, 3] metres."""
        lifted = self.lift(tokens.flatten(1)).float().unflatten(1, (NUM_LANDMARKS, 3))
        return self.rest.float() + 0.5 * lifted

    def project(
        self,
        points: torch.Tensor,  # [N, L, 3] metres
        azimuth: torch.Tensor,  # [N] radians
        elevation: torch.Tensor,  # [N] radians
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return places [N, L, 2] in pixels and depths [N, L] in metres of points of the body.

        It is `trackshade.motion.framing.project`, with gradients and for the frame of this model.
        """
        sine, cosine = azimuth.sin()[:, None], azimuth.cos()[:, None]
        rise, level = elevation.sin()[:, None], elevation.cos()[:, None]
        x, y, z = points[..., 0], points[..., 1], points[..., 2] - CENTER_HEIGHT
        right, forward = cosine * x + sine * y, cosine * y - sine * x
        depth = level * forward - rise * z
        plane = torch.stack([right, -(level * z + rise * forward)], dim=-1) / (DISTANCE + depth)[..., None]
        width, height = self.config.frame_width, self.config.frame_height
        return plane * focal_length(height) + plane.new_tensor([width / 2, height / 2]), depth

    def forward(
        self,
        tokens: torch.Tensor,  # [N, K, dim]
        azimuth: torch.Tensor,  # [N] radians, of the camera about the body
        elevation: torch.Tensor,  # [N] radians
    ) -> ViewedMotion:
        """Return the motion as cameras see it."""
        points = self.body_landmarks(tokens)
        places, depths = self.project(points, azimuth.float(), elevation.float())
        camera = torch.stack(
            [azimuth.sin(), azimuth.cos(), (2 * azimuth).sin(), (2 * azimuth).cos(), elevation.sin(), elevation.cos()],
            dim=-1,
        )
        unit = self.config.frame_height / 4
        center = places.new_tensor([self.config.frame_width / 2, self.config.frame_height / 2])
        seen = torch.cat([(places - center) / unit, depths[..., None] * 2], dim=-1).flatten(1)
        joint = torch.cat([tokens.flatten(1), seen.to(tokens.dtype), camera.to(tokens.dtype)], dim=-1)
        return ViewedMotion(self.norm(self.view(joint).unflatten(-1, tokens.shape[1:])), places, depths)
