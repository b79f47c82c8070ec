# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints of a run: tensors as safetensors, the rest as JSON, written beside and swapped in whole."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from trackshade.core.errors import UsageError

from .optimizers import pack, unpack


@dataclass
class Progress:
    step: int = 0
    samples: int = 0
    seconds: float = 0.0  # of training, over all resumes
    config: dict[str, Any] = field(default_factory=dict)


def weights(modules: dict[str, nn.Module], trained_only: bool = False) -> dict[str, torch.Tensor]:
    """Parameters by `module.name`, detached (shared with the modules): all, or those that are trained."""
    return {
        f"{name}.{key}": parameter.detach()
        for name, module in modules.items()
        for key, parameter in module.named_parameters()
        if parameter.requires_grad or not trained_only
    }


def put_weights(own: dict[str, torch.Tensor], tensors: dict[str, torch.Tensor]) -> None:
    """Copy tensors into `own` (from `weights`); every one must be there, and nothing else. Raises UsageError."""
    if own.keys() != tensors.keys():
        odd = sorted(own.keys() ^ tensors.keys())
        raise UsageError(
            "other-run",
            f"The checkpoint is of another model: {', '.join(odd[:3])} {'are' if len(odd) > 1 else 'is'} in one only.",
            "Choose another folder.",
        )
    with torch.no_grad():
        for key, parameter in own.items():
            parameter.copy_(tensors[key])


def save_checkpoint(
    folder: Path,
    own: dict[str, torch.Tensor],
    average: dict[str, torch.Tensor],
    optimizers: dict[str, torch.optim.Optimizer],
    progress: Progress,
) -> None:
    """Write the checkpoint so that a kill at any time leaves a whole one."""
    part, old = folder.with_name(folder.name + ".part"), folder.with_name(folder.name + ".old")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, tensors in (("weights", own), ("average", average), ("optimizers", pack(optimizers))):
        if tensors:
            save_file({key: value.contiguous().cpu() for key, value in tensors.items()}, part / f"{name}.safetensors")
    (part / "progress.json").write_text(json.dumps(vars(progress), indent=1), encoding="utf-8")
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
    os.replace(part, folder)
    shutil.rmtree(old, ignore_errors=True)


def find_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint: the folder, or its predecessor if a kill came between the two renames."""
    return next((f for f in (folder, folder.with_name(folder.name + ".old")) if (f / "progress.json").is_file()), None)


def best_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The averaged weights of a checkpoint, or the trained ones where none are averaged."""
    average = checkpoint / "average.safetensors"
    return load_file(average if average.exists() else checkpoint / "weights.safetensors")


def load_checkpoint(
    folder: Path,
    own: dict[str, torch.Tensor],
    average: dict[str, torch.Tensor],
    optimizers: dict[str, torch.optim.Optimizer],
) -> Progress:
    """Read a checkpoint into the given weights, averages and optimizers."""
    put_weights(own, load_file(folder / "weights.safetensors"))
    if average:
        put_weights(average, best_weights(folder))
    for name in ("optimizers.safetensors", "optimisers.safetensors"):  # the second is how earlier versions spelled it
        if (folder / name).exists():
            unpack(optimizers, load_file(folder / name))
            return Progress(**json.loads((folder / "progress.json").read_text(encoding="utf-8")))
    unpack(optimizers, {})
    return Progress(**json.loads((folder / "progress.json").read_text(encoding="utf-8")))
