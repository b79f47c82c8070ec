# SPDX-License-Identifier: GPL-3.0-or-later
"""Text for bug reports, without secrets: versions, device, folders, models and the last lines of the logs."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import bpy

from trackshade import __version__
from trackshade.config import registry
from trackshade.core import folders
from trackshade.core.text import format_size

from .. import log
from ..messages.backend import proxy
from ..properties.preferences import unsaved_results_folder
from . import manager
from .prefs import current_prefs

READ = 64 << 10  # bytes that are read from the end of a log


def log_tail(count: int = 200) -> str:
    """Return the last `count` lines of all logs (add-on, set-up, backend, workers), without secrets."""
    logs: dict[object, list[str]] = {}
    if messages := log.last_messages(count):
        logs[f"add-on: {log.log_path()}"] = messages
    if manager.set_up_task is not None and manager.set_up_task.log_lines:
        logs["set-up"] = list(manager.set_up_task.log_lines)[-count:]
    folder = folders.shared_dir()
    for path in (folder / "log", *sorted((folder / "jobs" / "logs").glob("*.log"))):
        if path.is_file():
            logs[path] = _last_lines(path, count)
    parts = ["\n".join([f"[{name}]", *lines]) for name, lines in logs.items()]
    return log.redact("\n\n".join(parts) or "Nothing has been logged yet.")


def describe() -> str:
    """Describe this installation for a bug report, followed by the last lines of the logs, without secrets."""
    prefs = current_prefs()
    state, environment = manager.state(), manager.environment()
    sections: dict[str, dict[str, object]] = {
        "Trackshade": {"add-on": __version__, "backend": state.version or "?", "state": state.kind,
                       "message": state.error or state.message or "-"},
        "System": {"Blender": bpy.app.version_string, "Python": platform.python_version(),
                   "system": platform.platform(), "processors": os.cpu_count(), "proxy": proxy() or "none",
                   "online access": prefs.online},
        "Device": {"name": state.device or "?", "free": format_size(state.free_bytes),
                   "total": format_size(state.total_bytes),
                   "kind": prefs.kind},
        "Environment": {"python": prefs.python() or "none", "folder": _describe_folder(prefs.home),
                        "made with": prefs.base or "any suitable Python",
                        "address": prefs.address or "-", "wheels": prefs.wheels or "-",
                        "index": prefs.index or "-",
                        "probe": dict(environment.probe) if environment is not None else "-"},
        "Backend": {key: value for key, value in manager.status.items() if key != "memory"},
        "Folders": {"home": _describe_folder(folders.home()), "models": _describe_folder(folders.models_dir()),
                    "results of unsaved scenes": _describe_folder(unsaved_results_folder())},
        "Models": {item.name: "here" if registry.is_present(item) else "not here" for item in registry.models()},
    }  # fmt: skip
    lines = []
    for title, facts in sections.items():
        lines += [title, *(f"  {name}: {value}" for name, value in facts.items())]
    return log.redact("\n".join([*lines, "", log_tail(30)]))


def _last_lines(path: Path, count: int) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - READ))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except OSError as error:
        return [str(error)]


def _describe_folder(path: Path) -> str:
    existing = next((item for item in (path, *path.absolute().parents) if item.is_dir()), None)
    if existing is None:
        return f"{path}, does not exist"
    writable = "writable" if os.access(existing, os.W_OK) else "not writable"
    return f"{path}, {writable}, {format_size(shutil.disk_usage(existing).free)} free"
