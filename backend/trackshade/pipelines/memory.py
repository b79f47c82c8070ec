# SPDX-License-Identifier: GPL-3.0-or-later
"""Applies a memory preset to a pipeline: offloading, weights in 8 bits, and tiles of the autoencoder."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import torch
from diffusers.hooks.group_offloading import apply_group_offloading

from ..config.memory_presets import MemoryPreset

if TYPE_CHECKING:
    from .diffusion_shader import DiffusionShaderPipeline


def apply_preset(pipeline: DiffusionShaderPipeline, preset: MemoryPreset, device: torch.device) -> None:
    """Move a pipeline to a device, or prepare it to visit the device in parts.

    On a CPU, "model" offloading has no effect.
    """
    if preset.is_float8:
        pipeline.transformer.enable_layerwise_casting(torch.float8_e4m3fn, pipeline.transformer.dtype)
    if preset.offload == "group":
        level, blocks = ("block_level", preset.blocks) if preset.blocks else ("leaf_level", None)
        apply_group_offloading(pipeline.transformer, device, offload_type=level, num_blocks_per_group=blocks)
        apply_group_offloading(pipeline.text_encoder, device, offload_type="leaf_level")
        pipeline.vae.to(device)  # it is small, and works alone
    elif preset.offload == "model" and device.type != "cpu":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.to(device)
    if preset.is_tiled:
        pipeline.enable_vae_tiling()


def free_memory(device: torch.device) -> int | None:
    """Return the bytes of a CUDA device that are free, after those that torch keeps for later; None for others."""
    gc.collect()
    if device.type != "cuda":
        return None
    with torch.cuda.device(device):
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0]
