# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportPrivateImportUsage=false
"""Checkpoints of a run (safetensors and JSON, replaced atomically), and export of its weights as a pipeline folder."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import CogVideoXDPMScheduler
from diffusers.loaders.lora_pipeline import CogVideoXLoraLoaderMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedTokenizerFast

from trackshade.core.atomic_files import atomic_folder
from trackshade.core.errors import ModelError, UsageError
from trackshade.models.checkpoint import check_strictly, read_json, weight_files
from trackshade.models.das import TrackingTransformer3DModel
from trackshade.models.patch_autoencoder import PatchAutoencoder

Weights = Mapping[str, torch.Tensor]
Optimizers = Mapping[str, torch.optim.Optimizer]

BASE_TRANSFORMER = "CogVideoXTransformer3DModel"  # in model_index.json, a model without a tracking branch
_INDEX = {
    "_class_name": "DiffusionShaderPipeline",
    "vae": ["trackshade", "PatchAutoencoder"],
    "text_encoder": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "transformer": ["trackshade", "WarpGuidedTransformer3DModel"],
    "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
}
_MULTIVIEW_INDEX = {
    "_class_name": "MultiviewDenoiser",
    "vae": ["trackshade", "PatchAutoencoder"],
    "transformer": ["trackshade", "ReferenceGuidedTransformer3DModel"],
}
_MOTION_INDEX = {
    "_class_name": "MotionPipeline",
    "encoder": ["trackshade", "MotionEncoder"],
    "adapter": ["trackshade", "ViewAdapter"],
    "transformer": ["trackshade", "PuppetGuidedTransformer3DModel"],
    "vae": ["trackshade", "PatchAutoencoder"],
}
# What model_index.json of the published checkpoint says.
_PUBLISHED = {
    "_class_name": "CogVideoXImageToVideoPipelineTracking",
    "transformer": ["cogvideox_transformer_3d", "CogVideoXTransformer3DModelTracking"],
    "scheduler": ["diffusers", "CogVideoXDPMScheduler"],
}

# Parameters whose shape depends on the token size.
_PATCH_EMBED = "transformer.patch_embed.proj.weight"  # [dim, C, p, p]
_LOOKUP_EMBED = "transformer.track_lookup.content_proj.weight"  # [dim, C * (p * scale)^2]
_OUTPUTS = ("transformer.proj_out.", "transformer.track_lookup.uncertainty.")  # [C * p^2, dim] and [C * p^2]


@dataclass
class Progress:
    """How far a run has come: optimizer steps, samples, and seconds of training over all resumes."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0


def named_parameters(modules: Mapping[str, nn.Module], trainable_only: bool = False) -> dict[str, nn.Parameter]:
    """Return the parameters of several modules by `module.parameter` name, all of them or only the trainable ones."""
    return {
        f"{name}.{key}": parameter
        for name, module in modules.items()
        for key, parameter in module.named_parameters()
        if parameter.requires_grad or not trainable_only
    }


@torch.no_grad()
def copy_weights(target: Weights, source: Weights) -> None:
    """Copy `source` into `target` in place. Raise UsageError unless both have the same names."""
    if target.keys() != source.keys():
        names = sorted(target.keys() ^ source.keys())
        raise UsageError(
            "other-run",
            f"The checkpoint is of another model: only one of them has {', '.join(names[:3])}.",
            "Choose another folder.",
        )
    for key, tensor in target.items():
        tensor.copy_(source[key])


def save_checkpoint(folder: Path, weights: Weights, ema: Weights, optimizers: Optimizers, progress: Progress) -> None:
    """Write a checkpoint; a kill at any time leaves the previous or the new one complete."""
    with atomic_folder(folder, previous=folder.with_name(folder.name + ".old"), single_writer=True) as part:
        for name, tensors in (("weights", weights), ("average", ema), ("optimizers", _flatten_state(optimizers))):
            if tensors:
                tensors = {key: value.detach().contiguous().cpu() for key, value in tensors.items()}
                save_file(tensors, part / f"{name}.safetensors")
        (part / "progress.json").write_text(json.dumps(vars(progress), indent=1), encoding="utf-8")


def find_checkpoint(folder: Path) -> Path | None:
    """Return the latest complete checkpoint: `folder`, or its predecessor if a kill came between the two renames."""
    return next((f for f in (folder, folder.with_name(folder.name + ".old")) if (f / "progress.json").is_file()), None)


def load_checkpoint(folder: Path, weights: Weights, ema: Weights, optimizers: Optimizers) -> Progress:
    """Load a checkpoint into the given weights, EMA weights and optimizers, in place."""
    copy_weights(weights, load_file(folder / "weights.safetensors"))
    if ema:
        copy_weights(ema, load_ema_weights(folder))
    # Earlier versions wrote the second name.
    files = [folder / name for name in ("optimizers.safetensors", "optimisers.safetensors")]
    _restore_state(optimizers, next((load_file(file) for file in files if file.exists()), {}))
    values = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    return Progress(values["step"], values["samples"], values["seconds"])


def load_ema_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Load the EMA weights of a checkpoint, or the trained weights if it has no EMA."""
    ema = checkpoint / "average.safetensors"
    return load_file(ema if ema.exists() else checkpoint / "weights.safetensors")


def _flatten_state(optimizers: Optimizers) -> dict[str, torch.Tensor]:
    """Return the optimizers' state tensors by `optimizer/parameter index/key`."""
    return {
        f"{name}/{index}/{key}": torch.as_tensor(value).detach().clone()
        for name, optimizer in optimizers.items()
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }


def _restore_state(optimizers: Optimizers, tensors: Weights) -> None:
    """Restore what `_flatten_state` returned for optimizers of the same configuration."""
    for name, optimizer in optimizers.items():
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            owner, index, entry = key.split("/")
            if owner == name:
                state.setdefault(int(index), {})[entry] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def adapt_weights(source: Weights, target: Weights, scale: int) -> dict[str, torch.Tensor]:
    """Fit the weights of a trained model to the names and shapes of another one, whose tokens may have another size.

    Weights that are an image per token (patch embedding and output) are resized like images; sums over a patch are
    preserved. Weights that exist in `target` only, or do not fit, keep their values there. `scale` is the number of
    pixels per latent cell, of both models.
    """
    sizes = (source[_PATCH_EMBED].shape[-1], target[_PATCH_EMBED].shape[-1]) if _PATCH_EMBED in source else (1, 1)
    return {
        key: _adapt(key, source[key], value, sizes, scale) if key in source else value.detach()
        for key, value in target.items()
    }


def _adapt(key: str, source: torch.Tensor, target: torch.Tensor, sizes: tuple[int, int], scale: int) -> torch.Tensor:
    if source.shape == target.shape:
        return source.detach().to(target.dtype)
    before, after = sizes
    if key == _PATCH_EMBED:
        return _resize(source, after).to(target.dtype) * (before / after) ** 2
    if key == _LOOKUP_EMBED:
        images = source.reshape(len(source), -1, before * scale, before * scale)
        return _resize(images, after * scale).flatten(1).to(target.dtype) * (before / after) ** 2
    if key.startswith(_OUTPUTS):
        images = source.reshape(-1, before, before, source[0].numel()).permute(0, 3, 1, 2)  # [C, dim or 1, p, p]
        return _resize(images, after).permute(0, 2, 3, 1).reshape(target.shape).to(target.dtype)
    return target.detach()


def _resize(images: torch.Tensor, side: int) -> torch.Tensor:
    return nn.functional.interpolate(images.detach().float(), size=(side, side), mode="bilinear", align_corners=False)


def export_pipeline(
    folder: Path,
    vae: PatchAutoencoder,
    tokenizer: PreTrainedTokenizerFast,
    transformer: nn.Module,
    text_encoder: nn.Module,
    scheduler: SchedulerMixin,
) -> Path:
    """Replace `folder` by a pipeline folder of a model trained from scratch; an existing README.md is kept."""
    with atomic_folder(folder, single_writer=True) as part:
        for name, module in (("transformer", transformer), ("text_encoder", text_encoder), ("vae", vae)):
            # The autoencoder is small and in closed form: it keeps full precision.
            dtype = torch.float32 if name == "vae" else torch.bfloat16
            copy.deepcopy(module).to("cpu", dtype).save_pretrained(part / name, safe_serialization=True)
            _update_json(part / name / "config.json", {})
        tokenizer.save_pretrained(part / "tokenizer")
        scheduler.save_pretrained(part / "scheduler")
        (part / "model_index.json").write_text(json.dumps(_INDEX, indent=2) + "\n", encoding="utf-8")
        if (folder / "README.md").exists():
            shutil.copy2(folder / "README.md", part / "README.md")
    return folder


def export_multiview(folder: Path, vae: PatchAutoencoder, transformer: nn.Module) -> Path:
    """Replace `folder` by the folder of a multiview denoiser; an existing README.md is kept."""
    with atomic_folder(folder, single_writer=True) as part:
        for name, module, dtype in (("transformer", transformer, torch.bfloat16), ("vae", vae, torch.float32)):
            copy.deepcopy(module).to("cpu", dtype).save_pretrained(part / name, safe_serialization=True)
            _update_json(part / name / "config.json", {})
        (part / "model_index.json").write_text(json.dumps(_MULTIVIEW_INDEX, indent=2) + "\n", encoding="utf-8")
        if (folder / "README.md").exists():
            shutil.copy2(folder / "README.md", part / "README.md")
    return folder


def export_motion(folder: Path, modules: Mapping[str, nn.Module]) -> Path:
    """Replace `folder` by the folder of a motion pipeline; an existing README.md is kept.

    Args:
        folder: the folder.
        modules: "encoder", "adapter", "transformer" and "vae".
    """
    with atomic_folder(folder, single_writer=True) as part:
        for name, module in modules.items():
            dtype = torch.float32 if name == "vae" else torch.bfloat16
            copy.deepcopy(module).to("cpu", dtype).save_pretrained(part / name, safe_serialization=True)
            _update_json(part / name / "config.json", {})
        (part / "model_index.json").write_text(json.dumps(_MOTION_INDEX, indent=2) + "\n", encoding="utf-8")
        if (folder / "README.md").exists():
            shutil.copy2(folder / "README.md", part / "README.md")
    return folder


def export_published(folder: Path, base: Path, transformer: TrackingTransformer3DModel, fuse_lora: bool) -> Path:
    """Replace `folder` by the base's pipeline with this transformer, in the published checkpoint's layout.

    The weights get the precision of the base's. A LoRA in the transformer is written to `lora/`, fused into the
    weights if `fuse_lora`, and removed from the transformer. A base with a tracking branch keeps its class names.

    Raise ModelError if the folder cannot be written.
    """
    try:
        with atomic_folder(folder, single_writer=True) as part:
            if getattr(transformer, "peft_config", None):
                _save_lora(transformer, part / "lora")
                if fuse_lora:
                    transformer.fuse_lora()
                transformer.unload_lora()
            with safe_open(weight_files(base / "transformer")[0], framework="pt") as stored:
                dtype = stored.get_tensor(next(iter(stored.keys()))).dtype
            transformer.to("cpu", dtype).save_pretrained(part / "transformer", safe_serialization=True)
            for name in ("vae", "text_encoder", "tokenizer", "scheduler"):
                shutil.copytree(base / name, part / name, copy_function=_link_or_copy)
            index = read_json(base / "model_index.json")
            if index["transformer"][1] == BASE_TRANSFORMER:
                index |= _PUBLISHED
                shutil.rmtree(part / "scheduler")
                config = CogVideoXDPMScheduler.load_config(base / "scheduler")
                scheduler = CogVideoXDPMScheduler.from_config(config, timestep_spacing="trailing")
                scheduler.save_pretrained(part / "scheduler")
            (part / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
            _update_json(part / "transformer" / "config.json", {"_class_name": index["transformer"][1]})
            check_strictly(type(transformer), part / "transformer")
    except OSError as error:
        raise ModelError("output-unwritable", f"The model cannot be written to {folder}: {error}.") from error
    return folder


def _save_lora(transformer: TrackingTransformer3DModel, folder: Path) -> None:
    """Save the LoRA so that diffusers' `load_lora_weights` and `load_lora_adapter` can load it."""
    from peft.utils import get_peft_model_state_dict

    config = transformer.peft_config["default"].to_dict()
    CogVideoXLoraLoaderMixin.save_lora_weights(
        folder,
        transformer_lora_layers=get_peft_model_state_dict(transformer),
        transformer_lora_adapter_metadata={k: sorted(v) if isinstance(v, set) else v for k, v in config.items()},
        safe_serialization=True,
    )


def _link_or_copy(source: str, target: str) -> None:
    """Hard-link weights (a text encoder has 9 GB) where the disk can; copy other files, which people edit."""
    if source.endswith(".safetensors"):
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copy2(source, target)


def _update_json(config: Path, changes: dict[str, str]) -> None:
    """Change a component's config.json, and drop the folder it was loaded from."""
    values = read_json(config) | changes
    values.pop("_name_or_path", None)
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
