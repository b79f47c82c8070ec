# SPDX-License-Identifier: GPL-3.0-or-later
"""Loading of models of all families, by their registry entries."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config.model_spec import ModelSpec
from ..loading import Progress, load_pipeline, load_with, read_transformer
from .family import ModelFamily
from .layout import read_pipeline

if TYPE_CHECKING:
    import torch


def family_class(spec: ModelSpec) -> type[ModelFamily]:
    """Return the class of a model's family."""
    module, _, name = spec.family.partition(":")
    return getattr(importlib.import_module(module), name)


def load_model(spec: ModelSpec, device: str | None = None, *, compiles: bool = False, **options: Any) -> ModelFamily:
    """Load a model onto a device.

    Args:
        spec: Registry entry.
        device: See `trackshade.pipelines.loading.load_diffusers`.
        compiles: Whether the transformer's blocks are compiled in the first step.
        **options: Further options of `load_diffusers`.

    Raises:
        ModelError: As in `load_diffusers`.
    """
    model = family_class(spec)(spec, load_pipeline(spec, device, **options))
    if compiles:
        model.compile_blocks()
    return model


def load_transformers(
    spec: ModelSpec,
    device: torch.device,
    dtype: torch.dtype,
    loras: Sequence[tuple[Path, float]] = (),
    quantize: str = "none",
) -> dict[str, Any]:
    """Read the transformers of a model alone, into main memory; return them by their names.

    Args:
        spec: Registry entry.
        device: Device on which they will run.
        dtype: Precision.
        loras: LoRA files (.safetensors) and their strengths.
        quantize: How weights of transformers are stored.

    Raises:
        ModelError: if weights are missing, damaged or wrong.
    """
    from ..memory import transformers_of
    from ..quantization import quantization_options

    layout, options = family_class(spec).layout, quantization_options(quantize, dtype, device)
    if layout is None:
        return {"transformer": read_transformer(spec, dtype, options)}
    return transformers_of(read_pipeline(spec, layout, dtype, loras, options, has_all=False))


def load_layout(
    spec: ModelSpec,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress | None = None,
    memory: str = "auto",
    loras: Sequence[tuple[Path, float]] = (),
    quantize: str = "none",
) -> Any:
    """Load the pipeline of diffusers that a model's family names, ready to call.

    Args:
        spec: Registry entry.
        device: See `trackshade.pipelines.loading.load_diffusers`, as all others.
        dtype: Precision.
        progress: Progress.
        memory: Memory preset.
        loras: LoRA files (.safetensors) and their strengths.
        quantize: How weights of transformers are stored.

    Raises:
        ModelError: if weights are missing, damaged or wrong, memory does not suffice, or there is no such device.
    """
    layout = family_class(spec).layout
    assert layout is not None

    def read(precision: torch.dtype, target: torch.device) -> Any:
        from ..quantization import quantization_options

        return read_pipeline(spec, layout, precision, loras, quantization_options(quantize, precision, target))

    return load_with(spec, read, device, dtype, progress, memory)
