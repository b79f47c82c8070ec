# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
"""Fine-tuning on a dataset folder: the tracking branch, and optionally a LoRA, of a frozen published base."""

from __future__ import annotations

import gc
import importlib.util
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel
from torch import nn

from trackshade.config import registry
from trackshade.core.errors import ModelError, UsageError
from trackshade.models.checkpoint import check_strictly, read_json
from trackshade.models.das import TrackingTransformer3DModel
from trackshade.models.loading import COMPONENTS, component_class, load_components
from trackshade.models.warp_guided import WarpGuidedTransformer3DModel
from trackshade.pipelines.diffusion_shader import DiffusionShaderPipeline
from trackshade.pipelines.inputs import check_shape

from ..video_dataset import DatasetEntry, read_dataset, read_video_shapes
from .checkpoint import BASE_TRANSFORMER, copy_weights, export_published, load_ema_weights, named_parameters
from .config import FineTuningConfig
from .diffusion import VelocityModel
from .fine_tuning_task import EncodingCache, FineTuningTask
from .logging import RunLog
from .loop import TrainingRun, configure_transformer, train_loop

# Of the base's own blocks; the branch's copies are trained as a whole.
_LORA_TARGETS = r"transformer_blocks\.\d+\.attn1\.(to_q|to_k|to_v|to_out\.0)"


def fine_tune(out: Path, config: FineTuningConfig, accelerator: Accelerator, log: RunLog) -> Path:
    """Run or resume a fine-tuning.

    Returns:
        The folder of the exported pipeline, in the published checkpoint's layout.

    Raises:
        UsageError: if the dataset cannot be used.
        ModelError: if the base cannot be used, or does not take the clips.
    """
    folder, entries = find_base(config.base), read_dataset(Path(config.data))
    dtype = torch.bfloat16 if config.bf16 and accelerator.device.type != "cpu" else torch.float32
    transformer = build_transformer(folder, config, dtype)
    parts = load_components(folder, dtype, {"transformer": transformer, "text_encoder": None, "tokenizer": None})
    if parts["scheduler"].config.prediction_type != "v_prediction":
        raise UsageError("wrong-base", f"The base in {folder} does not predict velocities.", "Choose another --base.")
    vae = parts["vae"].requires_grad_(False).to(accelerator.device)
    pipeline = DiffusionShaderPipeline(
        tokenizer=None, text_encoder=None, vae=vae, transformer=transformer, scheduler=parts["scheduler"]
    )
    _check_clips(entries, pipeline)
    cache = EncodingCache(
        Path(config.cache) if config.cache else Path(config.data) / "cache",
        vae=folder / "vae",
        text_encoder=folder / "text_encoder",
        tokenizer=folder / "tokenizer",
        max_text_length=transformer.config.max_text_seq_length,
        store_pixels=isinstance(transformer, WarpGuidedTransformer3DModel),
    )
    _encode_dataset(entries, cache, folder, vae, dtype, accelerator, log)
    transformer.to(accelerator.device)
    configure_transformer(transformer, config, accelerator)
    trainable = [parameter for parameter in transformer.parameters() if parameter.requires_grad]
    adamw = torch.optim.AdamW(
        trainable, lr=config.learning_rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=config.weight_decay, fused=True
    )
    run = TrainingRun(
        stage="tune",
        out=out,
        checkpoint=out / "checkpoint",
        accelerator=accelerator,
        modules={"transformer": transformer},
        model=VelocityModel(transformer, bf16=config.bf16),
        optimizers={"adamw": adamw},
        log=log,
        trainable_only=True,
    )
    run.resume(config.ema_decay)
    run.log_start(len(entries))
    train_loop(run, FineTuningTask(entries, cache, pipeline, config))
    run.finish()
    if accelerator.is_main_process:
        export_published(out / "export", folder, transformer, config.lora_fuse)
    accelerator.wait_for_everyone()
    return out / "export"


def export_fine_tuned(config: FineTuningConfig, checkpoint: Path, folder: Path) -> Path:
    """Export a checkpoint as a pipeline folder. The base must still be in its place."""
    base = find_base(config.base)
    transformer = build_transformer(base, config, torch.float32)
    copy_weights(named_parameters({"transformer": transformer}, trainable_only=True), load_ema_weights(checkpoint))
    return export_published(folder, base, transformer, config.lora_fuse)


def find_base(name: str) -> Path:
    """Return the folder of a base, given as a folder or as the name of an installed model.

    Raise UsageError if there is none.
    """
    if (Path(name) / "model_index.json").is_file():
        return Path(name)
    models = {spec.name: spec for spec in registry.models()}
    if name not in models:
        fix = "Give --base the folder of a CogVideoX image-to-video model in diffusers' layout."
        raise UsageError("no-base", f"There is no model in {name}: it has no model_index.json.", fix)
    if not registry.is_present(models[name]):
        fix = f"Fetch it with `trackshade models fetch {name}`."
        raise UsageError("no-base", f"The model {name} is not on this machine.", fix)
    return registry.model_folder(models[name])


def build_transformer(folder: Path, config: FineTuningConfig, dtype: torch.dtype) -> TrackingTransformer3DModel:
    """Load the base's transformer with its tracking branch.

    Trained parameters (branch and LoRA) are float32, all others frozen and in `dtype`.
    """
    torch.manual_seed(config.seed)
    transformer = load_transformer(folder, config.num_tracking_blocks, dtype)
    transformer.requires_grad_(False)
    trainable = branch_parameters(transformer)
    if config.lora_rank:
        trainable += add_lora(transformer, config.lora_rank, config.lora_alpha)
    for parameter in trainable:
        parameter.requires_grad_(True)
        parameter.data = parameter.data.float()
    return transformer


def load_transformer(folder: Path, num_tracking_blocks: int, dtype: torch.dtype) -> TrackingTransformer3DModel:
    """Load a transformer with a tracking branch; a base without one gets copies of its first blocks.

    Raise ModelError if the transformer is of another class, not image-to-video, or cannot be loaded.
    """
    entry, weights = read_json(folder / "model_index.json").get("transformer"), folder / "transformer"
    name = str(entry[1]) if isinstance(entry, list) and len(entry) == 2 else ""
    if name in COMPONENTS["transformer"]:
        cls = component_class("transformer", name, weights)
        return cls.from_pretrained(weights, torch_dtype=dtype, local_files_only=True)
    if name != BASE_TRANSFORMER:
        raise ModelError(
            "wrong-weights",
            f"The transformer in {folder} is {name or 'not named'}, not {BASE_TRANSFORMER}.",
            "Choose another base.",
        )
    check_strictly(CogVideoXTransformer3DModel, weights)
    base = CogVideoXTransformer3DModel.from_pretrained(
        weights, torch_dtype=dtype, use_safetensors=True, local_files_only=True
    )
    if base.config["in_channels"] != 2 * base.config["out_channels"]:
        raise ModelError("wrong-weights", f"The base in {folder} takes no first frame.", "Choose image-to-video.")
    default_dtype = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # build the model in the base's precision, without a larger copy
    try:
        return TrackingTransformer3DModel.from_base(base, num_tracking_blocks=num_tracking_blocks)
    finally:
        torch.set_default_dtype(default_dtype)


def branch_parameters(transformer: TrackingTransformer3DModel) -> list[nn.Parameter]:
    """Return the parameters of the tracking branch."""
    parts = (
        transformer.transformer_blocks_copy,
        transformer.initial_combine_linear,
        transformer.combine_linears,
        getattr(transformer, "track_lookup", None),
    )
    return [parameter for part in parts if part is not None for parameter in part.parameters()]


def add_lora(transformer: TrackingTransformer3DModel, rank: int, alpha: int | None) -> list[nn.Parameter]:
    """Add a LoRA (Hu et al. 2021, arXiv 2106.09685) to the attention of the base's blocks, and return its parameters.

    Raise UsageError if peft is not installed.
    """
    if importlib.util.find_spec("peft") is None:
        raise UsageError("missing-library", "A LoRA needs the package peft.", "pip install 'trackshade[training]'")
    from peft import LoraConfig

    transformer.add_adapter(LoraConfig(r=rank, lora_alpha=alpha or rank, target_modules=_LORA_TARGETS))
    return [parameter for name, parameter in transformer.named_parameters() if ".lora_" in name]


def _check_clips(entries: tuple[DatasetEntry, ...], pipeline: DiffusionShaderPipeline) -> None:
    """Check that all clips have one shape, and that the model takes it."""
    shapes = dict(read_video_shapes(entries))
    first = shapes[entries[0]]
    for entry, shape in shapes.items():
        if shape != first:
            raise UsageError(
                "bad-dataset",
                f"{entry.video} has {shape[0]} frames of {shape[2]}x{shape[1]} pixels, and {entries[0].video} "
                f"{first[0]} of {first[2]}x{first[1]}.",
                "All clips of a dataset must have one shape.",
            )
    config = pipeline.transformer.config
    check_shape(
        first[0], (first[2], first[1]), config, pipeline.vae_scale_factor_spatial, pipeline.vae_scale_factor_temporal
    )


def _encode_dataset(
    entries: tuple[DatasetEntry, ...],
    cache: EncodingCache,
    folder: Path,
    vae: AutoencoderKLCogVideoX,
    dtype: torch.dtype,
    accelerator: Accelerator,
    log: RunLog,
) -> None:
    """Encode what is not cached yet, clips shared among the processes; load the text encoder only if needed."""
    clips = [entry for entry in entries if not cache.clip_file(entry).exists()]
    prompts = sorted({"", *(entry.prompt for entry in entries)})
    prompts = [prompt for prompt in prompts if not cache.text_file(prompt).exists()]
    accelerator.wait_for_everyone()  # every process has looked, so that all share one list
    clips = clips[accelerator.process_index :: accelerator.num_processes]
    for done, entry in enumerate(clips, start=1):
        cache.encode_clip(entry, vae)
        log({"stage": "encode", "done": done, "count": len(clips)})
    if accelerator.is_main_process and prompts:
        parts = load_components(folder, dtype, {"transformer": None, "vae": None, "scheduler": None})
        text_encoder = parts["text_encoder"].to(accelerator.device)
        for prompt in prompts:
            cache.encode_text(prompt, parts["tokenizer"], text_encoder)
        log({"stage": "encode", "text": f"{len(prompts)} captions encoded"})
        del text_encoder, parts
        gc.collect()
        if accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
    accelerator.wait_for_everyone()
