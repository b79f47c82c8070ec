# SPDX-License-Identifier: GPL-3.0-or-later
"""A motion model with random weights of a tiny configuration, as a folder that training exports."""

from __future__ import annotations

from pathlib import Path

import torch

from trackshade.models.motion_encoder import MotionEncoder
from trackshade.models.patch_autoencoder import PatchAutoencoder
from trackshade.models.puppet_guided import PuppetGuidedTransformer3DModel
from trackshade.models.view_adapter import ViewAdapter
from trackshade_lab.training.checkpoint import export_motion

SIZE = (48, 64)  # width and height of its pictures


def save_tiny_motion(folder: Path, seed: int = 0) -> Path:
    """Write the model to a folder, and return the folder."""
    torch.manual_seed(seed)
    encoder = MotionEncoder(*SIZE, hand_size=24, dim=32, body_tokens=2, layers=1, heads=2, channels=16)
    adapter = ViewAdapter(*SIZE, num_tokens=encoder.num_tokens, dim=32, hidden=32)
    vae = PatchAutoencoder(4, 6, refiner_width=8, refiner_layers=0)
    transformer = PuppetGuidedTransformer3DModel(
        latent_scale=4,
        motion_dim=32,
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=12,
        out_channels=6,
        time_embed_dim=32,
        text_embed_dim=8,
        num_layers=1,
        sample_width=SIZE[0] // 4,
        sample_height=SIZE[1] // 4,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=1,
        max_text_seq_length=1,
        spatial_interpolation_scale=1.0,
    )
    export_motion(folder, {"encoder": encoder, "adapter": adapter, "transformer": transformer, "vae": vae})
    return folder
