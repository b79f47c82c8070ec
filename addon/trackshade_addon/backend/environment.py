# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's environments on disk, and the rules by which one is complete, current or unused. Does not import bpy.

    FOLDER/environment-0.1.0-cpu.json   marker: names the environment of that version of Trackshade for that kind of
                                        device; written last and atomically
    FOLDER/env-xxxxxx/                  a virtual environment; it is a leftover if no marker names it
    FOLDER/downloads/                   pip's cache, kept until a set-up succeeds, so that a retry downloads less
    FOLDER/setup.lock                   locked during a set-up

All Blenders of a user share the folder, and each may have another version of Trackshade. Each version has its own
marker and environment, so that none changes what another uses. If a new version needs the same locked packages as an
existing environment, it gets a small environment with Trackshade alone, which takes all other packages from the
existing one, its `base`.

A marker named `environment.json` was written by an earlier version of Trackshade, which had one environment for all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
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
UNUSED = 180 * 86400.0  # seconds after which a set-up removes environments of other versions that were not started

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Environment:
    """A complete environment.

    Attributes:
        home: folder that holds the marker.
        folder: the virtual environment.
        kind: device that it was made for: "cuda", "cpu" or "mps".
        version: version of Trackshade in it.
        lock: digest of the lock file that it was made from.
        probe: what the probe found in it when it was complete.
        base: name of the environment that it takes its packages from; "" if it has its own.
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
        """Its interpreter."""
        return python_of(self.folder)

    @property
    def marker(self) -> Path:
        """The file that makes it count."""
        return self.home / f"environment-{self.version}-{self.kind}.json"

    @property
    def packages(self) -> Path:
        """The virtual environment that holds its packages: itself or its base."""
        return self.home / self.base if self.base else self.folder


@dataclass(frozen=True)
class Source:
    """Where to install Trackshade from: a wheel or, in development, the folder of the source."""

    path: Path
    is_wheel: bool


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / "Scripts" / "python.exe" if sys.platform == "win32" else folder / "bin" / "python"


def site_packages(folder: Path) -> Path:
    """The folder of installed packages in a virtual environment."""
    return next(path for path in folder.rglob("site-packages") if path.is_dir())


def list_environments(home: Path) -> list[Environment]:
    """Lists the complete environments in a folder whose Python exists, most recently used first."""
    found: list[tuple[float, Environment]] = []
    for marker in home.glob(MARKERS):
        with contextlib.suppress(OSError):  # deleted in the meantime
            environment = _read_marker(marker)
            if environment is not None:
                found.append((marker.stat().st_mtime, environment))
    return [environment for _, environment in sorted(found, key=lambda item: item[0], reverse=True)]


def find_environment(home: Path, kind: str = "auto") -> Environment | None:
    """Finds the environment to use: of this version and kind if possible, else of this version, this kind, or any.

    Args:
        home: folder of the environments.
        kind: preferred kind of device.
    """
    version = trackshade.__version__
    # `min` keeps the order of equals: the most recently used one.
    return min(list_environments(home), key=lambda item: (item.version != version, item.kind != kind), default=None)


def write_marker(environment: Environment) -> None:
    """Makes an environment the one of its version and kind.

    Raises:
        OutputError: the marker cannot be written.
    """
    replaced = []
    for path in environment.home.glob(MARKERS):
        old = _read_marker(path) if path != environment.marker else None
        if old is not None and (old.version, old.kind) == (environment.version, environment.kind):
            replaced.append(path)
    value = {"environment": environment.folder.name, "kind": environment.kind, "version": environment.version,
             "lock": environment.lock, "probe": dict(environment.probe), "base": environment.base}  # fmt: skip
    write_json(environment.marker, value)
    for path in replaced:
        path.unlink(missing_ok=True)


def note_use(environment: Environment) -> None:
    """Records that an environment is used now."""
    with contextlib.suppress(OSError):  # in a read-only folder, where nothing is ever removed either
        os.utime(environment.marker)


def remove_unused(home: Path) -> None:
    """Removes incomplete and replaced environments, and those of other versions that were not used for half a year.

    Environments that a process runs in are kept until the next time.
    """
    for environment in list_environments(home):
        with contextlib.suppress(OSError):
            unused = time.time() - environment.marker.stat().st_mtime > UNUSED
            if environment.version != trackshade.__version__ and unused:
                environment.marker.unlink()
    named = {name for environment in list_environments(home) for name in (environment.folder.name, environment.base)}
    for path in sorted(
        home.glob("env-*"), key=lambda path: not _read_base(path)
    ):  # those with a base before their base
        if path.name not in named and not _is_in_use(path, home):
            _log.info("Removing the environment %s", path)
            shutil.rmtree(path, ignore_errors=True)


def write_base(folder: Path, base: str) -> None:
    """Records in a virtual environment the name of the one that it takes its packages from."""
    (folder / "base.txt").write_text(base, encoding="utf-8")


def _read_base(folder: Path) -> str:
    try:
        return (folder / "base.txt").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _is_in_use(folder: Path, home: Path) -> bool:
    """Whether a process runs in an environment, or in one based on it."""
    stack = [folder, *(path for path in home.glob("env-*") if _read_base(path) == folder.name)]
    return any(count_owners(path / IN_USE) for path in stack)


def _read_marker(marker: Path) -> Environment | None:
    home = marker.parent
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
        names = [str(found["environment"]), str(found.get("base", ""))]
        if any(Path(name).name != name for name in names if name):
            return None
        environment = Environment(
            home, home / names[0], found["kind"], found["version"], found["lock"], found["probe"], names[1]
        )
        # `exists` follows the link to the Python that the environment was made with.
        return environment if environment.python.exists() and environment.packages.is_dir() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def lock_digest(lock: Path) -> str:
    """Digest of a lock file, by which environments with the same packages are found."""
    return hashlib.blake2b(lock.read_bytes(), digest_size=8).hexdigest()


def check_folder(home: Path, space: int) -> None:
    """Creates the folder of environments if necessary, and checks that it can be used.

    Args:
        home: the folder.
        space: bytes that are needed.

    Raises:
        OutputError: it cannot be written, or its disk has too little space.
        UsageError: it holds other files.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        foreign = [path.name for path in home.iterdir() if not is_ours(path.name)]
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(home).free
    except OSError as error:
        raise cannot_write(home, error) from error
    if foreign:
        raise UsageError(
            "folder-not-empty", f"{home} contains other files, such as {foreign[0]}.", "Choose an empty folder."
        )
    downloaded = sum(path.stat().st_size for path in (home / DOWNLOADS).rglob("*") if path.is_file())
    if free + downloaded < space:
        raise OutputError(
            "disk-full",
            f"The environment needs about {format_size(space)}; the disk of {home} has {format_size(free)} free.",
            "Make room, or choose a folder on another disk.",
        )


def is_ours(name: str) -> bool:
    """Whether a set-up creates files or folders of this name."""
    return name in (DOWNLOADS, LOCK) or name.startswith(("env-", ".")) or Path(name).match(MARKERS)


def find_source(extension: Path) -> Source:
    """Finds the wheel of Trackshade in the extension's folder, else the source tree that this runs from.

    Raises:
        UsageError: there is neither.
    """
    wheels = sorted((extension / "wheels").glob("trackshade-*.whl"))
    if wheels:
        return Source(wheels[-1], True)
    tree = Path(trackshade.__file__).parents[1]
    if (tree.parent / "pyproject.toml").is_file():
        return Source(tree, False)
    raise UsageError("no-wheel", "The extension's own wheel of Trackshade is missing.", "Install the extension again.")
