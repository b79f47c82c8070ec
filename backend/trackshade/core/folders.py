# SPDX-License-Identifier: GPL-3.0-or-later
r"""The folders in which the add-on, the command line and the backend keep their files.

    HOME                        TRACKSHADE_HOME, or the system's folder for application data:
                                %LOCALAPPDATA%\trackshade, ~/Library/Application Support/trackshade or
                                $XDG_DATA_HOME/trackshade (~/.local/share/trackshade)
      backend/                  Python environments created by the add-on's Set Up; `b` on Windows
      models/                   downloaded models, unless TRACKSHADE_MODELS or places.json names another folder
      jobs/  backend.json       job store and connection file of `trackshade serve`
      shared/                   job store, connection file and log of the backend that all Blenders share
      checkpoints.json          registered checkpoints
      places.json               folders that the user selected
      pending/                  jobs of running Blenders, which are found again after a crash
      durations.json            how long jobs took, which the panel's estimate is made of
      moved.json                new locations of results that were moved
    CACHE                       TRACKSHADE_HOME/cache, or the system's folder for files that can be made again:
                                %LOCALAPPDATA%\trackshade\Cache, ~/Library/Caches/trackshade or
                                $XDG_CACHE_HOME/trackshade (~/.cache/trackshade)
      clay/                     clay renders of shots
    DOCUMENTS/Trackshade        results of scenes that were never saved, unless TRACKSHADE_RESULTS names another folder

Job stores and connection files belong to one machine. If HOME is on a network file system, they are in a folder of
this user for temporary files instead, which is kept when the machine starts again: /var/tmp/trackshade-UID.

Nothing is kept in Blender's own folders: Blender deletes an extension's folder with the extension. The locations are
those of platformdirs with `appauthor=False`, a package that Blender's Python does not have.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
import tempfile
from pathlib import Path

from trackshade.core.atomic_files import write_json
from trackshade.core.errors import UsageError
from trackshade.core.file_systems import network_file_system

APPLICATION = "trackshade"
PLACES = "places.json"
RESULTS = "Trackshade"


def home() -> Path:
    """Return the folder of everything except results: TRACKSHADE_HOME, or a system default."""
    if override := os.environ.get("TRACKSHADE_HOME"):
        return _expanded(override)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or _expanded("~") / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = _expanded("~") / "Library" / "Application Support"
    else:
        base = _absolute(os.environ.get("XDG_DATA_HOME")) or _expanded("~") / ".local" / "share"
    return base / APPLICATION


def cache() -> Path:
    """Returns the folder of files that can be made again: in TRACKSHADE_HOME, or a system default."""
    if override := os.environ.get("TRACKSHADE_HOME"):
        return _expanded(override) / "cache"
    if sys.platform == "win32":
        return home() / "Cache"
    if sys.platform == "darwin":
        return _expanded("~") / "Library" / "Caches" / APPLICATION
    return (_absolute(os.environ.get("XDG_CACHE_HOME")) or _expanded("~") / ".cache") / APPLICATION


def environments_dir() -> Path:
    """Return the default folder of Python environments, which all versions of Blender share.

    Its name is short on Windows, which limits the length of paths, unless an earlier version has made the longer one.
    """
    folder = home() / "backend"
    return home() / "b" if sys.platform == "win32" and not folder.is_dir() else folder


def models_dir() -> Path:
    """Return the folder of downloaded models: TRACKSHADE_MODELS, the user's selection, or one in `home`."""
    folder = os.environ.get("TRACKSHADE_MODELS") or _selected_models_dir()
    return _expanded(folder) if folder else home() / "models"


def choose_models_dir(folder: Path | None) -> None:
    """Select the folder of downloaded models for all programs of this user; None for the one in `home`.

    Raises:
        UsageError: TRACKSHADE_MODELS names another folder.
        OutputError: `home` cannot be written.
    """
    variable = os.environ.get("TRACKSHADE_MODELS")
    if variable and folder != _expanded(variable):
        fix = "Change or unset that variable."
        raise UsageError("models-folder-set", f"TRACKSHADE_MODELS is set to {variable}.", fix)
    write_json(home() / PLACES, {} if folder is None else {"models": str(folder.absolute())})


def local_home() -> Path:
    """Return the folder of what belongs to this machine: `home`, or a local one if that is on a network.

    Raises:
        UsageError: "unsafe-home": the local one belongs to somebody else.
    """
    folder = home()
    if _network_type(folder) is None:
        return folder
    base = Path("/var/tmp") if os.path.isdir("/var/tmp") else Path(tempfile.gettempdir())
    local = base / f"{APPLICATION}-{os.getuid() if hasattr(os, 'getuid') else os.environ.get('USERNAME', 'user')}"
    try:
        local.mkdir(mode=0o700, exist_ok=True)
        found = local.lstat()
    except OSError:
        return folder  # whoever needs it says what is wrong
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        fix = "Set TRACKSHADE_HOME to a folder on a local disk."
        raise UsageError("unsafe-home", f"{local} belongs to somebody else, or others may write to it.", fix)
    return local


def jobs_dir() -> Path:
    """Return the job store of `trackshade serve`."""
    return local_home() / "jobs"


def shared_dir() -> Path:
    """Return the folder of this user's shared backend."""
    return local_home() / "shared"


def connection_file() -> Path:
    """Return the connection file of `trackshade serve`."""
    return local_home() / "backend.json"


def unsaved_results_dir() -> Path:
    """Return the folder for results of unsaved scenes: TRACKSHADE_RESULTS, or `Trackshade` in the user's documents."""
    folder = os.environ.get("TRACKSHADE_RESULTS")
    return _expanded(folder) if folder else documents() / RESULTS


def documents() -> Path:
    """Return the user's documents folder, as the system's settings name it."""
    found = _windows_documents()
    if sys.platform not in ("win32", "darwin"):
        found = _absolute(os.environ.get("XDG_DOCUMENTS_DIR")) or _xdg_documents()
    return found or _expanded("~") / "Documents"


@functools.cache
def _network_type(folder: Path) -> str | None:
    return network_file_system(folder)


def _selected_models_dir() -> str | None:
    try:
        folder = json.loads((home() / PLACES).read_text(encoding="utf-8"))["models"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return folder if isinstance(folder, str) else None


def _expanded(folder: str) -> Path:
    """Expand a leading ~ or ~user. Raise UsageError("no-home")."""
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:  # no such user; or one without HOME and without an entry in the system's users
        fix = "Set HOME, or give whole paths in TRACKSHADE_HOME, TRACKSHADE_MODELS and TRACKSHADE_RESULTS."
        raise UsageError("no-home", f"The home folder that {folder} stands for is not known.", fix) from error


def _absolute(folder: str | None) -> Path | None:
    """Return an absolute path as it is; None for a relative one, which the XDG specification ignores."""
    return Path(folder) if folder and os.path.isabs(folder) else None


def _xdg_documents() -> Path | None:
    """Read XDG_DOCUMENTS_DIR from `user-dirs.dirs`, in which desktops record the localized folder names."""
    folder = _absolute(os.environ.get("XDG_CONFIG_HOME")) or _expanded("~") / ".config"
    try:
        text = (folder / "user-dirs.dirs").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    found = re.search(r'^\s*XDG_DOCUMENTS_DIR="(.*)"\s*$', text, re.MULTILINE)
    if found is None:
        return None
    below = re.fullmatch(r"\$HOME(/.*)?", found[1])
    plain = re.sub(r"\\(.)", r"\1", found[1] if below is None else below[1] or "")  # quoted as for a shell
    named = _absolute(plain if below is None else f"{_expanded('~')}{plain}")
    return None if named == _expanded("~") else named  # the home folder itself means that there is no such folder


def _windows_documents() -> Path | None:
    """Return FOLDERID_Documents, which may be on another drive or in OneDrive."""
    if sys.platform != "win32":
        return None
    import ctypes
    from uuid import UUID

    identifier = (ctypes.c_byte * 16).from_buffer_copy(UUID("fdd39ad0-238f-46af-adb4-6c85480369c7").bytes_le)
    path = ctypes.c_wchar_p()
    failed = ctypes.windll.shell32.SHGetKnownFolderPath(ctypes.byref(identifier), 0, None, ctypes.byref(path))
    try:
        return Path(path.value) if not failed and path.value else None
    finally:
        ctypes.windll.ole32.CoTaskMemFree(path)
