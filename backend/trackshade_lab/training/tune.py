# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
"""Fine-tuning: a published base, frozen; its tracking branch, and perhaps a LoRA, trained on a dataset folder."""

from __future__ import annotations

import gc
from pathlib import Path

import torch
from accelerate import Accelerator

from trackshade.core.errors import UsageError
from trackshade.models import TrackingTransformer3DModel, WarpGuidedTransformer3DModel
from trackshade.models.attention import PlainAttention
from trackshade.models.loading import load_components
from trackshade.pipelines import DiffusionShaderPipeline
from trackshade.pipelines.inputs import check_shape

from .base import base_folder, branch_parameters, load_transformer
from .cache import Cache
from .config import TuneConfig
from .dataset import Entry, read_dataset, shapes
from .distributed import on_the_first
from .export import export_published
from .logging import Log
from .loop import Run, descend
from .lora import add_lora
from .state import Progress, best_weights, put_weights, weights
from .tune_task import Predictor, TuneTask


def tune(out: Path, config: TuneConfig, accelerator: Accelerator, log: Log) -> Path:
    """Run or resume; returns the folder of the exported pipeline, in the published checkpoint's layout.

    Raises UsageError: the dataset cannot be used. ModelError: the base cannot, or does not take the clips.
    """
    folder, entries = base_folder(config.base), read_dataset(Path(config.data))
    dtype = torch.bfloat16 if config.bf16 and accelerator.device.type != "cpu" else torch.float32
    transformer = build_transformer(folder, config, dtype)
    parts = load_components(folder, dtype, {"transformer": transformer, "text_encoder": None, "tokenizer": None})
    if parts["scheduler"].config.prediction_type != "v_prediction":
        raise UsageError("wrong-base", f"The base in {folder} does not predict velocities.", "Choose another --base.")
    vae = parts["vae"].requires_grad_(False).to(accelerator.device)
    pipeline = DiffusionShaderPipeline(None, None, vae, transformer, parts["scheduler"])
    _check_clips(entries, pipeline)
    cache = _cache(folder, config, transformer)
    _encode(entries, cache, folder, vae, dtype, accelerator, log)
    transformer.to(accelerator.device)
    if accelerator.device.type == "cpu":
        transformer.set_attn_processor(PlainAttention())
    if config.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    trained = [parameter for parameter in transformer.parameters() if parameter.requires_grad]
    adamw = torch.optim.AdamW(
        trained, lr=config.rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=config.weight_decay, fused=True
    )
    adamw.param_groups[0]["peak"] = config.rate
    run = Run(
        "tune",
        out,
        out / "checkpoint",
        accelerator,
        {"transformer": transformer},
        Predictor(transformer, config.bf16),
        {"adamw": adamw},
        log,
        Progress(config=config.to_dict()),
        trained_only=True,
    )
    run.resume(average=config.average > 0)
    log.begin(run.progress.step)
    log(
        {
            "stage": "tune",
            "event": "start",
            "step": run.progress.step,
            "clips": len(entries),
            "trained_parameters": sum(parameter.numel() for parameter in trained),
            "parameters": sum(parameter.numel() for parameter in transformer.parameters()),
            "device": str(accelerator.device),
            "processes": accelerator.num_processes,
        }
    )
    descend(run, TuneTask(entries, cache, pipeline, config))
    run.finish()
    with on_the_first(accelerator) as first:
        if first:
            export_published(out / "export", folder, transformer, config.lora_fuse)
    return out / "export"


def export_tuned(out: Path, config: TuneConfig, checkpoint: Path, target: Path) -> Path:
    """A run's checkpoint as a pipeline folder; the base must be where it was."""
    folder = base_folder(config.base)
    transformer = build_transformer(folder, config, torch.float32)
    put_weights(weights({"transformer": transformer}, trained_only=True), best_weights(checkpoint))
    return export_published(target, folder, transformer, config.lora_fuse)


def build_transformer(folder: Path, config: TuneConfig, dtype: torch.dtype) -> TrackingTransformer3DModel:
    """The base with its branch: what is trained in float32, the rest frozen and in `dtype`."""
    torch.manual_seed(config.seed)
    transformer = load_transformer(folder, config.tracking_blocks, dtype)
    transformer.requires_grad_(False)
    trained = branch_parameters(transformer)
    if config.lora_rank:
        trained += add_lora(transformer, config.lora_rank, config.lora_alpha)
    for parameter in trained:
        parameter.requires_grad_(True)
        parameter.data = parameter.data.float()
    return transformer


def _check_clips(entries: tuple[Entry, ...], pipeline: DiffusionShaderPipeline) -> None:
    found = dict(shapes(entries))
    first = found[entries[0]]
    for entry, shape in found.items():
        if shape != first:
            raise UsageError(
                "bad-dataset",
                f"{entry.video} has {shape[0]} frames of {shape[2]}x{shape[1]} pixels, and {entries[0].video} "
                f"{first[0]} of {first[2]}x{first[1]}.",
                "All clips of a dataset must have one shape.",
            )
    config = pipeline.transformer.config
    check_shape(
        first[0],
        (first[2], first[1]),
        config,
        pipeline.vae_scale_factor_spatial,
        pipeline.vae_scale_factor_temporal,
    )


def _cache(folder: Path, config: TuneConfig, transformer: TrackingTransformer3DModel) -> Cache:
    where = Path(config.cache) if config.cache else Path(config.data) / "cache"
    text = (folder / "text_encoder", folder / "tokenizer")
    length = transformer.config.max_text_seq_length
    pixels = isinstance(transformer, WarpGuidedTransformer3DModel)
    return Cache(where, folder / "vae", text, length, pixels=pixels)


def _encode(entries, cache: Cache, folder: Path, vae, dtype, accelerator: Accelerator, log: Log) -> None:
    """Encode what is not in the cache yet, shared out among the processes; the text encoder is loaded for it only."""
    clips = [entry for entry in entries if not cache.keys(entry).latents.exists()]
    prompts = sorted({"", *(entry.prompt for entry in entries)})
    prompts = [prompt for prompt in prompts if not cache.text_key(prompt).exists()]
    accelerator.wait_for_everyone()  # all have looked, and share out one list
    clips = clips[accelerator.process_index :: accelerator.num_processes]
    for done, entry in enumerate(clips, start=1):
        cache.encode_clip(entry, vae)
        log({"stage": "encode", "done": done, "count": len(clips)})
    if accelerator.is_main_process and prompts:
        given = {"transformer": None, "vae": None, "scheduler": None}
        parts = load_components(folder, dtype, given)
        text_encoder = parts["text_encoder"].to(accelerator.device)
        for prompt in prompts:
            cache.encode_text(prompt, parts["tokenizer"], text_encoder)
        log({"stage": "encode", "text": f"{len(prompts)} captions encoded"})
        del text_encoder, parts
        gc.collect()
        if accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
    accelerator.wait_for_everyone()
