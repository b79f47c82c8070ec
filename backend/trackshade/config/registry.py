# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks up models: the built-in ones of `trackshade.config.model_table`, and registered checkpoints of the user."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import trackshade
from trackshade.config import checkpoints
from trackshade.config.model_spec import ModelSpec
from trackshade.config.model_table import MINI_MOTION, MODELS, MOTION_MODEL
from trackshade.core import folders
from trackshade.core.errors import ModelError


def models() -> tuple[ModelSpec, ...]:
    """Return all models that shade, the embedded one first and registered checkpoints last."""
    return (*MODELS, *_registered())


def motion_models() -> tuple[ModelSpec, ...]:
    """Return the models that read the motion of footage."""
    return (MOTION_MODEL,)


def motion_spec(name: str) -> ModelSpec:
    """Return the motion model with a name, or that of a folder that `trackshade train motion` has exported.

    Raises:
        ModelError: There is none.
    """
    if name == MINI_MOTION:
        return MOTION_MODEL
    folder = Path(name).expanduser().absolute()
    if not (folder / "model_index.json").is_file():
        raise ModelError(
            "unknown-model",
            f"There is no motion model named '{name}'.",
            f"Use {MINI_MOTION}, or the folder of one that 'trackshade train motion' has exported.",
        )
    try:
        config = json.loads((folder / "encoder" / "config.json").read_text(encoding="utf-8"))
        size = int(config["frame_width"]), int(config["frame_height"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            "wrong-weights",
            f"{folder} holds no motion model.",
            "Choose the folder of mini-motion or of a run of `trackshade train motion`.",
        ) from error
    license_name = "That of your checkpoint"
    return replace(
        MOTION_MODEL,
        name=name,
        title=folder.name,
        sizes=(size,),
        folder=str(folder),
        shipped=False,
        license=license_name,
        license_url="",
    )


def _registered() -> Iterator[ModelSpec]:
    """Yield the registered checkpoints in order, each with the properties of its base model."""
    known = {item.name: item for item in MODELS}
    for item in checkpoints.list_checkpoints():
        if item.like in known and item.name not in known and checkpoints.NAME.fullmatch(item.name):
            yield replace(
                known[item.like],
                name=item.name,
                title=item.title,
                folder=item.folder,
                base=item.like,
                shipped=False,
                license="That of your checkpoint",
                license_url="",
                repo="",
                revision="",
            )


def spec(name: str) -> ModelSpec:
    """Return the model with a name. Raise ModelError("unknown-model")."""
    for item in chain(MODELS, _registered()):  # checkpoints.json is not read for a built-in model
        if item.name == name:
            return item
    known = ", ".join(item.name for item in models())
    raise ModelError("unknown-model", f"There is no model named '{name}'.", f"Known models: {known}.")


def model_folder(model: ModelSpec) -> Path:
    """Return the folder of a model's weights, also if they are not downloaded yet.

    Of a checkpoint that is a single file, it is the folder of the model that it is based on.
    """
    if model_file(model) is not None:
        return model_folder(spec(model.base))
    if model.folder:
        return Path(model.folder)
    return (Path(trackshade.__file__).parent / "models" if model.shipped else folders.models_dir()) / model.name


def model_file(model: ModelSpec) -> Path | None:
    """Return the file of a registered checkpoint that holds its transformer alone; None if there is none."""
    return Path(model.folder) if model.folder.endswith(checkpoints.FILE_SUFFIXES) else None


def is_present(model: ModelSpec) -> bool:
    """Return whether the weights are on this machine, completely downloaded."""
    file = model_file(model)
    return (model_folder(model) / "model_index.json").is_file() and (file is None or file.is_file())
