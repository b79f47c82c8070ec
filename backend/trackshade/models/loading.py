# SPDX-License-Identifier: GPL-3.0-or-later
"""Pipeline components from a folder in diffusers' layout.

Only the classes named here are built, so a checkpoint can never bring code. They are imported on use: that a folder is
no checkpoint is found without torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelError
from .checkpoint import FETCH_AGAIN, INDEX, check_strictly, raise_problems, read_json, tensor_shapes

if TYPE_CHECKING:
    import torch

# Component -> class name in model_index.json -> module and class.
COMPONENTS: dict[str, dict[str, str]] = {
    "vae": {
        "AutoencoderKLCogVideoX": "diffusers:AutoencoderKLCogVideoX",
        "PatchAutoencoder": "trackshade.models.patch_autoencoder:PatchAutoencoder",
    },
    "text_encoder": {"T5EncoderModel": "transformers:T5EncoderModel"},
    "tokenizer": {
        "T5Tokenizer": "transformers:T5Tokenizer",
        "T5TokenizerFast": "transformers:T5TokenizerFast",
        "PreTrainedTokenizerFast": "transformers:PreTrainedTokenizerFast",
        "TokenizersBackend": "transformers:PreTrainedTokenizerFast",  # its name since transformers 5
    },
    "transformer": {
        "TrackingTransformer3DModel": "trackshade.models.das:TrackingTransformer3DModel",
        "WarpGuidedTransformer3DModel": "trackshade.models.warp_guided:WarpGuidedTransformer3DModel",
        # The published checkpoint's name.
        "CogVideoXTransformer3DModelTracking": "trackshade.models.das:TrackingTransformer3DModel",
    },
    "scheduler": {
        "CogVideoXDDIMScheduler": "diffusers:CogVideoXDDIMScheduler",
        "CogVideoXDPMScheduler": "diffusers:CogVideoXDPMScheduler",
    },
}


def read_index(folder: Path, exclude: Collection[str] = ()) -> dict[str, str]:
    """Read which class each component of a checkpoint has; those in `exclude` need not be named.

    Raise ModelError if there is no index, it is damaged, or it names other classes than those in COMPONENTS.
    """
    if not (folder / INDEX).is_file():
        fix = "Choose the folder of a checkpoint in diffusers' layout, the one with its transformer and vae folders."
        raise ModelError("not-a-checkpoint", f"{folder} has no {INDEX}.", fix)
    index, class_names = read_json(folder / INDEX), {}
    for name, known in COMPONENTS.items():
        if name in exclude:
            continue
        entry = index.get(name)
        class_names[name] = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
        if class_names[name] not in known:
            raise ModelError(
                "wrong-weights",
                f"The {name} in {folder / INDEX} is {class_names[name]}, not one of {', '.join(known)}.",
                "Choose a Diffusion as Shader checkpoint in diffusers' layout.",
            )
    return class_names


def transformer_class_name(config: Mapping[str, Any]) -> str:
    """Return the name of the transformer class that a stored configuration is for.

    Earlier versions had one class for both kinds of transformer. Its configuration says which kind it is.
    """
    warp_guided = any(config.get(key) for key in ("track_frequencies", "still_guidance", "pooled_text"))
    return "WarpGuidedTransformer3DModel" if warp_guided else "TrackingTransformer3DModel"


def component_class(name: str, class_name: str, folder: Path) -> Any:
    """Import the class of a component, by what model_index.json says.

    The configuration in the component's folder decides between the kinds of transformer.
    """
    if name == "transformer" and class_name != "WarpGuidedTransformer3DModel":
        class_name = transformer_class_name(read_json(folder / "config.json"))
    module, _, attribute = COMPONENTS[name][class_name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def load_components(folder: Path, dtype: torch.dtype, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Load all components that `model_index.json` names, except those in `given`, which are taken over.

    The patch autoencoder stays in float32: it is small, and its decoding is the result.

    Raise ModelError naming what is missing or wrong.
    """
    components: dict[str, Any] = dict(given or {})
    for name, class_name in read_index(folder, components).items():
        with _explain_damage(name, folder / name, FETCH_AGAIN):
            components[name] = _load_component(name, class_name, folder / name, dtype)
    return components


def check_checkpoint(folder: Path) -> dict[str, Any]:
    """Compare a checkpoint with the classes that it names, from the headers of its weights alone.

    Returns:
        {"like": name of the registered model of the same kind, "bytes": size of its files}.

    Raises:
        ModelError: naming what is missing, unknown or of another shape.
    """
    class_names = read_index(folder)
    for name, class_name in class_names.items():
        with _explain_damage(name, folder / name, "Choose the whole checkpoint."):
            cls = component_class(name, class_name, folder / name)
            if name in ("scheduler", "tokenizer"):
                cls.from_pretrained(folder / name, local_files_only=True)
            elif name == "text_encoder":
                tensor_shapes(folder / name)
            else:
                check_strictly(cls, folder / name)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"like": "mini" if class_names["vae"] == "PatchAutoencoder" else "das-cogvideox-5b", "bytes": size}


@contextmanager
def _explain_damage(name: str, folder: Path, fix: str) -> Iterator[None]:
    """Turn the libraries' complaints about a component into a ModelError."""
    if not folder.is_dir():
        raise ModelError("missing-weights", f"The folder {folder} is missing.", fix)
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            "damaged-weights",
            f"The {name} in {folder} cannot be loaded: {error}",
            FETCH_AGAIN,
        ) from error


def _load_component(name: str, class_name: str, folder: Path, dtype: torch.dtype) -> Any:
    import torch

    cls = component_class(name, class_name, folder)
    if name in ("scheduler", "tokenizer"):
        return cls.from_pretrained(folder, local_files_only=True)
    if name == "text_encoder":
        tensor_shapes(folder)  # names a missing or damaged file
        model, info = cls.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        problems = [f"{key} is missing" for key in sorted(info["missing_keys"])]
        problems += [f"{key} is unexpected" for key in sorted(info["unexpected_keys"])]
        problems += [f"{entry[0]} has another shape" for entry in sorted(info["mismatched_keys"])]
        raise_problems(problems, folder, "a text encoder")
        return model.eval()
    check_strictly(cls, folder)
    if class_name == "PatchAutoencoder":
        dtype = torch.float32
    return cls.from_pretrained(folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True).eval()
