# SPDX-License-Identifier: GPL-3.0-or-later
"""Applies a memory preset to a pipeline: offloading, weights in 8 bits, and tiles of the autoencoder."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.hooks.group_offloading import apply_group_offloading

from ..config.memory_presets import MemoryPreset
from .quantization import is_quantized

_TRANSFORMERS = ("transformer", "transformer_2")
_ENCODERS = ("text_encoder", "image_encoder")


def apply_preset(pipeline: Any, preset: MemoryPreset, device: torch.device) -> None:
    """Move a pipeline to a device, or prepare it to visit the device in parts.

    On a CPU, "model" offloading has no effect. Transformers whose weights are quantized already are small: they visit
    the device as a whole, and stay as they are.
    """
    modules: dict[str, Any] = {
        name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)
    }
    offload = prepare_transformers(list(transformers_of(pipeline).values()), preset, device)
    if offload == "group":
        for name in _ENCODERS:
            if name in modules:
                apply_group_offloading(modules[name], device, offload_type="leaf_level")
        for name in modules.keys() - {*_TRANSFORMERS, *_ENCODERS}:
            modules[name].to(device)  # the autoencoder and others are small, and work alone
    elif offload == "model" and device.type != "cpu":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.to(device)
    if preset.is_tiled:
        enable_tiling(pipeline.vae)


def prepare_transformers(transformers: Sequence[Any], preset: MemoryPreset, device: torch.device) -> str:
    """Prepare transformers to visit a device in parts, or to be moved there.

    Returns:
        How they get there: "group" if they do by themselves, "model" or "none" if they have to be moved.
    """
    offload = preset.offload
    if any(map(is_quantized, transformers)):
        offload = "model" if offload == "group" else offload
    elif preset.is_float8:
        for transformer in transformers:
            transformer.enable_layerwise_casting(torch.float8_e4m3fn, transformer.dtype)
    if offload == "group":
        level, blocks = ("block_level", preset.blocks) if preset.blocks else ("leaf_level", None)
        for transformer in transformers:
            apply_group_offloading(transformer, device, offload_type=level, num_blocks_per_group=blocks)
    return offload


def transformers_of(pipeline: Any) -> dict[str, Any]:
    """Return the transformers of a pipeline by their names."""
    found = {name: getattr(pipeline, name, None) for name in _TRANSFORMERS}
    return {name: transformer for name, transformer in found.items() if transformer is not None}


def enable_tiling(vae: Any) -> None:
    """Let an autoencoder work in slices and tiles if it can: less memory, slightly different numbers."""
    for name in ("enable_slicing", "enable_tiling"):
        if hasattr(vae, name):
            getattr(vae, name)()


def free_memory(device: torch.device) -> int | None:
    """Return the bytes of a CUDA device that are free, after those that torch keeps for later; None for others."""
    if device.type != "cuda":
        return None
    gc.collect()
    with torch.cuda.device(device):
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0]
