# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a folder of somebody's is a checkpoint that can be loaded, before it is taken for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ModelError
from .checkpoint import check_strictly, tensor_shapes
from .components import CLASSES
from .layout import read_index
from .patch_autoencoder import PatchAutoencoder


def check_checkpoint(folder: Path) -> dict[str, Any]:
    """Compares a folder in diffusers' layout with the classes that it names, from the headers of its weights alone.

    Returns {"like": the known model whose facts it shares, "bytes": size of its files}. Raises ModelError naming what
    is missing, unknown or of another shape.
    """
    found = {name: CLASSES[name][wanted] for name, wanted in read_index(folder).items()}
    for name, cls in found.items():
        _check_component(name, cls, folder / name)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"like": "mini" if found["vae"] is PatchAutoencoder else "das-cogvideox-5b", "bytes": size}


def _check_component(name: str, cls: Any, folder: Path) -> None:
    if not folder.is_dir():
        raise ModelError("missing-weights", f"The folder {folder} is missing.", "Choose the whole checkpoint.")
    try:
        if name in ("scheduler", "tokenizer"):
            cls.from_pretrained(folder, local_files_only=True)
        elif name == "text_encoder":
            tensor_shapes(folder)
        else:
            check_strictly(cls, folder)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            "damaged-weights", f"The {name} in {folder} cannot be read: {error}", "Choose another folder."
        ) from error
