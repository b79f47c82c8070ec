# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and peft are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""A LoRA (Hu et al. 2021, arXiv 2106.09685) on the base's attention, by peft, in diffusers' safetensors form."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from diffusers.loaders.lora_pipeline import CogVideoXLoraLoaderMixin
from torch import nn

from trackshade.core.errors import ModelError, UsageError
from trackshade.models import TrackingTransformer3DModel

# Of the base's own blocks, not of the branch's copies: those are trained whole.
TARGETS = r"transformer_blocks\.\d+\.attn1\.(to_q|to_k|to_v|to_out\.0)"
FILE = "pytorch_lora_weights.safetensors"


def add_lora(transformer: TrackingTransformer3DModel, rank: int, alpha: int | None) -> list[nn.Parameter]:
    """Put a LoRA that changes nothing yet into the base's blocks; its parameters. Raises UsageError: no peft."""
    if importlib.util.find_spec("peft") is None:
        raise UsageError("missing-library", "A LoRA needs the package peft.", "pip install 'trackshade[training]'")
    from peft import LoraConfig

    transformer.add_adapter(LoraConfig(r=rank, lora_alpha=alpha or rank, target_modules=TARGETS))
    return [parameter for name, parameter in transformer.named_parameters() if ".lora_" in name]


def save_lora(transformer: TrackingTransformer3DModel, folder: Path) -> Path:
    """Write the LoRA so that diffusers' `load_lora_weights` and `load_lora` here read it; returns the file."""
    from peft.utils import get_peft_model_state_dict

    CogVideoXLoraLoaderMixin.save_lora_weights(
        folder,
        transformer_lora_layers=get_peft_model_state_dict(transformer),
        transformer_lora_adapter_metadata=_plain(transformer.peft_config["default"].to_dict()),
        safe_serialization=True,
    )
    return folder / FILE


def load_lora(transformer: TrackingTransformer3DModel, folder: Path) -> None:
    """Put a stored LoRA into a transformer that has none. Raises ModelError: there is no such file."""
    if not (folder / FILE).is_file():
        raise ModelError("missing-weights", f"There is no LoRA in {folder}.", f"It is a file named {FILE}.")
    transformer.load_lora_adapter(str(folder), prefix="transformer", use_safetensors=True, local_files_only=True)


def fuse_lora(transformer: TrackingTransformer3DModel) -> None:
    """Add the LoRA to the weights that it stands beside, and take it away."""
    transformer.fuse_lora()
    transformer.unload_lora()


def _plain(values: dict) -> dict:
    """Sets as lists, which JSON can hold."""
    return {key: sorted(value) if isinstance(value, set) else value for key, value in values.items()}
