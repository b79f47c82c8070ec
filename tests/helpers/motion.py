# SPDX-License-Identifier: GPL-3.0-or-later
"""A tiny motion model with random weights, and settings of its training."""

from __future__ import annotations

import numpy as np
import torch

from trackshade.models.motion_encoder import MotionEncoder
from trackshade.models.patch_autoencoder import PatchAutoencoder
from trackshade.models.puppet_guided import PuppetGuidedTransformer3DModel
from trackshade.models.view_adapter import ViewAdapter
from trackshade_lab.motion.batches import MotionBatch
from trackshade_lab.motion.clips import ClipOptions, sample_clips
from trackshade_lab.motion.token_task import mean_landmarks

from .trainings import PLAIN

TINY_TRAINING = {
    **PLAIN,
    "batch_size": 2,
    "generator_batch_size": 1,
    "warmup_steps": 1,
    "single_view_steps": 1,
    "token_dim": 16,
    "body_tokens": 2,
    "encoder_channels": 16,
    "num_attention_heads": 1,
    "attention_head_dim": 16,
    "num_layers": 1,
    "latent_channels": 8,
}


def tiny_motion_modules() -> dict[str, torch.nn.Module]:
    """Build the components of a motion pipeline: 48x64 px, windows of 3 frames."""
    torch.manual_seed(5)
    vae = PatchAutoencoder(patch_size=4, latent_channels=8, refiner_width=8, refiner_layers=0)
    vae.fit(torch.rand(4, 3, 64, 48) * 2 - 1)
    adapter = ViewAdapter(num_tokens=4, dim=16, hidden=16)
    adapter.rest.data.copy_(torch.from_numpy(mean_landmarks()))
    return {
        "encoder": MotionEncoder(dim=16, body_tokens=2, layers=1, heads=2, channels=16),
        "adapter": adapter,
        "transformer": PuppetGuidedTransformer3DModel(
            motion_dim=16, num_attention_heads=1, attention_head_dim=16, in_channels=16, out_channels=8,
            time_embed_dim=16, text_embed_dim=8, num_layers=1, sample_width=12, sample_height=16, sample_frames=4,
            patch_size=2, temporal_compression_ratio=1, max_text_seq_length=1, spatial_interpolation_scale=1.0,
        ),
        "vae": vae,
    }  # fmt: skip


def motion_batch(seed: int = 0, count: int = 2, **options) -> MotionBatch:
    """Sample a batch of clips."""
    return MotionBatch.from_clips(sample_clips(np.random.default_rng(seed), count, ClipOptions(**options)))
