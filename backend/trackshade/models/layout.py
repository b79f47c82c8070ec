# SPDX-License-Identifier: GPL-3.0-or-later
"""Which components a checkpoint in diffusers' layout has to name, and as what. Brings no torch: that a folder is no
checkpoint is told at once.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..core.errors import ModelError

INDEX = "model_index.json"
NAMES: dict[str, tuple[str, ...]] = {
    "vae": ("AutoencoderKLCogVideoX", "PatchAutoencoder"),
    "text_encoder": ("T5EncoderModel",),
    # The last is the name of the one before since transformers 5.
    "tokenizer": ("T5Tokenizer", "T5TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"),
    # The second is the published checkpoint's name for the first.
    "transformer": ("TrackingTransformer3DModel", "CogVideoXTransformer3DModelTracking"),
    "scheduler": ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"),
}


def read_index(folder: Path, besides: Collection[str] = ()) -> dict[str, str]:
    """The class of each component, by its name, without those of the names in `besides`.

    Raises ModelError: there is no index, it is damaged, or it names something else than NAMES.
    """
    if not (folder / INDEX).is_file():
        raise ModelError(
            "not-a-checkpoint",
            f"{folder} has no {INDEX}.",
            "Choose the folder of a checkpoint in diffusers' layout, the one with its transformer and vae folders.",
        )
    index, found = read_json(folder / INDEX), {}
    for name, known in NAMES.items():
        if name in besides:
            continue
        entry = index.get(name)
        found[name] = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
        if found[name] not in known:
            raise ModelError(
                "wrong-weights",
                f"The {name} in {folder / INDEX} is {found[name]}, not one of {', '.join(known)}.",
                "Choose a Diffusion as Shader checkpoint in diffusers' layout.",
            )
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint; ModelError where it is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            "missing-weights", f"{path} is missing.", "Fetch the model with `trackshade models fetch NAME`."
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError("damaged-weights", f"{path} cannot be read: {error}.", "Fetch the model again.") from error
    if not isinstance(value, dict):
        raise ModelError("damaged-weights", f"{path} is not a JSON object.", "Fetch the model again.")
    return value
