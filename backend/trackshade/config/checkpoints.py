# SPDX-License-Identifier: GPL-3.0-or-later
"""Registered checkpoints: the user's folders in diffusers' layout, which are models beside the built-in ones.

`checkpoints.json` holds each folder and the built-in model that it is based on, whose sizes, frame counts and defaults
it shares. The backend checks a folder before it is registered, and again whenever it is loaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from trackshade.core import folders
from trackshade.core.atomic_files import write_json
from trackshade.core.errors import UsageError

FILE = "checkpoints.json"
FILE_SUFFIXES = (".safetensors", ".gguf")  # of checkpoints that are a single file
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,47}")


@dataclass(frozen=True)
class Checkpoint:
    """A registered folder or file."""

    name: str  # model name
    title: str  # name shown to the user
    folder: str  # absolute path
    like: str  # name of the built-in model that it is based on


def list_checkpoints() -> tuple[Checkpoint, ...]:
    """Return the registered checkpoints; none if the file cannot be read."""
    try:
        items = json.loads(_file().read_text(encoding="utf-8"))
        return tuple(Checkpoint(**{key: str(value) for key, value in item.items()}) for item in items)
    except (OSError, ValueError, TypeError, AttributeError):
        return ()


def register(folder: Path, like: str, known: Sequence[str], title: str = "") -> Checkpoint:
    """Register a folder or file that the backend has checked, or update its entry.

    Args:
        folder: The checkpoint's folder or file.
        like: Name of the built-in model that it is based on.
        known: Names that are taken.
        title: Name shown to the user; that of the folder by default.
    """
    folder = folder.absolute()
    items = list_checkpoints()
    others = [item for item in items if Path(item.folder) != folder]
    own = {item.name for item in items} - {item.name for item in others}
    taken = {*known, *(item.name for item in others)} - own
    own_name = folder.stem if folder.suffix in FILE_SUFFIXES else folder.name
    stem = re.sub(r"[^a-z0-9._-]+", "-", own_name.lower()).strip("-._")[:40] or "checkpoint"
    names = [stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 3))]
    name = next(name for name in names if name not in taken)
    checkpoint = Checkpoint(name, title or own_name, str(folder), like)
    _save([*others, checkpoint])
    return checkpoint


def unregister(name: str) -> None:
    """Remove a checkpoint from the list; its files stay. Raise UsageError or OutputError."""
    before = list_checkpoints()
    after = [item for item in before if item.name != name]
    if len(after) == len(before):
        raise UsageError("unknown-checkpoint", f"There is no checkpoint named '{name}'.")
    _save(after)


def _save(items: list[Checkpoint]) -> None:
    write_json(_file(), [asdict(item) for item in items])


def _file() -> Path:
    return folders.home() / FILE
