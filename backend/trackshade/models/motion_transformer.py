# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIncompatibleMethodOverride=false
# pyright: reportOptionalCall=false
"""CogVideoX with cross-attention to motion tokens, after 3DiMo (2026)."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel
from torch import nn

from ..core.errors import ModelError
from .checkpoint import StrictLoading
from .das import unpatchify


class MotionCrossAttention(nn.Module):
    """Cross-attention of the video tokens of a latent frame to the motion tokens of the frames that it holds.

    The output projection is zero at first, so that a model is unchanged until it is trained.

    Args:
        dim: width of the video tokens.
        motion_dim: width of the motion tokens.
        heads: attention heads.
    """

    def __init__(self, dim: int, motion_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.to_q, self.to_k, self.to_v = nn.Linear(dim, dim), nn.Linear(motion_dim, dim), nn.Linear(motion_dim, dim)
        self.to_out = nn.Linear(dim, dim)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(
        self,
        video: torch.Tensor,  # [B, T*N, dim]
        motion: torch.Tensor,  # [B, T, M, motion_dim]
    ) -> torch.Tensor:
        """Return what is added to the video tokens, [B, T*N, dim]."""
        frames = video.unflatten(1, (motion.shape[1], -1)).flatten(0, 1)
        tokens = motion.flatten(0, 1)
        query, key, value = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear, x in ((self.to_q, self.norm(frames)), (self.to_k, tokens), (self.to_v, tokens))
        )
        weights = ((query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)).softmax(-1)
        return self.to_out((weights @ value).transpose(1, 2).flatten(2)).view(video.shape)


class MotionTransformer3DModel(StrictLoading, CogVideoXTransformer3DModel):
    """CogVideoX with a cross-attention layer to motion tokens after each self-attention.

    Only video tokens attend to motion tokens. With `temporal_compression_ratio` r a latent frame holds r frames (the
    first one a single frame), and its video tokens attend to the motion tokens of these frames.

    Args:
        motion_dim: Width of the motion tokens.
        base_config: Arguments of `CogVideoXTransformer3DModel`.
    """

    def __init__(self, motion_dim: int = 128, **base_config: Any) -> None:
        super().__init__(**base_config)
        self.register_to_config(motion_dim=motion_dim)
        heads = self.config.num_attention_heads
        dim = heads * self.config.attention_head_dim
        self.motion_blocks = nn.ModuleList(
            MotionCrossAttention(dim, motion_dim, heads) for _ in range(len(self.transformer_blocks))
        )

    @staticmethod
    def _get_init_keys(input_class: type) -> set[str]:
        """Return the arguments of a constructor and of those it calls; diffusers filters configurations by them."""
        classes = (cls for cls in input_class.__mro__ if issubclass(cls, CogVideoXTransformer3DModel))
        return {key for cls in classes for key in inspect.signature(cls.__init__).parameters}

    @classmethod
    def from_base(cls, base: CogVideoXTransformer3DModel, motion_dim: int = 128, **config: Any):
        """Build the model around a base transformer, with which it shares no tensor and whose predictions it makes.

        `config` are further arguments of the constructor, for subclasses. Raise ModelError if the base has parameters
        that CogVideoX does not have.
        """
        base_config = {key: value for key, value in base.config.items() if not key.startswith("_")}
        model = cls(**base_config, motion_dim=motion_dim, **config).to(base.dtype)
        _, unexpected = model.load_state_dict(base.state_dict(), strict=False)
        if unexpected:
            raise ModelError("wrong-weights", f"The base transformer does not fit: {', '.join(unexpected[:5])}.")
        return model

    def train_motion_only(self) -> None:
        """Freeze the base, so that only the cross-attention to motion tokens is trained."""
        self.requires_grad_(False)
        self.motion_blocks.requires_grad_(True)

    def forward(
        self,
        hidden_states: torch.Tensor,  # [B, T, C, h, w]
        encoder_hidden_states: torch.Tensor,  # [B, L, E]
        timestep: torch.Tensor,  # [B]
        timestep_cond: torch.Tensor | None = None,
        ofs: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,  # [T*h*w/p^2, head dim] each
        motion_tokens: torch.Tensor | None = None,  # [B, F, K, motion_dim]
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
    ) -> tuple[torch.Tensor] | Transformer2DModelOutput:
        """Predict what the base predicts, with the motion of tokens.

        Args:
            hidden_states: Noisy latents and, for an image-to-video base, latents of the reference, joined along C.
            encoder_hidden_states: Text embeddings; the text says the camera.
            timestep: Timesteps of the noise schedule.
            timestep_cond: Further conditioning of the time embedding.
            ofs: Offset of CogVideoX 1.5.
            image_rotary_emb: Cosines and sines of the rotary position embedding.
            motion_tokens: Motion tokens of each frame. None runs the base alone.
            attention_kwargs: Arguments of the attention processors.
            return_dict: Whether to return a `Transformer2DModelOutput` instead of a tuple.

        Returns:
            The prediction, [B, T, out_channels, h, w].
        """
        temb = self.time_embedding(self.time_proj(timestep).to(hidden_states.dtype), timestep_cond)
        if self.ofs_embedding is not None:
            temb = temb + self.ofs_embedding(self.ofs_proj(ofs).to(hidden_states.dtype))
        text_length = encoder_hidden_states.shape[1]
        embedded = self.embedding_dropout(self.patch_embed(encoder_hidden_states, hidden_states))
        text, video = embedded[:, :text_length], embedded[:, text_length:]
        motion = None
        if motion_tokens is not None:
            latent_frames = hidden_states.shape[1] // (self.config.patch_size_t or 1)
            motion = group_frames(motion_tokens, latent_frames)
        video = self.run_blocks(video, text, temb, motion, image_rotary_emb, attention_kwargs)
        output = unpatchify(self.proj_out(video), hidden_states.shape, self.config.patch_size, self.config.patch_size_t)
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)

    def run_blocks(
        self,
        video: torch.Tensor,  # [B, T*N, dim]
        text: torch.Tensor,  # [B, L, dim]
        temb: torch.Tensor,  # [B, time_embed_dim]
        motion: torch.Tensor | None,  # [B, T, M, motion_dim]
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> torch.Tensor:
        """Run the blocks; return normalized video tokens [B, T*N, dim]."""
        arguments = (temb, motion, image_rotary_emb, attention_kwargs or {})
        layers = [None] * len(self.transformer_blocks) if motion is None else self.motion_blocks
        for block, cross in zip(self.transformer_blocks, layers, strict=True):
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                video, text = self._gradient_checkpointing_func(_run_block, block, cross, video, text, *arguments)
            else:
                video, text = _run_block(block, cross, video, text, *arguments)
        return self.norm_out(self.norm_final(video), temb=temb)


def group_frames(
    motion_tokens: torch.Tensor,  # [B, F, K, dim]
    latent_frames: int,
) -> torch.Tensor:
    """Return the motion tokens of the frames that each latent frame holds, [B, T, r*K, dim].

    Raise ModelError unless the frames are as many as the latent frames, or 1 + r (T - 1), as of a causal autoencoder;
    the first frame is then repeated r times.
    """
    count = motion_tokens.shape[1]
    if count == latent_frames:
        return motion_tokens
    ratio, rest = divmod(count - 1, max(1, latent_frames - 1))
    if latent_frames < 2 or rest or ratio < 1:
        raise ModelError(
            "bad-input", f"Motion tokens of {count} frames do not fit {latent_frames} latent frames.",
            "Encode as many frames as the video has.",
        )  # fmt: skip
    padded = torch.cat([motion_tokens[:, :1].expand(-1, ratio, -1, -1), motion_tokens[:, 1:]], dim=1)
    return padded.unflatten(1, (latent_frames, ratio)).flatten(2, 3)


def _run_block(block, cross, video, text, temb, motion, image_rotary_emb, attention_kwargs):
    """Run a block of CogVideoX with cross-attention between its self-attention and its feed-forward network."""
    normed_video, normed_text, gate, text_gate = block.norm1(video, text, temb)
    video_out, text_out = block.attn1(
        hidden_states=normed_video, encoder_hidden_states=normed_text, image_rotary_emb=image_rotary_emb,
        **attention_kwargs,
    )  # fmt: skip
    video, text = video + gate * video_out, text + text_gate * text_out
    if motion is not None:
        video = video + cross(video, motion)
    normed_video, normed_text, gate, text_gate = block.norm2(video, text, temb)
    joint = block.ff(torch.cat([normed_text, normed_video], dim=1))
    length = text.shape[1]
    return video + gate * joint[:, length:], text + text_gate * joint[:, :length]
