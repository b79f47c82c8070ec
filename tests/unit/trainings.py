# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests' trainings have in common: every step is reported, one thread computes, in full precision."""

from __future__ import annotations

PLAIN = {"bf16": False, "device": "cpu", "threads": 1, "log_seconds": 0.0, "tensorboard": False}
