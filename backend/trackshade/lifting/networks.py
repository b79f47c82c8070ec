# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks that are on this machine: those of transformers, and weights of other packages as files.

A network is a folder or the identifier of one that is in the cache of Hugging Face; nothing is downloaded, no code
comes with a checkpoint, and weights are read as plain tensors.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trackshade.core.errors import ModelError, TrackshadeError, is_out_of_memory

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of the colors that networks are trained with, for red, green and blue from 0 to 1."""
SMALLER = "End other programs, or use a smaller model."
"""What to do if a network for one picture runs out of memory."""
_WEIGHTS = "model.safetensors"


def find_model(name: str, what: str) -> Path:
    """Return the folder of a network.

    Args:
        name: its folder or identifier.
        what: what it is called, such as "depth model".

    Raises:
        ModelError: it is not on this machine, or has no safetensors.
    """
    folder = Path(name).expanduser()
    if not (folder / "config.json").is_file():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        try:
            folder = Path(snapshot_download(name, local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError, OSError, ValueError) as error:
            raise ModelError(
                "missing-weights",
                f"The {what} {name} is not on this machine.",
                f"Fetch it with 'hf download {name}', or give the folder that holds it.",
            ) from error
    if not (folder / _WEIGHTS).is_file():
        raise ModelError("missing-weights", f"{folder} holds no {_WEIGHTS}.", "Only safetensors are loaded.")
    return folder


def load_model(folder: Path, class_name: str, what: str, unused: str | None = None) -> Any:
    """Load a network in evaluation mode.

    Args:
        folder: its folder.
        class_name: its class in transformers.
        what: what it is called.
        unused: part of the names of weights that may be missing.

    Raises:
        ModelError: it is damaged, or weights are missing.
    """
    import transformers
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # a video model that is read as the picture model in it is said to be unusual
    try:
        model, facts = getattr(transformers, class_name).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        missing = [key for key in facts["missing_keys"] if unused is None or unused not in key]
        if missing:
            raise ValueError(f"its weights lack {missing[0]}")
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = f"The {what} {folder} cannot be loaded: " + str(error).partition("\n")[0]
        raise ModelError("damaged-model", reason, "Fetch it again.") from error
    return model.eval()


@contextmanager
def explain_failures(what: str, fix: str, smaller: str) -> Iterator[None]:
    """Turn what a network fails by while it is built, or runs, into a ModelError.

    Args:
        what: the network, as the beginning of a sentence.
        fix: what to do if it fails.
        smaller: what to do if memory runs out.
    """
    try:
        yield
    except TrackshadeError:  # what was said already, and that it was canceled
        raise
    except Exception as error:  # a package of others may fail by anything
        if is_out_of_memory(error):
            raise ModelError("out-of-memory", f"{what} ran out of memory.", smaller) from error
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ModelError("network-failed", f"{what} failed: {reason}.", fix) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read an object of a network's folder. Raise ModelError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it is not an object")
    except (OSError, ValueError) as error:
        raise ModelError("damaged-model", f"{path} cannot be read: {error}.", "Fetch the model again.") from error
    return values


def read_tensors(path: Path, fix: str) -> dict[str, Any]:
    """Read a file of weights: safetensors, or PyTorch's format, of which a file that holds code is refused.

    Args:
        path: the file.
        fix: what to do if it cannot be read.

    Raises:
        ModelError: it is not there, or damaged.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ModelError("missing-weights", f"There is no file {path}.", fix)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError("it holds no weights by their names")
    except (OSError, EOFError, ValueError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError("damaged-weights", f"{path} cannot be read: {reason}.", fix) from error
    return state
