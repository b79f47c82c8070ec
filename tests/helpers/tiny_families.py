# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportPrivateImportUsage=false, reportArgumentType=false, reportCallIssue=false
"""Tiny random checkpoints of the published video models' classes, in their layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXFunControlPipeline,
    CogVideoXTransformer3DModel,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from trackshade_lab.training.text import build_tokenizer

PROMPT = "a red box turning on a green floor"
TEXT_WIDTH = 16


def write_family(folder: Path, name: str, **options: Any) -> Path:
    """Write a checkpoint of a family, one of `_WRITERS`."""
    torch.manual_seed(0)
    _WRITERS[name](folder, **options)
    return folder


def _tokenizer() -> Any:
    return build_tokenizer([PROMPT] * 2, 8)


def _umt5() -> UMT5EncoderModel:
    config = UMT5Config(vocab_size=64, d_model=TEXT_WIDTH, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return UMT5EncoderModel(config)


def _wan_vae() -> AutoencoderKLWan:
    return AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )


def _wan_scheduler() -> UniPCMultistepScheduler:
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
    )


def _vace_transformer() -> WanVACETransformer3DModel:
    return WanVACETransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=TEXT_WIDTH,
        freq_dim=16,
        ffn_dim=32,
        num_layers=3,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
        vace_layers=[0, 2],
        vace_in_channels=96,
    )


def _write_vace(folder: Path, second: bool = False) -> None:
    transformer = _vace_transformer()
    with torch.no_grad():  # as if trained: otherwise the control would hardly matter
        transformer.vace_patch_embedding.weight.normal_(std=1.0)
        transformer.proj_out.weight.normal_(std=0.5)
        for block in transformer.vace_blocks:
            block.proj_out.weight.normal_(std=1.0)
    WanVACEPipeline(
        tokenizer=_tokenizer(),
        text_encoder=_umt5(),
        vae=_wan_vae(),
        scheduler=_wan_scheduler(),
        transformer=transformer,
        transformer_2=_vace_transformer() if second else None,
        boundary_ratio=0.9 if second else None,
    ).save_pretrained(folder)


def _write_move(folder: Path) -> None:
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=36,
        out_channels=16,
        text_dim=TEXT_WIDTH,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
        image_dim=8,
    )
    with torch.no_grad():
        transformer.patch_embedding.weight.normal_(std=0.5)
        transformer.proj_out.weight.normal_(std=0.5)
    vision = CLIPVisionConfig(
        hidden_size=8, projection_dim=8, num_hidden_layers=2, num_attention_heads=2, image_size=32,
        intermediate_size=16, patch_size=8,
    )  # fmt: skip
    WanImageToVideoPipeline(
        tokenizer=_tokenizer(),
        text_encoder=_umt5(),
        vae=_wan_vae(),
        scheduler=_wan_scheduler(),
        image_processor=CLIPImageProcessor(crop_size=32, size=32),
        image_encoder=CLIPVisionModel(vision),
        transformer=transformer,
    ).save_pretrained(folder)


def _write_fun(folder: Path) -> None:
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=8,
        out_channels=4,
        time_embed_dim=16,
        text_embed_dim=TEXT_WIDTH,
        num_layers=2,
        sample_width=6,
        sample_height=4,
        sample_frames=9,
        temporal_compression_ratio=4,
        max_text_seq_length=8,
        use_rotary_positional_embeddings=True,
    )
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    text = T5Config(
        vocab_size=64, d_model=TEXT_WIDTH, d_kv=8, d_ff=16, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
    )
    CogVideoXFunControlPipeline(
        tokenizer=_tokenizer(),
        text_encoder=T5EncoderModel(text),
        vae=vae,
        transformer=transformer,
        scheduler=CogVideoXDDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing"),
    ).save_pretrained(folder)


_WRITERS = {"wan-vace": _write_vace, "wan-move": _write_move, "cogvideox-fun": _write_fun}
