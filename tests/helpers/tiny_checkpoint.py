# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportPrivateImportUsage=false, reportArgumentType=false, reportCallIssue=false
"""A tiny random checkpoint of the published one's classes, in its layout."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDPMScheduler
from transformers import T5Config, T5EncoderModel

from trackshade.models.das import TrackingTransformer3DModel
from trackshade_lab.training.text import build_tokenizer

FRAMES, WIDTH, HEIGHT = 9, 48, 32
TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 8,
    "out_channels": 4,
    "time_embed_dim": 16,
    "text_embed_dim": 16,
    "num_layers": 3,
    "sample_width": WIDTH // 8,
    "sample_height": HEIGHT // 8,
    "sample_frames": FRAMES,
    "temporal_compression_ratio": 4,
    "max_text_seq_length": 8,
    "use_rotary_positional_embeddings": True,
    "num_tracking_blocks": 2,
}


def write_checkpoint(folder: Path, learned_positions: bool = False, invert_scale_latents: bool = True) -> Path:
    """Write the checkpoint into `folder` as the published one is written, class names included."""
    torch.manual_seed(0)
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
        sample_height=HEIGHT,
        sample_width=WIDTH,
        scaling_factor=0.7,
        invert_scale_latents=invert_scale_latents,
    )
    transformer = TrackingTransformer3DModel(**TRANSFORMER, use_learned_positional_embeddings=learned_positions)
    with torch.no_grad():  # a trained branch: otherwise tracks would not matter
        for linear in (transformer.initial_combine_linear, *transformer.combine_linears):
            linear.weight.normal_(std=0.3)
    text_encoder = T5EncoderModel(
        T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu")
    )
    tokenizer = build_tokenizer(["a red box turning on a green floor"] * 2, 8)
    scheduler = CogVideoXDPMScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", snr_shift_scale=1.0
    )
    parts = {
        "vae": vae,
        "transformer": transformer,
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
        "scheduler": scheduler,
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    path = folder / "transformer" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"_class_name": "CogVideoXTransformer3DModelTracking"}))
    index = {
        "_class_name": "CogVideoXImageToVideoPipelineTracking",
        "vae": ["diffusers", "AutoencoderKLCogVideoX"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["cogvideox_transformer_3d", "CogVideoXTransformer3DModelTracking"],
        "scheduler": ["diffusers", "CogVideoXDPMScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
