# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""Encoders of motion tokens: what a body and its hands do in a frame, in a few tokens.

After 3DiMo (2026) and in the manner of one-dimensional image tokenizers (Yu et al. 2024, TiTok, arXiv 2406.07550): K
tokens are appended to what is read from a frame, a transformer runs, and only those K are kept. There patches are read;
here a convolutional network reads the landmarks of the figure, and the tokens start from a linear map of all that it
has found, which makes the encoder trainable on a CPU. Learned constants as tokens before patches did not leave the
constant prediction in minutes, and patches without heat maps left the joints 3 px off after an hour.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ..motion.framing import NUM_LANDMARKS
from ..motion.skeleton import NUM_JOINTS
from .checkpoint import StrictLoading
from .landmark_network import FEATURES, LandmarkNetwork, Layout

NUM_HANDS = 2


class EncoderBlock(nn.Module):
    """A transformer block: self-attention and a feed-forward network, each after a normalization.

    Args:
        dim: width of the tokens.
        heads: attention heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.to_qkv, self.to_out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.expand, self.contract = nn.Linear(dim, 3 * dim), nn.Linear(3 * dim, dim)

    def forward(
        self,
        tokens: torch.Tensor,  # [N, L, dim]
    ) -> torch.Tensor:
        """Return the tokens after attention and feed-forward network, [N, L, dim]."""
        parts = self.to_qkv(self.norm_attention(tokens)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        # Plain products: in bfloat16 on a CPU twice as fast as the fused kernel.
        weights = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        attended = (weights.softmax(-1) @ value).transpose(1, 2).flatten(2)
        tokens = tokens + self.to_out(attended)
        return tokens + self.contract(F.relu(self.expand(self.norm_feed_forward(tokens))).square())


class BodyEncoder(nn.Module):
    """Turns a frame into K tokens about the body, and reads the layout of the figure in the image.

    Args:
        size: width and height of a frame in pixels, multiples of 8.
        dim: width of the tokens.
        num_tokens: number K of tokens.
        layers: transformer blocks.
        heads: attention heads.
        channels: channels of the network that finds the landmarks.
    """

    def __init__(
        self, size: tuple[int, int], dim: int, num_tokens: int, layers: int, heads: int, channels: int
    ) -> None:
        super().__init__()
        self.num_tokens = num_tokens
        self.finder = LandmarkNetwork(size, channels)
        self.start = nn.Linear(self.finder.summary_size, num_tokens * dim)
        self.tokens = nn.Parameter(torch.randn(num_tokens, dim) * 0.5)
        self.embed = nn.Linear(4 + FEATURES, dim)
        self.landmarks = nn.Parameter(torch.randn(NUM_LANDMARKS, dim) * 0.2)
        self.blocks = nn.ModuleList(EncoderBlock(dim, heads) for _ in range(layers))

    def forward(
        self,
        frames: torch.Tensor,  # [N, 3, H, W] in 0..1
    ) -> tuple[torch.Tensor, Layout]:
        """Return tokens [N, K, dim] and the layout of the figure."""
        layout, landmarks, summary = self.finder(frames)
        tokens = self.tokens + self.start(summary).unflatten(1, self.tokens.shape)
        joint = torch.cat([self.embed(landmarks) + self.landmarks, tokens], dim=1)
        for block in self.blocks:
            joint = block(joint)
        return joint[:, -self.num_tokens :], layout


class HandEncoder(nn.Module):
    """Turns the crop of a hand into one token; right hands are mirrored, so that all are left ones.

    Args:
        size: side of a crop in pixels, a multiple of 8.
        dim: width of the token.
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        cells = (size // 8) ** 2
        self.net = nn.Sequential(
            nn.Conv2d(3, 24, 3, stride=2, padding=1), nn.GELU(),
            nn.Conv2d(24, 48, 3, stride=2, padding=1), nn.GELU(),
            nn.Conv2d(48, 64, 3, stride=2, padding=1), nn.GELU(),
            nn.Flatten(), nn.Linear(64 * cells, dim), nn.GELU(), nn.Linear(dim, dim),
        )  # fmt: skip
        self.sides = nn.Parameter(torch.randn(NUM_HANDS, dim) * 0.5)
        self.unseen = nn.Parameter(torch.randn(NUM_HANDS, dim) * 0.5)

    def forward(
        self,
        hands: torch.Tensor,  # [N, 2, 3, h, h] in 0..1, left and right
        visible: torch.Tensor,  # [N, 2] bool
    ) -> torch.Tensor:
        """Return the tokens, [N, 2, dim]."""
        mirrored = torch.stack([hands[:, 0], hands[:, 1].flip(-1)], dim=1)
        seen = self.net((mirrored.flatten(0, 1) - 0.5) * 3).unflatten(0, (-1, NUM_HANDS)) + self.sides
        return torch.where(visible[..., None], seen, self.unseen.to(seen.dtype))


class MotionEncoder(StrictLoading, ModelMixin, ConfigMixin):
    """Encoders of body and hands, and the geometric head that reads joint rotations from their tokens.

    Args:
        frame_width: width of a frame in pixels.
        frame_height: height of a frame in pixels.
        hand_size: side of a hand's crop in pixels; 0 for an encoder of the body alone.
        dim: width of the tokens.
        body_tokens: tokens about the body.
        layers: transformer blocks of the body's encoder.
        heads: their attention heads.
        channels: channels of the network that finds the landmarks.
    """

    @register_to_config
    def __init__(
        self,
        frame_width: int = 48,
        frame_height: int = 64,
        hand_size: int = 24,
        dim: int = 128,
        body_tokens: int = 5,
        layers: int = 2,
        heads: int = 4,
        channels: int = 64,
    ) -> None:
        super().__init__()
        self.body = BodyEncoder((frame_width, frame_height), dim, body_tokens, layers, heads, channels)
        self.hand = HandEncoder(hand_size, dim) if hand_size else None
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.rotation_head = nn.Sequential(
            nn.Linear(self.num_tokens * dim, 256), nn.GELU(), nn.Linear(256, (NUM_JOINTS - 1) * 6)
        )

    @property
    def num_tokens(self) -> int:
        """Number K of tokens of a frame."""
        return self.config.body_tokens + (NUM_HANDS if self.config.hand_size else 0)

    def forward(
        self,
        frames: torch.Tensor,  # [N, 3, H, W] in 0..1
        hands: torch.Tensor | None = None,  # [N, 2, 3, h, h] in 0..1
        hands_visible: torch.Tensor | None = None,  # [N, 2] bool
    ) -> tuple[torch.Tensor, Layout]:
        """Encode frames.

        Args:
            frames: driving frames.
            hands: crops about the left and the right hand. None: without hands.
            hands_visible: which of them show the hand; all by default.

        Returns:
            Tokens [N, K, dim], and the layout of the figure in the frames.
        """
        tokens, layout = self.body(frames)
        if self.hand is not None:
            if hands is None:
                side = self.config.hand_size
                hands = frames.new_zeros(len(frames), NUM_HANDS, 3, side, side)
                hands_visible = torch.zeros(len(frames), NUM_HANDS, dtype=torch.bool, device=frames.device)
            elif hands_visible is None:
                hands_visible = torch.ones(len(frames), NUM_HANDS, dtype=torch.bool, device=frames.device)
            tokens = torch.cat([tokens, self.hand(hands, hands_visible)], dim=1)
        return self.norm(tokens), layout

    def rotations(
        self,
        tokens: torch.Tensor,  # [N, K, dim]
    ) -> torch.Tensor:
        """Return the first two columns of each joint's local rotation but the root's, [N, J-1, 6], not normalized."""
        identity = tokens.new_tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
        return self.rotation_head(tokens.flatten(1)).unflatten(1, (NUM_JOINTS - 1, 6)) + identity

    def unit(self) -> float:
        """Return the unit of places in the layout, in pixels."""
        return self.config.frame_height / 4


def rotation_columns(
    matrices: torch.Tensor,  # [..., 3, 3]
) -> torch.Tensor:
    """Return the first two columns of rotations, [..., 6] (Zhou et al. 2019, arXiv 1812.07035)."""
    return torch.cat([matrices[..., 0], matrices[..., 1]], dim=-1)


def rotation_matrices(
    columns: torch.Tensor,  # [..., 6]
) -> torch.Tensor:
    """Return the rotations whose first two columns are next to the given ones, [..., 3, 3]."""
    first = F.normalize(columns[..., :3], dim=-1)
    second = columns[..., 3:]
    second = F.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)
