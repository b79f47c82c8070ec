# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIncompatibleMethodOverride=false
# pyright: reportOptionalCall=false
"""The Diffusion as Shader transformer (Gu et al. 2025, arXiv 2501.03847): CogVideoX with a tracking branch."""

from __future__ import annotations

import copy
import inspect
from typing import Any, ClassVar

import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel
from torch import nn

from ..core.errors import ModelError
from .block_cache import BlockCache
from .checkpoint import StrictLoading


class TrackingTransformer3DModel(StrictLoading, CogVideoXTransformer3DModel):
    """CogVideoX with trainable copies of its first blocks that read the latents of the tracking video.

    Parameter names are those of the published checkpoint: `transformer_blocks_copy`, `initial_combine_linear` and
    `combine_linears`.

    Args:
        num_tracking_blocks: Number of blocks that have a copy in the tracking branch.
        base_config: Arguments of `CogVideoXTransformer3DModel`.

    Raises:
        ModelError: if there are more tracking blocks than layers.
    """

    _repeated_blocks: ClassVar = ["CogVideoXBlock"]  # what `compile_repeated_blocks` compiles: those of both streams

    def __init__(self, num_tracking_blocks: int = 18, **base_config: Any) -> None:
        super().__init__(**base_config)
        self.block_cache: BlockCache | None = None  # skips blocks between steps, if there is one
        self.register_to_config(num_tracking_blocks=num_tracking_blocks)
        num_layers = len(self.transformer_blocks)
        if not 0 < num_tracking_blocks <= num_layers:
            raise ModelError(
                "bad-config",
                f"The transformer has {num_layers} blocks, so it cannot have {num_tracking_blocks} tracking blocks.",
            )
        inner_dim = self.config.num_attention_heads * self.config.attention_head_dim
        self.transformer_blocks_copy = nn.ModuleList(
            copy.deepcopy(self.transformer_blocks[index]) for index in range(num_tracking_blocks)
        )
        self.initial_combine_linear = nn.Linear(inner_dim, inner_dim)
        self.combine_linears = nn.ModuleList(nn.Linear(inner_dim, inner_dim) for _ in range(num_tracking_blocks))
        for linear in (self.initial_combine_linear, *self.combine_linears):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    @staticmethod
    def _get_init_keys(input_class: type) -> set[str]:
        """Return the arguments of a constructor and of those it calls; diffusers filters configurations by them."""
        classes = (cls for cls in input_class.__mro__ if issubclass(cls, CogVideoXTransformer3DModel))
        return {key for cls in classes for key in inspect.signature(cls.__init__).parameters}

    @classmethod
    def from_base(cls, base: CogVideoXTransformer3DModel, num_tracking_blocks: int = 18, **config: Any):
        """Build a tracking transformer around a base transformer, with which it shares no tensor.

        The tracking blocks start as copies of the first blocks, the combine linears at zero, so that the new model
        predicts what the base predicts. `config` are further arguments of the constructor, for subclasses. Raise
        ModelError if the base has parameters that CogVideoX does not have.
        """
        base_config = {key: value for key, value in base.config.items() if not key.startswith("_")}
        model = cls(**base_config, num_tracking_blocks=num_tracking_blocks, **config).to(base.dtype)
        _, unexpected = model.load_state_dict(base.state_dict(), strict=False)
        if unexpected:
            raise ModelError("wrong-weights", f"The base transformer does not fit: {', '.join(unexpected[:5])}.")
        for tracking_block, block in zip(model.transformer_blocks_copy, base.transformer_blocks, strict=False):
            tracking_block.load_state_dict(block.state_dict())
        return model

    def forward(
        self,
        hidden_states: torch.Tensor,  # [B, T, C, h, w]
        encoder_hidden_states: torch.Tensor,  # [B, L, E]
        timestep: torch.Tensor,  # [B]
        timestep_cond: torch.Tensor | None = None,
        ofs: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,  # [T*h*w/p^2, head dim] each
        tracking_maps: torch.Tensor | None = None,  # [B, T, C, h, w]
        control_scale: float = 1.0,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
    ) -> tuple[torch.Tensor] | Transformer2DModelOutput:
        """Predict the velocity of the noisy latents (arXiv 2501.03847, section 3.2).

        Args:
            hidden_states: Noisy latents and first-frame latents, joined along C.
            encoder_hidden_states: Text embeddings.
            timestep: Timesteps of the noise schedule.
            timestep_cond: Further conditioning of the time embedding.
            ofs: Offset of CogVideoX 1.5, 2.0.
            image_rotary_emb: Cosines and sines of the rotary position embedding.
            tracking_maps: Latents of the tracking video and of its first frame, joined along C. None runs the base
                transformer alone.
            control_scale: Factor of the tracking branch's contributions: 1 as trained, 0 is the base transformer alone.
            attention_kwargs: Arguments of the attention processors.
            return_dict: Whether to return a `Transformer2DModelOutput` instead of a tuple.

        Returns:
            The velocity, [B, T, out_channels, h, w].
        """
        # 1. Time embedding
        temb = self.embed_timestep(timestep, timestep_cond, ofs, hidden_states.dtype)

        # 2. Patch embedding; the tracking maps go through the same one
        video, text = self.embed_patches(hidden_states, encoder_hidden_states)
        control = None
        if tracking_maps is not None:
            control = self.embed_control(video, tracking_maps, encoder_hidden_states)

        # 3. Transformer blocks of both streams
        video = self.run_blocks(video, text, control, temb, image_rotary_emb, control_scale, attention_kwargs)

        # 4. Projection to latents
        output = self.unpatchify(self.proj_out(video), hidden_states.shape)
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)

    def forget_steps(self) -> None:
        """Forget what caches keep of earlier steps: before another video is made, and where the control changes."""
        if self.block_cache is not None:
            self.block_cache.reset()
        if self.is_cache_enabled:
            self._reset_stateful_cache()

    def embed_timestep(
        self,
        timestep: torch.Tensor,  # [B]
        timestep_cond: torch.Tensor | None,
        ofs: torch.Tensor | None,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """Return the embedding [B, time_embed_dim] of the noise level."""
        temb = self.time_embedding(self.time_proj(timestep).to(dtype), timestep_cond)
        if self.ofs_embedding is not None:
            temb = temb + self.ofs_embedding(self.ofs_proj(ofs).to(dtype))
        return temb

    def embed_patches(
        self,
        latents: torch.Tensor,  # [B, T, C, h, w]
        encoder_hidden_states: torch.Tensor,  # [B, L, E]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return video tokens [B, T*h*w/p^2, dim] and text tokens [B, L, dim]."""
        text_length = encoder_hidden_states.shape[1]
        embedded = self.embedding_dropout(self.patch_embed(encoder_hidden_states, latents))
        return embedded[:, text_length:], embedded[:, :text_length]

    def embed_control(
        self,
        video: torch.Tensor,  # [B, N, dim] video tokens
        tracking_maps: torch.Tensor,  # [B, T, C, h, w]
        encoder_hidden_states: torch.Tensor,  # [B, L, E]
    ) -> torch.Tensor:
        """Return the tokens [B, N, dim] that the first tracking block reads."""
        return self.initial_combine_linear(video + self.embed_patches(tracking_maps, encoder_hidden_states)[0])

    def run_blocks(
        self,
        video: torch.Tensor,  # [B, N, dim]
        text: torch.Tensor,  # [B, L, dim]
        control: torch.Tensor | None,  # [B, N, dim]
        temb: torch.Tensor,  # [B, time_embed_dim]
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None,
        control_scale: float,
        attention_kwargs: dict[str, Any] | None,
    ) -> torch.Tensor:
        """Run the blocks of the main stream and of the tracking branch; return normalized video tokens [B, N, dim].

        With a `block_cache`, all blocks but the first of either stream may be skipped.
        """
        start = after_first = video
        for index, block in enumerate(self.transformer_blocks):
            video, text = self._run_block(block, video, text, temb, image_rotary_emb, attention_kwargs)
            if control is not None and index < len(self.transformer_blocks_copy):
                tracking_block = self.transformer_blocks_copy[index]
                # A tracking block reads the main block's text. The text that it returns is not used.
                control, _ = self._run_block(tracking_block, control, text, temb, image_rotary_emb, attention_kwargs)
                combined: torch.Tensor = self.combine_linears[index](control)
                video = video + (combined if control_scale == 1 else combined * control_scale)
                control = combined  # the next tracking block reads the value after the linear
            if index == 0 and self.block_cache is not None:
                after_first = video
                rest = self.block_cache.find(video - start, control_scale)
                if rest is not None:
                    return self.norm_out(self.norm_final(video + rest), temb=temb)
        if self.block_cache is not None:
            self.block_cache.keep(video - after_first)
        return self.norm_out(self.norm_final(video), temb=temb)

    def unpatchify(
        self,
        tokens: torch.Tensor,  # [B, T*h*w/p^2, C*p^2]
        shape: torch.Size,
    ) -> torch.Tensor:
        """Return latents of projected tokens; see `unpatchify`."""
        return unpatchify(tokens, shape, self.config.patch_size, self.config.patch_size_t)

    def _run_block(
        self, block, video, text, temb, image_rotary_emb, attention_kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(block, video, text, temb, image_rotary_emb, attention_kwargs)
        return block(video, text, temb, image_rotary_emb, attention_kwargs)


def unpatchify(
    tokens: torch.Tensor,  # [B, T*h*w/p^2, C*p^2]
    shape: torch.Size,
    p: int,
    p_t: int | None,
) -> torch.Tensor:
    """Return latents [B, T, C, h, w] from projected tokens of CogVideoX.

    Args:
        tokens: The tokens.
        shape: [B, T, _, h, w], of which B, T, h and w are those of the latents.
        p: Side of a token, latent cells.
        p_t: Latent frames of a token; None for CogVideoX 1.0, where each frame has its own.
    """
    batch, num_frames, _, height, width = shape
    if p_t is None:
        cells = tokens.reshape(batch, num_frames, height // p, width // p, -1, p, p)
        return cells.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
    cells = tokens.reshape(batch, (num_frames + p_t - 1) // p_t, height // p, width // p, -1, p_t, p, p)
    return cells.permute(0, 1, 5, 4, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(1, 2)
