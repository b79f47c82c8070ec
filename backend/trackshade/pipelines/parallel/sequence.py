# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportPrivateImportUsage=false, reportAttributeAccessIssue=false, reportArgumentType=false
"""Splits the tokens of a transformer between the ranks of a process group.

Each rank has a part of the tokens of the video (and of the text, where both attend to each other). For attention the
tokens are exchanged for attention heads: each rank attends with some heads over all tokens.

Source: Jacobs et al. 2023, DeepSpeed Ulysses (arXiv 2309.14509), as implemented in diffusers, with numbers of tokens
and of heads that need not be divisible by the number of ranks.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from diffusers import ContextParallelConfig
from diffusers.hooks import apply_context_parallel
from diffusers.models._modeling_parallel import ContextParallelInput, ParallelConfig, gather_size_by_comm
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb

_TOKENS = ContextParallelInput(split_dim=1, expected_dims=3)
_WAN_ROPE = ContextParallelInput(split_dim=1, expected_dims=4, split_output=True)
_ROPE = ContextParallelInput(split_dim=0, expected_dims=2)

_COGVIDEOX: dict[str, Any] = {
    "transformer_blocks.0": {"hidden_states": _TOKENS, "encoder_hidden_states": _TOKENS},
    "transformer_blocks.*": {"image_rotary_emb": [_ROPE, _ROPE]},
}
# Where the inputs of a transformer are split, by its class. The output of its `proj_out` is gathered. There is none
# for
# - WanAnimate2Transformer3DModel: its attention to kept keys and values needs all tokens of a frame in their order,
#   and a compiled kernel; diffusers has no plan for it either,
# - the classes of the models that ship, which are small.
_PLANS: dict[str, dict[str, Any]] = {
    "WanTransformer3DModel": {  # as in diffusers
        "": {"timestep": ContextParallelInput(split_dim=1, expected_dims=2)},
        "rope": {0: _WAN_ROPE, 1: _WAN_ROPE},
        "blocks.0": {"hidden_states": _TOKENS},
    },
    "WanVACETransformer3DModel": {
        "rope": {0: _WAN_ROPE, 1: _WAN_ROPE},
        "vace_blocks.0": {"control_hidden_states": _TOKENS},
        "vace_blocks.*": {"hidden_states": _TOKENS},  # each reads the tokens that the first block reads
        "blocks.0": {"hidden_states": _TOKENS},
    },
    "CogVideoXTransformer3DModel": _COGVIDEOX,
    "TrackingTransformer3DModel": {
        **_COGVIDEOX,
        "transformer_blocks_copy.0": {"hidden_states": _TOKENS},  # the text that it reads is split already
        "transformer_blocks_copy.*": {"image_rotary_emb": [_ROPE, _ROPE]},
    },
    # The tokens of the video are split before anything is made of them, those of the sound, which are few, only where
    # they attend to the video. Diffusers' own plan leaves the rotary embedding between the two whole.
    "LTX2VideoTransformer3DModel": {
        "": {
            "hidden_states": _TOKENS,
            "timestep": ContextParallelInput(split_dim=1, expected_dims=2),
            "video_coords": ContextParallelInput(split_dim=2, expected_dims=4),
        },
    },
}
# Attention for which tokens are exchanged, where it is not all that can be: the rest has queries of the video, and
# keys of something that all ranks have.
_EXCHANGED: dict[str, tuple[str, ...]] = {"LTX2VideoTransformer3DModel": ("attn1", "video_to_audio_attn")}
_LTX_ROPE = {  # of the sound, by its type
    "interleaved": ContextParallelInput(split_dim=1, expected_dims=3),
    "split": ContextParallelInput(split_dim=2, expected_dims=4),
}


def can_split(transformer: Any) -> bool:
    """Return whether the tokens of a transformer can be split between ranks."""
    return type(transformer).__name__ in _PLANS


def split_sequence(transformer: Any, device: torch.device) -> None:
    """Split the tokens of a transformer between the ranks of the process group, of which this process is one.

    It does what `transformer.enable_parallelism` does, which fails on machines without an accelerator.

    Args:
        transformer: A transformer of which `can_split` is true; all ranks have the same one.
        device: This rank's device.
    """
    size = dist.get_world_size()
    mesh = dist.device_mesh.init_device_mesh(device.type, (1, size), mesh_dim_names=("ring", "ulysses"))
    context = ContextParallelConfig(ulysses_degree=size, ulysses_anything=True, mesh=mesh)
    config = ParallelConfig(context_parallel_config=context)
    config.setup(dist.get_rank(), size, device, mesh=mesh)
    name = type(transformer).__name__
    plan, exchanged = _PLANS[name], _EXCHANGED.get(name)
    gathered = [transformer.proj_out]
    if name == "LTX2VideoTransformer3DModel":
        rope = _LTX_ROPE[transformer.config.rope_type]
        of_sound = {"hidden_states": _TOKENS, "query_rotary_emb": [rope, rope]}
        plan = {**plan, "transformer_blocks.*.video_to_audio_attn": of_sound}
        gathered += [block.video_to_audio_attn for block in transformer.transformer_blocks]
    elif "transformer_blocks.0" in plan:
        transformer.set_attn_processor(JointAttentionProcessor())
    for path, module in transformer.named_modules():
        processor: Any = getattr(module, "processor", None)
        is_exchanged = exchanged is None or path.rpartition(".")[2] in exchanged
        if is_exchanged and hasattr(processor, "_parallel_config"):
            processor._parallel_config = config
    apply_context_parallel(transformer, context, plan)
    for module in gathered:
        module.register_forward_hook(_gather_output)


def _gather_output(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return gather_tokens(output)


def gather_tokens(
    tokens: torch.Tensor,  # [B, N, dim] this rank's, N may differ between ranks
) -> torch.Tensor:
    """Return the tokens of all ranks, [B, sum of N, dim].

    Diffusers gathers tensors of several sizes, which gloo does not.
    """
    group = dist.group.WORLD
    assert group is not None
    sizes = gather_size_by_comm(tokens.shape[1], group)
    padded = tokens.new_zeros(tokens.shape[0], max(sizes), tokens.shape[2])
    padded[:, : tokens.shape[1]] = tokens
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[:, :size] for part, size in zip(parts, sizes, strict=True)], dim=1)


class JointAttentionProcessor:
    """Attention of CogVideoX, of text and video together, that ranks can share; as `CogVideoXAttnProcessor2_0`."""

    _attention_backend = None
    _parallel_config: ParallelConfig | None = None

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,  # [B, N, dim] this rank's tokens of the video
        encoder_hidden_states: torch.Tensor,  # [B, L, dim] this rank's tokens of the text
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,  # [N, head dim] each
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the attended tokens of the video and of the text, in the shapes of the inputs."""
        assert attention_mask is None
        length = encoder_hidden_states.shape[1]
        tokens = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        query, key, value = (
            layer(tokens).unflatten(2, (attn.heads, -1)) for layer in (attn.to_q, attn.to_k, attn.to_v)
        )
        query = query if attn.norm_q is None else attn.norm_q(query)
        key = key if attn.norm_k is None else attn.norm_k(key)
        if image_rotary_emb is not None:
            for part in (query, key):
                part[:, length:] = apply_rotary_emb(part[:, length:], image_rotary_emb, sequence_dim=1)
        attended = dispatch_attention_fn(
            query, key, value, backend=self._attention_backend, parallel_config=self._parallel_config
        )
        attended = attn.to_out[1](attn.to_out[0](attended.flatten(2, 3).to(query.dtype)))
        text, video = attended.split([length, attended.shape[1] - length], dim=1)
        return video, text
