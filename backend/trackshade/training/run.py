# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportPrivateImportUsage=false
"""`train`: the whole run, from data to an exported pipeline, each stage resumed where it was left."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedTokenizerFast

from ..errors import UsageError
from ..models import PatchAutoencoder, TrackingTransformer3DModel
from ..models.attention import PlainAttention
from .autoencoder import train_autoencoder
from .config import TrainConfig
from .data import Shards, generate_shards, load_shards
from .diffusion import Task
from .export import export
from .optimisers import make_optimisers, rate_factor, set_rate
from .samples import generate, held_out, mean_psnr, write_sheet
from .state import Progress, find_checkpoint, load_checkpoint, put_weights, save_checkpoint, weights
from .text import build_text_encoder, build_tokenizer, tokenize

Report = Callable[[dict[str, Any]], None]


def train(config: TrainConfig, report: Report | None = None) -> Path:
    """Run or resume the training described by `config`; returns the folder of the exported pipeline.

    `report` gets every log entry (also written to `log.jsonl`). Ctrl-C saves a checkpoint first. Raises UsageError
    where the folder
    holds another run.
    """
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    _claim(out, config)
    log = _logger(out / "log.jsonl", report)
    if config.threads:
        torch.set_num_threads(config.threads)
    shards = _data(config, log)
    vae = _autoencoder(out, shards, config, log)
    tokenizer = _tokenizer(out, shards, config)
    modules = build_modules(shards, len(tokenizer), vae, config)
    _start_from(modules, config)
    for module in modules.values():
        module.to(config.device)
    average = {key: value.clone() for key, value in weights(modules).items()}
    optimisers = make_optimisers(modules, config)
    progress = Progress(config=config.to_dict())
    if found := find_checkpoint(out / "checkpoint"):
        progress = load_checkpoint(found, modules, average, optimisers)
        progress.config = config.to_dict()
    tokens = tokenize(tokenizer, list(shards.captions), config.text_length)
    task = Task(shards, vae, tokens, tokenize(tokenizer, [""], config.text_length)[0], config)
    log(
        {
            "stage": config.stage,
            "event": "start",
            "step": progress.step,
            "clips": len(shards),
            "parameters": sum(p.numel() for m in modules.values() for p in m.parameters()),
        }
    )
    try:
        _descend(out, task, modules, average, optimisers, progress, tokenizer, log)
    except KeyboardInterrupt:
        save_checkpoint(out / "checkpoint", modules, average, optimisers, progress)
        raise
    put_weights(modules, average)
    return export(out / "export", vae, tokenizer, modules["transformer"], modules["text_encoder"])


def export_run(run: str | Path, target: Path | None = None) -> Path:
    """Export the newest checkpoint's averaged weights of a run, finished or not; returns the folder."""
    out = Path(run)
    path = out / "config.json"
    found = find_checkpoint(out / "checkpoint")
    if not path.exists() or found is None:
        raise UsageError("no-checkpoint", f"There is no checkpoint in {out}.", "Train there first.")
    config = TrainConfig(**json.loads(path.read_text(encoding="utf-8")))
    shards = load_shards(config.data)
    tokenizer = _tokenizer(out, shards, config)
    vae = PatchAutoencoder.from_pretrained(Path(config.start or out) / "autoencoder")
    modules = build_modules(shards, len(tokenizer), vae, config)
    put_weights(modules, load_file(found / "average.safetensors"))
    return export(target or out / "export", vae, tokenizer, modules["transformer"], modules["text_encoder"])


def build_modules(shards: Shards, vocabulary: int, vae: PatchAutoencoder, config: TrainConfig) -> dict[str, nn.Module]:
    """Transformer and text encoder as `config` describes them, at their start values."""
    _, frames, height, width, _ = shards.videos[0].shape
    torch.manual_seed(config.seed)
    transformer = TrackingTransformer3DModel(
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
        temporal_compression_ratio=1,
        max_text_seq_length=config.text_length,
        spatial_interpolation_scale=1.0,
        num_tracking_blocks=config.tracking_layers,
        track_frequencies=config.track_frequencies,
        track_lookup_channels=config.track_lookup_channels,
        track_scale=config.patch,
    )
    transformer.initialise_from_scratch(vae.analysis.cpu(), vae.synthesis.cpu())
    if torch.device(config.device).type == "cpu":
        transformer.set_attn_processor(PlainAttention())
    return {"transformer": transformer, "text_encoder": build_text_encoder(vocabulary, config.text_dim, config.seed)}


def _descend(out: Path, task: Task, modules, average, optimisers, progress: Progress, tokenizer, log: Report) -> None:
    config = task.config
    transformer, text_encoder = modules["transformer"], modules["text_encoder"]
    trainable = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
    averaged, current = list(average.values()), list(weights(modules).values())
    began, before = time.monotonic(), progress.seconds
    saved = sheeted = logged = began
    losses: list[torch.Tensor] = []
    start_samples = progress.samples
    while (share := _share(progress, config)) < 1.0:
        set_rate(optimisers, rate_factor(progress.step, share, config.warmup))
        loss = task.loss(transformer, text_encoder, task.batch(progress.step))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trainable, config.clip_norm)
        for optimiser in optimisers.values():
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        # The average follows quickly at first: it must not remember the start values.
        keep = min(config.average, (1 + progress.step) / (10 + progress.step))
        torch._foreach_lerp_(averaged, current, 1 - keep)
        losses.append(loss.detach())
        now = time.monotonic()
        progress.step += 1
        progress.samples += config.batch
        progress.seconds = before + now - began
        if now - logged > config.log_seconds:
            rate = (progress.samples - start_samples) / (now - began)
            share = _share(progress, config)
            left = progress.seconds * (1 - share) / max(share, 1e-9)
            log(
                {
                    "stage": config.stage,
                    "step": progress.step,
                    "samples": progress.samples,
                    "loss": torch.stack(losses).mean().item(),
                    "norm": float(norm),
                    "samples_per_second": round(rate, 2),
                    "minutes": round(progress.seconds / 60, 2),
                    "minutes_left": round(left / 60, 1),
                }
            )
            losses, logged = [], now
        if now - saved > 60 * config.checkpoint_minutes:
            save_checkpoint(out / "checkpoint", modules, average, optimisers, progress)
            saved = now
        if now - sheeted > 60 * config.sheet_minutes:
            _sheet(out, task, modules, average, progress, tokenizer, log)
            sheeted = now
    save_checkpoint(out / "checkpoint", modules, average, optimisers, progress)
    _sheet(out, task, modules, average, progress, tokenizer, log)


def _share(progress: Progress, config: TrainConfig) -> float:
    """How much of the budget is used, 0..1."""
    if config.steps is not None:
        return progress.step / config.steps
    return progress.seconds / (60 * (config.minutes or 1))


def _sheet(out: Path, task: Task, modules, average, progress: Progress, tokenizer, log: Report) -> None:
    """Draw a sheet with the averaged weights and log how close eight held-out clips come."""
    kept = {key: value.clone() for key, value in weights(modules).items()}
    put_weights(modules, average)
    _, frames, height, width, _ = task.shards.videos[0].shape
    clips = held_out(8, (width, height), frames)
    right = [clip.tracking for clip in clips]
    arguments = (modules["transformer"], modules["text_encoder"], task.vae, tokenizer, clips)
    made = generate(*arguments, right, bf16=task.config.bf16)
    other = generate(*arguments, right[1:] + right[:1], bf16=task.config.bf16)
    put_weights(modules, kept)
    write_sheet(out / "sheets" / f"step-{progress.step:06d}.png", clips, made)
    log(
        {
            "stage": task.config.stage,
            "event": "sheet",
            "step": progress.step,
            "psnr": mean_psnr(clips, made),
            "psnr_other_tracks": mean_psnr(clips, other),
        }
    )


def _claim(out: Path, config: TrainConfig) -> None:
    """Store the configuration, or check that the run there has the same model and data."""
    path = out / "config.json"
    free = ("minutes", "steps", "threads", "device", "checkpoint_minutes", "sheet_minutes", "log_seconds", "out")
    mine = {key: value for key, value in config.to_dict().items() if key not in free}
    if path.exists():
        theirs = json.loads(path.read_text(encoding="utf-8"))
        different = [key for key, value in mine.items() if theirs.get(key) != value]
        if different:
            raise UsageError(
                "other-run",
                f"{out} holds a run with other settings ({', '.join(different)}).",
                "Choose another folder.",
            )
    path.write_text(json.dumps(config.to_dict(), indent=1), encoding="utf-8")


def _logger(path: Path, report: Report | None) -> Report:
    def log(entry: dict[str, Any]) -> None:
        entry = {"time": time.strftime("%H:%M:%S")} | entry
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        if report:
            report(entry)

    return log


def _data(config: TrainConfig, log: Report) -> Shards:
    if not any(Path(config.data).glob("shard-*")):
        generate_shards(
            config.data,
            config.clips,
            seed_offset(config.seed),
            processes=max(1, (os.cpu_count() or 2) - 1),
            progress=lambda done, count: log({"stage": "data", "done": done, "count": count}),
        )
    return load_shards(config.data)


def seed_offset(seed: int) -> int:
    """First clip seed of a run."""
    return seed * 1_000_000


def _autoencoder(out: Path, shards: Shards, config: TrainConfig, log: Report) -> PatchAutoencoder:
    folder = out / "autoencoder"
    source = Path(config.start) / "autoencoder" if config.start else folder
    if not (source / "config.json").exists():
        made = train_autoencoder(shards, config, log)
        made.save_pretrained(folder)
        source = folder
    return PatchAutoencoder.from_pretrained(source).requires_grad_(False).eval().to(config.device)


def _tokenizer(out: Path, shards: Shards, config: TrainConfig) -> PreTrainedTokenizerFast:
    folder = Path(config.start or out) / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        build_tokenizer(shards.captions, config.text_length).save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _start_from(modules: dict[str, nn.Module], config: TrainConfig) -> None:
    """Start values from another run's averaged weights; for the branch stage, freeze all but the branch."""
    if config.start:
        found = find_checkpoint(Path(config.start) / "checkpoint")
        if found is None:
            raise UsageError("no-checkpoint", f"There is no checkpoint in {config.start}.", "Train there first.")
        known = load_file(found / "average.safetensors")  # parts that the other run lacks keep their start values
        put_weights(modules, {key: known.get(key, value) for key, value in weights(modules).items()})
    if config.stage != "branch":
        return
    transformer = modules["transformer"]
    assert isinstance(transformer, TrackingTransformer3DModel)
    for module in modules.values():
        module.requires_grad_(False)
    branch = (
        transformer.transformer_blocks_copy,
        transformer.initial_combine_linear,
        transformer.combine_linears,
        transformer.track_lookup,
    )
    for part in branch:
        if part is not None:
            part.requires_grad_(True)
    for copied, block in zip(transformer.transformer_blocks_copy, transformer.transformer_blocks, strict=False):
        copied.load_state_dict(block.state_dict())
