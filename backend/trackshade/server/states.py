# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of a job."""

from __future__ import annotations

QUEUED = "queued"
LOADING = "loading"
RUNNING = "running"
DECODING = "decoding"
DONE = "done"
FAILED = "failed"
CANCELLED = "cancelled"

ACTIVE = (LOADING, RUNNING, DECODING)  # a worker has it
FINAL = (DONE, FAILED, CANCELLED)
