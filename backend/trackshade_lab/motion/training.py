# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of accelerate and diffusers are typed too loosely for these rules.
# pyright: reportPrivateImportUsage=false, reportArgumentType=false
"""Training of `mini-motion`: motion tokens without the generator, then the generator with the encoder frozen."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from ..training.checkpoint import copy_weights, find_checkpoint, load_ema_weights, named_parameters
from ..training.config import MotionConfig
from ..training.logging import RunLog
from ..training.loop import TrainingRun, train_loop
from .stated import SOURCES
from .token_task import TokenModel, TokenTask, build_token_model

# Matrices between hidden features, which Muon trains; AdamW trains embeddings, outputs, convolutions and vectors.
_MUON_PARAMETERS = re.compile(
    r"(to_qkv|to_out|expand|contract|lift\.2|view\.2|attn1\.to_(q|k|v|out\.0)|ff\.net\.(0\.proj|2)|cross\.to_q)\.weight$"
)
TOKENS = "tokens"  # folder of the first stage's checkpoint


def train_motion(out: Path, config: MotionConfig, accelerator: Accelerator, log: RunLog) -> Path:
    """Run or resume both stages of a training, and return the folder of the exported pipeline.

    Of a run of baselines it is the folder of the run.
    """
    sources = SOURCES if config.sources == "baselines" else ("tokens",)
    model = build_token_model(config, sources).to(accelerator.device)
    modules: dict[str, nn.Module] = {"sources": model.sources, "adapters": model.adapters}
    run = TrainingRun(
        stage=TOKENS,
        out=out,
        checkpoint=out / TOKENS,
        accelerator=accelerator,
        modules=modules,
        model=model,
        optimizers=make_optimizers(modules, config),
        log=log,
    )
    run.resume(config.ema_decay)
    run.log_start(0)
    train_loop(run, TokenTask(config, sources))
    run.finish()
    return out


def make_optimizers(modules: dict[str, nn.Module], config: MotionConfig) -> dict[str, torch.optim.Optimizer]:
    """Make Muon for the matrices between hidden features and AdamW for all other trainable parameters, by name."""
    named = named_parameters(modules, trainable_only=True).items()
    matrices = [(name, parameter) for name, parameter in named if _MUON_PARAMETERS.search(name)]
    others = [(name, parameter) for name, parameter in named if not _MUON_PARAMETERS.search(name)]
    return {
        "muon": torch.optim.Muon(
            matrices, lr=config.muon_learning_rate, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        ),
        "adamw": torch.optim.AdamW(
            others, lr=config.adamw_learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        ),
    }


def load_token_model(out: Path, config: MotionConfig) -> TokenModel:
    """Load the sources and adapters of a run as its latest checkpoint has them. Raise UsageError if there is none."""
    sources = SOURCES if config.sources == "baselines" else ("tokens",)
    model = build_token_model(config, sources)
    checkpoint = find_checkpoint(out / TOKENS)
    if checkpoint is None:
        from trackshade.core.errors import UsageError

        raise UsageError("no-checkpoint", f"There is no checkpoint in {out}.", "Train there first.")
    copy_weights(named_parameters({"sources": model.sources, "adapters": model.adapters}), load_ema_weights(checkpoint))
    return model.eval()
