# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade doctor`: facts about this installation for a bug report, and what is missing."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from trackshade import __version__
from trackshade.cli.blender import blender_version
from trackshade.cli.system import advice, missing_libraries
from trackshade.client import connect, find_served
from trackshade.config import registry
from trackshade.core import folders
from trackshade.core.errors import TrackshadeError
from trackshade.core.processes import find_program
from trackshade.core.text import format_size
from trackshade.driving.person_detector import find_detector
from trackshade.ipc import PROTOCOL

PACKAGES = "numpy pyzmq msgpack torch diffusers transformers safetensors numba av openimageio bpy"
Facts = dict[str, dict[str, Any]]


def print_facts(values: Mapping[str, Any]) -> None:
    """Print the facts as text or JSON."""
    facts = collect_facts(values["blender"])
    print(json.dumps(facts, indent=1) if values["json"] else format_facts(facts))


def collect_facts(blender: str | None = None) -> Facts:
    """Return sections of names and plain values; "problems" holds sentences about what is missing."""
    python = {"python": platform.python_version(), "executable": sys.executable}
    found: Facts = {
        "trackshade": {"version": __version__, "protocol": PROTOCOL, "folder": str(Path(__file__).parents[1])},
        "system": {"system": platform.platform(), **python, "processors": os.cpu_count()},
        "packages": {name: _version(name) for name in PACKAGES.split()},
        "networks": {"mediapipe": str(find_detector() or "none")},
        "devices": _devices(),
        "models": _models(),
        "blender": _blender(blender),
        "backend": _backend(),
        "folders": {"home": _disk(folders.home()), "models": _disk(folders.models_dir())},
    }
    found["problems"] = {str(n): sentence for n, sentence in enumerate(_problems(found), start=1)}
    return found


def format_facts(facts: Facts) -> str:
    """Format the facts as text."""
    lines = []
    for section, items in facts.items():
        lines += [section, *([f"  {name}: {value}" for name, value in items.items()] or ["  none"])]
    return "\n".join(lines)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> dict[str, Any]:
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch

    found: dict[str, Any] = {"cpu": f"{torch.get_num_threads()} threads"}
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = f"{device.name}, {format_size(device.total_memory)}"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found


def _models() -> dict[str, Any]:
    return {
        item.name: str(registry.model_folder(item)) if registry.is_present(item) else "not downloaded"
        for item in registry.models()
    }


def _blender(blender: str | None) -> dict[str, Any]:
    path = blender or find_program("blender")
    version = None if path is None else blender_version(path)
    return {
        "path": path,
        "version": None if version is None else ".".join(map(str, version)),
        "module": _version("bpy"),
        "missing libraries": ", ".join(missing_libraries()) or "none",
    }


def _backend() -> dict[str, Any]:
    try:
        served = find_served()
        if served is None:
            return {"served": "no", "loopback port": _free_port()}
        with connect(served.endpoint, served.token, patience=5) as client:
            return {"served": served.endpoint, **client.status()}
    except TrackshadeError as error:
        return {"served": str(error)}


def _free_port() -> str:
    try:
        with socket.create_server(("127.0.0.1", 0)):
            return "can be opened"
    except OSError as error:
        return f"cannot be opened: {error}"


def _disk(folder: Path) -> str:
    parents = (folder, *folder.absolute().parents)
    existing = next(path for path in parents if path.is_dir())
    try:
        first = next(path for path in parents if os.path.lexists(path))
        if not first.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{first} is not a folder")
        with tempfile.TemporaryFile(dir=existing):
            writable = "writable"
    except OSError as error:
        writable = f"cannot be written ({error.strerror})"
    return f"{folder}, {writable}, {format_size(shutil.disk_usage(existing).free)} free"


def _problems(found: Facts) -> list[str]:
    problems = []
    if missing := missing_libraries():
        problems.append(advice(missing))
    for name in ("torch", "diffusers", "transformers"):
        if found["packages"][name] is None:
            problems.append(f"{name} is missing: pip install 'trackshade[backend]'.")
    if found["blender"]["version"] is None and found["blender"]["module"] is None:
        problems.append("There is no Blender: install it, or pip install bpy.")
    problems += [f"{value} ({name})." for name, value in found["folders"].items() if "cannot be written" in value]
    return problems
