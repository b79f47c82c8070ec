# SPDX-License-Identifier: GPL-3.0-or-later
"""What the preferences say about the backend, read once on Blender's main thread and handed to other threads."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import bpy

from trackshade.core import folders

from ..properties.chosen import extension_data, preferences
from . import environment
from .extension_data import ENVIRONMENTS

FRESH = 1.0  # seconds for which a look at the disk is believed
_earlier: tuple[float, Path | None] = (float("-inf"), None)


@dataclass(frozen=True)
class BackendPrefs:
    """Attributes:
    existing: Python of an environment that somebody made, "" for our own.
    address: of a backend that runs elsewhere, or "".
    home: folder of the environments that Set Up makes.
    earlier: folder that they were in with earlier versions, as long as it has not been moved; or None.
    base: Python to make it with, "" to find one.
    kind: "auto", "cuda", "cpu", "mps".
    wheels: folder of wheels to set up from, or None.
    index: a vendor's package index, or "".
    online: Blender may use the network.
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
        """Interpreter of the chosen environment; None where it is still to be made."""
        if self.existing:
            return self.existing
        made = self.made()
        if made is not None:
            return str(made.python)
        # Blender as a module of a Python that has the backend itself.
        return sys.executable if importlib.util.find_spec("torch") is not None else None

    def made(self) -> environment.Environment | None:
        """The environment that Set Up made; see `environment.current`."""
        made = environment.current(self.home, self.kind)
        if made is None and self.earlier is not None:
            made = environment.current(self.earlier, self.kind)
        return made


def choice() -> BackendPrefs:
    """What is chosen now. Main thread only."""
    own = preferences()
    if own is None:  # registered without being enabled
        python = os.environ.get("TRACKSHADE_PYTHON", "")
        return BackendPrefs(existing=python, home=default_home(), earlier=earlier_home(), online=_online())
    return BackendPrefs(
        existing=_path(own.python) or os.environ.get("TRACKSHADE_PYTHON", ""),
        address=own.endpoint.strip(),
        home=Path(_path(own.environment_folder)) if own.environment_folder else default_home(),
        earlier=None if own.environment_folder else earlier_home(),
        base=_path(own.base_python),
        kind=own.device,
        wheels=Path(_path(own.wheels_folder)) if own.wheels_folder else None,
        index=own.package_index.strip(),
        online=_online(),
    )


def default_home() -> Path:
    """The folder of the environments that Set Up makes where none is chosen."""
    return folders.environments_dir()


def earlier_home() -> Path | None:
    """Where earlier versions kept them: in a folder that Blender deletes with the extension. None where it is gone."""
    global _earlier
    if time.monotonic() - _earlier[0] > FRESH:  # what draws asks for it, too
        data = extension_data()
        there = data is not None and os.path.isdir(data / ENVIRONMENTS)
        _earlier = time.monotonic(), data / ENVIRONMENTS if data is not None and there else None
    return _earlier[1]


def extension_folder() -> Path:
    """The folder that the extension was installed in; read only."""
    return Path(__file__).parents[1]


def _path(text: str) -> str:
    return bpy.path.abspath(text) if text else ""


def _online() -> bool:
    return bool(getattr(bpy.app, "online_access", True))
