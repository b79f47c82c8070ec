# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's settings in the add-on's preferences, read on Blender's main thread and passed to other threads."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import bpy

from trackshade.core import folders

from ..properties.preferences import extension_data_folder, get_preferences
from .environment import Environment, find_environment
from .extension_data import ENVIRONMENTS

MAX_AGE = 1.0  # seconds after which the disk is looked at again
_earlier: tuple[float, Path | None] = (float("-inf"), None)


@dataclass(frozen=True)
class BackendPrefs:
    """The backend's settings.

    Attributes:
        existing: Python of an environment made by the user; "" to use the one that Set Up makes.
        address: address of a backend that runs elsewhere, or "".
        home: folder of the environments that Set Up makes.
        earlier: folder in which earlier versions kept them, until they are moved; or None.
        base: Python to make the environment with; "" to find one.
        kind: device to make it for: "auto", "cuda", "cpu" or "mps".
        wheels: folder of wheels to install from, or None.
        index: URL of an additional package index, or "".
        online: whether Blender may use the network.
    """

    existing: str = ""
    address: str = ""
    home: Path = Path()
    earlier: Path | None = None
    base: str = ""
    kind: str = "auto"
    wheels: Path | None = None
    index: str = ""
    online: bool = True

    def python(self) -> str | None:
        """The interpreter that runs the backend; None if there is no environment yet."""
        if self.existing:
            return self.existing
        environment = self.environment()
        if environment is not None:
            return str(environment.python)
        # Blender as a module of a Python that has the backend itself.
        return sys.executable if importlib.util.find_spec("torch") is not None else None

    def environment(self) -> Environment | None:
        """The environment that Set Up made; see `find_environment`."""
        found = find_environment(self.home, self.kind)
        if found is None and self.earlier is not None:
            found = find_environment(self.earlier, self.kind)
        return found


def current_prefs() -> BackendPrefs:
    """The settings as they are now. Main thread only."""
    online = bool(getattr(bpy.app, "online_access", True))
    prefs = get_preferences()
    if prefs is None:  # registered without being enabled
        python = os.environ.get("TRACKSHADE_PYTHON", "")
        return BackendPrefs(python, home=folders.environments_dir(), earlier=_earlier_home(), online=online)
    folder = _path(prefs.environment_folder)
    wheels = _path(prefs.wheels_folder)
    return BackendPrefs(
        existing=_path(prefs.python) or os.environ.get("TRACKSHADE_PYTHON", ""),
        address=prefs.endpoint.strip(),
        home=Path(folder) if folder else folders.environments_dir(),
        earlier=None if folder else _earlier_home(),
        base=_path(prefs.base_python),
        kind=prefs.device,
        wheels=Path(wheels) if wheels else None,
        index=prefs.package_index.strip(),
        online=online,
    )


def _earlier_home() -> Path | None:
    """The folder in the extension's data where earlier versions kept environments; None if it does not exist."""
    global _earlier
    if time.monotonic() - _earlier[0] > MAX_AGE:  # panels ask whenever they are drawn
        data = extension_data_folder()
        exists = data is not None and os.path.isdir(data / ENVIRONMENTS)
        _earlier = time.monotonic(), data / ENVIRONMENTS if data is not None and exists else None
    return _earlier[1]


def extension_folder() -> Path:
    """The folder in which the extension is installed, to be read only."""
    return Path(__file__).parents[1]


def _path(text: str) -> str:
    return bpy.path.abspath(text) if text else ""
