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

from .optimisers import pack, unpack


@dataclass
class Progress:
    step: int = 0
    samples: int = 0
    seconds: float = 0.0  # of training, over all resumes
    config: dict[str, Any] = field(default_factory=dict)


def weights(modules: dict[str, nn.Module]) -> dict[str, torch.Tensor]:
    """All parameters by `module.name`, detached (shared with the modules)."""
    return {f"{name}.{key}": p.detach() for name, module in modules.items() for key, p in module.named_parameters()}


def put_weights(modules: dict[str, nn.Module], tensors: dict[str, torch.Tensor]) -> None:
    """Copy tensors back into the modules; every parameter must be there."""
    with torch.no_grad():
        for key, parameter in weights(modules).items():
            parameter.copy_(tensors[key])


def save_checkpoint(
    folder: Path,
    modules: dict[str, nn.Module],
    average: dict[str, torch.Tensor],
    optimisers: dict[str, torch.optim.Optimizer],
    progress: Progress,
) -> None:
    """Write the checkpoint so that a kill at any time leaves a whole one."""
    part, old = folder.with_name(folder.name + ".part"), folder.with_name(folder.name + ".old")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, tensors in (("weights", weights(modules)), ("average", average), ("optimisers", pack(optimisers))):
        save_file({key: value.contiguous().cpu() for key, value in tensors.items()}, part / f"{name}.safetensors")
    (part / "progress.json").write_text(json.dumps(vars(progress), indent=1), encoding="utf-8")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(part, folder)
    shutil.rmtree(old, ignore_errors=True)


def find_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint: the folder, or its predecessor if a kill came between the two renames."""
    return next((f for f in (folder, folder.with_name(folder.name + ".old")) if (f / "progress.json").is_file()), None)


def load_checkpoint(
    folder: Path,
    modules: dict[str, nn.Module],
    average: dict[str, torch.Tensor],
    optimisers: dict[str, torch.optim.Optimizer],
) -> Progress:
    """Read a checkpoint into the given modules, averages and optimisers."""
    put_weights(modules, load_file(folder / "weights.safetensors"))
    for key, value in load_file(folder / "average.safetensors").items():
        average[key].copy_(value)
    unpack(optimisers, load_file(folder / "optimisers.safetensors"))
    return Progress(**json.loads((folder / "progress.json").read_text(encoding="utf-8")))
