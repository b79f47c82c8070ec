# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade bake`: a result onto its surfaces, as textures, without Blender."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def bake(values: Mapping[str, Any], on_message: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Bakes a result as the options say; what was made. Raises as `bake_result`."""
    from trackshade.results.baking import FOLDER, BakeOptions, bake_result

    folder = Path(values["result"]).absolute()
    wanted = BakeOptions(
        size=values["size"],
        objects=() if values["object"] is None else (values["object"],),
        shot=None if values["shot"] is None else Path(values["shot"]),
        projection=values["projection"],
    )

    def progress(what: str, share: float) -> None:
        on_message({"state": "baking", "message": what, "step": round(100 * share), "steps": 100})

    record = bake_result(folder, wanted, progress)
    target = folder / FOLDER
    return {
        "out": str(target),
        "files": {"record": str(target / "texture.json")}
        | {entry["name"]: str(target / entry["texture"]) for entry in record["meshes"]},
        "meshes": record["meshes"],
        "warnings": record["warnings"],
    }
