# SPDX-License-Identifier: GPL-3.0-or-later
"""The environments on the disk: which there are, and when one counts as made.

    FOLDER/environment-0.1.0-cpu.json   names the environment of that version of Trackshade for that kind of device;
                                        written last, in one step
    FOLDER/env-xxxxxx/                  a virtual environment; any that no such file names is a leftover
    FOLDER/downloads/                   pip's, so that a second try need not download again; removed at the end
    FOLDER/setup.lock                   held by who sets up

All Blenders of a user share the folder, and each may have another version of Trackshade: each version has its own file
and its own environment, so that none changes what another uses. An environment for a new version with the same locked
packages is a small one that holds Trackshade alone and takes everything else from the larger one, its `base`.

An `environment.json` is of an earlier version of Trackshade, which named one environment for all; it still counts.
Knows nothing of bpy.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trackshade
from trackshade.core.atomic_files import write_json
from trackshade.core.errors import OutputError, UsageError
from trackshade.core.text import format_size
from trackshade.ipc.locks import IN_USE, count_owners

from ..messages.backend import cannot_write

MARKERS = "environment*.json"
DOWNLOADS = "downloads"
LOCK = "setup.lock"
UNUSED = 180 * 86400.0  # seconds after which a set-up removes environments of other versions that nobody started


@dataclass(frozen=True)
class Environment:
    """An environment that was made whole.

    Attributes:
        home: the folder with the marker; `folder`: the environment itself.
        kind: of device, "cuda", "cpu" or "mps".
        version: of Trackshade in it.
        lock: digest of the lock that it was made from.
        probe: what it said of itself at its end.
        base: name of the environment that it takes its packages from; "" where it has its own.
    """

    home: Path
    folder: Path
    kind: str
    version: str
    lock: str
    probe: Mapping[str, Any]
    base: str = ""

    @property
    def python(self) -> Path:
        return python_of(self.folder)

    @property
    def marker(self) -> Path:
        return self.home / f"environment-{self.version}-{self.kind}.json"

    @property
    def packages(self) -> Path:
        """The environment that has the packages."""
        return self.home / self.base if self.base else self.folder


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / "Scripts" / "python.exe" if sys.platform == "win32" else folder / "bin" / "python"


def site_packages(folder: Path) -> Path:
    """The folder of packages of a virtual environment."""
    return next(path for path in folder.rglob("site-packages") if path.is_dir())


def every(home: Path) -> list[Environment]:
    """All environments in this folder that are whole and whose Python is there, the one started last first."""
    found: list[tuple[float, Environment]] = []
    for marker in home.glob(MARKERS):
        with contextlib.suppress(OSError):  # gone meanwhile
            made = _read(marker)
            if made is not None:
                found.append((marker.stat().st_mtime, made))
    return [made for _, made in sorted(found, key=lambda item: item[0], reverse=True)]


def current(home: Path, kind: str = "auto") -> Environment | None:
    """The environment that this version of Trackshade uses; one of another version where there is none of this, which
    a set-up makes the most of. None where there is none at all.

    Args:
        kind: of device. One of this kind is preferred.
    """
    found = every(home)
    for wanted in (
        lambda made: made.version == trackshade.__version__ and made.kind == kind,
        lambda made: made.version == trackshade.__version__,
        lambda made: made.kind == kind,
    ):
        for made in found:
            if wanted(made):
                return made
    return found[0] if found else None


def mark(made: Environment) -> None:
    """Makes it the environment of its version and kind. Raises OutputError."""
    earlier = [path for path in made.home.glob(MARKERS) if path != made.marker and _is_replaced(_read(path), made)]
    value = {"environment": made.folder.name, "kind": made.kind, "version": made.version, "lock": made.lock,
             "probe": dict(made.probe), "base": made.base}  # fmt: skip
    write_json(made.marker, value)
    for path in earlier:
        path.unlink(missing_ok=True)


def started(made: Environment) -> None:
    """Notes that it was used now."""
    with contextlib.suppress(OSError):  # a folder that may only be read, which nobody sweeps either
        os.utime(made.marker)


def sweep(home: Path) -> None:
    """Removes what earlier attempts left, what has been replaced, and environments of other versions that have not been
    started for half a year. What is in use stays for the next time."""
    for made in every(home):
        with contextlib.suppress(OSError):
            if made.version != trackshade.__version__ and time.time() - made.marker.stat().st_mtime > UNUSED:
                made.marker.unlink()
    named = {name for made in every(home) for name in (made.folder.name, made.base)}
    for path in sorted(home.glob("env-*"), key=lambda path: not _base_of(path)):  # those on top of others first
        if path.name not in named and not _in_use(path, home):
            shutil.rmtree(path, ignore_errors=True)


def note_base(folder: Path, base: str) -> None:
    """Writes into an environment which other one it takes its packages from."""
    (folder / "base.txt").write_text(base, encoding="utf-8")


def _base_of(folder: Path) -> str:
    try:
        return (folder / "base.txt").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _in_use(folder: Path, home: Path) -> bool:
    """Whether a process runs in an environment, or in one on top of it."""
    others: Iterable[Path] = home.glob("env-*")
    stack = [folder, *(path for path in others if _base_of(path) == folder.name)]
    return any(count_owners(path / IN_USE) for path in stack)


def _read(marker: Path) -> Environment | None:
    home = marker.parent
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
        names = [str(found["environment"]), str(found.get("base", ""))]
        if any(Path(name).name != name for name in names if name):
            return None
        made = Environment(
            home, home / names[0], found["kind"], found["version"], found["lock"], found["probe"], names[1]
        )
        # Follows the link to the Python that it was made with.
        return made if made.python.exists() and made.packages.is_dir() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_replaced(old: Environment | None, new: Environment) -> bool:
    return old is not None and (old.version, old.kind) == (new.version, new.kind)


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
        strangers = [path.name for path in home.iterdir() if not is_ours(path.name)]
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
            f"The environment needs about {format_size(space)}; the disk of {home} has {format_size(free)} free.",
            "Make room, or choose a folder on another disk.",
        )


def is_ours(name: str) -> bool:
    """Whether a set-up makes files or folders of that name."""
    return name in (DOWNLOADS, LOCK) or name.startswith(("env-", ".")) or Path(name).match(MARKERS)


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
