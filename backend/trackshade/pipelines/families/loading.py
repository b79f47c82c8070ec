# SPDX-License-Identifier: GPL-3.0-or-later
"""Loading of models of all families, by their registry entries."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config.registry import ModelSpec
from ..loading import Progress, load_pipeline, load_with
from .family import ModelFamily
from .layout import read_pipeline

if TYPE_CHECKING:
    import torch


def family_class(spec: ModelSpec) -> type[ModelFamily]:
    """Return the class of a model's family."""
    module, _, name = spec.family.partition(":")
    return getattr(importlib.import_module(module), name)


def load_model(spec: ModelSpec, device: str | None = None, **options: Any) -> ModelFamily:
    """Load a model onto a device; options as in `trackshade.pipelines.loading.load_diffusers`. Raise ModelError."""
    return family_class(spec)(spec, load_pipeline(spec, device, **options))


def load_layout(
    spec: ModelSpec,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress | None = None,
    memory: str = "auto",
    loras: Sequence[tuple[Path, float]] = (),
) -> Any:
    """Load the pipeline of diffusers that a model's family names, ready to call.

    Args:
        spec: Registry entry.
        device: See `trackshade.pipelines.loading.load_diffusers`, as all others.
        dtype: Precision.
        progress: Progress.
        memory: Memory preset.
        loras: LoRA files (.safetensors) and their strengths.

    Raises:
        ModelError: if weights are missing, damaged or wrong, memory does not suffice, or there is no such device.
    """
    layout = family_class(spec).layout
    assert layout is not None
    return load_with(
        spec, lambda precision: read_pipeline(spec, layout, precision, loras), device, dtype, progress, memory
    )
