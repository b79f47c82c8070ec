# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportAttributeAccessIssue=false, reportPrivateImportUsage=false
"""Pipeline components from a folder in diffusers' layout: only classes named here, so a checkpoint can never bring
code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXDPMScheduler

from ..core.errors import ModelError
from .checkpoint import check_strictly, tensor_shapes
from .layout import read_index
from .patch_autoencoder import PatchAutoencoder
from .tracking_transformer import TrackingTransformer3DModel

CLASSES: dict[str, dict[str, type]] = {
    "vae": {"AutoencoderKLCogVideoX": AutoencoderKLCogVideoX, "PatchAutoencoder": PatchAutoencoder},
    "text_encoder": {"T5EncoderModel": transformers.T5EncoderModel},
    "tokenizer": {
        "T5Tokenizer": transformers.T5Tokenizer,
        "T5TokenizerFast": transformers.T5TokenizerFast,
        "PreTrainedTokenizerFast": transformers.PreTrainedTokenizerFast,
        "TokenizersBackend": transformers.PreTrainedTokenizerFast,  # its name since transformers 5
    },
    "transformer": {
        "TrackingTransformer3DModel": TrackingTransformer3DModel,
        "CogVideoXTransformer3DModelTracking": TrackingTransformer3DModel,  # the published checkpoint's name for it
    },
    "scheduler": {"CogVideoXDDIMScheduler": CogVideoXDDIMScheduler, "CogVideoXDPMScheduler": CogVideoXDPMScheduler},
}


def load_components(folder: Path, dtype: torch.dtype, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """All components that `model_index.json` names, except those in `given`.

    The patch autoencoder stays in float32: it is small, and its decoding is the result. Raises ModelError.
    """
    loaded: dict[str, Any] = dict(given or {})
    for name, wanted in read_index(folder, loaded).items():
        loaded[name] = _load(name, CLASSES[name][wanted], folder / name, dtype)
    return loaded


def _load(name: str, cls: Any, folder: Path, dtype: torch.dtype) -> Any:
    if not folder.is_dir():
        raise ModelError(
            "missing-weights",
            f"The folder {folder} is missing.",
            "Fetch the model with `trackshade models fetch NAME`.",
        )
    try:
        if name in ("scheduler", "tokenizer"):
            return cls.from_pretrained(folder, local_files_only=True)
        if name == "text_encoder":
            return _text_encoder(cls, folder, dtype)
        check_strictly(cls, folder)
        keep = torch.float32 if cls is PatchAutoencoder else dtype
        return cls.from_pretrained(folder, torch_dtype=keep, use_safetensors=True, local_files_only=True).eval()
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            "damaged-weights", f"The {name} in {folder} cannot be loaded: {error}", "Fetch the model again."
        ) from error


def _text_encoder(cls: Any, folder: Path, dtype: torch.dtype) -> torch.nn.Module:
    tensor_shapes(folder)  # a missing or damaged file is named
    model, info = cls.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
    )
    problems = [f"{key} is missing" for key in sorted(info["missing_keys"])]
    problems += [f"{key} is unexpected" for key in sorted(info["unexpected_keys"])]
    problems += [f"{entry[0]} has another shape" for entry in sorted(info["mismatched_keys"])]
    if problems:
        raise ModelError(
            "wrong-weights",
            f"The weights in {folder} are not those of a text encoder: {'; '.join(problems[:5])}.",
            "Fetch the model again.",
        )
    return model.eval()
