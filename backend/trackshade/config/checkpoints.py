# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints of the user's own: folders in diffusers' layout that are models beside those that Trackshade knows.

Which folder it is, and which known model it takes the place of, stand in `checkpoints.json`; sizes, frame counts and
defaults are those of that model. Whether a folder holds such a checkpoint is checked by the backend before it is
registered, and again whenever it is loaded. Light ring.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trackshade.core import atomic_files, folders
from trackshade.core.errors import UsageError

FILE = "checkpoints.json"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,47}")


@dataclass(frozen=True)
class Checkpoint:
    """A registered folder; `like` is the known model whose facts it shares."""

    name: str
    title: str
    folder: str
    like: str


def checkpoints() -> tuple[Checkpoint, ...]:
    """Those of this user; what cannot be read is none."""
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
        return tuple(Checkpoint(**{key: str(value) for key, value in item.items()}) for item in found)
    except (OSError, ValueError, TypeError, AttributeError):
        return ()


def register(folder: Path, like: str, known: tuple[str, ...], title: str = "") -> Checkpoint:
    """Adds a folder that was checked, or says anew what is known of it; its entry.

    `known` are the names that are taken. Raises OutputError.
    """
    folder = folder.absolute()
    found = checkpoints()
    others = tuple(item for item in found if Path(item.folder) != folder)
    own = {item.name for item in found if Path(item.folder) == folder}
    name = _free_name(folder.name, {*known, *(item.name for item in others)} - own)
    made = Checkpoint(name, title or folder.name, str(folder), like)
    _save((*others, made))
    return made


def forget(name: str) -> None:
    """Takes a checkpoint off the list; its files stay. Raises UsageError for an unknown name, OutputError."""
    found = checkpoints()
    kept = tuple(item for item in found if item.name != name)
    if len(kept) == len(found):
        raise UsageError("unknown-checkpoint", f"There is no checkpoint named '{name}'.")
    _save(kept)


def _free_name(wanted: str, taken: set[str]) -> str:
    stem = re.sub(r"[^a-z0-9._-]+", "-", wanted.lower()).strip("-._")[:40] or "checkpoint"
    names = [stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)


def _save(found: tuple[Checkpoint, ...]) -> None:
    value: list[dict[str, Any]] = [asdict(item) for item in found]
    atomic_files.write_json(_file(), value)


def _file() -> Path:
    return folders.home() / FILE
