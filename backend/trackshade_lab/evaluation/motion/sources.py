# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportArgumentType=false
"""The networks that an evaluation compares: a motion pipeline, and the baselines of a training run."""

from __future__ import annotations

from pathlib import Path

import torch

from trackshade.core.errors import UsageError
from trackshade.pipelines.motion import MotionPipeline

from ...motion.generator_task import GeneratorModel
from ...motion.token_task import TokenModel
from ...motion.training import load_token_model, load_transformer
from ...training.config import MotionConfig, read_config

TITLES = {
    "none": "no motion",
    "rotations": "true rotations",
    "joints": "exact 2D joints, across views",
    "joints_single": "exact 2D joints, single view",
    "tokens": "tokens",
}


def load_model(folder: Path | None, run: Path | None) -> GeneratorModel:
    """Load a pipeline, and into the same model the baselines of the run that trained it.

    Args:
        folder: folder of the pipeline; that of mini-motion if None.
        run: the run, if there is one.

    Raises:
        ModelError: if the folder holds no motion model.
        UsageError: if the run is none of motion tokens, or has no baselines.
    """
    networks = MotionPipeline.from_pretrained(folder).networks
    tokens = TokenModel({"tokens": networks.encoder}, {"tokens": networks.adapter}, bf16=False)
    if run is not None:
        config = read_config(run)
        if not isinstance(config, MotionConfig) or not config.baselines:
            raise UsageError(
                "no-baselines", f"The run in {run} was not trained with baselines.", "Train with --baselines RUN."
            )
        stored = read_config(Path(config.baselines))
        assert isinstance(stored, MotionConfig)
        baselines = load_token_model(Path(config.baselines), stored)
        load_transformer(run, config, dict(baselines.adapters.items()))
        tokens.sources.update(baselines.sources)
        tokens.adapters.update(baselines.adapters)
    model = GeneratorModel(networks.transformer, tokens, networks.vae, bf16=False)
    return model.requires_grad_(False).eval()


def source_names(model: GeneratorModel) -> list[str]:
    """Return the sources that a model has, in the order of the tables."""
    return [name for name in TITLES if name in model.tokens.sources]


def said_landmarks(
    model: GeneratorModel,
    tokens: torch.Tensor,  # [N, K, dim]
    source: str,
) -> torch.Tensor:
    """Return the landmarks that the adapter of a source reads from tokens, [N, L, 3] metres."""
    return model.networks(source).adapter.body_landmarks(tokens)
