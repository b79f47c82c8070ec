# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment on the disk: where it is, and when it counts as made.

    FOLDER/environment.json     which of the folders is the environment; written last, in one step
    FOLDER/env-xxxxxx/          a virtual environment; any that the file does not name is a leftover
    FOLDER/downloads/           pip's, so that a second try need not download again; removed at the end

Knows nothing of bpy.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trackshade
from trackshade.conventions import size_in_words
from trackshade.errors import OutputError, UsageError
from trackshade.settings import write_json

from .words import cannot_write

MARKER = "environment.json"
DOWNLOADS = "downloads"
LOCK = "setup.lock"


@dataclass(frozen=True)
class Made:
    """An environment that was made whole.

    Attributes:
        home: the folder with the marker; `folder`: the environment itself.
        version: of Trackshade in it; "" while that is being replaced.
        lock: digest of the lock that it was made from.
        probe: what it said of itself at its end.
    """

    home: Path
    folder: Path
    kind: str
    version: str
    lock: str
    probe: Mapping[str, Any]

    @property
    def python(self) -> Path:
        return python_of(self.folder)


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / "Scripts" / "python.exe" if sys.platform == "win32" else folder / "bin" / "python"


def current(home: Path) -> Made | None:
    """The environment in this folder; None where there is none that is whole, or the Python below it is gone."""
    try:
        found = json.loads((home / MARKER).read_text(encoding="utf-8"))
        name = str(found["environment"])
        if Path(name).name != name:
            return None
        made = Made(home, home / name, found["kind"], found["version"], found["lock"], found["probe"])
        return made if made.python.exists() else None  # follows the link to the Python that it was made with
    except (OSError, ValueError, KeyError, TypeError):
        return None


def mark(made: Made) -> None:
    """Makes it the environment of its folder. Raises OutputError."""
    value = {"environment": made.folder.name, "kind": made.kind, "version": made.version, "lock": made.lock,
             "probe": dict(made.probe)}  # fmt: skip
    write_json(made.home / MARKER, value)


def sweep(home: Path) -> None:
    """Removes what earlier attempts left, and what has been replaced. What is still in use stays for the next time."""
    made = current(home)
    for path in home.glob("env-*"):
        if made is None or path != made.folder:
            shutil.rmtree(path, ignore_errors=True)


def digest(lock: Path) -> str:
    return hashlib.blake2b(lock.read_bytes(), digest_size=8).hexdigest()


def check_folder(home: Path, space: int) -> None:
    """Makes the folder and tries it out.

    Raises:
        OutputError: it cannot be written, or its disk has less than `space` bytes free.
        UsageError: it is a folder with other things in it.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        strangers = [path.name for path in home.iterdir() if not _ours(path.name)]
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(home).free
    except OSError as error:
        raise cannot_write(home, error) from error
    if strangers:
        raise UsageError(
            "folder-not-empty", f"{home} has other things in it, such as {strangers[0]}.", "Choose an empty folder."
        )
    have = sum(path.stat().st_size for path in (home / DOWNLOADS).rglob("*") if path.is_file())
    if free + have < space:
        raise OutputError(
            "disk-full",
            f"The environment needs about {size_in_words(space)}; the disk of {home} has {size_in_words(free)} free.",
            "Make room, or choose a folder on another disk.",
        )


def _ours(name: str) -> bool:
    return name in (MARKER, DOWNLOADS, LOCK) or name.startswith(("env-", "."))


@dataclass(frozen=True)
class Source:
    """Where the environment gets Trackshade from: a wheel, or in development the folder of its source."""

    path: Path
    is_wheel: bool


def find_source(extension: Path) -> Source:
    """The wheel that the extension (its folder) brought, else the source tree that this runs from.

    Raises UsageError where neither is there.
    """
    wheels = sorted((extension / "wheels").glob("trackshade-*.whl"))
    if wheels:
        return Source(wheels[-1], True)
    tree = Path(trackshade.__file__).parents[1]
    if (tree.parent / "pyproject.toml").is_file():
        return Source(tree, False)
    raise UsageError("no-wheel", "The extension's own wheel of Trackshade is missing.", "Install the extension again.")
