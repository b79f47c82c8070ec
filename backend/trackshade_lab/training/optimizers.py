# SPDX-License-Identifier: GPL-3.0-or-later
"""Muon on the matrices of the blocks, AdamW on the rest, one learning-rate factor over both."""

from __future__ import annotations

import re

import torch
from torch import nn

from .config import TrainConfig

# Matrices between hidden features; modulation, embedding and output matrices are AdamW's, as is the rule with Muon.
_MATRICES = re.compile(
    r"(attn1\.to_(q|k|v|out\.0)|ff\.net\.(0\.proj|2)|combine_linears\.\d+|initial_combine_linear)\.weight$"
)


def make_optimizers(modules: dict[str, nn.Module], config: TrainConfig) -> dict[str, torch.optim.Optimizer]:
    """Optimizers by name over the trainable parameters of `modules`, always in the same order."""
    named = [
        (f"{name}.{key}", p)
        for name, module in modules.items()
        for key, p in module.named_parameters()
        if p.requires_grad
    ]
    matrices = [(name, p) for name, p in named if _MATRICES.search(name)]
    others = [(name, p) for name, p in named if not _MATRICES.search(name)]
    optimizers: dict[str, torch.optim.Optimizer] = {}
    if matrices:
        optimizers["muon"] = torch.optim.Muon(
            matrices, lr=config.matrix_rate, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )
    if others:
        optimizers["adamw"] = torch.optim.AdamW(
            others, lr=config.other_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
        )
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def rate_factor(step: int, progress: float, warmup: int) -> float:
    """Linear warm-up over `warmup` steps, then linear decay to zero at progress 1."""
    return min(1.0, (step + 1) / max(1, warmup)) * max(0.0, 1.0 - progress)


def set_rate(optimizers: dict[str, torch.optim.Optimizer], factor: float) -> None:
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor


def pack(optimizers: dict[str, torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """State tensors by name `optimizer/parameter index/key`."""
    return {
        f"{name}/{index}/{key}": torch.as_tensor(value).detach().clone().contiguous()
        for name, optimizer in optimizers.items()
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }


def unpack(optimizers: dict[str, torch.optim.Optimizer], tensors: dict[str, torch.Tensor]) -> None:
    """Inverse of `pack`; the optimizers must be those of the same configuration."""
    for name, optimizer in optimizers.items():
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            owner, index, entry = key.split("/")
            if owner == name:
                state.setdefault(int(index), {})[entry] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
