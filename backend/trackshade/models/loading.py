# SPDX-License-Identifier: GPL-3.0-or-later
"""From a registry entry to a pipeline on a device."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..config.registry import ModelSpec, is_present, model_folder
from ..core.errors import ModelError

if TYPE_CHECKING:
    import torch

    from ..pipelines import DiffusionShaderPipeline

Progress = Callable[[float, str], None]  # share done 0..1, what is being done
OFFLOADS = ("none", "model", "sequential")


def default_device() -> str:
    """The best device here: "cuda", "mps" or "cpu"."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load_pipeline(
    spec: ModelSpec,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress | None = None,
    offload: str = "none",
    vae_saving: bool | None = None,
) -> DiffusionShaderPipeline:
    """The pipeline of `spec`, ready to call.

    `device`: None for the best one here. `dtype`: None for float32 on a CPU and bfloat16 elsewhere. `offload`:
    "none", "model" (parts
    visit the device in turn) or "sequential" (layers do: least memory, slowest); without effect on a CPU.
    `vae_saving`: slice and tile the
    autoencoder, which changes the numbers slightly; None for where memory needs it.
    Raises ModelError: weights missing, damaged or wrong; out of memory; unknown device.
    """
    module, _, function = spec.loader.partition(":")
    loader = getattr(importlib.import_module(module), function)
    return loader(spec, device=device, dtype=dtype, progress=progress, offload=offload, vae_saving=vae_saving)


def load_diffusers(
    spec: ModelSpec,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress | None = None,
    offload: str = "none",
    vae_saving: bool | None = None,
) -> DiffusionShaderPipeline:
    """Loader of checkpoints in diffusers' layout; see `load_pipeline`."""
    report = progress or (lambda share, what: None)
    folder = model_folder(spec)
    if not is_present(spec):
        raise ModelError(
            "missing-weights",
            f"The weights of {spec.name} are not on this machine (looked in {folder}).",
            _how_to_get(spec),
        )
    if offload not in OFFLOADS:
        raise ModelError(
            "bad-input", f"There is no offload option '{offload}'.", f"Choose one of {', '.join(OFFLOADS)}."
        )
    report(0.0, "starting torch")
    import torch

    from ..pipelines import DiffusionShaderPipeline
    from ..pipelines.diffusion_shader import out_of_memory_explained

    try:
        place = torch.device(device or default_device())
    except RuntimeError as error:
        raise ModelError("unknown-device", f"There is no device '{device}'.", "Use cpu, cuda or cuda:N.") from error
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ModelError("unknown-device", "There is no CUDA device that torch can use.", "Use --device cpu.")
    precision = dtype or (torch.float32 if place.type == "cpu" else torch.bfloat16)
    report(0.1, f"loading {spec.name}")
    with out_of_memory_explained():
        pipeline = DiffusionShaderPipeline.from_pretrained(folder, torch_dtype=precision)
        pipeline.set_progress_bar_config(disable=True)
        report(0.8, f"moving {spec.name} to {place}")
        if offload == "none" or place.type == "cpu":
            pipeline.to(place)
        elif offload == "model":
            pipeline.enable_model_cpu_offload(device=place)
        else:
            pipeline.enable_sequential_cpu_offload(device=place)
        if _small(place, spec) if vae_saving is None else vae_saving:
            pipeline.enable_vae_saving()
    report(1.0, "ready")
    return pipeline


def _how_to_get(spec: ModelSpec) -> str:
    if spec.folder:
        return "Choose its folder again."
    return "Reinstall Trackshade." if spec.shipped else f"Fetch them with `trackshade models fetch {spec.name}`."


def _small(device: torch.device, spec: ModelSpec) -> bool:
    """Whether a device has less memory than the model's autoencoder wants at once."""
    import torch

    return device.type == "cuda" and torch.cuda.get_device_properties(device).total_memory < 1.2 * spec.memory_bytes
