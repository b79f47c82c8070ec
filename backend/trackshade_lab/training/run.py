# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
"""`train`: a whole run from data to an exported pipeline, and the stages of training a small model from scratch."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from trackshade.core.errors import UsageError
from trackshade.models.checkpoint import read_json, weight_files
from trackshade.models.patch_autoencoder import PatchAutoencoder
from trackshade.models.reference_guided import ReferenceGuidedTransformer3DModel
from trackshade.models.warp_guided import WarpGuidedTransformer3DModel

from ..motion.training import export_motion_run, train_motion
from ..scenes import Shards, generate_clip, generate_shards, load_shards, shard_folders
from .autoencoder import train_autoencoder
from .checkpoint import (
    adapt_weights,
    copy_weights,
    export_multiview,
    export_pipeline,
    find_checkpoint,
    load_ema_weights,
    named_parameters,
)
from .config import (
    FineTuningConfig,
    FromScratchConfig,
    MotionConfig,
    MultiviewConfig,
    RunConfig,
    lock_run_directory,
    read_config,
)
from .diffusion import SNR_SHIFT, DiffusionTask, VelocityModel, make_scheduler
from .fine_tuning import branch_parameters, export_fine_tuned, find_base, fine_tune
from .logging import Report, RunLog
from .loop import TrainingRun, configure_transformer, make_accelerator, train_loop
from .multiview import DenoisingModel, MultiviewTask, initial_transformer
from .muon import Muon
from .text import build_text_encoder, build_tokenizer, pretrain_text_encoder, tokenize

_VALIDATION_CLIPS = 8
_WITHOUT_TRACKS = ("none", "depth")  # control signals that do not tell where a point was in the first frame
_STILL_GUIDANCE = 1.5  # for first frames made from text and tracks; colors are too saturated from 2 on
# Matrices between hidden features, which Muon trains; AdamW trains modulation, embeddings, outputs and vectors.
_MUON_PARAMETERS = re.compile(
    r"(attn1\.to_(q|k|v|out\.0)|ff\.net\.(0\.proj|2)|combine_linears\.\d+|initial_combine_linear)\.weight$"
)


def train(config: RunConfig, report: Report | None = None) -> Path:
    """Run or resume a training. Ctrl-C saves a checkpoint first. `report` gets every log entry, as log.jsonl does.

    Returns:
        The folder of the exported pipeline; of the autoencoder in the stage of that name.

    Raises:
        UsageError: if the folder holds another run, or the settings or data cannot be used.
        ModelError: if a base cannot be loaded.
    """
    accelerator = make_accelerator(config)
    out = Path(config.out)
    lock_run_directory(out, config, accelerator)
    log = RunLog(out, report, tensorboard=config.tensorboard, is_main_process=accelerator.is_main_process)
    try:
        if isinstance(config, FineTuningConfig):
            return fine_tune(out, config, accelerator, log)
        if isinstance(config, MultiviewConfig):
            return _train_multiview(out, config, accelerator, log)
        if isinstance(config, MotionConfig):
            return train_motion(out, config, accelerator, log)
        assert isinstance(config, FromScratchConfig)
        return _train_from_scratch(out, config, accelerator, log)
    finally:
        log.close()


def _train_from_scratch(out: Path, config: FromScratchConfig, accelerator: Accelerator, log: RunLog) -> Path:
    shards = _prepare_data(config, accelerator, log)
    vae = _prepare_autoencoder(out, shards, config, accelerator, log)
    if config.stage == "autoencoder":
        return out / "autoencoder"
    tokenizer = _prepare_tokenizer(out, shards, config, accelerator)
    transformer, text_encoder = build_models(shards, len(tokenizer), vae, config)
    modules = {"transformer": transformer, "text_encoder": text_encoder}
    _initialize_weights(modules, config)
    for module in modules.values():
        module.to(accelerator.device)
    if config.text_pretraining_steps:
        if find_checkpoint(out / "checkpoint") is None:
            steps, length = config.text_pretraining_steps, config.max_text_length
            accuracy = pretrain_text_encoder(text_encoder, tokenizer, list(shards.captions), length, steps, config.seed)
            log({"stage": "text", "event": "end", "steps": steps, "named": accuracy})
        text_encoder.requires_grad_(False)  # the transformer's loss would soon undo it
    configure_transformer(transformer, config, accelerator)
    run = TrainingRun(
        stage=config.stage,
        out=out,
        checkpoint=out / "checkpoint",
        accelerator=accelerator,
        modules=modules,
        model=VelocityModel(transformer, text_encoder, bf16=config.bf16),
        optimizers=make_optimizers(modules, config),
        log=log,
    )
    run.resume(config.ema_decay)
    validation_clips = []
    if accelerator.is_main_process:
        height, width = shards.videos[0].shape[2:4]
        validation_clips = [
            generate_clip(seed, (width, height), shards.frames, split="held-out", control=shards.control)
            for seed in range(_VALIDATION_CLIPS)
        ]
        transformer.save_config(out / "transformer")
    tokens = tokenize(tokenizer, [*shards.captions, ""], config.max_text_length)
    task = DiffusionTask(shards, vae, tokens, config, tokenizer, validation_clips)
    run.log_start(len(shards))
    train_loop(run, task)
    run.finish()
    if accelerator.is_main_process:
        export_pipeline(out / "export", vae, tokenizer, transformer, text_encoder, task.scheduler)
    accelerator.wait_for_everyone()
    return out / "export"


def _train_multiview(out: Path, config: MultiviewConfig, accelerator: Accelerator, log: RunLog) -> Path:
    source = find_base(config.initialize_from)
    vae = PatchAutoencoder.from_pretrained(source, subfolder="vae").requires_grad_(False).eval()
    vae.to(accelerator.device)
    weights = {k: v for file in weight_files(source / "transformer") for k, v in load_file(file).items()}
    stored = read_json(source / "transformer" / "config.json")
    transformer = initial_transformer(config, vae, stored, weights).to(accelerator.device)
    configure_transformer(transformer, config, accelerator)
    modules: dict[str, nn.Module] = {"transformer": transformer}
    run = TrainingRun(
        stage="multiview",
        out=out,
        checkpoint=out / "checkpoint",
        accelerator=accelerator,
        modules=modules,
        model=DenoisingModel(transformer, bf16=config.bf16),
        optimizers=make_optimizers(modules, config),
        log=log,
    )
    run.resume(config.ema_decay)
    if accelerator.is_main_process:
        transformer.save_config(out / "transformer")
        vae.save_pretrained(out / "autoencoder")
    run.log_start(0)
    train_loop(run, MultiviewTask(vae, config))
    run.finish()
    if accelerator.is_main_process:
        export_multiview(out / "export", vae, transformer)
    accelerator.wait_for_everyone()
    return out / "export"


def export_run(run: str | Path, folder: Path | None = None) -> Path:
    """Export the EMA weights of a run's latest checkpoint, finished or not, by default to export/ in the run.

    Return the folder of the pipeline. Raise UsageError if there is no run or no checkpoint.
    """
    out = Path(run)
    config = read_config(out)
    if isinstance(config, MotionConfig):
        return export_motion_run(out, config, folder or out / "export")
    checkpoint = find_checkpoint(out / "checkpoint")
    if checkpoint is None:
        raise UsageError("no-checkpoint", f"There is no checkpoint in {out}.", "Train there first.")
    folder = folder or out / "export"
    if isinstance(config, FineTuningConfig):
        return export_fine_tuned(config, checkpoint, folder)
    if isinstance(config, MultiviewConfig):
        vae = PatchAutoencoder.from_pretrained(out / "autoencoder")
        values = ReferenceGuidedTransformer3DModel.load_config(out / "transformer")
        transformer = ReferenceGuidedTransformer3DModel.from_config(values)
        copy_weights(named_parameters({"transformer": transformer}), load_ema_weights(checkpoint))
        return export_multiview(folder, vae, transformer)
    assert isinstance(config, FromScratchConfig)
    # Early versions read the components of the run that this one started from.
    origin = Path(config.initialize_from) if config.initialize_from else out
    vae, tokenizer = (
        cls.from_pretrained(out / name if (out / name).exists() else origin / name)
        for cls, name in ((PatchAutoencoder, "autoencoder"), (PreTrainedTokenizerFast, "tokenizer"))
    )
    if (out / "transformer" / "config.json").exists():
        values = WarpGuidedTransformer3DModel.load_config(out / "transformer")
        transformer = WarpGuidedTransformer3DModel.from_config(values)
        text_encoder = build_text_encoder(len(tokenizer), config.text_embed_dim, config.seed)
    else:  # a run of a version that did not keep the transformer's configuration
        transformer, text_encoder = build_models(load_shards(config.data), len(tokenizer), vae, config)
    modules = {"transformer": transformer, "text_encoder": text_encoder}
    copy_weights(named_parameters(modules), load_ema_weights(checkpoint))
    return export_pipeline(folder, vae, tokenizer, transformer, text_encoder, make_scheduler())


def build_models(
    shards: Shards, vocabulary_size: int, vae: PatchAutoencoder, config: FromScratchConfig
) -> tuple[WarpGuidedTransformer3DModel, T5EncoderModel]:
    """Build transformer and text encoder with their initial weights."""
    height, width = shards.videos[0].shape[2:4]
    token_pixels = config.autoencoder_patch_size * config.token_size
    if width % token_pixels or height % token_pixels:
        raise UsageError(
            "bad-setting",
            f"Clips of {width}x{height} pixels do not divide into tokens of {token_pixels} pixels.",
            "Choose another --token-size or --autoencoder-patch-size.",
        )
    torch.manual_seed(config.seed)
    transformer = WarpGuidedTransformer3DModel(
        num_attention_heads=config.num_attention_heads,
        attention_head_dim=config.attention_head_dim,
        in_channels=2 * config.latent_channels,
        out_channels=config.latent_channels,
        time_embed_dim=config.time_embed_dim,
        text_embed_dim=config.text_embed_dim,
        num_layers=config.num_layers,
        sample_width=width // config.autoencoder_patch_size,
        sample_height=height // config.autoencoder_patch_size,
        sample_frames=shards.frames,
        patch_size=config.token_size,
        temporal_compression_ratio=1,
        max_text_seq_length=config.max_text_length,
        spatial_interpolation_scale=1.0,
        num_tracking_blocks=config.num_tracking_blocks,
        track_frequencies=config.track_frequencies,
        track_scale=config.autoencoder_patch_size,
        track_snr_shift=SNR_SHIFT,
        track_correction=config.track_correction,
        track_places=shards.control not in _WITHOUT_TRACKS,
        still_guidance=_STILL_GUIDANCE if config.one_frame_fraction else 0.0,
        pooled_text=config.pooled_text,
    )
    transformer.initialize_from_scratch(vae.analysis.cpu(), vae.mean.cpu())
    return transformer, build_text_encoder(vocabulary_size, config.text_embed_dim, config.seed)


def make_optimizers(
    modules: dict[str, nn.Module], config: FromScratchConfig | MultiviewConfig
) -> dict[str, torch.optim.Optimizer]:
    """Make Muon for the matrices of the blocks and AdamW for all other trainable parameters, by name."""
    named = named_parameters(modules, trainable_only=True).items()
    matrices = [(name, parameter) for name, parameter in named if _MUON_PARAMETERS.search(name)]
    others = [(name, parameter) for name, parameter in named if not _MUON_PARAMETERS.search(name)]
    optimizers: dict[str, torch.optim.Optimizer] = {}
    if matrices:
        optimizers["muon"] = Muon(matrices, config.muon_learning_rate)
    if others:
        optimizers["adamw"] = torch.optim.AdamW(
            others, lr=config.adamw_learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
        )
    return optimizers


def _prepare_data(config: FromScratchConfig, accelerator: Accelerator, log: RunLog) -> Shards:
    """Load the shards; generate them first if the folder holds none."""
    if accelerator.is_main_process and not shard_folders(config.data):
        generate_shards(
            config.data,
            config.num_clips,
            config.seed * 1_000_000,
            processes=max(1, (os.cpu_count() or 2) - 1),
            size=(config.width, config.height),
            num_frames=config.num_frames,
            progress=lambda done, count: log({"stage": "data", "done": done, "count": count}),
        )
    accelerator.wait_for_everyone()
    shards = load_shards(config.data)
    if shards.control in _WITHOUT_TRACKS and (config.mirror or config.sparse_tracks_fraction):
        raise UsageError(
            "bad-setting",
            f"The clips in {config.data} have no tracks to mirror or to thin, but {shards.control}.",
            "Omit --mirror and --sparse-tracks-fraction.",
        )
    return shards


def _prepare_autoencoder(
    out: Path, shards: Shards, config: FromScratchConfig, accelerator: Accelerator, log: RunLog
) -> PatchAutoencoder:
    """Load the run's autoencoder; train it first if there is none."""
    folder = _copy_component(out, config, accelerator, "autoencoder", "config.json")
    exists = (folder / "config.json").exists()
    accelerator.wait_for_everyone()  # every process looks before one of them writes
    if not exists:
        train_autoencoder(out, shards, config, accelerator, log)
        accelerator.wait_for_everyone()
    return PatchAutoencoder.from_pretrained(folder).requires_grad_(False).eval().to(accelerator.device)


def _prepare_tokenizer(
    out: Path, shards: Shards, config: FromScratchConfig, accelerator: Accelerator
) -> PreTrainedTokenizerFast:
    """Load the run's tokenizer; build it first if there is none."""
    folder = _copy_component(out, config, accelerator, "tokenizer", "tokenizer.json")
    if accelerator.is_main_process and not (folder / "tokenizer.json").exists():
        build_tokenizer(shards.captions, config.max_text_length).save_pretrained(folder)
    accelerator.wait_for_everyone()
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _copy_component(out: Path, config: FromScratchConfig, accelerator: Accelerator, name: str, file: str) -> Path:
    """Copy a component (which has `file`) from the run or pipeline that this run starts from, and return its folder."""
    source = None if config.initialize_from is None else Path(config.initialize_from) / name
    if name == "autoencoder" and source is not None and not source.exists():
        source = source.with_name("vae")  # its name in a pipeline folder
    elif source is not None and (source.parent / "model_index.json").exists():
        source = None  # a pipeline's tokenizer belongs to its text encoder, which is not taken over
    copied = source is not None and (source / file).exists() and not (out / name / file).exists()
    if accelerator.is_main_process and source is not None and copied:
        shutil.copytree(source, out / name, dirs_exist_ok=True)
    accelerator.wait_for_everyone()
    return out / name


def _initialize_weights(modules: dict[str, nn.Module], config: FromScratchConfig) -> None:
    """Load the weights of the run or pipeline to start from, and freeze what the stage does not train."""
    transformer = modules["transformer"]
    assert isinstance(transformer, WarpGuidedTransformer3DModel)
    branch = branch_parameters(transformer)
    if config.initialize_from:
        target = named_parameters(modules)
        weights = adapt_weights(_load_weights(Path(config.initialize_from)), target, config.autoencoder_patch_size)
        if config.stage == "base":  # an untrained branch
            branch_ids = {id(parameter) for parameter in branch}
            weights |= {key: value for key, value in target.items() if id(value) in branch_ids}
        copy_weights(target, weights)
    if config.stage == "base":
        for parameter in branch:
            parameter.requires_grad_(False)
    if config.stage == "branch":
        for module in modules.values():
            module.requires_grad_(False)
        for parameter in branch:
            parameter.requires_grad_(True)
        for copied, block in zip(transformer.transformer_blocks_copy, transformer.transformer_blocks, strict=False):
            copied.load_state_dict(block.state_dict())


def _load_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Load the EMA weights of a run, or the transformer's weights of a pipeline folder."""
    if (folder / "model_index.json").exists():
        files = weight_files(folder / "transformer")
        return {f"transformer.{key}": value for file in files for key, value in load_file(file).items()}
    checkpoint = find_checkpoint(folder / "checkpoint")
    if checkpoint is None:
        raise UsageError("no-checkpoint", f"There is no checkpoint in {folder}.", "Train there first.")
    return load_ema_weights(checkpoint)
