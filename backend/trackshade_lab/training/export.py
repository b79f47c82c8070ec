# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportPrivateImportUsage=false
"""Write trained parts as a pipeline folder in diffusers' layout, weights in half precision."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
from pathlib import Path

import torch
from diffusers import CogVideoXDPMScheduler
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedTokenizerFast

from trackshade.core.errors import ModelError
from trackshade.models import PatchAutoencoder, TrackingTransformer3DModel
from trackshade.models.checkpoint import check_strictly, read_json, weight_files

from .base import PLAIN, transformer_class
from .latents import make_scheduler

INDEX = {
    "_class_name": "DiffusionShaderPipeline",
    "vae": ["trackshade", "PatchAutoencoder"],
    "text_encoder": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "transformer": ["trackshade", "WarpGuidedTransformer3DModel"],
    "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
}


# What the published checkpoint's index says.
PUBLISHED = {
    "_class_name": "CogVideoXImageToVideoPipelineTracking",
    "transformer": ["cogvideox_transformer_3d", "CogVideoXTransformer3DModelTracking"],
    "scheduler": ["diffusers", "CogVideoXDPMScheduler"],
}


def export(
    folder: Path,
    vae: PatchAutoencoder,
    tokenizer: PreTrainedTokenizerFast,
    transformer: nn.Module,
    text_encoder: nn.Module,
) -> Path:
    """Write `folder` anew and whole; returns it. A model card (README.md) that is there is kept."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, module in (("transformer", transformer), ("text_encoder", text_encoder), ("vae", vae)):
        # bfloat16 keeps three digits: enough for all but the closed-form autoencoder, which is small.
        dtype = torch.float32 if name == "vae" else torch.bfloat16
        # type: ignore[operator]
        copy.deepcopy(module).to("cpu", dtype).save_pretrained(part / name, safe_serialization=True)
        _forget_path(part / name / "config.json")
    tokenizer.save_pretrained(part / "tokenizer")
    make_scheduler().save_pretrained(part / "scheduler")
    (part / "model_index.json").write_text(json.dumps(INDEX, indent=2) + "\n", encoding="utf-8")
    if (folder / "README.md").exists():
        shutil.copy2(folder / "README.md", part / "README.md")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)
    return folder


def export_published(folder: Path, base: Path, transformer: TrackingTransformer3DModel, fuse: bool) -> Path:
    """Write a base's folder anew with this transformer, in the published checkpoint's layout and the base's precision.

    A LoRA in the transformer is written to `lora/`, and with `fuse` into the weights as well; the transformer has none
    afterwards. A base with a tracking branch keeps the names that it has. Raises ModelError: it cannot be written.
    """
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        if getattr(transformer, "peft_config", None):
            from .lora import fuse_lora, save_lora

            save_lora(transformer, part / "lora")
            fuse_lora(transformer) if fuse else transformer.unload_lora()
        transformer.to("cpu", _precision(base / "transformer"))
        transformer.save_pretrained(part / "transformer", safe_serialization=True)
        for name in ("vae", "text_encoder", "tokenizer", "scheduler"):
            shutil.copytree(base / name, part / name, copy_function=_link)
        index = read_json(base / "model_index.json")
        if transformer_class(base) == PLAIN:
            index |= PUBLISHED
            shutil.rmtree(part / "scheduler")
            schedule = CogVideoXDPMScheduler.load_config(base / "scheduler")
            CogVideoXDPMScheduler.from_config(schedule, timestep_spacing="trailing").save_pretrained(part / "scheduler")
        (part / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        _publish(part / "transformer" / "config.json", index["transformer"][1])
        check_strictly(type(transformer), part / "transformer")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    except OSError as error:
        raise ModelError("output-unwritable", f"The model cannot be written to {folder}: {error}.") from error
    return folder


def _precision(folder: Path) -> torch.dtype:
    """Of a component's stored weights."""
    with safe_open(weight_files(folder)[0], framework="pt") as stored:
        return stored.get_tensor(next(iter(stored.keys()))).dtype


def _link(source: str, target: str) -> None:
    """Weights get a second name where the disk can do that: a text encoder is 9 GB. The rest, which people edit, is
    copied.
    """
    if source.endswith(".safetensors"):
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copy2(source, target)


def _publish(config: Path, name: str) -> None:
    """The class as the index names it."""
    _forget_path(config)
    values = read_json(config) | {"_class_name": name}
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _forget_path(config: Path) -> None:
    """Drop the folder that a part was loaded from: it means nothing elsewhere."""
    values = json.loads(config.read_text(encoding="utf-8"))
    values.pop("_name_or_path", None)
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
