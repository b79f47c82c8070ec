# SPDX-License-Identifier: GPL-3.0-or-later
"""Corrects the motion tokens of a frame by those of its neighbors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .checkpoint import check_strictly


class TemporalMixer(ModelMixin, ConfigMixin):
    """Convolutions over time on the tokens of a driving video; the correction is zero at first.

    What a single frame leaves open (which arm is hidden, how deep a hand is) neighbors often tell.

    Args:
        num_tokens: number K of motion tokens of a frame.
        dim: their width.
        hidden: channels of the hidden layers.
        layers: hidden layers, each of which sees one more neighbor on either side.
    """

    @register_to_config
    def __init__(self, num_tokens: int = 7, dim: int = 128, hidden: int = 256, layers: int = 2) -> None:
        super().__init__()
        self.conv_in = nn.Conv1d(num_tokens * dim, hidden, 3)
        self.hidden_layers = nn.ModuleList(nn.Conv1d(hidden, hidden, 3) for _ in range(layers))
        self.conv_out = nn.Conv1d(hidden, num_tokens * dim, 1)
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """Load from a local folder, strictly.

        Raise ModelError naming the tensors that are missing, unexpected or of another shape.
        """
        kwargs.setdefault("use_safetensors", True)
        check_strictly(cls, pretrained_model_name_or_path, kwargs.get("subfolder"))
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    def forward(
        self,
        tokens: torch.Tensor,  # [B, T, K, dim]
    ) -> torch.Tensor:
        """Return the corrected tokens, [B, T, K, dim]. Those of a single frame are returned as they are."""
        if tokens.shape[1] == 1:
            return tokens
        hidden = self.conv_in(_padded(tokens.flatten(2).transpose(1, 2)))
        for layer in self.hidden_layers:
            hidden = hidden + layer(_padded(F.gelu(hidden)))
        correction = self.conv_out(F.gelu(hidden)).transpose(1, 2).unflatten(2, tokens.shape[2:])
        return self.norm(tokens + correction)


def _padded(
    sequence: torch.Tensor,  # [B, C, T]
) -> torch.Tensor:
    """Repeat the first and the last frame, [B, C, T + 2]."""
    return F.pad(sequence, (1, 1), mode="replicate")
