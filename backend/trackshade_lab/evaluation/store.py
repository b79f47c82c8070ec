# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of an evaluation: its settings, and the figures of each clip as soon as they are known."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trackshade.core.errors import OutputError, UsageError


class Named(Protocol):
    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Store:
    """Figures by clip, in a folder."""

    folder: Path

    def has(self, items: Sequence[Named]) -> bool:
        """Whether every one of these clips is measured."""
        return all(self._path(item.name).is_file() for item in items)

    def get(self, name: str) -> dict[str, Any]:
        return json.loads(self._path(name).read_text(encoding="utf-8"))

    def put(self, record: Mapping[str, Any]) -> None:
        """Keep the figures of a clip, whole or not at all. Raises OutputError."""
        write_json(self._path(record["name"]), record)

    def _path(self, name: str) -> Path:
        return self.folder / "clips" / f"{name}.json"


def open_store(folder: Path, settings: Mapping[str, Any], force: bool = False) -> Store:
    """The store in a folder, made where there is none.

    Raises UsageError where it holds figures of other settings, which `force` throws away; OutputError.
    """
    path, wanted = folder / "settings.json", plain(settings)
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != wanted:
        if not force:
            raise UsageError(
                "other-evaluation",
                f"{folder} holds an evaluation with other settings or weights.",
                "Choose another folder with --out, or --force to begin it again.",
            )
        for name in ("clips", "sheets"):
            shutil.rmtree(folder / name, ignore_errors=True)
    elif force:
        shutil.rmtree(folder / "clips", ignore_errors=True)
    write_json(path, wanted)
    return Store(folder)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all; NaN becomes null. Raises OutputError."""
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=1)
    write_bytes(path, text.encode() + b"\n")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all, in a folder that is made where it is missing. Raises OutputError."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        raise OutputError(
            "output-unwritable",
            f"The report cannot be written to {path}: {error.strerror or error}.",
            "Choose a folder that can be written.",
        ) from error


def plain(value: Any) -> Any:
    """JSON has no NaN and no tuples: null and lists instead."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
