# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings that the training tests share."""

from __future__ import annotations

# Log every step; one thread, full precision.
PLAIN = {"bf16": False, "device": "cpu", "threads": 1, "log_seconds": 0.0, "tensorboard": False}

# The smallest possible model, trained from scratch.
SMALL = {
    "num_attention_heads": 1,
    "attention_head_dim": 16,
    "num_layers": 2,
    "num_tracking_blocks": 1,
    "time_embed_dim": 16,
    "text_embed_dim": 16,
    "max_text_length": 12,
    "text_pretraining_steps": 3,
    "latent_channels": 4,
    "track_frequencies": 3,
    "warmup_steps": 2,
    **PLAIN,
}
