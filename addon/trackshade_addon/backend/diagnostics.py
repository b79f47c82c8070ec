# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person who answers a bug report wants to know, as text without secrets; and the last lines of the logs."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import bpy

from trackshade import __version__
from trackshade.config import registry
from trackshade.core import folders
from trackshade.core.errors import TrackshadeError
from trackshade.core.text import format_size
from trackshade.ipc import connection_files

from ..messages.backend import proxy
from ..properties.chosen import unsaved_results_folder
from .manager import BackendManager
from .prefs import BackendPrefs

READ = 64 << 10  # bytes of the end of a log
_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")


def log_files() -> list[Path]:
    """The logs of the shared backend and its workers."""
    folder = folders.shared_dir()
    return [path for path in (folder / "log", *sorted((folder / "jobs" / "logs").glob("*.log"))) if path.is_file()]


def log_tail(life: BackendManager, count: int) -> str:
    """The last `count` lines of each log, under their names."""
    parts = []
    if life.work is not None and life.work.lines:
        parts.append("\n".join(["[set-up]", *list(life.work.lines)[-count:]]))
    parts += ["\n".join([f"[{path}]", *_last_lines(path, count)]) for path in log_files()]
    return without_secrets("\n\n".join(parts) or "Nothing has been logged yet.")


def diagnostics(life: BackendManager, choice: BackendPrefs) -> str:
    """Versions, device, folders, models and the last lines of the logs."""
    state, made = life.state(choice), life.made(choice)
    sections: dict[str, dict[str, object]] = {
        "Trackshade": {"add-on": __version__, "backend": state.version or "?", "state": state.kind,
                       "message": state.error or state.message or "-"},
        "System": {"Blender": bpy.app.version_string, "Python": platform.python_version(),
                   "system": platform.platform(), "processors": os.cpu_count(), "proxy": proxy() or "none",
                   "online access": choice.online},
        "Device": {"name": state.device or "?", "free": format_size(state.free_bytes),
                   "total": format_size(state.total_bytes),
                   "kind": choice.kind},
        "Environment": {"python": choice.python() or "none", "folder": _folder(choice.home),
                        "made with": choice.base or "whichever Python serves",
                        "address": choice.address or "-", "wheels": choice.wheels or "-",
                        "index": choice.index or "-",
                        "says of itself": dict(made.probe) if made is not None else "-"},
        "Backend": {key: value for key, value in life.status.items() if key != "memory"},
        "Folders": {"home": _folder(folders.home()), "models": _folder(folders.models_dir()),
                    "results of unsaved scenes": _folder(unsaved_results_folder())},
        "Models": {item.name: "here" if registry.is_present(item) else "not here" for item in registry.models()},
    }  # fmt: skip
    lines = []
    for title, facts in sections.items():
        lines += [title, *(f"  {name}: {value}" for name, value in facts.items())]
    return without_secrets("\n".join([*lines, "", log_tail(life, 30)]))


def without_secrets(text: str) -> str:
    """Without the tokens of backends, and the names and passwords in addresses."""
    for secret in _secrets():
        text = text.replace(secret, "***")
    return _PASSWORD.sub("***@", text)


def _secrets() -> Iterable[str]:
    found = [os.environ.get("TRACKSHADE_TOKEN", "")]
    for path in (folders.shared_dir() / "backend.json", folders.connection_file()):
        try:
            info = connection_files.read(path)
        except TrackshadeError:  # unreadable: then nobody can have read a token from it
            continue
        if info is not None:
            found.append(info.token)
    for name, value in os.environ.items():
        if name.lower().endswith("_proxy") and "@" in value:
            found.append(value.rpartition("@")[0].rpartition("//")[2])
    return [secret for secret in found if secret]


def _last_lines(path: Path, count: int) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - READ))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except OSError as error:
        return [str(error)]


def _folder(path: Path) -> str:
    existing = next((item for item in (path, *path.absolute().parents) if item.is_dir()), None)
    if existing is None:
        return f"{path}, not there"
    writable = "writable" if os.access(existing, os.W_OK) else "cannot be written"
    return f"{path}, {writable}, {format_size(shutil.disk_usage(existing).free)} free"
