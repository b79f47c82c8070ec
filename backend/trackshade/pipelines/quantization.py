# SPDX-License-Identifier: GPL-3.0-or-later
"""Transformers with weights in 4 bits: which package does it, and what it needs."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from ..core.errors import ModelError


def quantization_options(quantize: str, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Return the options with which diffusers reads a transformer.

    Args:
        quantize: One of `trackshade.config.settings.QUANTIZATIONS`: "none", or "nf4" for the 4-bit normal floats of
            bitsandbytes (Dettmers et al. 2023, arXiv 2305.14314).
        dtype: Precision in which it computes.
        device: Device on which it runs.

    Raises:
        ModelError: The package is missing, or the device is no graphics card, which the package needs.
    """
    if quantize == "none":
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            "backend-incomplete",
            "Weights in 4 bits need the package bitsandbytes, which the backend's Python does not have.",
            "Install bitsandbytes there, or keep the weights as they are.",
        )
    if device.type != "cuda":
        raise ModelError(
            "no-graphics-card",
            f"Weights in 4 bits need a graphics card, and the device is {device}.",
            "Keep the weights as they are; the memory preset 8 stores them in 8 bits on any device.",
        )
    from diffusers.quantizers.quantization_config import BitsAndBytesConfig

    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return {"quantization_config": config}


def is_quantized(module: Any) -> bool:
    """Return whether a network's weights were quantized when they were read, such as those of a GGUF file."""
    return getattr(module, "hf_quantizer", None) is not None
