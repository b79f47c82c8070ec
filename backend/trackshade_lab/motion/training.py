# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of accelerate and diffusers are typed too loosely for these rules.
# pyright: reportPrivateImportUsage=false, reportArgumentType=false
"""Training of `mini-motion`: motion tokens without the generator, then the generator with the encoder frozen."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from trackshade.core.errors import UsageError
from trackshade.models.motion_encoder import NUM_HANDS
from trackshade.models.patch_autoencoder import PatchAutoencoder
from trackshade.models.puppet_guided import PuppetGuidedTransformer3DModel

from ..training.checkpoint import copy_weights, export_motion, find_checkpoint, load_ema_weights, named_parameters
from ..training.config import MotionConfig, read_config
from ..training.logging import RunLog
from ..training.loop import TrainingRun, budget_fraction, configure_transformer, train_loop
from ..training.muon import Muon
from .batches import MotionBatch
from .clips import FRAME_SIZE, ClipOptions, sample_clips
from .generator_task import GeneratorModel, GeneratorTask
from .motions import NUM_FRAMES
from .stated import BASELINES
from .token_task import TokenModel, TokenTask, build_token_model, config_characters

# Matrices between hidden features, which Muon trains; AdamW trains embeddings, outputs, first layers and vectors.
_MUON_PARAMETERS = re.compile(
    r"(to_qkv|expand|contract|lift\.2|attn1\.to_(q|k|v|out\.0)|ff\.net\.(0\.proj|2)"
    r"|blocks\.\d+\.to_(q|out)|^view_\w+\.2"
    r"|finder\.(down_\w+|up|reduce|blocks_\w+\.(\d+\.)?(conv|mix)))\.weight$"
)
# Shares of the generator's steps in which each source says the motion, if there are baselines.
GENERATOR_SHARES = {"tokens": 0.7, "rotations": 0.12, "joints": 0.06, "joints_single": 0.06, "none": 0.06}
PATCH_SIZE = 4  # pixels per side of a latent cell
TOKENS, GENERATOR = "tokens", "generator"  # stages, and folders of their checkpoints


def train_motion(out: Path, config: MotionConfig, accelerator: Accelerator, log: RunLog) -> Path:
    """Run or resume both stages of a training, and return the folder of the exported pipeline.

    Of a run without a generator it is the folder of the run.
    """
    model = _train_tokens(out, config, accelerator, log)
    if config.sources == "baselines":
        return out
    if not (config.generator_minutes or config.generator_steps):
        return out
    vae = _prepare_autoencoder(out, config, accelerator)
    transformer = _train_generator(out, config, model, vae, accelerator, log)
    if accelerator.is_main_process:
        export_motion(out / "export", _components(model, transformer, vae))
    accelerator.wait_for_everyone()
    return out / "export"


def _train_tokens(out: Path, config: MotionConfig, accelerator: Accelerator, log: RunLog) -> TokenModel:
    """Train the first stage, or load it if it is finished."""
    sources = BASELINES if config.sources == "baselines" else ("tokens",)
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
    if budget_fraction(run.progress, config) < 1:
        run.log_start(0)
        train_loop(run, TokenTask(config, sources))
    run.finish()
    return model


def _prepare_autoencoder(out: Path, config: MotionConfig, accelerator: Accelerator) -> PatchAutoencoder:
    """Load the run's autoencoder; fit it first, in closed form, if there is none."""
    folder = out / "autoencoder"
    if accelerator.is_main_process and not (folder / "config.json").exists():
        vae = PatchAutoencoder(PATCH_SIZE, config.latent_channels, refiner_width=8, refiner_layers=0)
        options = ClipOptions(drivers=False, characters=config_characters(config))
        clips = sample_clips(np.random.default_rng([config.seed, 43]), 200, options)
        frames = MotionBatch.from_clips(clips).target
        vae.fit(frames * 2 - 1)
        vae.save_pretrained(folder)
    accelerator.wait_for_everyone()
    return PatchAutoencoder.from_pretrained(folder).requires_grad_(False).eval().to(accelerator.device)


def _train_generator(
    out: Path,
    config: MotionConfig,
    model: TokenModel,
    vae: PatchAutoencoder,
    accelerator: Accelerator,
    log: RunLog,
) -> PuppetGuidedTransformer3DModel:
    """Train the second stage; the encoder and what the adapters say about landmarks are frozen."""
    shares = {"tokens": 1.0}
    if config.baselines:
        folder = Path(config.baselines)
        stored = read_config(folder)
        assert isinstance(stored, MotionConfig)
        others = load_token_model(folder, stored).to(accelerator.device)
        model.sources.update(others.sources)
        model.adapters.update(others.adapters)
        shares = GENERATOR_SHARES
    transformer = build_transformer(config).to(accelerator.device)
    configure_transformer(transformer, config, accelerator)
    model.requires_grad_(False)
    views = _views(model.adapters)
    for view in views.values():
        view.requires_grad_(True)
    modules = {"transformer": transformer, **views}
    stage = dataclasses.replace(
        config,
        minutes=None if config.generator_steps else config.generator_minutes,
        steps=config.generator_steps,
        batch_size=config.generator_batch_size,
        muon_learning_rate=config.muon_learning_rate * config.generator_learning_rate,
        adamw_learning_rate=config.adamw_learning_rate * config.generator_learning_rate,
    )
    run = TrainingRun(
        stage=GENERATOR,
        out=out,
        checkpoint=out / GENERATOR,
        accelerator=accelerator,
        modules=modules,
        model=GeneratorModel(transformer, model, vae, bf16=config.bf16),
        optimizers=make_optimizers(modules, stage),
        log=log,
    )
    run.resume(config.ema_decay)
    run.log_start(0)
    train_loop(run, GeneratorTask(vae, shares, stage))
    run.finish()
    return transformer


def export_motion_run(out: Path, config: MotionConfig, folder: Path) -> Path:
    """Export a run's latest checkpoints as a pipeline folder. Raise UsageError if a stage has none."""
    model = load_token_model(out, config)
    transformer = load_transformer(out, config, {"tokens": model.adapters["tokens"]})
    vae = PatchAutoencoder.from_pretrained(out / "autoencoder")
    return export_motion(folder, _components(model, transformer, vae))


def _components(model: TokenModel, transformer: nn.Module, vae: PatchAutoencoder) -> dict[str, nn.Module]:
    """Return the components of a pipeline by name."""
    encoder, adapter = model.sources["tokens"], model.adapters["tokens"]
    return {"encoder": encoder, "adapter": adapter, "transformer": transformer, "vae": vae}


def build_transformer(config: MotionConfig) -> PuppetGuidedTransformer3DModel:
    """Build the generator with initial weights; it estimates the puppet before the reference."""
    torch.manual_seed(config.seed + 1)
    width, height = FRAME_SIZE
    return PuppetGuidedTransformer3DModel(
        latent_scale=PATCH_SIZE,
        motion_channels=config.body_tokens + (NUM_HANDS if config.hands_fraction else 0)
        if config.motion_channels
        else 0,
        motion_dim=config.token_dim,
        num_attention_heads=config.num_attention_heads,
        attention_head_dim=config.attention_head_dim,
        in_channels=2 * config.latent_channels,
        out_channels=config.latent_channels,
        time_embed_dim=config.num_attention_heads * config.attention_head_dim,
        text_embed_dim=16,
        num_layers=config.num_layers,
        sample_width=width // PATCH_SIZE,
        sample_height=height // PATCH_SIZE,
        sample_frames=NUM_FRAMES + 1,
        patch_size=2,
        temporal_compression_ratio=1,
        max_text_seq_length=1,
        spatial_interpolation_scale=1.0,
    )


def make_optimizers(modules: dict[str, nn.Module], config: MotionConfig) -> dict[str, torch.optim.Optimizer]:
    """Make Muon for the matrices between hidden features and AdamW for all other trainable parameters, by name."""
    named = named_parameters(modules, trainable_only=True).items()
    matrices = [(name, parameter) for name, parameter in named if _MUON_PARAMETERS.search(name)]
    others = [(name, parameter) for name, parameter in named if not _MUON_PARAMETERS.search(name)]
    return {
        "muon": Muon(matrices, config.muon_learning_rate),
        "adamw": torch.optim.AdamW(
            others, lr=config.adamw_learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        ),
    }


def load_token_model(out: Path, config: MotionConfig) -> TokenModel:
    """Load the sources and adapters of a run as its latest checkpoint has them. Raise UsageError if there is none."""
    model = build_token_model(config, BASELINES if config.sources == "baselines" else ("tokens",))
    checkpoint = _require_checkpoint(out, TOKENS)
    target = named_parameters({"sources": model.sources, "adapters": model.adapters})
    copy_weights(target, load_ema_weights(checkpoint))
    return model.eval()


def load_transformer(
    out: Path, config: MotionConfig, adapters: Mapping[str, nn.Module]
) -> PuppetGuidedTransformer3DModel:
    """Load the generator of a run, and into adapters what it trained of them. Raise UsageError if there is none."""
    transformer = build_transformer(config)
    weights = load_ema_weights(_require_checkpoint(out, GENERATOR))
    target = named_parameters({"transformer": transformer, **_views(adapters)})
    copy_weights(target, {key: weights[key] for key in target})
    return transformer.eval()


def _views(adapters: nn.ModuleDict | Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Return the parts of view adapters that the generator's stage trains, by their names in checkpoints."""
    return {f"view_{name}": adapter.get_submodule("view") for name, adapter in adapters.items()}


def _require_checkpoint(out: Path, stage: str) -> Path:
    checkpoint = find_checkpoint(out / stage)
    if checkpoint is None:
        raise UsageError("no-checkpoint", f"There is no checkpoint of the {stage} in {out}.", "Train there first.")
    return checkpoint
