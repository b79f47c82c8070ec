# SPDX-License-Identifier: GPL-3.0-or-later
"""Strict reading of checkpoints in diffusers' layout: safetensors only, every tensor accounted for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ..core.errors import ModelError
from .layout import read_json


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of one component folder (one file, or the shards that an index names)."""
    indices = sorted(folder.glob("*.safetensors.index.json"))
    if indices:
        weight_map = json.loads(indices[0].read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(weight_map.values()))
        if any(Path(name).name != name for name in names):
            raise ModelError(
                "damaged-weights", f"{indices[0]} names files outside its folder.", "Fetch the model again."
            )
        return [folder / name for name in names]
    return sorted(path for path in folder.glob("*.safetensors"))


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of each stored tensor, from the headers alone."""
    files = weight_files(folder)
    if not files:
        raise ModelError(
            "missing-weights",
            f"There are no safetensors weights in {folder}.",
            "Fetch the model with `trackshade models fetch NAME`.",
        )
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        try:
            with safe_open(path, framework="numpy") as stored:
                shapes.update({key: tuple(stored.get_slice(key).get_shape()) for key in stored.keys()})  # noqa: SIM118 (a file, not a dict)
        except (OSError, SafetensorError) as error:
            raise ModelError("damaged-weights", f"{path} cannot be read: {error}.", "Fetch the model again.") from error
    return shapes


def check_strictly(cls: type, path: str | Path, subfolder: str | None = None) -> None:
    """Compare the stored tensors with those of a model of class `cls` built from the stored configuration (without
    memory for it).

    Raises ModelError naming missing, unexpected and misshapen tensors.
    """
    folder = Path(path) / subfolder if subfolder else Path(path)
    if not folder.is_dir():
        raise ModelError(
            "missing-weights",
            f"There is no model folder {folder}.",
            "Fetch the model with `trackshade models fetch NAME`.",
        )
    config = {key: value for key, value in read_json(folder / "config.json").items() if not key.startswith("_")}
    with torch.device("meta"):
        model = cls.from_config(config)
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    stored = tensor_shapes(folder)
    problems = [f"{key} is missing" for key in wanted if key not in stored]
    problems += [f"{key} is unexpected" for key in stored if key not in wanted]
    problems += [
        f"{key} has shape {list(stored[key])} instead of {list(wanted[key])}"
        for key in wanted
        if key in stored and stored[key] != wanted[key]
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ModelError(
            "wrong-weights",
            f"The weights in {folder} are not those of {cls.__name__}: {'; '.join(problems[:5])}{more}.",
            "Fetch the model again, or choose the model that these weights belong to.",
        )


def digest(folder: Path) -> str:
    """BLAKE2b digest of a checkpoint: of the name and the bytes of every configuration and weight file, in order."""
    state = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".safetensors", ".json", ".model") or any(
            part.startswith(".") for part in path.relative_to(folder).parts
        ):
            continue
        state.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as stream:
            while block := stream.read(1 << 22):
                state.update(block)
    return state.hexdigest()
