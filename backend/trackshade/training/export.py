# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportCallIssue=false
"""Write trained parts as a pipeline folder in diffusers' layout, weights in half precision."""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from ..models import PatchAutoencoder
from .latents import make_scheduler

INDEX = {
    "_class_name": "DiffusionShaderPipeline",
    "vae": ["trackshade", "PatchAutoencoder"],
    "text_encoder": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "transformer": ["trackshade", "TrackingTransformer3DModel"],
    "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
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


def _forget_path(config: Path) -> None:
    """Drop the folder that a part was loaded from: it means nothing elsewhere."""
    values = json.loads(config.read_text(encoding="utf-8"))
    values.pop("_name_or_path", None)
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
