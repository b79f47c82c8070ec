# SPDX-License-Identifier: GPL-3.0-or-later
# pyright: reportPrivateImportUsage=false
"""Arguments of a transformer as JSON, with the tensors aside, for the processes that run it together."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist


def pack(value: Any, tensors: list[torch.Tensor]) -> Any:
    """Return arguments as values of JSON; their tensors are appended to a list in order.

    Raises:
        TypeError: A value is of another kind.
    """
    if isinstance(value, torch.Tensor):
        tensors.append(value)
        return {"tensor": [str(value.dtype).removeprefix("torch."), list(value.shape)]}
    if isinstance(value, dict):
        return {"map": {key: pack(item, tensors) for key, item in value.items()}}
    if isinstance(value, tuple | list):
        return {type(value).__name__: [pack(item, tensors) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"A transformer was given a {type(value).__name__}, which cannot be sent to another process.")


def unpack(packed: Any, tensors: list[torch.Tensor], device: torch.device) -> Any:
    """Return what `pack` was given, with empty tensors on a device, which are appended to a list in order."""
    if not isinstance(packed, dict):
        return packed
    (kind, value), *_ = packed.items()
    if kind == "tensor":
        tensors.append(torch.empty(value[1], dtype=getattr(torch, value[0]), device=device))
        return tensors[-1]
    if kind == "map":
        return {key: unpack(item, tensors, device) for key, item in value.items()}
    return (tuple if kind == "tuple" else list)(unpack(item, tensors, device) for item in value)


def broadcast(tensors: list[torch.Tensor], device: torch.device) -> None:
    """Send tensors from rank 0 to all ranks, where they are filled.

    Args:
        tensors: The tensors, of the same shapes in all ranks.
        device: This rank's device; those of rank 0 may be on another one.
    """
    for tensor in tensors:
        value = tensor.to(device).contiguous()
        dist.broadcast(value.view(torch.uint8) if value.dtype == torch.bool else value, 0)


def join_group(device: torch.device, rank: int, size: int, file: str) -> None:
    """Make this process a rank of a process group, when all of them call this.

    Args:
        device: This rank's device.
        rank: Its number; 0 for the worker.
        size: Number of ranks.
        file: Path of a file by which they find each other, which does not exist yet.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "cpu:gloo"
    dist.init_process_group(backend, store=dist.FileStore(file, size), rank=rank, world_size=size)
