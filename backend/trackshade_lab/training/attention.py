# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportOptionalCall=false, reportOptionalSubscript=false
"""Attention in plain matrix products: the numbers of the fused kernel, about twice as fast in bfloat16 on a CPU."""

from __future__ import annotations

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import apply_rotary_emb


class PlainAttention:
    """Attention processor for CogVideoX's joint attention over text and video tokens.

    It does what CogVideoXAttnProcessor2_0 does, without masks.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,  # [B, N, dim] video tokens
        encoder_hidden_states: torch.Tensor,  # [B, L, dim] text tokens
        attention_mask: None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,  # cosines, sines: [N, head dim]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return video and text tokens after attention, [B, N, dim] and [B, L, dim]."""
        text_length = encoder_hidden_states.shape[1]
        joint = torch.cat([encoder_hidden_states, hidden_states], dim=1)  # [B, L+N, dim]
        query, key, value = (
            linear(joint).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for linear in (attn.to_q, attn.to_k, attn.to_v)
        )
        if attn.norm_q is not None and attn.norm_k is not None:
            query, key = attn.norm_q(query).to(value.dtype), attn.norm_k(key).to(value.dtype)
        if image_rotary_emb is not None:
            query, key = (
                torch.cat([x[:, :, :text_length], apply_rotary_emb(x[:, :, text_length:], image_rotary_emb)], dim=2)
                for x in (query, key)
            )
        out = _attend(query, key, value).transpose(1, 2).flatten(2)
        out = attn.to_out[1](attn.to_out[0](out))
        return out[:, text_length:], out[:, :text_length]


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    with torch.autocast(query.device.type, enabled=False):  # a softmax in float32 would cost more than it gains
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        return scores.softmax(-1) @ value
