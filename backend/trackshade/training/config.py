# SPDX-License-Identifier: GPL-3.0-or-later
"""What a training run is: one frozen dataclass, stored as JSON beside its checkpoints."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError

STAGES = ("joint", "base", "branch")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `train`.

    Attributes:
        out: folder of the run: `autoencoder/`, `tokenizer/`, `checkpoint/`, `log.jsonl`, `sheets/`, `export/`.
        data: folder of shards; made there where it is empty (`clips` of them, procedural).
        stage: "joint" trains base and tracking branch together (from scratch the better way), "base" without tracks,
            "branch" freezes everything but the tracking branch, which starts as a copy of the base in `start`.
        start: run folder whose averaged weights this one starts from (needed for "branch").
        minutes: wall-clock budget of the transformer's training, over all resumes; the learning rate falls to zero at
            its end.
        steps: budget in optimiser steps instead; then a resumed run repeats the uninterrupted one exactly.
        image_dropout, text_dropout, track_dropout: share of the samples that lack this input.
    """

    out: str
    data: str
    stage: str = "joint"
    start: str | None = None
    clips: int = 10000
    minutes: float | None = None
    steps: int | None = None
    autoencoder_minutes: float = 4.0
    autoencoder_steps: int | None = None
    batch: int = 6
    width_heads: int = 3
    head_dim: int = 64
    layers: int = 6
    tracking_layers: int = 3
    time_dim: int = 192
    text_dim: int = 64
    text_length: int = 24
    latent_channels: int = 16
    patch: int = 4
    track_frequencies: int = 6
    track_lookup_channels: int = 8
    matrix_rate: float = 1.5e-3
    other_rate: float = 1e-3
    warmup: int = 100
    clip_norm: float = 1.0
    average: float = 0.998
    image_dropout: float = 0.05
    text_dropout: float = 0.1
    track_dropout: float = 0.1
    seed: int = 0
    device: str = "cpu"
    threads: int = 0
    bf16: bool = True
    checkpoint_minutes: float = 4.0
    sheet_minutes: float = 10.0
    log_seconds: float = 15.0

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise UsageError(
                "bad-setting", f"There is no training stage '{self.stage}'.", f"Choose one of {', '.join(STAGES)}."
            )
        if (self.minutes is None) == (self.steps is None):
            raise UsageError("bad-setting", "Training needs a budget.", "Give either minutes or steps.")
        if self.stage == "branch" and self.start is None:
            raise UsageError(
                "bad-setting", "The tracking branch alone needs a trained base.", "Give the base's run folder as start."
            )

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
