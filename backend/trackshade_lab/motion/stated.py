# SPDX-License-Identifier: GPL-3.0-or-later
"""Other ways than an encoder to say the motion, for comparison: none, true joint rotations, exact 2D joints."""

from __future__ import annotations

import torch
from torch import nn

from trackshade.models.motion_encoder import rotation_columns
from trackshade.motion.framing import NUM_LANDMARKS
from trackshade.motion.skeleton import NUM_JOINTS

from .batches import MotionBatch

# No motion; the true local rotations; exact places of the driving figure's joints in the driving view, with training
# across views; the same with training in the driving view alone, as is usual where a skeleton drives.
BASELINES = ("none", "rotations", "joints", "joints_single")
_WIDTHS = {"rotations": (NUM_JOINTS - 1) * 6, "joints": 2 * NUM_LANDMARKS, "joints_single": 2 * NUM_LANDMARKS}


class StatedMotion(nn.Module):
    """Turns the truth about a motion into tokens.

    Args:
        source: one of BASELINES.
        num_tokens: tokens of a frame.
        dim: their width.
    """

    def __init__(self, source: str, num_tokens: int, dim: int) -> None:
        super().__init__()
        self.source, self.num_tokens = source, num_tokens
        if source == "none":
            self.constant = nn.Parameter(torch.randn(num_tokens, dim))
        else:
            self.net = nn.Sequential(
                nn.Linear(_WIDTHS[source], 256), nn.GELU(), nn.Linear(256, 256), nn.GELU(),
                nn.Linear(256, num_tokens * dim),
            )  # fmt: skip
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)

    def forward(self, batch: MotionBatch) -> torch.Tensor:
        """Return the tokens of a batch's frames, [N, K, dim]."""
        if self.source == "none":
            return self.norm(self.constant.expand(len(batch.azimuth), -1, -1))
        if self.source == "rotations":
            stated = rotation_columns(batch.local[:, 1:]).flatten(1)
        else:
            stated = batch.to_units(batch.exact_landmarks).flatten(1)
        return self.norm(self.net(stated).unflatten(1, (self.num_tokens, -1)))
