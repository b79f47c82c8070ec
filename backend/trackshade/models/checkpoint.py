# SPDX-License-Identifier: GPL-3.0-or-later
"""Strict reading of checkpoints in diffusers' layout: safetensors only, every tensor accounted for.

Importing this module does not import torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..core.errors import ModelError

INDEX = "model_index.json"
FETCH_AGAIN = "Fetch the model again."  # `trackshade.pipelines.loading` says how, where the model is known


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a checkpoint. Raise ModelError if the file is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError("missing-weights", f"{path} is missing.", FETCH_AGAIN) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError("damaged-weights", f"{path} cannot be read: {error}.", FETCH_AGAIN) from error
    if not isinstance(value, dict):
        raise ModelError("damaged-weights", f"{path} is not a JSON object.", FETCH_AGAIN)
    return value


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files of a component folder: one file, or the shards that its index names.

    Raise ModelError if the index is damaged or names files outside the folder.
    """
    indices = sorted(folder.glob("*.safetensors.index.json"))
    if not indices:
        return sorted(folder.glob("*.safetensors"))
    weight_map = read_json(indices[0]).get("weight_map")
    names = sorted(set(weight_map.values())) if isinstance(weight_map, dict) else [""]
    if any(not name or Path(name).name != name for name in names):
        raise ModelError("damaged-weights", f"{indices[0]} names files outside its folder.", FETCH_AGAIN)
    return [folder / name for name in names]


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Read the names and shapes of all stored tensors from the headers of a component's files.

    Raise ModelError if weights are missing or damaged.
    """
    files = weight_files(folder)
    if not files:
        raise ModelError("missing-weights", f"There are no safetensors weights in {folder}.", FETCH_AGAIN)
    return shapes_in(files)


def shapes_in(files: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    """Read the names and shapes of the tensors in safetensors files. Raise ModelError if one is damaged."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        try:
            with safe_open(path, framework="numpy") as stored:
                shapes.update({key: tuple(stored.get_slice(key).get_shape()) for key in stored.keys()})  # noqa: SIM118 (a file, not a dict)
        except (OSError, SafetensorError) as error:
            raise ModelError("damaged-weights", f"{path} cannot be read: {error}.", FETCH_AGAIN) from error
    return shapes


def check_strictly(cls: Any, path: str | Path, subfolder: str | None = None) -> None:
    """Compare the stored tensors with those of a model built from the stored configuration (on the meta device).

    `path` is the folder of the component, or of the pipeline if `subfolder` is given. Raise ModelError naming missing
    and unexpected tensors and those of another shape.
    """
    import torch

    folder = Path(path) / subfolder if subfolder else Path(path)
    if not folder.is_dir():
        raise ModelError("missing-weights", f"There is no model folder {folder}.", FETCH_AGAIN)
    config = {key: value for key, value in read_json(folder / "config.json").items() if not key.startswith("_")}
    with torch.device("meta"):
        model = cls.from_config(config)
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    stored = tensor_shapes(folder)
    problems = [f"{key} is missing" for key in expected if key not in stored]
    problems += [f"{key} is unexpected" for key in stored if key not in expected]
    problems += [
        f"{key} has shape {list(stored[key])} instead of {list(expected[key])}"
        for key in expected
        if key in stored and stored[key] != expected[key]
    ]
    raise_problems(problems, folder, cls.__name__)


class StrictLoading:
    """Mixin for models of diffusers, named before their base class: `from_pretrained` accounts for every tensor."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """Load from a local folder, from safetensors files.

        Raise ModelError naming the tensors that are missing, unexpected or of another shape.
        """
        kwargs.setdefault("use_safetensors", True)
        check_strictly(cls, pretrained_model_name_or_path, kwargs.get("subfolder"))
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]


def raise_problems(problems: list[str], folder: Path, model_name: str) -> None:
    """Raise a ModelError that names the first of some problems with the tensors in a folder, if there are any."""
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ModelError(
            "wrong-weights",
            f"The weights in {folder} are not those of {model_name}: {'; '.join(problems[:5])}{more}.",
            "Fetch the model again, or choose the model that these weights belong to.",
        )


def digest(folder: Path) -> str:
    """Return the BLAKE2b digest of a checkpoint: of names and bytes of its configuration and weight files, in order."""
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
