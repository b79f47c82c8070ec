# SPDX-License-Identifier: GPL-3.0-or-later
"""Loading of pipelines by their registry entries, onto a device."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.memory_presets import MEMORY_CHOICES, choose_preset
from ..config.model_spec import ModelSpec
from ..config.registry import is_present, model_folder
from ..core.errors import ModelError

if TYPE_CHECKING:
    import torch

    from .diffusion_shader import DiffusionShaderPipeline

Progress = Callable[[float, str], None]  # fraction done, 0 to 1, and what is being done


def default_device() -> str:
    """Return the best device of this machine: "cuda", "mps" or "cpu"."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load_pipeline(spec: ModelSpec, device: str | None = None, **options: Any) -> Any:
    """Load the pipeline of a registered model by the function that its `loader` names; see `load_diffusers`."""
    module, _, function = spec.loader.partition(":")
    return getattr(importlib.import_module(module), function)(spec, device=device, **options)


def load_diffusers(
    spec: ModelSpec,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress | None = None,
    memory: str = "auto",
    loras: Sequence[tuple[Path, float]] = (),
    quantize: str = "none",
) -> DiffusionShaderPipeline:
    """Load a Diffusion as Shader checkpoint, ready to call.

    Args:
        spec: Registry entry.
        device: Device of torch. None: the best one of this machine.
        dtype: Precision. None: float32 on a CPU and bfloat16 elsewhere.
        progress: Called with the fraction done and with what is being done.
        memory: One of `trackshade.config.memory_presets.MEMORY_CHOICES`; "auto" chooses by the device's free memory.
            The pipeline tells what was chosen as its `memory_preset`.
        loras: LoRA files (.safetensors) and their strengths; this pipeline takes none.
        quantize: How the transformer's weights are stored; see `trackshade.pipelines.quantization`.

    Raises:
        ModelError: if weights are missing, damaged or wrong, memory does not suffice, or there is no such device.
    """

    def read(precision: torch.dtype, target: torch.device) -> DiffusionShaderPipeline:
        from .diffusion_shader import DiffusionShaderPipeline
        from .quantization import quantization_options

        if loras:
            raise ModelError("bad-input", f"The model {spec.name} takes no LoRA files.", "Leave them out.")
        options, parts = quantization_options(quantize, precision, target), {}
        if options:
            parts["transformer"] = read_transformer(spec, precision, options)
        return DiffusionShaderPipeline.from_pretrained(model_folder(spec), torch_dtype=precision, **parts)

    return load_with(spec, read, device, dtype, progress, memory)


def read_transformer(spec: ModelSpec, dtype: torch.dtype, options: Mapping[str, Any]) -> Any:
    """Read the transformer of a Diffusion as Shader checkpoint.

    Args:
        spec: Registry entry.
        dtype: Precision.
        options: Options of `trackshade.pipelines.quantization`.
    """
    from ..models.loading import component_class

    folder = model_folder(spec) / "transformer"
    cls = component_class("transformer", "", folder)
    return cls.from_pretrained(folder, torch_dtype=dtype, local_files_only=True, **options)


def load_with(
    spec: ModelSpec,
    read: Callable[[torch.dtype, torch.device], Any],
    device: str | None,
    dtype: torch.dtype | None,
    progress: Progress | None,
    memory: str,
) -> Any:
    """Read a pipeline and move it to a device with a memory preset.

    Args:
        spec: Registry entry.
        read: Reads the pipeline in a precision, for a device.
        device: See `load_diffusers`, as all others.
        dtype: Precision.
        progress: Progress.
        memory: Memory preset.

    Raises:
        ModelError: See `load_diffusers`.
    """
    report = progress or (lambda fraction, message: None)
    if not is_present(spec):
        raise ModelError(
            "missing-weights",
            f"The weights of {spec.name} are not on this machine (looked in {model_folder(spec)}).",
            _how_to_get(spec),
        )
    if memory not in MEMORY_CHOICES:
        fix = f"Choose one of {', '.join(MEMORY_CHOICES)}."
        raise ModelError("bad-input", f"There is no memory preset '{memory}'.", fix)
    report(0.0, "starting torch")
    import torch

    from .diffusion_shader import explain_out_of_memory
    from .memory import apply_preset, free_memory

    try:
        torch_device = torch.device(device or default_device())
    except RuntimeError as error:
        raise ModelError("unknown-device", f"There is no device '{device}'.", "Use cpu, cuda or cuda:N.") from error
    if torch_device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError("unknown-device", "There is no CUDA device that torch can use.", "Use --device cpu.")
    on_cpu = torch_device.type == "cpu"
    report(0.1, f"loading {spec.name}")
    with explain_out_of_memory(), _say_how_to_get(spec):
        pipeline = read(dtype or (torch.float32 if on_cpu else torch.bfloat16), torch_device)
        pipeline.set_progress_bar_config(disable=True)
        report(0.8, f"moving {spec.name} to {torch_device}")
        free = free_memory(torch_device)
        pipeline.memory_preset = choose_preset(memory, spec.memory_bytes, free, spec.preset_bytes)
        apply_preset(pipeline, pipeline.memory_preset, torch_device)
    report(1.0, "ready")
    return pipeline


@contextmanager
def _say_how_to_get(spec: ModelSpec) -> Iterator[None]:
    """Say in errors about files of a model that these can be fetched again, and how."""
    from ..models.checkpoint import FETCH_AGAIN

    try:
        yield
    except ModelError as error:
        if error.fix != FETCH_AGAIN:
            raise
        raise ModelError(error.code, error.message, _how_to_get(spec)) from error


def _how_to_get(spec: ModelSpec) -> str:
    """Return how the user gets the weights of a model."""
    if spec.folder:
        return "Choose the folder of the whole model again."
    if spec.shipped:
        return "Reinstall Trackshade."
    if spec.revision:
        return f"Fetch the model with `trackshade models fetch {spec.name}`."
    return f"Download the model from {spec.source}, then use its folder with `trackshade models add`."
