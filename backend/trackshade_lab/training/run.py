# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
"""`train`: a small model's whole run, from data to an exported pipeline, each stage resumed where it was left."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from trackshade.core.errors import UsageError
from trackshade.models import PatchAutoencoder, WarpGuidedTransformer3DModel
from trackshade.models.attention import PlainAttention
from trackshade.models.checkpoint import weight_files

from ..scenes import Shards, generate_shards, load_shards, shard_folders
from .autoencoder import train_autoencoder
from .base import branch_parameters
from .config import RunConfig, TrainConfig, TuneConfig
from .diffusion import Predictor, Task
from .distributed import make_accelerator, on_the_first
from .export import export
from .latents import SNR_SHIFT, STILL_GUIDANCE
from .logging import Log, Report
from .loop import Run, descend
from .optimizers import make_optimizers
from .resample import adapted
from .run_lock import claim, stored
from .samples import held_out
from .state import Progress, best_weights, find_checkpoint, put_weights, weights
from .text import build_text_encoder, build_tokenizer, tokenize
from .tune import export_tuned, tune
from .word_order import teach_order

SHEET_CLIPS = 8
PLACELESS = ("none", "depth")  # signals that say of no point where it was in the first frame


def train(config: RunConfig, report: Report | None = None) -> Path:
    """Run or resume the training described by `config`; returns the folder of the exported pipeline (of the
    autoencoder, in the stage of that name).

    `report` gets every log entry (also written to `log.jsonl`). Ctrl-C saves a checkpoint first. Raises UsageError
    where the folder holds another run, and what else cannot be; ModelError for a base that cannot be loaded.
    """
    accelerator = make_accelerator(config)
    out = Path(config.out)
    claim(out, config, accelerator)
    log = Log(out, report, tensorboard=config.tensorboard, speaks=accelerator.is_main_process)
    try:
        if isinstance(config, TuneConfig):
            return tune(out, config, accelerator, log)
        assert isinstance(config, TrainConfig)
        return _train(out, config, accelerator, log)
    finally:
        log.close()


def _train(out: Path, config: TrainConfig, accelerator: Accelerator, log: Log) -> Path:
    shards = _data(config, accelerator, log)
    vae = _autoencoder(out, shards, config, accelerator, log)
    if config.stage == "autoencoder":
        return out / "autoencoder"
    tokenizer = _tokenizer(out, shards, config, accelerator)
    modules = build_modules(shards, len(tokenizer), vae, config)
    _start_from(modules, config)
    for module in modules.values():
        module.to(accelerator.device)
    transformer, text_encoder = modules["transformer"], modules["text_encoder"]
    assert isinstance(transformer, WarpGuidedTransformer3DModel)
    assert isinstance(text_encoder, T5EncoderModel)
    if config.text_steps:
        if find_checkpoint(out / "checkpoint") is None:
            texts, length, steps = list(shards.captions), config.text_length, config.text_steps
            named = teach_order(text_encoder, tokenizer, texts, length, steps, config.seed)
            log({"stage": "text", "event": "end", "steps": steps, "named": named})
        text_encoder.requires_grad_(False)  # the transformer's loss would soon undo it
    if accelerator.device.type == "cpu":
        transformer.set_attn_processor(PlainAttention())
    if config.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    run = Run(
        config.stage,
        out,
        out / "checkpoint",
        accelerator,
        modules,
        Predictor(transformer, text_encoder, config.bf16),
        make_optimizers(modules, config),
        log,
        Progress(config=config.to_dict()),
    )
    run.resume(average=config.average > 0)
    tokens = tokenize(tokenizer, list(shards.captions), config.text_length)
    task = Task(shards, vae, tokens, tokenize(tokenizer, [""], config.text_length)[0], config)
    if accelerator.is_main_process:
        height, width = shards.videos[0].shape[2:4]
        task.tokenizer, task.held_out = tokenizer, held_out(SHEET_CLIPS, (width, height), shards.frames, shards.control)
        transformer.save_config(out / "transformer")
    log.begin(run.progress.step)
    log(
        {
            "stage": config.stage,
            "event": "start",
            "step": run.progress.step,
            "clips": len(shards),
            "parameters": sum(p.numel() for m in modules.values() for p in m.parameters()),
            "device": str(accelerator.device),
            "processes": accelerator.num_processes,
        }
    )
    descend(run, task)
    run.finish()
    with on_the_first(accelerator) as first:
        if first:
            export(out / "export", vae, tokenizer, transformer, text_encoder)
    return out / "export"


def export_run(run: str | Path, target: Path | None = None) -> Path:
    """Export the newest checkpoint's averaged weights of a run, finished or not; returns the folder."""
    out = Path(run)
    config, found = stored(out), find_checkpoint(out / "checkpoint")
    if found is None:
        raise UsageError("no-checkpoint", f"There is no checkpoint in {out}.", "Train there first.")
    if isinstance(config, TuneConfig):
        return export_tuned(out, config, found, target or out / "export")
    assert isinstance(config, TrainConfig)
    vae = PatchAutoencoder.from_pretrained(_part(out, config, "autoencoder"))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(_part(out, config, "tokenizer"))
    if (out / "transformer" / "config.json").exists():
        kept = WarpGuidedTransformer3DModel.load_config(out / "transformer")
        transformer: nn.Module = WarpGuidedTransformer3DModel.from_config(kept)  # type: ignore[assignment]
        text_encoder = build_text_encoder(len(tokenizer), config.text_dim, config.seed)
        modules: dict[str, nn.Module] = {"transformer": transformer, "text_encoder": text_encoder}
    else:  # a run of before the configuration was kept
        modules = build_modules(load_shards(config.data), len(tokenizer), vae, config)
    put_weights(weights(modules), best_weights(found))
    return export(target or out / "export", vae, tokenizer, modules["transformer"], modules["text_encoder"])


def build_modules(shards: Shards, vocabulary: int, vae: PatchAutoencoder, config: TrainConfig) -> dict[str, nn.Module]:
    """Transformer and text encoder as `config` describes them, at their start values."""
    frames, (height, width) = shards.frames, shards.videos[0].shape[2:4]
    if width % (config.patch * config.token) or height % (config.patch * config.token):
        raise UsageError(
            "bad-setting",
            f"Clips of {width}x{height} pixels do not divide into tokens of {config.patch * config.token} pixels.",
            "Choose another --token or --patch.",
        )
    torch.manual_seed(config.seed)
    transformer = WarpGuidedTransformer3DModel(
        num_attention_heads=config.width_heads,
        attention_head_dim=config.head_dim,
        in_channels=2 * config.latent_channels,
        out_channels=config.latent_channels,
        time_embed_dim=config.time_dim,
        text_embed_dim=config.text_dim,
        num_layers=config.layers,
        sample_width=width // config.patch,
        sample_height=height // config.patch,
        sample_frames=frames,
        patch_size=config.token,
        temporal_compression_ratio=1,
        max_text_seq_length=config.text_length,
        spatial_interpolation_scale=1.0,
        num_tracking_blocks=config.tracking_layers,
        track_frequencies=config.track_frequencies,
        track_scale=config.patch,
        track_snr_shift=SNR_SHIFT,
        track_correction=config.track_correction,
        track_places=shards.control not in PLACELESS,
        still_guidance=STILL_GUIDANCE if config.one_frame else 0.0,
        pooled_text=config.pooled_text,
    )
    transformer.initialize_from_scratch(vae.analysis.cpu(), vae.mean.cpu())
    return {"transformer": transformer, "text_encoder": build_text_encoder(vocabulary, config.text_dim, config.seed)}


def _data(config: TrainConfig, accelerator: Accelerator, log: Log) -> Shards:
    with on_the_first(accelerator) as first:
        if first and not shard_folders(config.data):
            generate_shards(
                config.data,
                config.clips,
                seed_offset(config.seed),
                processes=max(1, (os.cpu_count() or 2) - 1),
                size=(config.width, config.height),
                frames=config.frames,
                progress=lambda done, count: log({"stage": "data", "done": done, "count": count}),
            )
    shards = load_shards(config.data)
    if shards.control in PLACELESS and (config.mirror or config.sparse_tracks):
        raise UsageError(
            "bad-setting",
            f"The clips in {config.data} have no tracks to mirror or to thin, but {shards.control}.",
            "Leave --mirror and --sparse-tracks out.",
        )
    return shards


def seed_offset(seed: int) -> int:
    """First clip seed of a run."""
    return seed * 1_000_000


def _part(out: Path, config: TrainConfig, name: str) -> Path:
    """A stage's folder: the run's own, or that of the run it starts from."""
    return out / name if (out / name).exists() or config.start is None else Path(config.start) / name


def _autoencoder(
    out: Path, shards: Shards, config: TrainConfig, accelerator: Accelerator, log: Log
) -> PatchAutoencoder:
    folder = _adopted(out, config, accelerator, "autoencoder", "config.json")
    there = (folder / "config.json").exists()
    accelerator.wait_for_everyone()  # all have looked before one of them writes it
    if not there:
        train_autoencoder(out, shards, config, accelerator, log)
        accelerator.wait_for_everyone()
    return PatchAutoencoder.from_pretrained(folder).requires_grad_(False).eval().to(accelerator.device)


def _tokenizer(out: Path, shards: Shards, config: TrainConfig, accelerator: Accelerator) -> PreTrainedTokenizerFast:
    folder = _adopted(out, config, accelerator, "tokenizer", "tokenizer.json")
    with on_the_first(accelerator) as first:
        if first and not (folder / "tokenizer.json").exists():
            build_tokenizer(shards.captions, config.text_length).save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _adopted(out: Path, config: TrainConfig, accelerator: Accelerator, name: str, sign: str) -> Path:
    """The run's own folder `name`, taken over from the run it starts from, so that it needs that one no more."""
    source = None if config.start is None else Path(config.start) / name
    if name == "autoencoder" and source is not None and not source.exists():
        source = source.with_name("vae")  # what a pipeline folder calls it
    elif source is not None and (source.parent / "model_index.json").exists():
        source = None  # a pipeline's words go with its text encoder
    with on_the_first(accelerator) as first:
        if first and source is not None and (source / sign).exists() and not (out / name / sign).exists():
            shutil.copytree(source, out / name, dirs_exist_ok=True)
    return out / name


def _known_weights(start: Path) -> dict[str, torch.Tensor]:
    """Of a run, or of the transformer of a pipeline folder, whose words and text encoder are its own."""
    if (start / "model_index.json").exists():
        files = weight_files(start / "transformer")
        return {f"transformer.{key}": value for file in files for key, value in load_file(file).items()}
    found = find_checkpoint(start / "checkpoint")
    if found is None:
        raise UsageError("no-checkpoint", f"There is no checkpoint in {start}.", "Train there first.")
    return best_weights(found)


def _start_from(modules: dict[str, nn.Module], config: TrainConfig) -> None:
    """Start values from another run's averaged weights; freeze what the stage does not train."""
    transformer = modules["transformer"]
    assert isinstance(transformer, WarpGuidedTransformer3DModel)
    branch = branch_parameters(transformer)
    if config.start:
        own = weights(modules)
        known = adapted(_known_weights(Path(config.start)), own, config.patch)
        if config.stage == "base":  # a base that was never led by tracks has nothing of a branch
            untouched = {parameter.data_ptr() for parameter in branch}
            known |= {key: value for key, value in own.items() if value.data_ptr() in untouched}
        put_weights(own, known)
    if config.stage == "base":
        for parameter in branch:
            parameter.requires_grad_(False)
    if config.stage != "branch":
        return
    for module in modules.values():
        module.requires_grad_(False)
    for parameter in branch:
        parameter.requires_grad_(True)
    for copied, block in zip(transformer.transformer_blocks_copy, transformer.transformer_blocks, strict=False):
        copied.load_state_dict(block.state_dict())
