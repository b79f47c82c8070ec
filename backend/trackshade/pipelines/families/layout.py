# SPDX-License-Identifier: GPL-3.0-or-later
# pyright: reportPrivateImportUsage=false
"""Reading of pipelines of diffusers from a checkpoint folder: known classes and safetensors only.

A checkpoint is a folder in diffusers' layout. A single file (.safetensors or .gguf) holds a
transformer in the layout of its authors; the other components are those of the model that it is based on.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config.model_spec import ModelSpec
from ...config.registry import model_file, model_folder
from ...core.errors import ModelError
from ...models.checkpoint import INDEX, check_strictly, raise_problems, read_json

if TYPE_CHECKING:
    import torch

_TOKENIZERS = ("PreTrainedTokenizerFast", "TokenizersBackend", "T5Tokenizer", "T5TokenizerFast", "GemmaTokenizer",
               "GemmaTokenizerFast")  # fmt: skip
_SCHEDULERS = ("FlowMatchEulerDiscreteScheduler", "UniPCMultistepScheduler", "DPMSolverMultistepScheduler",
               "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler", "DDIMScheduler")  # fmt: skip
_TRANSFORMERS = ("transformer", "transformer_2")
_ENCODERS = ("text_encoder", "image_encoder")  # components of transformers
ADAPTER_FOLDER = "ic-lora"  # folder of a checkpoint that holds the LoRA file which the model needs
ADAPTER = "in-context"  # its name in the pipeline


@dataclass(frozen=True)
class Layout:
    """What a checkpoint of a family consists of.

    Attributes:
        pipeline: "module:class" of the pipeline.
        components: Names of the classes that each component may have, besides tokenizers and schedulers.
        networks: Components whose weights are compared with their class before loading.
        optional: Components that may be missing.
        float32: Components that stay in float32.
        published_as: Further names of the pipeline in published checkpoints.
        has_adapter: Whether the model needs a LoRA file, in the folder `ADAPTER_FOLDER` of the checkpoint.
    """

    pipeline: str
    components: Mapping[str, tuple[str, ...]]
    networks: tuple[str, ...] = ("transformer", "vae")
    optional: tuple[str, ...] = ()
    float32: tuple[str, ...] = ()
    published_as: tuple[str, ...] = ()
    has_adapter: bool = False

    def known(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the classes that every component may have."""
        return {**self.components, "tokenizer": _TOKENIZERS, "scheduler": _SCHEDULERS}

    def pipeline_class(self) -> Any:
        """Import the class of the pipeline."""
        module, _, name = self.pipeline.partition(":")
        return getattr(importlib.import_module(module), name)


def check_layout(folder: Path, layout: Layout) -> None:
    """Compare a checkpoint with a layout, and its weights with the classes that it names, from their headers alone.

    Raises:
        ModelError: A component is missing, of another class, or has other tensors; or the LoRA file is missing.
    """
    if not (folder / INDEX).is_file():
        fix = "Choose the folder of a checkpoint in diffusers' layout, the one with its transformer and vae folders."
        raise ModelError("not-a-checkpoint", f"{folder} has no {INDEX}.", fix)
    index = read_json(folder / INDEX)
    for name, classes in layout.known().items():
        class_name = component_class_name(index, name)
        if class_name is None and name in layout.optional:
            continue
        if class_name not in classes:
            raise ModelError(
                "wrong-weights",
                f"The {name} in {folder / INDEX} is {class_name}, not one of {', '.join(classes)}.",
                "Choose a checkpoint of the right family.",
            )
        if name in layout.networks:
            import diffusers

            check_strictly(getattr(diffusers, str(class_name)), folder / name)
    if layout.has_adapter:
        adapter_file(folder)


def adapter_file(folder: Path) -> Path:
    """Return the LoRA file that a checkpoint needs. Raise ModelError unless there is exactly one."""
    files = sorted((folder / ADAPTER_FOLDER).glob("*.safetensors"))
    if len(files) != 1:
        raise ModelError(
            "missing-weights",
            f"{folder / ADAPTER_FOLDER} has {len(files)} .safetensors files; the model needs one LoRA file there.",
            "Download the LoRA that the model's page names, and put it there.",
        )
    return files[0]


def read_pipeline(
    spec: ModelSpec,
    layout: Layout,
    dtype: torch.dtype,
    loras: Sequence[tuple[Path, float]] = (),
    quantization: Mapping[str, Any] | None = None,
    *,
    has_all: bool = True,
) -> Any:
    """Read a pipeline from the checkpoint of a model.

    Args:
        spec: Registry entry.
        layout: Components of the checkpoint.
        dtype: Precision of the weights.
        loras: LoRA files (.safetensors) and their strengths.
        quantization: Options with which transformers are read, of `trackshade.pipelines.quantization`.
        has_all: Whether all components are read, or transformers alone, for a pipeline that is not called.

    Raises:
        ModelError: A component is missing, damaged or of another class; or a file is of another type.
    """
    folder, file = model_folder(spec), model_file(spec)
    check_layout(folder, layout)
    cls, index = layout.pipeline_class(), read_json(folder / INDEX)
    taken = inspect.signature(cls.__init__).parameters
    # What no layout names is not read: it is not needed, and its class is not known.
    known = layout.known().keys() if has_all else set(_TRANSFORMERS)
    unknown = {name for name, value in index.items() if isinstance(value, list)} - known
    options: dict[str, Any] = dict.fromkeys(name for name in unknown if name in taken)
    try:
        for name in _ENCODERS if has_all else ():
            if name in layout.components and component_class_name(index, name) is not None:
                options[name] = _read_encoder(folder / name, str(component_class_name(index, name)), dtype)
        if file is not None:
            options["transformer"] = _read_file(file, folder, layout, dtype, quantization or {})
        for name in _TRANSFORMERS:
            class_name = component_class_name(index, name)
            if quantization and class_name is not None and name not in options:
                options[name] = _read_quantized(folder / name, class_name, dtype, quantization)
        pipeline = cls.from_pretrained(
            folder,
            dtype={"default": dtype, **dict.fromkeys(layout.float32, _float32())},
            use_safetensors=True,
            local_files_only=True,
            **options,
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            "damaged-weights", f"{spec.title} in {folder} cannot be loaded: {error}", "Download the model again."
        ) from error
    adapters = {ADAPTER: (adapter_file(folder), 1.0)} if layout.has_adapter else {}
    _add_loras(pipeline, adapters | {f"lora{number}": lora for number, lora in enumerate(loras)})
    return pipeline


def component_class_name(index: Mapping[str, Any], component: str) -> str | None:
    """Return the class that an index names for a component, or None."""
    entry = index.get(component)
    return entry[1] if isinstance(entry, list) and len(entry) == 2 else None


def _read_encoder(folder: Path, class_name: str, dtype: torch.dtype) -> Any:
    """Read an encoder of transformers. Raise ModelError if weights are missing, which it would draw at random."""
    import transformers

    model, info = getattr(transformers, class_name).from_pretrained(
        folder,
        dtype=dtype if folder.name == "text_encoder" else _float32(),
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    problems = [f"{key} is missing" for key in sorted(info["missing_keys"])]
    problems += [f"{entry[0]} has another shape" for entry in sorted(info["mismatched_keys"])]
    raise_problems(problems, folder, class_name)
    return model.eval()


def _float32() -> torch.dtype:
    import torch

    return torch.float32


def _read_quantized(folder: Path, class_name: str, dtype: torch.dtype, quantization: Mapping[str, Any]) -> Any:
    import diffusers

    return getattr(diffusers, class_name).from_pretrained(
        folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True, **quantization
    )


def _read_file(file: Path, folder: Path, layout: Layout, dtype: torch.dtype, quantization: Mapping[str, Any]) -> Any:
    """Read a transformer from a single file; weights of a GGUF file stay as they are."""
    import diffusers

    options = dict(quantization)
    if file.suffix == ".gguf":
        options["quantization_config"] = diffusers.GGUFQuantizationConfig(compute_dtype=dtype)
    elif file.suffix != ".safetensors":
        raise ModelError("wrong-weights", f"{file} is not a .safetensors file.", "Other formats can carry code.")
    cls = getattr(diffusers, layout.components["transformer"][0])
    fix = "Choose another file, or the model that it belongs to."
    try:
        transformer = cls.from_single_file(
            str(file), config=str(folder), subfolder="transformer", torch_dtype=dtype, **options
        )
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip(" .")
        raise ModelError("damaged-weights", f"{file} cannot be loaded: {reason}.", fix) from error
    except NotImplementedError as error:  # tensors that the file does not have are left without values
        raise ModelError("wrong-weights", f"{file} has not all weights of {cls.__name__}.", fix) from error
    missing = [f"{name} is missing" for name, value in transformer.state_dict().items() if value.is_meta]
    raise_problems(missing, file, cls.__name__)
    return transformer


def _add_loras(pipeline: Any, loras: Mapping[str, tuple[Path, float]]) -> None:
    """Load LoRA files into a pipeline, which keeps their strengths as `adapter_strengths`.

    Raises:
        ModelError: One is not safetensors or of another model.
    """
    for name, (path, _) in loras.items():
        if not path.is_file() or path.suffix != ".safetensors":
            raise ModelError("wrong-weights", f"{path} is not a .safetensors file.", "Other formats can carry code.")
        try:
            pipeline.load_lora_weights(
                str(path.parent), weight_name=path.name, adapter_name=name, local_files_only=True
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelError(
                "damaged-weights", f"The LoRA {path} cannot be loaded: {error}", "Choose one made for this model."
            ) from error
    pipeline.adapter_strengths = {name: strength for name, (_, strength) in loras.items()}
    if loras:
        pipeline.set_adapters(list(loras), list(pipeline.adapter_strengths.values()))
