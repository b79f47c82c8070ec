# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportPrivateImportUsage=false
"""The base that a tracking branch is trained on, a folder in diffusers' layout; and which part the branch is."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import CogVideoXTransformer3DModel
from torch import nn

from trackshade.config import registry
from trackshade.core.errors import ModelError, UsageError
from trackshade.models import TrackingTransformer3DModel
from trackshade.models.checkpoint import check_strictly, read_json
from trackshade.models.loading import COMPONENTS, component_class

PLAIN = "CogVideoXTransformer3DModel"


def base_folder(name: str) -> Path:
    """The folder itself, or that of a registered model. Raises UsageError."""
    if (Path(name) / "model_index.json").is_file():
        return Path(name)
    known = {spec.name: spec for spec in registry.models()}
    if name in known:
        if registry.is_present(known[name]):
            return registry.model_folder(known[name])
        raise UsageError(
            "no-base", f"The model {name} is not on this machine.", f"Fetch it with `trackshade models fetch {name}`."
        )
    raise UsageError(
        "no-base",
        f"There is no model in {name}: it has no model_index.json.",
        "Give --base the folder of a CogVideoX image-to-video model in diffusers' layout.",
    )


def transformer_class(folder: Path) -> str:
    """What model_index.json says that the transformer is."""
    entry = read_json(folder / "model_index.json").get("transformer")
    return str(entry[1]) if isinstance(entry, list) and len(entry) == 2 else ""


def load_transformer(folder: Path, blocks: int, dtype: torch.dtype) -> TrackingTransformer3DModel:
    """The base's transformer with a tracking branch: its own if it has one, else copies of its first `blocks` blocks.

    Raises ModelError: of another kind, or not image-to-video, or not loadable.
    """
    name, part = transformer_class(folder), folder / "transformer"
    if name in COMPONENTS["transformer"]:
        cls = component_class("transformer", name, part)
        return cls.from_pretrained(part, torch_dtype=dtype, local_files_only=True)
    if name != PLAIN:
        raise ModelError(
            "wrong-weights",
            f"The transformer in {folder} is {name or 'not named'}, not {PLAIN}.",
            "Choose another base.",
        )
    check_strictly(CogVideoXTransformer3DModel, part)
    base = CogVideoXTransformer3DModel.from_pretrained(
        part, torch_dtype=dtype, use_safetensors=True, local_files_only=True
    )
    if base.config["in_channels"] != 2 * base.config["out_channels"]:
        raise ModelError("wrong-weights", f"The base in {folder} takes no first frame.", "Choose image-to-video.")
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # the new model is made in the base's precision, not in twice its size
    try:
        return TrackingTransformer3DModel.from_base(base, num_tracking_blocks=blocks)
    finally:
        torch.set_default_dtype(before)


def branch_parameters(transformer: TrackingTransformer3DModel) -> list[nn.Parameter]:
    """Those of the tracking branch."""
    parts = (
        transformer.transformer_blocks_copy,
        transformer.initial_combine_linear,
        transformer.combine_linears,
        getattr(transformer, "track_lookup", None),
    )
    return [parameter for part in parts if part is not None for parameter in part.parameters()]
