# SPDX-License-Identifier: GPL-3.0-or-later
"""What the preferences say about the backend, read once on Blender's main thread and handed to other threads."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import bpy

from trackshade import settings as places

from ..chosen import ADDON, preferences
from . import environment


@dataclass(frozen=True)
class Choice:
    """Attributes:
    existing: Python of an environment that somebody made, "" for our own.
    address: of a backend that runs elsewhere, or "".
    home: folder of our own environment.
    base: Python to make it with, "" to find one.
    kind: "auto", "cuda", "cpu", "mps".
    wheels: folder of wheels to set up from, or None.
    index: a vendor's package index, or "".
    online: Blender may use the network.
    """

    existing: str = ""
    address: str = ""
    home: Path = Path()
    base: str = ""
    kind: str = "auto"
    wheels: Path | None = None
    index: str = ""
    online: bool = True

    def python(self) -> str | None:
        """Interpreter of the chosen environment; None where it is still to be made."""
        if self.existing:
            return self.existing
        made = environment.current(self.home)
        if made is not None:
            return str(made.python)
        # Blender as a module of a Python that has the backend itself.
        return sys.executable if importlib.util.find_spec("torch") is not None else None


def choice() -> Choice:
    """What is chosen now. Main thread only."""
    own = preferences()
    if own is None:  # registered without being enabled
        return Choice(existing=os.environ.get("TRACKSHADE_PYTHON", ""), home=default_home(), online=_online())
    return Choice(
        existing=_path(own.python) or os.environ.get("TRACKSHADE_PYTHON", ""),
        address=own.endpoint.strip(),
        home=Path(_path(own.environment_folder)) if own.environment_folder else default_home(),
        base=_path(own.base_python),
        kind=own.device,
        wheels=Path(_path(own.wheels_folder)) if own.wheels_folder else None,
        index=own.package_index.strip(),
        online=_online(),
    )


def default_home(create: bool = False) -> Path:
    """The folder of our own environment where none is chosen."""
    if ADDON.startswith("bl_ext."):
        return Path(bpy.utils.extension_path_user(ADDON, path="backend", create=create))
    return places.home() / "backend"


def extension_folder() -> Path:
    """The folder that the extension was installed in; read only."""
    return Path(__file__).parents[1]


def _path(text: str) -> str:
    return bpy.path.abspath(text) if text else ""


def _online() -> bool:
    return bool(getattr(bpy.app, "online_access", True))
