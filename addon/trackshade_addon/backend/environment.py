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
import importlib.util
import json
import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import trackshade
from trackshade.core.atomic_files import write_json
from trackshade.core.errors import OutputError, UsageError
from trackshade.core.text import format_size
from trackshade.ipc.endpoints import ClientKeys, read_key_files
from trackshade.ipc.locks import IN_USE, count_owners

from ..messages.backend import cannot_write, path_too_long

MARKERS = "environment*.json"
DOWNLOADS = "downloads"
LOCK = "setup.lock"
BASE = "base.txt"  # in a virtual environment: name of the one that it takes its packages from
PATH_LIMIT = 259  # characters of a path on Windows, unless long paths are enabled
UNUSED = 180 * 86400.0  # seconds after which a set-up removes environments of other versions that were not started

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Environment:
    """A complete environment."""

    home: Path  # folder that holds the marker
    folder: Path  # the virtual environment
    kind: str  # device that it was made for: "cuda", "cpu" or "mps"
    version: str  # version of Trackshade in it
    lock: str  # digest of the lock file that it was made from
    probe: Mapping[str, Any]  # what the probe found in it when it was complete
    base: str = ""  # name of the environment that it takes its packages from; "" if it has its own

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
class BackendPrefs:
    """The backend's settings in the add-on's preferences."""

    existing: str = ""  # Python of an environment made by the user; "" to use the one that Set Up makes
    address: str = ""  # address of a backend that runs elsewhere, or ""
    token: str = field(default="", repr=False)  # its token, or "" for that of its connection file
    server_key: Path | None = None  # its public CURVE key, if it is on another machine
    client_key: Path | None = None  # the secret CURVE key of this machine
    home: Path = Path()  # folder of the environments that Set Up makes
    earlier: Path | None = None  # folder in which earlier versions kept them, until they are moved
    base: str = ""  # Python to make the environment with; "" to find one
    kind: str = "auto"  # device to make it for: "auto", "cuda", "cpu" or "mps"
    wheels: Path | None = None  # folder of wheels to install from instead of the network
    index: str = ""  # URL of an additional package index, or ""
    online: bool = True  # whether Blender may use the network

    def keys(self) -> ClientKeys | None:
        """Return the CURVE keys, or None. Raise UsageError("no-keys") if one is missing or damaged."""
        if self.server_key is None and self.client_key is None:
            return None
        if self.server_key is None or self.client_key is None:
            missing = "Client" if self.client_key is None else "Server"
            raise UsageError(
                "no-keys", f"The {missing} Key is missing.", "Choose both keys in the preferences, or none of them."
            )
        return read_key_files(self.server_key, self.client_key)

    def python(self) -> str | None:
        """Return the interpreter that runs the backend; None if there is no environment yet."""
        if self.existing:
            return self.existing
        environment = self.environment()
        if environment is not None:
            return str(environment.python)
        # Blender as a module of a Python that has the backend itself.
        return sys.executable if importlib.util.find_spec("torch") is not None else None

    def environment(self) -> Environment | None:
        """Return the environment that Set Up made; see `find_environment`."""
        found = find_environment(self.home, self.kind)
        return find_environment(self.earlier, self.kind) if found is None and self.earlier is not None else found


def python_of(folder: Path) -> Path:
    """Return the interpreter of a virtual environment."""
    return folder / "Scripts" / "python.exe" if sys.platform == "win32" else folder / "bin" / "python"


def site_packages(folder: Path) -> Path:
    """Return the folder of installed packages in a virtual environment."""
    return next(path for path in folder.rglob("site-packages") if path.is_dir())


def list_environments(home: Path) -> list[Environment]:
    """List the complete environments in a folder whose Python exists, most recently used first."""
    found: list[tuple[float, Environment]] = []
    for marker in home.glob(MARKERS):
        with contextlib.suppress(OSError):  # deleted in the meantime
            environment = _read_marker(marker)
            if environment is not None:
                found.append((marker.stat().st_mtime, environment))
    return [environment for _, environment in sorted(found, key=lambda item: item[0], reverse=True)]


def find_environment(home: Path, kind: str = "auto") -> Environment | None:
    """Find the environment to use: of this version and kind if possible, else of this version, this kind, or any."""
    version = trackshade.__version__
    # `min` keeps the order of equals: the most recently used one.
    return min(list_environments(home), key=lambda item: (item.version != version, item.kind != kind), default=None)


def write_marker(environment: Environment) -> None:
    """Make an environment the one of its version and kind.

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
    """Record that an environment is used now."""
    with contextlib.suppress(OSError):  # in a read-only folder, where nothing is ever removed either
        os.utime(environment.marker)


def remove_unused(home: Path) -> None:
    """Remove incomplete and replaced environments, and those of other versions that were not used for half a year.

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


def _read_base(folder: Path) -> str:
    """Return the name of the environment that a virtual environment takes its packages from, or ""."""
    try:
        return (folder / BASE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _is_in_use(folder: Path, home: Path) -> bool:
    """Return whether a process runs in an environment, or in one based on it."""
    based = [path for path in home.glob("env-*") if _read_base(path) == folder.name]
    return any(count_owners(path / IN_USE) for path in (folder, *based))


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
    """Return the digest of a lock file, by which environments with the same packages are found."""
    return hashlib.blake2b(lock.read_bytes(), digest_size=8).hexdigest()


def check_folder(home: Path, space: int) -> None:
    """Create the folder of environments if necessary, and check that it can be used and has `space` bytes free.

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


def new_folder(home: Path) -> Path:
    """Return a folder for a new environment that does not exist. Its name is short, as Windows limits paths."""
    while True:
        folder = home / f"env-{secrets.token_hex(2)}"
        if not folder.exists():
            return folder


def longest_path(home: Path | PurePath, longest: str) -> int:
    r"""Return the number of characters of an environment's longest path on Windows.

    Args:
        home: Folder of environments.
        longest: The longest path of a file in the folder of installed packages.
    """
    return len(f"{home}\\env-0000\\Lib\\site-packages\\{longest}")


def check_path_length(home: Path | PurePath, longest: str, has_long_paths: bool | None = None) -> None:
    """Check that the files of an environment have valid paths on Windows, where most programs are limited to 259.

    Args:
        home: Folder of environments.
        longest: The longest path of a file in the folder of installed packages.
        has_long_paths: Whether longer paths are enabled. None: as the system says, which only Windows limits.

    Raises:
        UsageError: "path-too-long".
    """
    count = longest_path(home, longest)
    if count > PATH_LIMIT and not (_has_long_paths() if has_long_paths is None else has_long_paths):
        raise path_too_long(home, count - PATH_LIMIT)


def _has_long_paths() -> bool:
    if sys.platform != "win32":
        return True
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem") as key:
            return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
    except OSError:
        return False


def is_ours(name: str) -> bool:
    """Return whether a set-up creates files or folders of this name."""
    return name in (DOWNLOADS, LOCK) or name.startswith(("env-", ".")) or Path(name).match(MARKERS)


def find_source() -> Path:
    """Find the wheel of Trackshade in the extension's folder, else the source tree that this runs from.

    Raises:
        UsageError: there is neither.
    """
    wheels = sorted((Path(__file__).parents[1] / "wheels").glob("trackshade-*.whl"))
    if wheels:
        return wheels[-1]
    tree = Path(trackshade.__file__).parents[1]
    if (tree.parent / "pyproject.toml").is_file():
        return tree
    raise UsageError("no-wheel", "The extension's own wheel of Trackshade is missing.", "Install the extension again.")
