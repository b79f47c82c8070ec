# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportPrivateImportUsage=false, reportArgumentType=false
"""Tiny networks of the published multiview pair's real classes, with random weights, in float64."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from trackshade.models.view_unet import ViewUNetModel

_UNET = {
    "sample_size": 8,
    "in_channels": 8,
    "out_channels": 4,
    "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
    "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "cross_attention_dim": 16,
    "num_attention_heads": (2, 4),
    "addition_time_embed_dim": 8,
    "num_frames": 4,
}


def video_unet() -> UNetSpatioTemporalConditionModel:
    """Return a network of Stable Video Diffusion's class."""
    torch.manual_seed(0)
    return UNetSpatioTemporalConditionModel(**_UNET, projection_class_embeddings_input_dim=24).double().eval()


def view_unet() -> ViewUNetModel:
    """Return a network of SV3D's class: 8 numbers for the noise, 16 for each angle."""
    torch.manual_seed(1)
    return ViewUNetModel(**_UNET, projection_class_embeddings_input_dim=40).double().eval()


def autoencoder() -> AutoencoderKLTemporalDecoder:
    """Return an autoencoder that halves the size."""
    torch.manual_seed(2)
    return (
        AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"), block_out_channels=(32, 32),
            layers_per_block=1, latent_channels=4, sample_size=16,
        )
        .double()
        .eval()
    )  # fmt: skip


def image_encoder() -> CLIPVisionModelWithProjection:
    """Return an image encoder whose embeddings have 16 numbers."""
    torch.manual_seed(3)
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=32, projection_dim=16, num_hidden_layers=1, num_attention_heads=2,
        image_size=224, patch_size=56,
    )  # fmt: skip
    return CLIPVisionModelWithProjection(config).double().eval()


def write_pair(folder: Path) -> tuple[Path, Path]:
    """Write both models in diffusers' layout; return the folders of the video model and of the view model."""
    video, views = folder / "svd", folder / "sv3d"
    for name, module in (("unet", video_unet()), ("vae", autoencoder()), ("image_encoder", image_encoder())):
        module.float().save_pretrained(video / name, safe_serialization=True)
    view_unet().float().save_pretrained(views / "unet", safe_serialization=True)
    return video, views
