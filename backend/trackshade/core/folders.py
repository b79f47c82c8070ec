# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Trackshade keeps its files, for the add-on, the command line and the backend alike.

    HOME                        TRACKSHADE_HOME, else the system's folder for a user's application data:
                                %LOCALAPPDATA%\\trackshade, ~/Library/Application Support/trackshade or
                                $XDG_DATA_HOME/trackshade (~/.local/share/trackshade)
      backend/                  environments that Set Up made
      models/                   fetched models, unless TRACKSHADE_MODELS or places.json names another folder
      jobs/  backend.json       job store and connection file of `trackshade serve`
      shared/                   job store, connection file and log of the backend that all Blenders share
      places.json               folders that the user chose
      moved.json                where results went that were moved
    DOCUMENTS/Trackshade        results of scenes that were never saved, unless TRACKSHADE_RESULTS names another folder

Nothing is kept in Blender's own folders: Blender deletes an extension's folder with the extension. The rules are those
of platformdirs with `appauthor=False`, which Blender's Python does not have.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from trackshade.core.errors import OutputError, UsageError

APPLICATION = "trackshade"
PLACES = "places.json"
RESULTS = "Trackshade"


def home() -> Path:
    """Folder of everything but results: TRACKSHADE_HOME, else in the system's folder for application data."""
    chosen = os.environ.get("TRACKSHADE_HOME")
    if chosen:
        return _expanded(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or _expanded("~") / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = _expanded("~") / "Library" / "Application Support"
    else:
        base = _absolute(os.environ.get("XDG_DATA_HOME")) or _expanded("~") / ".local" / "share"
    return base / APPLICATION


def environments_dir() -> Path:
    """Where Set Up makes environments unless another folder is chosen; one for all versions of Blender."""
    return home() / "backend"


def models_dir() -> Path:
    """The one folder of fetched models: TRACKSHADE_MODELS, else the one chosen for this user, else in `home`."""
    chosen = os.environ.get("TRACKSHADE_MODELS") or _chosen_models()
    return _expanded(chosen) if chosen else home() / "models"


def choose_models_dir(folder: Path | None) -> None:
    """Chooses the folder of fetched models for every program of this user; None for the one in `home`.

    Raises:
        UsageError: TRACKSHADE_MODELS says another one. OutputError: `home` cannot be written.
    """
    said = os.environ.get("TRACKSHADE_MODELS")
    if said and folder != _expanded(said):
        raise UsageError("models-folder-set", f"TRACKSHADE_MODELS says {said}.", "Change it there.")
    write_json(home() / PLACES, {} if folder is None else {"models": str(folder.absolute())})


def jobs_dir() -> Path:
    """The job store of the served backend."""
    return home() / "jobs"


def shared_dir() -> Path:
    """The folder of this user's shared backend."""
    return home() / "shared"


def connection_file() -> Path:
    """Where the served backend writes its address and token."""
    return home() / "backend.json"


def unsaved_results_dir() -> Path:
    """Where the results of scenes go that were never saved: TRACKSHADE_RESULTS, else `Trackshade` in the user's
    documents. It need not exist.
    """
    chosen = os.environ.get("TRACKSHADE_RESULTS")
    return _expanded(chosen) if chosen else documents() / RESULTS


def documents() -> Path:
    """The user's folder of documents, wherever the system says that it is."""
    if sys.platform == "win32":
        found = _windows_documents()
    elif sys.platform == "darwin":
        found = None
    else:
        found = _absolute(os.environ.get("XDG_DOCUMENTS_DIR")) or _xdg_documents()
    return found or _expanded("~") / "Documents"


def write_json(path: Path, value: Any) -> None:
    """Writes a small file in one step. Raises OutputError("unwritable")."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(value, indent=1), encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise OutputError(
            "unwritable",
            f"{path} cannot be written: {error.strerror}.",
            f"Make {path.parent} a folder that you can write to.",
        ) from error


def _chosen_models() -> str | None:
    try:
        found = json.loads((home() / PLACES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    chosen = found.get("models") if isinstance(found, dict) else None
    return chosen if isinstance(chosen, str) else None


def _expanded(folder: str) -> Path:
    """The path with a leading ~ or ~user replaced. Raises UsageError("no-home")."""
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:  # no such user; or one without HOME and without an entry in the system's users
        raise UsageError(
            "no-home",
            f"The home folder that {folder} stands for is not known.",
            "Set HOME, or give whole paths in TRACKSHADE_HOME, TRACKSHADE_MODELS and TRACKSHADE_RESULTS.",
        ) from error


def _absolute(folder: str | None) -> Path | None:
    """The XDG specification has relative paths ignored."""
    return Path(folder) if folder and os.path.isabs(folder) else None


def _xdg_documents() -> Path | None:
    """XDG_DOCUMENTS_DIR of `user-dirs.dirs`, which desktops write in the user's language."""
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
    return None if named == _expanded("~") else named  # the home folder itself stands for "none"


def _windows_documents() -> Path | None:
    """FOLDERID_Documents, which may be on another drive or in OneDrive."""
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
