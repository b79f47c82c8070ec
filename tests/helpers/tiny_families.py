# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportPrivateImportUsage=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false
"""Tiny random checkpoints of the published video models' classes, in their layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXFunControlPipeline,
    CogVideoXTransformer3DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    LTX2InContextPipeline,
    LTX2VideoTransformer3DModel,
    UniPCMultistepScheduler,
    WanAnimate2Transformer3DModel,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from trackshade.pipelines.families.wan_animate import WanAnimate2Pipeline
from trackshade_lab.training.text import build_tokenizer

PROMPT = "a red box turning on a green floor"
TEXT_WIDTH = 16


def write_family(folder: Path, name: str, **options: Any) -> Path:
    """Write a checkpoint of a family, one of `_WRITERS`."""
    torch.manual_seed(0)
    _WRITERS[name](folder, **options)
    return folder


def _as_if_trained(*weights: torch.Tensor, std: float = 0.5) -> None:
    """Make weights large enough for what they read to matter, as in a trained model."""
    with torch.no_grad():
        for weight in weights:
            weight.normal_(std=std)


def _tokenizer() -> Any:
    return build_tokenizer([PROMPT] * 2, 8)


_T5 = {"vocab_size": 64, "d_model": TEXT_WIDTH, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
_WAN = {  # what the transformers of Wan have in common
    "patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 12, "out_channels": 16,
    "text_dim": TEXT_WIDTH, "freq_dim": 16, "ffn_dim": 32, "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads", "rope_max_seq_len": 64,
}  # fmt: skip


def _wan_parts() -> dict[str, Any]:
    """Return the components that all families on Wan have."""
    vae = AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    _as_if_trained(vae.quant_conv.weight, std=5.0)
    return {
        "tokenizer": _tokenizer(),
        "text_encoder": UMT5EncoderModel(UMT5Config(**_T5)),
        "vae": vae,
        "scheduler": UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
        ),
    }


def _vision(width: int, layers: int, size: int, patch: int) -> CLIPVisionModel:
    config = CLIPVisionConfig(
        hidden_size=width, projection_dim=8, num_hidden_layers=layers, num_attention_heads=2, image_size=size,
        intermediate_size=16, patch_size=patch,
    )  # fmt: skip
    return CLIPVisionModel(config)


def _write_vace(folder: Path, second: bool = False) -> None:
    config = {**_WAN, "in_channels": 16, "num_layers": 3, "vace_layers": [0, 2], "vace_in_channels": 96}
    transformer = WanVACETransformer3DModel(**config)
    _as_if_trained(transformer.proj_out.weight)
    _as_if_trained(
        transformer.vace_patch_embedding.weight, *(block.proj_out.weight for block in transformer.vace_blocks), std=1.0
    )
    WanVACEPipeline(
        **_wan_parts(),
        transformer=transformer,
        transformer_2=WanVACETransformer3DModel(**config) if second else None,
        boundary_ratio=0.9 if second else None,
    ).save_pretrained(folder)


def _write_move(folder: Path) -> None:
    transformer = WanTransformer3DModel(**_WAN, in_channels=36, num_layers=2, image_dim=8)
    _as_if_trained(transformer.patch_embedding.weight, transformer.proj_out.weight)
    WanImageToVideoPipeline(
        **_wan_parts(),
        image_processor=CLIPImageProcessor(crop_size=32, size=32),
        image_encoder=_vision(8, 2, 32, 8),
        transformer=transformer,
    ).save_pretrained(folder)


def _write_animate(folder: Path) -> None:
    transformer = WanAnimate2Transformer3DModel(
        text_len=8, dim=24, ffn_dim=32, freq_dim=16, text_dim=TEXT_WIDTH, num_heads=2, num_layers=2
    )
    _as_if_trained(transformer.patch_embedding.weight, transformer.head.head.weight)
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0)
    WanAnimate2Pipeline(
        **{**_wan_parts(), "scheduler": scheduler},  # one that takes a generator, as the pipeline's steps expect
        image_encoder=_vision(1280, 1, 224, 32),  # the transformer reads the width of the published encoder
        transformer=transformer,
    ).save_pretrained(folder)


def _write_fun(folder: Path) -> None:
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=8, out_channels=4, time_embed_dim=16,
        text_embed_dim=TEXT_WIDTH, num_layers=2, sample_width=6, sample_height=4, sample_frames=9,
        temporal_compression_ratio=4, max_text_seq_length=8, use_rotary_positional_embeddings=True,
    )  # fmt: skip
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8,) * 4, latent_channels=4, layers_per_block=1, norm_num_groups=2,
        temporal_compression_ratio=4,
    )  # fmt: skip
    CogVideoXFunControlPipeline(
        tokenizer=_tokenizer(),
        text_encoder=T5EncoderModel(T5Config(**_T5, feed_forward_proj="gated-gelu")),
        vae=vae,
        transformer=transformer,
        scheduler=CogVideoXDDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing"),
    ).save_pretrained(folder)


def _gemma() -> Gemma3ForConditionalGeneration:
    text = {
        "vocab_size": 64, "hidden_size": TEXT_WIDTH, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    vision = {
        "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
        "patch_size": 14,
    }  # fmt: skip
    return Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4))


def _write_ltx(folder: Path, upsampler: bool = False) -> None:
    transformer = LTX2VideoTransformer3DModel(
        in_channels=4, out_channels=4, patch_size=1, patch_size_t=1, num_attention_heads=2, attention_head_dim=8,
        cross_attention_dim=16, audio_in_channels=4, audio_out_channels=4, audio_num_attention_heads=2,
        audio_attention_head_dim=4, audio_cross_attention_dim=8, num_layers=2, qk_norm="rms_norm_across_heads",
        caption_channels=TEXT_WIDTH, rope_double_precision=False, rope_type="split",
    )  # fmt: skip
    connectors = {
        f"{kind}_connector_{key}": value
        for kind in ("video", "audio")
        for key, value in {
            "num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "num_learnable_registers": None,
        }.items()
    }  # fmt: skip
    vae = AutoencoderKLLTX2Video(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(8,) * 3,
        decoder_block_out_channels=(8,) * 3, layers_per_block=(1,) * 4, decoder_layers_per_block=(1,) * 4,
        spatio_temporal_scaling=(True,) * 3, decoder_spatio_temporal_scaling=(True,) * 3,
        decoder_inject_noise=(False,) * 4, downsample_type=("spatiotemporal",) * 3, upsample_residual=(False,) * 3,
        upsample_factor=(1,) * 3, timestep_conditioning=False, patch_size=4, patch_size_t=1, encoder_causal=True,
        decoder_causal=False,
    )  # fmt: skip
    audio_vae = AutoencoderKLLTX2Audio(
        base_channels=4, output_channels=2, ch_mult=(1,), num_res_blocks=1, attn_resolutions=None, in_channels=2,
        resolution=32, latent_channels=2, norm_type="pixel", causality_axis="height", dropout=0.0,
        mid_block_add_attention=False, sample_rate=16000, mel_hop_length=160, is_causal=True, mel_bins=8,
    )  # fmt: skip
    vocoder = LTX2Vocoder(
        in_channels=16, hidden_channels=32, out_channels=2, upsample_kernel_sizes=[4, 4], upsample_factors=[2, 2],
        resnet_kernel_sizes=[3], resnet_dilations=[[1, 3, 5]], leaky_relu_negative_slope=0.1,
        output_sampling_rate=16000,
    )  # fmt: skip
    LTX2InContextPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.1),
        vae=vae,
        audio_vae=audio_vae,
        text_encoder=_gemma(),
        tokenizer=_tokenizer(),
        connectors=LTX2TextConnectors(
            caption_channels=TEXT_WIDTH, text_proj_in_factor=3, connector_rope_base_seq_len=32, rope_theta=10000.0,
            rope_double_precision=False, causal_temporal_positioning=False, rope_type="split", **connectors,
        ),
        transformer=transformer,
        vocoder=vocoder,
    ).save_pretrained(folder)  # fmt: skip
    write_lora(folder / "ic-lora" / "layout.safetensors", transformer)
    if upsampler:
        LTX2LatentUpsamplerModel(in_channels=4, mid_channels=32, num_blocks_per_stage=1).save_pretrained(
            folder / "latent_upsampler"
        )


def write_lora(path: Path, transformer: Any, seed: int = 0) -> Path:
    """Write a random LoRA of the attention of a transformer, in the layout of diffusers."""
    torch.manual_seed(seed)
    transformer.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    state = {f"transformer.{key}": value for key, value in get_peft_model_state_dict(transformer).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    transformer.delete_adapters("default")
    return path


_WRITERS = {
    "wan-vace": _write_vace,
    "wan-move": _write_move,
    "wan-animate": _write_animate,
    "cogvideox-fun": _write_fun,
    "ltx": _write_ltx,
}
