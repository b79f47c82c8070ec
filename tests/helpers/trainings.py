# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests' trainings have in common."""

from __future__ import annotations

# Every step is reported, one thread computes, in full precision.
PLAIN = {"bf16": False, "device": "cpu", "threads": 1, "log_seconds": 0.0, "tensorboard": False}

# A model as small as it can be, made from nothing.
SMALL = {
    "width_heads": 1,
    "head_dim": 16,
    "layers": 2,
    "tracking_layers": 1,
    "time_dim": 16,
    "text_dim": 16,
    "text_length": 12,
    "text_steps": 3,
    "latent_channels": 4,
    "track_frequencies": 3,
    "warmup": 2,
    **PLAIN,
}
