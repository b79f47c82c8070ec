# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks a checkpoint of the user, and tells which built-in model it is one of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...config import registry
from ...config.checkpoints import FILE_SUFFIXES
from ...config.model_spec import ModelSpec
from ...core.errors import ModelError
from ...core.text import join_or
from ...models.checkpoint import INDEX, read_json, shapes_in
from ...models.loading import COMPONENTS
from ...models.loading import check_checkpoint as check_diffusion_shader
from .layout import check_layout, component_class_name
from .loading import family_class

MODULAR_INDEX = "modular_model_index.json"  # of checkpoints for modular pipelines, beside the other index


def check_checkpoint(path: Path, like: str = "") -> dict[str, Any]:
    """Compare a checkpoint with the classes that it names, from the headers of its weights alone.

    Args:
        path: Its folder; or a file that holds a transformer alone.
        like: Name of the built-in model that it is one of; empty to find out, which needs a folder.

    Returns:
        {"like": name of the built-in model, "bytes": size of its files}.

    Raises:
        ModelError: naming what is missing, unknown or of another shape; or there is no such model.
    """
    if path.suffix in FILE_SUFFIXES:
        return _check_file(path, like)
    if not path.exists():
        raise ModelError("missing-weights", f"There is no folder {path}.", "Choose another one.")
    index = read_json(path / INDEX) if (path / INDEX).is_file() else {}
    name = component_class_name(index, "transformer")
    if name is None and (path / INDEX).is_file() and not like:
        raise ModelError(
            "wrong-weights",
            f"{path / INDEX} names no transformer, which every video model has.",
            "Choose the folder of a video model; `trackshade models` lists which are known.",
        )
    spec = registry.spec(like) if like else _recognize(path, index, name)
    layout = None if spec is None else family_class(spec).layout
    if spec is None or layout is None:
        return check_diffusion_shader(path)
    check_layout(path, layout)
    return {"like": spec.name, "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file())}


def _check_file(path: Path, like: str) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError("missing-weights", f"There is no file {path}.", "Choose another one.")
    if path.suffix == ".safetensors":
        shapes_in([path])
    else:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ModelError("damaged-weights", f"{path} is not a GGUF file.", "Download it again.")
    names = [spec.name for spec in _with_layouts()]
    if like not in names:
        raise ModelError(
            "unknown-model",
            f"{path} is a single file, which does not tell its model.",
            f"Name the model that it is one of: {join_or(names)}.",
        )
    base = registry.spec(like)
    if not registry.is_present(base):
        raise ModelError(
            "missing-weights",
            f"The file has a transformer alone, and the other parts of {base.name} are not on this machine.",
            f"Add the folder of {base.name} first.",
        )
    return {"like": like, "bytes": path.stat().st_size}


def _with_layouts() -> list[ModelSpec]:
    return [spec for spec in registry.models() if not spec.folder and family_class(spec).layout is not None]


def _recognize(path: Path, index: dict[str, Any], class_name: str | None) -> ModelSpec | None:
    """Return the model whose family has the checkpoint's pipeline and whose configuration it has most of."""
    if class_name is None or class_name in COMPONENTS["transformer"]:
        return None
    modular = path / MODULAR_INDEX
    names = {str(known.get("_class_name")) for known in (index, read_json(modular) if modular.is_file() else {})}
    found = []
    for spec in _with_layouts():
        layout = family_class(spec).layout
        if layout is not None and names & {layout.pipeline.partition(":")[2], *layout.published_as}:
            found.append(spec)
    if not found:
        return None
    config = dict(read_json(path / "transformer" / "config.json"))
    config["has_second_transformer"] = component_class_name(index, "transformer_2") is not None
    config["is_distilled"] = any("Distilled" in name for name in names)

    def score(spec: ModelSpec) -> int:
        return sum(1 if config.get(key) == value else -1 for key, value in spec.recognized_by)

    return max(found, key=score)
